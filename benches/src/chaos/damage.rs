//! Damage to the files of a spool whose node is down: what crashes and disks leave behind.
//!
//! Nothing here knows the layout of a file: the product's own inspector says what is in it before and after.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::SmallRng;
use weir_batch::Batch;
use weir_spool::Upload;
use weir_spool::inspect::{self, Content};

use super::tally::Tally;

/// What was done to a spool.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// In words; empty where there was nothing to do it to.
    pub(super) done: String,
    /// Records that were destroyed.
    pub(super) destroyed: Tally,
}

impl Damage {
    fn harmless(done: String) -> Self {
        Self { done, destroyed: Tally::default() }
    }
}

/// Cuts the end off the journal, from anywhere in the first upload after the last one that agents were told of.
pub(super) fn tear_tail(spool: &Path, told: &HashSet<String>, rng: &mut SmallRng) -> io::Result<Damage> {
    let Some(path) = newest(&spool.join("journal"), ".segment")? else { return Ok(Damage::default()) };
    if is_sealed(&path) {
        return half_segment(&path, rng);
    }
    let (bytes, uploads) = (fs::read(&path)?, uploads(&path));
    let is_told = |upload: &Upload| Tally::of_uploads([upload]).ids.keys().any(|id| told.contains(id));
    let untold = uploads.iter().rev().take_while(|upload| !is_told(upload)).count();
    let Some(first) = uploads.get(uploads.len() - untold).and_then(|upload| place(&bytes, upload)) else {
        return Ok(Damage::default());
    };
    let written = written(&path);
    let length = rng.random_range(first..written);
    OpenOptions::new().write(true).open(&path)?.set_len(length as u64)?;
    Ok(Damage::harmless(format!("{} bytes cut off {}", written - length, path.display())))
}

/// Adds a write that was never finished to the journal.
pub(super) fn half_write(spool: &Path, length: u64, zeros: bool, rng: &mut SmallRng) -> io::Result<Damage> {
    let Some(path) = newest(&spool.join("journal"), ".segment")? else { return Ok(Damage::default()) };
    if is_sealed(&path) {
        return half_segment(&path, rng);
    }
    let end = written(&path) as u64;
    let mut file = OpenOptions::new().write(true).open(&path)?;
    file.seek(SeekFrom::Start(end))?;
    file.write_all(&noise(length, zeros, rng))?;
    Ok(Damage::harmless(format!("{length} bytes added to {}", path.display())))
}

/// The end of what has been written to a segment: zeros may follow, over which the next entries would have gone.
fn written(segment: &Path) -> usize {
    match inspect::inspect(segment) {
        Ok(Content::Segment(summary)) => usize::try_from(summary.written).unwrap_or(usize::MAX),
        _ => 0,
    }
}

/// Adds a note that was never finished.
pub(super) fn half_note(spool: &Path, length: u64, rng: &mut SmallRng) -> io::Result<Damage> {
    let path = spool.join("progress");
    append(&path, &noise(length, false, rng))?;
    Ok(Damage::harmless(format!("{length} bytes added to {}", path.display())))
}

/// Leaves a batch in the outbox that was never finished: under the name that it has until it is whole, or, as a disk may that keeps
/// no order, under its own; then it is one of a generation that is not through.
pub(super) fn half_batch(spool: &Path, named: bool, rng: &mut SmallRng) -> io::Result<Damage> {
    let Some(segment) = newest(&spool.join("journal"), ".segment")? else { return Ok(Damage::default()) };
    let generation: u64 = stem(&segment).parse().unwrap_or(0);
    let name = format!("{:020}-000000", generation + 1);
    let path = spool.join("outbox").join(if named { format!("{name}.batch") } else { format!("{name}.tmp") });
    let whole = match newest(&spool.join("outbox"), ".batch")? {
        Some(model) => fs::read(model)?,
        None => noise(500, false, rng),
    };
    fs::write(&path, &whole[..rng.random_range(0..whole.len())])?;
    Ok(Damage::harmless(format!("{} left half done", path.display())))
}

/// Turns one bit of an upload in the journal over. One with nothing behind it in its file is left alone: damage there looks like a
/// write that was never finished, and nobody can tell.
pub(super) fn flip_upload(spool: &Path, rng: &mut SmallRng) -> io::Result<Damage> {
    let mut segments = files(&spool.join("journal"), ".segment")?;
    while !segments.is_empty() {
        let path = segments.swap_remove(rng.random_range(0..segments.len()));
        let (mut bytes, before) = (fs::read(&path)?, uploads(&path));
        let eligible = before.len().saturating_sub(usize::from(!is_sealed(&path)));
        if eligible == 0 {
            continue;
        }
        let chosen = &before[rng.random_range(0..eligible)];
        let Some(at) = place(&bytes, chosen) else { continue };
        flip(&mut bytes, at..at + chosen.lines.len(), rng);
        fs::write(&path, &bytes)?;
        let after = uploads(&path);
        let gone = before.iter().filter(|upload| !after.contains(upload));
        return Ok(Damage {
            done: format!("a bit of an upload in {} turned over", path.display()),
            destroyed: Tally::of_uploads(gone),
        });
    }
    Ok(Damage::default())
}

/// Turns one bit of a batch in the outbox over.
pub(super) fn flip_batch(spool: &Path, rng: &mut SmallRng) -> io::Result<Damage> {
    let batches = files(&spool.join("outbox"), ".batch")?;
    if batches.is_empty() {
        return Ok(Damage::default());
    }
    let path = &batches[rng.random_range(0..batches.len())];
    let mut bytes = fs::read(path)?;
    let destroyed = Batch::open(&bytes).and_then(|batch| batch.rows(MAX_ROW_BYTES).map(|rows| Tally::of_rows(&rows)));
    // One that is not whole any more has no records to lose.
    let destroyed = destroyed.unwrap_or_default();
    let length = bytes.len();
    flip(&mut bytes, 0..length, rng);
    fs::write(path, &bytes)?;
    Ok(Damage { done: format!("a bit of {} turned over", path.display()), destroyed })
}

/// Counts the dead letters that can be read; those put aside as damaged cannot.
pub(super) fn dead_letters(spool: &Path) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for path in files(&spool.join("dead"), ".batch")? {
        let bytes = fs::read(path)?;
        let rows = Batch::open(&bytes).and_then(|batch| batch.rows(MAX_ROW_BYTES).map(|rows| Tally::of_rows(&rows)));
        tally.add(rows.unwrap_or_default());
    }
    Ok(tally)
}

/// More than a batch of these runs holds.
const MAX_ROW_BYTES: usize = 256 << 20;

/// A segment that the node was about to begin when it died.
fn half_segment(model: &Path, rng: &mut SmallRng) -> io::Result<Damage> {
    let generation: u64 = stem(model).parse().unwrap_or(0);
    let path = model.with_file_name(format!("{:020}.segment", generation + 1));
    let head = fs::read(model)?;
    let length = rng.random_range(0..20.min(head.len()));
    fs::write(&path, &head[..length])?;
    Ok(Damage::harmless(format!("{} begun, {length} bytes", path.display())))
}

fn flip(bytes: &mut [u8], within: std::ops::Range<usize>, rng: &mut SmallRng) {
    if let Some(byte) = bytes.get_mut(rng.random_range(within)) {
        *byte ^= 1 << rng.random_range(0..8);
    }
}

fn noise(length: u64, zeros: bool, rng: &mut SmallRng) -> Vec<u8> {
    (0..length).map(|_| if zeros { 0 } else { rng.random() }).collect()
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(bytes)
}

/// Where an upload's records stand in the file that holds it.
fn place(bytes: &[u8], upload: &Upload) -> Option<usize> {
    memchr::memmem::find(bytes, &upload.lines)
}

/// The uploads of a segment; none where it cannot be read.
fn uploads(path: &Path) -> Vec<Upload> {
    inspect::uploads(path).unwrap_or_default()
}

fn is_sealed(path: &Path) -> bool {
    matches!(inspect::inspect(path), Ok(Content::Segment(segment)) if segment.sealed)
}

fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

fn newest(dir: &Path, ending: &str) -> io::Result<Option<PathBuf>> {
    Ok(files(dir, ending)?.pop())
}

/// The files of a directory whose names end so, in their order; none where the directory is not there.
fn files(dir: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| path.to_str().is_some_and(|path| path.ends_with(ending)));
    paths.sort_unstable();
    Ok(paths)
}
