//! `weir batch cat`: any batch file as JSON lines.

use std::path::Path;

use weir_batch::Batch;

use super::config::read_input;
use crate::exit::{Code, Failure};

/// The rows of the batch file, one JSON object a line: a file of an outbox or a dead-letter directory, or a payload as the core
/// received it.
///
/// # Errors
///
/// When the file cannot be read, is damaged, or holds more than a gibibyte of rows.
pub(super) fn rows(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = read_input(path, MAX_FILE_BYTES)?;
    let damaged = |error| Failure::new(Code::DataError, format!("{}: {error}", path.display()));
    let batch = Batch::open(&bytes).map_err(damaged)?;
    Ok(batch.rows(MAX_ROW_BYTES).map_err(damaged)?.into_owned())
}

const MAX_FILE_BYTES: u64 = 1 << 30;
const MAX_ROW_BYTES: usize = 1 << 30;
