//! `weir batch cat`: any batch file as JSON lines.

use std::path::Path;

use weir_batch::Batch;

use super::config::read_input;
use crate::exit::{Code, Failure};

/// The rows of the batch file, one JSON object a line: a file of an outbox or a dead-letter directory, or a payload as the core
/// received it. Or its lines as they travel, which are the rows unless the batch is written as shapes.
///
/// # Errors
///
/// When the file cannot be read, is damaged, or holds more than a gibibyte of rows.
pub(super) fn cat(path: &Path, what: What) -> Result<Vec<u8>, Failure> {
    let bytes = read_input(path, MAX_FILE_BYTES)?;
    let damaged = |error| Failure::new(Code::DataError, format!("{}: {error}", path.display()));
    let batch = Batch::open(&bytes).map_err(damaged)?;
    let lines = match what {
        What::Rows => batch.rows(MAX_ROW_BYTES),
        What::Lines => batch.lines(MAX_ROW_BYTES),
    };
    Ok(lines.map_err(damaged)?.into_owned())
}

/// What to print of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Rows,
    Lines,
}

const MAX_FILE_BYTES: u64 = 1 << 30;
const MAX_ROW_BYTES: usize = 1 << 30;
