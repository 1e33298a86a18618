//! A file system that keeps account of what is done to it, in words for people.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Deed;
use crate::files::{Append, Files, Listed};

/// Clones share their account.
#[derive(Clone)]
pub(super) struct Witness<F: Files> {
    files: F,
    deeds: Arc<Mutex<Vec<Deed>>>,
}

/// A file of a [`Witness`].
pub(super) struct Witnessed<F: Files> {
    file: F::File,
    length: u64,
    path: PathBuf,
    deeds: Arc<Mutex<Vec<Deed>>>,
}

impl<F: Files> Witness<F> {
    pub(super) fn new(files: F) -> Self {
        Self { files, deeds: Arc::default() }
    }

    /// What has been done so far, in order.
    pub(super) fn deeds(&self) -> Vec<Deed> {
        self.deeds.lock().clone()
    }

    pub(super) fn note(&self, path: &Path, done: impl Into<String>) {
        self.deeds.lock().push(Deed { path: path.to_owned(), done: done.into() });
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(0) };
        let listed = self.files.list(dir)?.into_iter().find(|listed| *listed.name == *name);
        Ok(listed.map_or(0, |listed| listed.bytes))
    }
}

fn is_in(path: &Path, dir: &str) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with(dir))
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

impl<F: Files> Files for Witness<F> {
    type File = Witnessed<F>;

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.files.list(dir)
    }

    fn read_at(&self, path: &Path, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        self.files.read_at(path, offset, max_bytes)
    }

    fn create(&self, path: &Path) -> io::Result<Witnessed<F>> {
        let file = self.files.create(path)?;
        Ok(Witnessed { file, length: 0, path: path.to_owned(), deeds: Arc::clone(&self.deeds) })
    }

    fn open(&self, path: &Path) -> io::Result<Witnessed<F>> {
        let file = self.files.open(path)?;
        let length = self.length(path)?;
        Ok(Witnessed { file, length, path: path.to_owned(), deeds: Arc::clone(&self.deeds) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)?;
        let name = to.file_name().unwrap_or_default().display();
        if has_extension(to, "damaged") {
            self.note(from, format!("put aside as {name}: it cannot be read"));
        } else if is_in(from, "outbox") && is_in(to, "dead") {
            self.note(from, format!("moved to the dead letters as {name}"));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let was_there = self.files.read(path, 0).is_ok();
        self.files.remove(path)?;
        let reason = match () {
            () if is_in(path, "outbox") => "it has left the outbox, or was never announced",
            () if is_in(path, "dead") => "the notes say that it is a dead letter no more",
            () if is_in(path, "tables") => "the notes do not name it",
            () if has_extension(path, "segment") => "it holds no entry: its making was never finished",
            () => return Ok(()),
        };
        if was_there {
            self.note(path, format!("removed: {reason}"));
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.sync_dir(dir)
    }
}

impl<F: Files> Append for Witnessed<F> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)?;
        if length < self.length {
            let done = format!("cut from {} to {length} bytes: a write was never finished", self.length);
            self.deeds.lock().push(Deed { path: self.path.clone(), done });
        }
        self.length = length;
        Ok(())
    }
}
