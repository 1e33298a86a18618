//! An append-only file that is whole after every failure.

use std::io;
use std::path::Path;

use crate::files::{Append, Files};

/// A file that grows by whole appends. An append that fails leaves nothing behind: what it wrote is cut off again, now
/// or, when even that fails, before the next append, which fails until it succeeds.
pub(crate) struct Log<F: Files> {
    file: F::File,
    length: u64,
    dirty: bool,
    /// Whether zeros follow, for what is appended to go over.
    has_room: bool,
}

/// Whether an append is on stable storage when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Now,
    Later,
}

impl<F: Files> Log<F> {
    /// Makes a new file that holds `content`, durable but for its name.
    pub(crate) fn create(files: &F, path: &Path, content: &[u8]) -> io::Result<Self> {
        let mut file = files.create(path)?;
        file.append(content)?;
        file.sync()?;
        Ok(Self { file, length: content.len() as u64, dirty: false, has_room: false })
    }

    /// Makes a file of zeros that goes by the name of `spare` hold `content`, durably, and gives it its own name, which is not durable
    /// yet. What is appended goes over the zeros.
    pub(crate) fn fill(files: &F, (file, spare): (F::File, &Path), path: &Path, content: &[u8]) -> io::Result<Self> {
        let mut log = Self { file, length: 0, dirty: false, has_room: true };
        log.append(content, Sync::Now)?;
        files.rename(spare, path)?;
        Ok(log)
    }

    /// Opens a file that is there, cuts it to `length`, and makes that durable.
    pub(crate) fn open(files: &F, path: &Path, length: u64) -> io::Result<Self> {
        let mut file = files.open(path)?;
        file.truncate(length)?;
        file.sync()?;
        Ok(Self { file, length, dirty: false, has_room: false })
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Nothing more will be appended: cuts off the zeros that are left. They do no harm where that fails.
    pub(crate) fn close(&mut self) {
        if self.has_room {
            self.file.truncate(self.length).unwrap_or(());
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8], sync: Sync) -> io::Result<()> {
        self.repair()?;
        self.dirty = true;
        let appended = self.file.append(bytes).and_then(|()| match sync {
            Sync::Now => self.file.sync(),
            Sync::Later => Ok(()),
        });
        if let Err(error) = appended {
            // The append's own error says more than a failed repair, which the next append will meet again.
            self.repair().unwrap_or(());
            return Err(error);
        }
        self.dirty = false;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn repair(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.truncate(self.length)?;
            self.file.sync()?;
            (self.dirty, self.has_room) = (false, false);
        }
        Ok(())
    }
}
