//! Making a spool whole that no node uses: what cannot be read is put aside or given up, and counted, and all else stays.
//!
//! What a start does to an outbox and to tables is done by the same code. A start goes around damage inside segments, and
//! meets that of a batch's rows when it sends them; here both are looked for at once. Nothing is replayed, merged or sent.
//!
//! Memory: one file, and what is known of each batch that waits. A rehearsal holds what would be written as well.

pub(crate) mod rehearsal;
mod witness;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_batch::{BatchFile, FileError};
use weir_logic::Millis;

use crate::files::{Append, Disk, Files};
use crate::follower::Extent;
use crate::log::{Log, Sync};
use crate::outbox::Outbox;
use crate::progress::{self, Standing};
use crate::recovery::{RecoveryReport, Shelf, SpoolError, read_notes};
use crate::reserve::Reserve;
use crate::segment;
use crate::tables::Tables;
use crate::tape::{Found, Tape};
use rehearsal::Rehearsal;
use witness::Witness;

/// What was done to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// The file.
    pub path: PathBuf,
    /// What was done, and why.
    pub done: String,
}

/// Repairs the spool in `root`, and says what was done, in order. What is left is whole, but for the files put aside.
///
/// # Errors
/// When a file cannot be read or written, or was written by a later version.
pub fn repair(root: &Path, now: Millis) -> Result<Vec<Deed>, SpoolError> {
    repair_on(Disk, root, now)
}

/// Says what [`repair`] would do, and does nothing.
///
/// # Errors
/// As those of [`repair`].
pub fn rehearse(root: &Path, now: Millis) -> Result<Vec<Deed>, SpoolError> {
    repair_on(Rehearsal::new(Disk), root, now)
}

pub(crate) fn repair_on<F: Files>(files: F, root: &Path, now: Millis) -> Result<Vec<Deed>, SpoolError> {
    let files = Witness::new(files);
    let at = |path: PathBuf| move |error| SpoolError::Io { path, error };
    let standing = read_notes(&files, root)?;
    let Standing { damaged, mark, .. } = standing;
    let reserve = Arc::new(Reserve::open(files.clone(), root).map_err(at(root.to_owned()))?);
    let opened = Outbox::open(files.clone(), root, &standing, reserve, now);
    let (outbox, _) = opened.map_err(at(root.join("outbox")))?;
    if damaged > 0 {
        files.note(&root.join(progress::FILE_NAME), format!("written anew: {damaged} of its lines cannot be read"));
    }
    let places: Vec<_> = standing.tables.values().copied().collect();
    Tables::open(files.clone(), root, &places, mark)?;
    let journal = root.join("journal");
    let shelf = Shelf::look(&files, &journal, &outbox, RecoveryReport::default())?;
    for extent in &shelf.extents {
        let path = journal.join(segment::file_name(extent.generation));
        mend_segment(&files, &path, *extent, &outbox).map_err(at(path.clone()))?;
    }
    mend_outbox(&files, root, &outbox).map_err(at(root.join("outbox")))?;
    let dead = root.join("dead");
    mend_dead(&files, &dead).map_err(at(dead))?;
    Ok(files.deeds())
}

/// Cuts off a write that was never finished, and leaves out what cannot be read.
fn mend_segment<F: Files>(
    files: &Witness<F>,
    path: &Path,
    extent: Extent,
    outbox: &Outbox<Witness<F>>,
) -> io::Result<()> {
    let Ok(mut tape) = Tape::open(files.clone(), path.to_owned())? else { return Ok(()) };
    let mut whole = segment::encode_head(tape.generation(), tape.plan());
    let (mut damaged, mut at_end) = (0, 0);
    loop {
        match tape.read(extent.length)? {
            Found::Entry(entry) => {
                damaged += std::mem::take(&mut at_end);
                entry.encode(&mut whole);
            }
            Found::Damage => at_end += 1,
            Found::Nothing => break,
        }
    }
    if damaged > 0 {
        let name = segment::file_name(extent.generation);
        // Counted first: afterwards there is nothing to be seen of it.
        outbox.note_damage(&name, damaged)?;
        leave_out(files, path, &whole)?;
        let done = format!("written anew without {damaged} entries that cannot be read; {name}.damaged has them");
        files.note(path, done);
    } else if at_end > 0 {
        // Damage at the very end is what a torn write looks like.
        Log::open(files, path, tape.whole())?.append(&[], Sync::Now)?;
    }
    Ok(())
}

/// Keeps what can be read of a segment under its name, and all of it aside. There is a segment all the time.
fn leave_out<F: Files>(files: &F, path: &Path, whole: &[u8]) -> io::Result<()> {
    write(files, &path.with_extension("segment.damaged"), &files.read(path, usize::MAX)?)?;
    let draft = path.with_extension("segment.tmp");
    write(files, &draft, whole)?;
    files.rename(&draft, path)?;
    sync_dir_of(files, path)
}

fn write<F: Files>(files: &F, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = files.create(path)?;
    file.append(bytes)?;
    file.sync()?;
    sync_dir_of(files, path)
}

fn sync_dir_of<F: Files>(files: &F, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| files.sync_dir(dir))
}

/// Gives up the batches whose rows cannot be read.
fn mend_outbox<F: Files>(files: &Witness<F>, root: &Path, outbox: &Outbox<Witness<F>>) -> io::Result<()> {
    for waiting in outbox.waiting() {
        if let Err(error) = BatchFile::decode(&outbox.load(&waiting)?) {
            let path = root.join("outbox").join(format!("{}.batch", waiting.name()));
            files.note(&path, format!("given up with {} records: {error}", waiting.counts().records));
            outbox.bury_damaged(&waiting)?;
        }
    }
    Ok(())
}

/// Puts dead letters aside that cannot be read.
fn mend_dead<F: Files>(files: &F, dead: &Path) -> io::Result<()> {
    let mut aside = false;
    for listed in files.list(dead)? {
        let Some(batch) = listed.name.strip_suffix(".batch") else { continue };
        let path = dead.join(&listed.name);
        match BatchFile::decode(&files.read(&path, usize::MAX)?) {
            Ok(_) => {}
            Err(error @ FileError::Newer { .. }) => {
                return Err(io::Error::other(format!("{}: {error}", path.display())));
            }
            Err(_) => {
                files.rename(&path, &dead.join(format!("{batch}.damaged")))?;
                aside = true;
            }
        }
    }
    if aside { files.sync_dir(dead) } else { Ok(()) }
}
