//! SHA-256 digests: what tells one release from another, and whether a package is the one that its manifest names.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest. Equal digests mean equal bytes, also where somebody would profit from the contrary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`. Time: one pass.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest that `text` writes in hexadecimal, in either case, with `sha256:` before it or not; `None` when it writes none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_either_case_with_and_without_its_name() {
        let digest = Digest::of(b"abc");
        let text = digest.to_string();
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        for written in [text.clone(), text.to_uppercase(), format!("sha256:{text}"), format!(" {text}\n")] {
            assert_eq!(Digest::parse(&written), Some(digest), "{written}");
        }
        for wrong in ["", "sha256:", &text[1..], &format!("{text}0"), &text.replace('b', "g"), &text.replace('b', "é")]
        {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
    }
}
