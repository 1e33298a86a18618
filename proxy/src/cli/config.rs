//! Files named on the command line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use weir_config::Parsed;

use super::say;
use crate::environment;
use crate::exit::{Code, Failure};

/// Reads the configuration; warnings go to standard error.
///
/// # Errors
///
/// Every problem of the file, as one text.
pub(crate) fn load(path: &Path) -> Result<Parsed, Failure> {
    let parsed = environment::load(path)
        .map_err(|problems| Failure::new(Code::Config, format!("the configuration is refused\n{problems}")))?;
    if !parsed.warnings.is_empty() {
        say(&parsed.warnings.to_string());
    }
    Ok(parsed)
}

/// Reads a file of at most `max_bytes`.
///
/// # Errors
///
/// When it cannot be read or is longer.
pub(super) fn read_input(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let refused = |reason: String| Failure::new(Code::NoInput, format!("{}: {reason}", path.display()));
    let file = File::open(path).map_err(|error| refused(error.to_string()))?;
    let mut bytes = Vec::new();
    let length = file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(|error| refused(error.to_string()))?;
    if length as u64 > max_bytes {
        return Err(refused(format!("longer than {max_bytes} bytes")));
    }
    Ok(bytes)
}
