//! `weir spool repair`: makes the spools of a node whole that does not run.

use std::fmt::Write as _;
use std::path::Path;

use weir_logic::Millis;
use weir_spool::SpoolError;
use weir_spool::inspect;
use weir_spool::repair::{Deed, rehearse, repair as repair_spool};

use super::spool::{streams, unreadable};
use crate::app::data_dir::DataDir;
use crate::app::data_dir_failure;
use crate::clock::Clock;
use crate::exit::{Code, Failure};

/// Repairs, or only says what would be done; gives that as lines for people, and whether all is whole afterwards.
///
/// # Errors
///
/// When a node uses the directory, or a file cannot be read or written.
pub(super) fn repair(data_dir: &Path, dry_run: bool) -> Result<(String, Result<(), Failure>), Failure> {
    let streams = streams(data_dir)?;
    let owned = DataDir::open(data_dir).map_err(data_dir_failure)?;
    let act: fn(&Path, Millis) -> Result<Vec<Deed>, SpoolError> = if dry_run { rehearse } else { repair_spool };
    let would = if dry_run { "would be " } else { "" };
    let now = Clock::start().now();
    let mut text = String::new();
    for (_, root) in &streams {
        let deeds = act(root, now).map_err(|error| Failure::new(code(&error), error.to_string()))?;
        for Deed { path, done } in deeds {
            writeln!(text, "{}: {would}{done}", path.display()).expect("a string takes every text");
        }
    }
    if dry_run {
        return Ok((text, Ok(())));
    }
    let (mut files, mut aside, mut problems) = (0, 0, String::new());
    for (_, root) in &streams {
        let (read, damaged) = inspect::verify(root).map_err(|error| unreadable(root, &error))?;
        files += read;
        for damage in damaged {
            if damage.path.extension().is_some_and(|extension| extension == "damaged") {
                aside += 1;
            } else {
                write!(problems, "\n{}: {}", damage.path.display(), damage.problem).expect("a string takes every text");
            }
        }
    }
    drop(owned);
    if problems.is_empty() {
        writeln!(text, "{} is whole: {files} files, {aside} of them put aside", data_dir.display())
            .expect("a string takes every text");
        return Ok((text, Ok(())));
    }
    Ok((text, Err(Failure::new(Code::DataError, format!("not everything is whole:{problems}")))))
}

fn code(error: &SpoolError) -> Code {
    match error {
        SpoolError::Io { .. } => Code::CannotCreate,
        SpoolError::Newer { .. } | SpoolError::Later { .. } | SpoolError::NoPlan { .. } => Code::DataError,
    }
}
