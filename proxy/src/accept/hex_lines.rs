//! Files of 32-byte values, one a line: the keys of tickets and the fingerprints of certificates.

use std::collections::HashSet;
use std::path::Path;

use weir_logic::Digest;

use super::certificates::CertificateError;

/// A value of a line.
pub(super) type Value = [u8; 32];

/// Reads the values of a file in their order: 64 hexadecimal digits a line, with or without colons between the bytes and
/// with or without a name and `=` before them. Empty lines and lines that begin with `#` are passed over. Blocks on the
/// disk; takes about 100 bytes for each of at most `most` values.
///
/// # Errors
/// [`CertificateError::Unreadable`] or [`CertificateError::BadLine`], which never repeats what stands in the line.
pub(super) fn read(path: &Path, most: usize) -> Result<Vec<Value>, CertificateError> {
    let unreadable = |source| CertificateError::Unreadable { path: path.into(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    let bad = |line: usize, reason: String| CertificateError::BadLine { path: path.into(), line, reason };
    if bytes > (most as u64).saturating_mul(MAX_LINE) {
        return Err(bad(1, format!("the file has {bytes} bytes; {most} values are taken at most")));
    }
    let text = String::from_utf8_lossy(&std::fs::read(path).map_err(unreadable)?).into_owned();
    let (mut values, mut seen) = (Vec::new(), HashSet::<Value>::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let value = value(line).map_err(|reason| bad(index + 1, reason))?;
        if !seen.insert(value) {
            return Err(bad(index + 1, "stands in the file twice".into()));
        }
        if values.len() == most {
            return Err(bad(index + 1, format!("{most} values are taken at most")));
        }
        values.push(value);
    }
    Ok(values)
}

fn value(line: &str) -> Result<Value, String> {
    let line = line.rsplit_once('=').map_or(line, |(_, value)| value.trim());
    let value = Digest::parse(&line.replace(':', "")).map(|value| value.0);
    value.ok_or_else(|| format!("64 hexadecimal digits are expected, not these {} characters", line.chars().count()))
}

/// Bytes that a line may have on the average, comments included.
const MAX_LINE: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str) -> Result<Vec<Value>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path(), 3).map_err(|error| error.to_string().replace(&file.path().display().to_string(), "file"))
    }

    #[test]
    fn values_are_read_as_openssl_writes_them() {
        let plain = format!("# keys\n\n{}\n", "0f".repeat(32));
        assert_eq!(reading(&plain), Ok(vec![[0x0f; 32]]));
        let colons = format!("sha256 Fingerprint={}\r\n", ["AB"; 32].join(":"));
        assert_eq!(reading(&colons), Ok(vec![[0xab; 32]]));
        assert_eq!(reading(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_never_shown() {
        let good = "01".repeat(32);
        let refused = |text: &str| reading(text).unwrap_err();
        let wrong = "64 hexadecimal digits are expected, not these";
        assert_eq!(refused(&format!("{good}\nc2VjcmV0\n")), format!("file:2: {wrong} 8 characters"));
        assert_eq!(refused(&format!("{good}0\n")), format!("file:1: {wrong} 65 characters"));
        assert_eq!(refused(&"é".repeat(64)), format!("file:1: {wrong} 64 characters"));
        assert_eq!(refused(&format!("{good}\n#\n{good}\n")), "file:3: stands in the file twice");
        let four: String = (1..=4).map(|n| format!("{n:02}").repeat(32) + "\n").collect();
        assert_eq!(refused(&four), "file:4: 3 values are taken at most");
        assert_eq!(refused(&"#".repeat(1000)), "file:1: the file has 1000 bytes; 3 values are taken at most");
    }
}
