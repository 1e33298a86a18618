//! Room kept back on the disk for notes.
//!
//! A batch leaves only after a note says so. On a disk without any room no note could be written, no batch would leave,
//! and so there would never be room again. A file of [`BYTES`] bytes stands in for the room that notes need: it is removed
//! when a note cannot be written, and while it is gone the journal takes no uploads, so that they do not eat the room.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::files::{Append, Files};

/// Room for notes on one spool's file system.
pub(crate) struct Reserve<F: Files> {
    files: F,
    path: PathBuf,
    held: Mutex<bool>,
}

/// Some hundred notes; the first batch that leaves makes more room than that.
const BYTES: usize = 64 * 1024;

const FILE_NAME: &str = "reserve";

impl<F: Files> Reserve<F> {
    /// The reserve of the spool in `root`, as the last run has left it, or a new one when there is room for it.
    pub(crate) fn open(files: F, root: &Path) -> io::Result<Self> {
        let listed = files.list(root)?;
        let held = listed.iter().any(|file| file.name == FILE_NAME && file.bytes == BYTES as u64);
        let reserve = Self { files, path: root.join(FILE_NAME), held: Mutex::new(held) };
        // Tried again before the journal takes anything.
        reserve.hold().unwrap_or(());
        Ok(reserve)
    }

    /// Sees to it that the room is kept back.
    ///
    /// # Errors
    /// When it is not there to be kept.
    pub(crate) fn hold(&self) -> io::Result<()> {
        let mut held = self.held.lock();
        if !*held {
            if let Err(error) = self.fill() {
                self.files.remove(&self.path).unwrap_or(());
                return Err(error);
            }
            *held = true;
        }
        Ok(())
    }

    /// Gives the room free; says whether there was any.
    pub(crate) fn release(&self) -> bool {
        let mut held = self.held.lock();
        std::mem::take(&mut *held) && self.files.remove(&self.path).is_ok()
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = self.files.create(&self.path)?;
        file.append(&noise())?;
        file.sync()
    }
}

/// Bytes that no file system can make smaller.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..BYTES / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}
