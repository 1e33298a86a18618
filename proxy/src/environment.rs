//! The real world for the configuration's parser: files and environment variables of this process.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use weir_config::{Diagnostics, Environment, Parsed};

/// Reads the configuration at `path` with this process's files and variables.
///
/// # Errors
///
/// Every problem, when the configuration is refused.
pub fn load(path: &Path) -> Result<Parsed, Diagnostics> {
    weir_config::parse(&ProcessEnvironment, path)
}

/// Files and variables of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn read(&self, path: &Path, max_bytes: usize) -> Result<String, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        let bound = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
        file.take(bound).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() > max_bytes {
            return Err(format!("longer than {max_bytes} bytes"));
        }
        String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_past_the_bound_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weir.toml");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(ProcessEnvironment.read(&path, 5).unwrap(), "12345");
        assert_eq!(ProcessEnvironment.read(&path, 4).unwrap_err(), "longer than 4 bytes");
    }
}
