//! Which bytes may stand where: a table, since every byte of every request is looked at. And where lines end.

use memchr::memchr;

/// Names of methods and fields (RFC 9110, section 5.6.2).
pub(super) const TOKEN: u8 = 1;
/// Request targets: printable ASCII, without the fragment that no agent may send, the backslash that some read as a slash, and the quotes
/// and angle brackets that some refuse and others repair. Braces, `|` and `^`, which do not belong there either, are read alike by all.
pub(super) const TARGET: u8 = 2;
/// Values of fields: anything but control characters, of which a tab is none here (RFC 9110, section 5.5).
pub(super) const VALUE: u8 = 4;
/// Names of hosts: what needs no escape in a URI (RFC 3986, section 2.3).
pub(super) const NAME: u8 = 8;

/// Whether the byte may stand in what these are.
pub(super) const fn is(byte: u8, kind: u8) -> bool {
    KINDS[byte as usize] & kind != 0
}

/// Whether all of them may. Looks at all before it tells, as most are right.
pub(super) fn are_all(bytes: &[u8], kind: u8) -> bool {
    bytes.iter().fold(kind, |kinds, byte| kinds & KINDS[usize::from(*byte)]) != 0
}

/// The lines of these bytes, each with its line feed; what follows the last one is no line.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (line, after) = rest.split_at(memchr(b'\n', rest)? + 1);
        rest = after;
        Some(line)
    })
}

const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut at = 0;
    while at < kinds.len() {
        #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
        let byte = at as u8;
        kinds[at] = kinds_of(byte);
        at += 1;
    }
    kinds
};

const fn kinds_of(byte: u8) -> u8 {
    let mut kinds = 0;
    if byte.is_ascii_alphanumeric() || stands_in(byte, b"!#$%&'*+-.^_`|~") {
        kinds |= TOKEN;
    }
    if byte.is_ascii_graphic() && !stands_in(byte, b"#\\\"<>`") {
        kinds |= TARGET;
    }
    if byte == b'\t' || !byte.is_ascii_control() {
        kinds |= VALUE;
    }
    if byte.is_ascii_alphanumeric() || stands_in(byte, b"-._~") {
        kinds |= NAME;
    }
    kinds
}

const fn stands_in(byte: u8, list: &[u8]) -> bool {
    let mut at = 0;
    while at < list.len() {
        if list[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(kind: u8) -> Vec<u8> {
        (0..=u8::MAX).filter(|byte| is(*byte, kind)).collect()
    }

    #[test]
    fn kinds_are_those_of_the_rfcs() {
        let alphanumeric: Vec<u8> = (0..=u8::MAX).filter(u8::is_ascii_alphanumeric).collect();
        let with = |others: &[u8]| {
            let mut all = [alphanumeric.as_slice(), others].concat();
            all.sort_unstable();
            all
        };
        assert_eq!(members(TOKEN), with(b"!#$%&'*+-.^_`|~"));
        assert_eq!(members(NAME), with(b"-._~"));
        let target: Vec<u8> = (0x21..=0x7e).filter(|byte| !b"#\\\"<>`".contains(byte)).collect();
        assert_eq!(members(TARGET), target);
        let value: Vec<u8> = (0..=u8::MAX).filter(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f)).collect();
        assert_eq!(members(VALUE), value);
    }

    #[test]
    fn lines_end_with_their_line_feed() {
        assert_eq!(lines(b"a\r\n\nb\nc").collect::<Vec<_>>(), [&b"a\r\n"[..], b"\n", b"b\n"]);
        assert_eq!(lines(b"").count(), 0);
    }

    #[test]
    fn one_wrong_byte_is_found_wherever_it_stands() {
        for at in 0..20 {
            let mut text = [b'a'; 20];
            assert!(are_all(&text, TOKEN));
            text[at] = b' ';
            assert!(!are_all(&text, TOKEN), "{at}");
        }
        assert!(are_all(b"", TOKEN));
    }
}
