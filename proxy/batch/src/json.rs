//! Where a JSON value ends, how deep it goes and how long its strings are, without building it.
//!
//! The scanner follows RFC 8259 to the letter but for two things: it does not check that strings are UTF-8, which
//! whoever cuts a record out does, and it gives up past [`MAX_OPEN`] brackets open at once (section 9 lets a parser set
//! such a limit). It never recurses, and sees each byte once; its stack is one bit for each open bracket.

use wide::u8x16;

/// What a scan has learned of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// The offset of the first byte past the value.
    pub(crate) end: usize,
    /// Brackets open at once, at most: 0 for a scalar, 1 for a flat object.
    pub(crate) depth: usize,
    /// Bytes of the longest string as it is written, names of members included, quotes not.
    pub(crate) longest: usize,
    /// Whether line breaks stand between its tokens.
    pub(crate) broken: bool,
}

/// Where the input stopped being JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// The offset of the offending byte; the input's length when it ended too early.
    pub(crate) at: usize,
}

/// Brackets open at once, at most: 128 KiB of stack.
const MAX_OPEN: usize = 1 << 20;

/// The offset of the first byte at or after `at` that is no JSON white space.
pub(crate) fn skip_space(input: &[u8], at: usize) -> usize {
    let mut at = at;
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = input.get(at) {
        at += 1;
    }
    at
}

/// Scans the value that begins at `start`, which must not be white space.
pub(crate) fn scan_value(input: &[u8], start: usize) -> Result<Scanned, SyntaxError> {
    let mut scanner = Scanner { input, at: start, longest: 0, broken: false };
    let mut open = Brackets::default();
    let mut depth = 0;
    loop {
        // A value begins here.
        match scanner.byte()? {
            bracket @ (b'{' | b'[') => {
                open.push(bracket, scanner.at)?;
                depth = depth.max(open.depth);
                scanner.at += 1;
                scanner.skip_space();
                if scanner.byte()? != closing(bracket) {
                    if bracket == b'{' {
                        scanner.member_name()?;
                    }
                    continue;
                }
                open.pop();
                scanner.at += 1;
            }
            first => scanner.scalar(first)?,
        }
        // A value has ended: close brackets until another value begins or none is open.
        loop {
            let Some(bracket) = open.last() else {
                let Scanner { at: end, longest, broken, .. } = scanner;
                return Ok(Scanned { end, depth, longest, broken });
            };
            scanner.skip_space();
            match scanner.byte()? {
                b',' => {
                    scanner.at += 1;
                    scanner.skip_space();
                    if bracket == b'{' {
                        scanner.member_name()?;
                    }
                    break;
                }
                close if close == closing(bracket) => {
                    open.pop();
                    scanner.at += 1;
                }
                _ => return Err(SyntaxError { at: scanner.at }),
            }
        }
    }
}

fn closing(bracket: u8) -> u8 {
    if bracket == b'{' { b'}' } else { b']' }
}

/// The brackets that are open, a bit for each: set for a brace. The last 64 or fewer are in `top`.
#[derive(Default)]
struct Brackets {
    top: u64,
    below: Vec<u64>,
    depth: usize,
}

impl Brackets {
    fn push(&mut self, bracket: u8, at: usize) -> Result<(), SyntaxError> {
        if self.depth == MAX_OPEN {
            return Err(SyntaxError { at });
        }
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.below.push(std::mem::take(&mut self.top));
        }
        self.top = self.top << 1 | u64::from(bracket == b'{');
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.top >>= 1;
        self.depth -= 1;
        if self.depth.is_multiple_of(64) {
            self.top = self.below.pop().unwrap_or(0);
        }
    }

    fn last(&self) -> Option<u8> {
        (self.depth > 0).then_some(if self.top & 1 == 1 { b'{' } else { b'[' })
    }
}

struct Scanner<'i> {
    input: &'i [u8],
    at: usize,
    longest: usize,
    broken: bool,
}

impl Scanner<'_> {
    fn byte(&self) -> Result<u8, SyntaxError> {
        self.input.get(self.at).copied().ok_or(SyntaxError { at: self.input.len() })
    }

    fn wrong<T>(&self) -> Result<T, SyntaxError> {
        Err(SyntaxError { at: self.at })
    }

    #[inline]
    fn skip_space(&mut self) {
        // Most texts have none.
        if self.input.get(self.at).is_some_and(|byte| *byte <= b' ') {
            self.skip_all_space();
        }
    }

    fn skip_all_space(&mut self) {
        while let Some(space @ (b' ' | b'\t' | b'\n' | b'\r')) = self.input.get(self.at) {
            self.broken |= matches!(space, b'\n' | b'\r');
            self.at += 1;
        }
    }

    /// Scans `"name" :` and stands at the member's value.
    #[inline]
    fn member_name(&mut self) -> Result<(), SyntaxError> {
        if self.byte()? != b'"' {
            return self.wrong();
        }
        self.string()?;
        self.skip_space();
        if self.byte()? != b':' {
            return self.wrong();
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn scalar(&mut self, first: u8) -> Result<(), SyntaxError> {
        match first {
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => self.number(first),
            _ => self.wrong(),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), SyntaxError> {
        if !self.input[self.at..].starts_with(word) {
            return self.wrong();
        }
        self.at += word.len();
        Ok(())
    }

    /// Scans the string whose quote stands here; control characters below U+0020 must be escaped (RFC 8259, section 7).
    #[inline]
    fn string(&mut self) -> Result<(), SyntaxError> {
        let start = self.at + 1;
        let mut block = start;
        let mut marks = marks(self.input, block);
        loop {
            if marks == 0 {
                block += BLOCK;
                marks = self::marks(self.input, block);
                continue;
            }
            let offset = marks.trailing_zeros() as usize;
            let at = block + offset;
            match self.input.get(at) {
                Some(b'"') => {
                    self.longest = self.longest.max(at - start);
                    self.at = at + 1;
                    return Ok(());
                }
                // The escapes that there are, but for those of four digits. What is escaped is no mark.
                Some(b'\\') if self.input.get(at + 1).is_some_and(|byte| ESCAPES[usize::from(*byte)]) => {
                    marks &= !(0b11 << offset);
                    if offset + 1 == BLOCK {
                        block = at + 2;
                        marks = self::marks(self.input, block);
                    }
                }
                _ => {
                    self.at = at;
                    self.escape()?;
                    block = self.at;
                    marks = self::marks(self.input, block);
                }
            }
        }
    }

    /// Scans an escape of four digits; an error where none stands here.
    #[cold]
    fn escape(&mut self) -> Result<(), SyntaxError> {
        for expected in *b"\\u" {
            if self.byte()? != expected {
                return self.wrong();
            }
            self.at += 1;
        }
        for _ in 0..4 {
            if !self.byte()?.is_ascii_hexdigit() {
                return self.wrong();
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self, first: u8) -> Result<(), SyntaxError> {
        if first == b'-' {
            self.at += 1;
        }
        // A zero stands alone: 01 is no number.
        if self.byte()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.input.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.input.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.input.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        if !self.byte()?.is_ascii_digit() {
            return self.wrong();
        }
        while self.input.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }
}

/// The bytes that may follow a backslash, but for the `u`.
const ESCAPES: [bool; 256] = {
    let mut escapes = [false; 256];
    let mut rest: &[u8] = b"\"\\/bfnrt";
    while let [byte, after @ ..] = rest {
        escapes[*byte as usize] = true;
        rest = after;
    }
    escapes
};

/// Bytes of a string that are looked at together.
const BLOCK: usize = 16;

/// A bit for each of the [`BLOCK`] bytes from `at` on, the lowest for the first: set where a quote, a backslash or a control
/// character stands, and past the end of the input.
#[inline]
fn marks(input: &[u8], at: usize) -> u32 {
    let Some(bytes) = input.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>) else { return last_marks(input, at) };
    let bytes = u8x16::from(*bytes);
    let is_control = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    let is_marked = bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | is_control;
    is_marked.to_bitmask()
}

/// The same where the input has fewer bytes.
#[cold]
fn last_marks(input: &[u8], at: usize) -> u32 {
    let is_marked = |byte: Option<&u8>| matches!(byte, None | Some(b'"' | b'\\' | 0..0x20));
    (0..BLOCK).fold(0, |marks, offset| marks | u32::from(is_marked(input.get(at + offset))) << offset)
}

#[cfg(test)]
mod tests;
