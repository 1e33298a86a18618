//! Which bytes may stand where: a table, since every byte of every request is looked at.

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

/// Whether a name is the one that is given in lower case. Looks at all of both, as most that are compared are equal.
pub(super) fn is_named(name: &[u8], lower: &[u8]) -> bool {
    name.len() == lower.len()
        && name.iter().zip(lower).fold(true, |same, (byte, lower)| same & (LOWER[usize::from(*byte)] == *lower))
}

const LOWER: [u8; 256] = {
    let mut lower = [0; 256];
    let mut at = 0;
    while at < lower.len() {
        #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
        let byte = at as u8;
        lower[at] = byte.to_ascii_lowercase();
        at += 1;
    }
    lower
};

/// How many of the first bytes may.
pub(super) fn count(bytes: &[u8], kind: u8) -> usize {
    bytes.iter().position(|byte| !is(*byte, kind)).unwrap_or(bytes.len())
}

/// Whether all of them may. Looks at all before it tells, as most are right.
pub(super) fn are_all(bytes: &[u8], kind: u8) -> bool {
    bytes.iter().fold(kind, |kinds, byte| kinds & KINDS[usize::from(*byte)]) != 0
}

/// The same for [`VALUE`], eight bytes at a time: most bytes of a header section are in values.
pub(super) fn are_all_value(bytes: &[u8]) -> bool {
    let (eights, rest) = bytes.as_chunks::<8>();
    eights.iter().all(|eight| is_plain_value(*eight) || are_all(eight, VALUE)) && are_all(rest, VALUE)
}

/// Whether none of the eight is below a space or 0x7f. Says no to a tab, which is right in a value.
const fn is_plain_value(eight: [u8; 8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let word = u64::from_ne_bytes(eight);
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let deleted = word ^ (ONES * 0x7f);
    let deleted = deleted.wrapping_sub(ONES) & !deleted;
    (below_space | deleted) & HIGH == 0
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
    fn eight_bytes_at_a_time_say_what_single_ones_say() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut text = [b'a'; 20];
                text[at] = byte;
                assert_eq!(are_all_value(&text), is(byte, VALUE), "{byte} at {at}");
            }
        }
        assert!(are_all_value(b"") && are_all_value(b"\t\t\t\t\t\t\t\t\xff"));
    }

    #[test]
    fn names_are_compared_whatever_their_case() {
        assert!(is_named(b"X-Agent-ID", b"x-agent-id") && is_named(b"", b""));
        for other in [&b"x-agent-ie"[..], b"x-agent-i", b"x-agent-id ", b"x\x0dagent-id"] {
            assert!(!is_named(other, b"x-agent-id"), "{}", other.escape_ascii());
        }
        assert!(!is_named(b"^", b"~") && !is_named(b"_", b"\x7f"), "only letters have a case");
    }

    #[test]
    fn one_wrong_byte_is_found_wherever_it_stands() {
        for at in 0..20 {
            let mut text = [b'a'; 20];
            assert!(are_all(&text, TOKEN));
            text[at] = b' ';
            assert!(!are_all(&text, TOKEN), "{at}");
            assert_eq!(count(&text, TOKEN), at);
        }
        assert!(are_all(b"", TOKEN));
    }
}
