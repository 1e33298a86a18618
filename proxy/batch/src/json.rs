//! Where a JSON value ends and how deep it goes, without building it.
//!
//! The scanner follows RFC 8259 to the letter but for one thing: it does not check that strings are UTF-8, which
//! whoever cuts a record out does for that record alone. It never recurses; its stack is one byte for each open bracket
//! of the input.

/// What a scan has learned of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// The offset of the first byte past the value.
    pub(crate) end: usize,
    /// Brackets open at once, at most: 0 for a scalar, 1 for a flat object.
    pub(crate) depth: usize,
}

/// Where the input stopped being JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// The offset of the offending byte; the input's length when it ended too early.
    pub(crate) at: usize,
}

/// The offset of the first byte at or after `at` that is no JSON white space.
pub(crate) fn skip_space(input: &[u8], at: usize) -> usize {
    let rest = &input[at.min(input.len())..];
    at + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// Scans the value that begins at `start`, which must not be white space.
pub(crate) fn scan_value(input: &[u8], start: usize) -> Result<Scanned, SyntaxError> {
    let mut open: Vec<u8> = Vec::new();
    let mut depth = 0;
    let mut at = start;
    loop {
        // A value begins here.
        at = match byte(input, at)? {
            bracket @ (b'{' | b'[') => {
                open.push(bracket);
                depth = depth.max(open.len());
                let next = skip_space(input, at + 1);
                if byte(input, next)? != closing(bracket) {
                    at = if bracket == b'{' { member_name(input, next)? } else { next };
                    continue;
                }
                open.pop();
                next + 1
            }
            _ => scan_scalar(input, at)?,
        };
        // A value has ended: close brackets until another value begins or none is open.
        loop {
            let Some(&bracket) = open.last() else { return Ok(Scanned { end: at, depth }) };
            let next = skip_space(input, at);
            match byte(input, next)? {
                b',' => {
                    let next = skip_space(input, next + 1);
                    at = if bracket == b'{' { member_name(input, next)? } else { next };
                    break;
                }
                close if close == closing(bracket) => {
                    open.pop();
                    at = next + 1;
                }
                _ => return Err(SyntaxError { at: next }),
            }
        }
    }
}

fn closing(bracket: u8) -> u8 {
    if bracket == b'{' { b'}' } else { b']' }
}

fn byte(input: &[u8], at: usize) -> Result<u8, SyntaxError> {
    input.get(at).copied().ok_or(SyntaxError { at: input.len() })
}

/// Scans `"name" :` and gives the offset of the member's value.
fn member_name(input: &[u8], at: usize) -> Result<usize, SyntaxError> {
    if byte(input, at)? != b'"' {
        return Err(SyntaxError { at });
    }
    let colon = skip_space(input, scan_string(input, at)?);
    if byte(input, colon)? != b':' {
        return Err(SyntaxError { at: colon });
    }
    Ok(skip_space(input, colon + 1))
}

fn scan_scalar(input: &[u8], at: usize) -> Result<usize, SyntaxError> {
    match byte(input, at)? {
        b'"' => scan_string(input, at),
        b't' => scan_word(input, at, b"true"),
        b'f' => scan_word(input, at, b"false"),
        b'n' => scan_word(input, at, b"null"),
        b'-' | b'0'..=b'9' => scan_number(input, at),
        _ => Err(SyntaxError { at }),
    }
}

fn scan_word(input: &[u8], at: usize, word: &[u8]) -> Result<usize, SyntaxError> {
    if input[at..].starts_with(word) { Ok(at + word.len()) } else { Err(SyntaxError { at }) }
}

/// Scans the string whose quote stands at `at`; control characters below U+0020 must be escaped (RFC 8259, section 7).
fn scan_string(input: &[u8], at: usize) -> Result<usize, SyntaxError> {
    let mut at = at + 1;
    loop {
        match byte(input, at)? {
            b'"' => return Ok(at + 1),
            b'\\' => at = scan_escape(input, at + 1)?,
            0..0x20 => return Err(SyntaxError { at }),
            _ => at += 1,
        }
    }
}

fn scan_escape(input: &[u8], at: usize) -> Result<usize, SyntaxError> {
    match byte(input, at)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 1),
        b'u' => {
            for digit in at + 1..at + 5 {
                if !byte(input, digit)?.is_ascii_hexdigit() {
                    return Err(SyntaxError { at: digit });
                }
            }
            Ok(at + 5)
        }
        _ => Err(SyntaxError { at }),
    }
}

fn scan_number(input: &[u8], at: usize) -> Result<usize, SyntaxError> {
    let mut at = if input[at] == b'-' { at + 1 } else { at };
    // A zero stands alone: 01 is no number.
    at = if byte(input, at)? == b'0' { at + 1 } else { scan_digits(input, at)? };
    if input.get(at) == Some(&b'.') {
        at = scan_digits(input, at + 1)?;
    }
    if matches!(input.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(input.get(at + 1), Some(b'+' | b'-')));
        at = scan_digits(input, at + 1 + sign)?;
    }
    Ok(at)
}

fn scan_digits(input: &[u8], at: usize) -> Result<usize, SyntaxError> {
    if !byte(input, at)?.is_ascii_digit() {
        return Err(SyntaxError { at });
    }
    Ok(at + input[at..].iter().take_while(|byte| byte.is_ascii_digit()).count())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn depth_of(text: &str) -> Option<usize> {
        let scanned = scan_value(text.as_bytes(), 0).ok()?;
        (scanned.end == text.len()).then_some(scanned.depth)
    }

    #[test]
    fn depth_counts_open_brackets() {
        assert_eq!(depth_of("17"), Some(0));
        assert_eq!(depth_of("{}"), Some(1));
        assert_eq!(depth_of(r#"{"a":[1,{"b":null}],"c":[]}"#), Some(3));
    }

    #[test]
    fn what_is_not_json_is_refused_at_its_offset() {
        for (text, at) in [
            (r#"{"a":01}"#, 6),
            (r#"{"a":1,}"#, 7),
            (r#"{"a" 1}"#, 5),
            ("[1 2]", 3),
            ("[1,]", 3),
            (r#""\x""#, 2),
            (r#"{"a":tru}"#, 5),
            ("{", 1),
            ("[[", 2),
            ("", 0),
            ("1.", 2),
            ("-", 1),
            ("\"a\nb\"", 2),
        ] {
            assert_eq!(scan_value(text.as_bytes(), 0), Err(SyntaxError { at }), "{text}");
        }
    }

    #[test]
    fn a_million_brackets_do_not_exhaust_the_stack() {
        let text = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(depth_of(&text), Some(1_000_000));
    }

    proptest! {
        #[test]
        fn the_scanner_agrees_with_serde_json(text in r#"[\[\]{},:"\\a0-9eE.+\- tn]{0,24}|\{"a":(true|null|-?[0-9]{1,3}(\.[0-9]+)?(e[0-9])?|"[a-z\\"]{0,4}"|\[[0-9,]{0,5}\])\}"#) {
            let ours = {
                let start = skip_space(text.as_bytes(), 0);
                scan_value(text.as_bytes(), start).is_ok_and(|value| skip_space(text.as_bytes(), value.end) == text.len())
            };
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(ours, theirs, "{}", text);
        }
    }
}
