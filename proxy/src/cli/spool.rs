//! `weir spool`: the spool of a node as files, whether it runs or not. Nothing is written and no lock is taken.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::value::RawValue;
use weir_batch::BatchMeta;
use weir_spool::inspect::{self, Damage, InspectError, Inventory, Place, Shelf};

use super::output_failed;
use crate::clock::Clock;
use crate::exit::{Code, Failure};

/// The streams, one a line. `GIVEN_UP` are records: expired, lost to damage, and of dead letters that were removed.
///
/// # Errors
///
/// When the directory cannot be read.
pub(super) fn list(data_dir: &Path) -> Result<String, Failure> {
    let now = Clock::start().now();
    let mut text = format!(
        "{:24} {:>8} {:>12} {:>8} {:>12} {:>10} {:>8} {:>6} {:>9} {:>8} {:>8} {:>8} {:>9}\n",
        "STREAM",
        "SEGMENTS",
        "BYTES",
        "BATCHES",
        "BYTES",
        "RECORDS",
        "OLDEST_S",
        "DEAD",
        "RECORDS",
        "DAMAGED",
        "UNMERGED",
        "TABLES",
        "GIVEN_UP"
    );
    for (stream, root) in streams(data_dir)? {
        let Inventory { journal, outbox, dead, tables, unmerged, ledger } =
            Inventory::of(&root).map_err(|error| unreadable(&root, &error))?;
        let records = |shelf: &Shelf| shelf.records.unwrap_or_default();
        let age = outbox.oldest.map_or(0, |oldest| now.since(weir_logic::Millis(oldest)).as_secs());
        let damaged = journal.damaged + outbox.damaged + dead.damaged + tables.damaged;
        let given_up = ledger.expired.records + ledger.damaged.records + ledger.dropped.records;
        writeln!(
            text,
            "{stream:24} {:>8} {:>12} {:>8} {:>12} {:>10} {age:>8} {:>6} {:>9} {damaged:>8} {unmerged:>8} {:>8} {given_up:>9}",
            journal.files,
            journal.bytes,
            outbox.files,
            outbox.bytes,
            records(&outbox),
            dead.files,
            records(&dead),
            tables.files,
        )
        .expect("a string takes every text");
    }
    Ok(text)
}

/// What is in a file, as JSON.
///
/// # Errors
///
/// When it cannot be read or is damaged.
pub(super) fn inspect(file: &Path) -> Result<String, Failure> {
    let content = inspect::inspect(file).map_err(|error| match error {
        InspectError::Io(error) => unreadable(file, &error),
        error => Failure::new(Code::DataError, format!("{}: {error}", file.display())),
    })?;
    let json = serde_json::to_string_pretty(&content).map_err(|error| output_failed(error.into()))?;
    Ok(json + "\n")
}

/// Says that every file is whole.
///
/// # Errors
///
/// When a file is not, with the list of them; when the directory cannot be read.
pub(super) fn verify(data_dir: &Path) -> Result<String, Failure> {
    let (mut files, mut damaged) = (0, Vec::new());
    for (_, root) in streams(data_dir)? {
        let (read, found) = inspect::verify(&root).map_err(|error| unreadable(&root, &error))?;
        files += read;
        damaged.extend(found);
    }
    if damaged.is_empty() {
        return Ok(format!("{} is whole: {files} files\n", data_dir.display()));
    }
    let line = |Damage { path, problem }: &Damage| format!("{}: {problem}\n", path.display());
    let list: String = damaged.iter().map(line).collect();
    Err(Failure::new(Code::DataError, format!("{} of {files} files are not whole\n{}", damaged.len(), list.trim_end())))
}

/// A row as it is exported.
#[derive(Serialize)]
struct Exported<'a> {
    batch: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    row: &'a RawValue,
}

/// Prints the rows of a stream's dead letters or outbox.
///
/// # Errors
///
/// When a file cannot be read or is damaged, or standard output is closed for another reason than that nobody reads on.
pub(super) fn export(data_dir: &Path, stream: &str, place: Place) -> Result<(), Failure> {
    let Some((_, root)) = streams(data_dir)?.into_iter().find(|(name, _)| name == stream) else {
        return Err(Failure::new(Code::NoInput, format!("{} holds no stream {stream:?}", data_dir.display())));
    };
    let mut output = BufWriter::new(io::stdout().lock());
    let exported = inspect::export(&root, place, |meta, rows, from| write_rows(&mut output, meta, rows, from));
    match exported.and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Failure::new(Code::DataError, error.to_string()))
        }
        written => written.map_err(output_failed),
    }
}

fn write_rows(output: &mut impl io::Write, meta: &BatchMeta, rows: &[u8], from: u64) -> io::Result<()> {
    let text = std::str::from_utf8(rows).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    for (number, row) in text.lines().enumerate() {
        if (number as u64) < from {
            continue;
        }
        let refusal = meta.refusal.as_ref();
        let of_row = refusal.and_then(|refusal| refusal.rows.get(number)).map(String::as_str);
        let exported = Exported {
            batch: meta.id.to_string(),
            status: refusal.map(|refusal| refusal.status),
            reason: of_row.or(refusal.map(|refusal| refusal.reason.as_str())),
            row: serde_json::from_str(row)?,
        };
        serde_json::to_writer(&mut *output, &exported)?;
        output.write_all(b"\n")?;
    }
    Ok(())
}

/// The spools of a data directory by their streams' names, in order.
pub(super) fn streams(data_dir: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let dir = data_dir.join("spool");
    let entries = std::fs::read_dir(&dir).map_err(|error| unreadable(&dir, &error))?;
    let mut streams: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.to_owned();
            path.is_dir().then_some((name, path))
        })
        .collect();
    streams.sort_unstable();
    Ok(streams)
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::NoInput, format!("{}: {error}", path.display()))
}
