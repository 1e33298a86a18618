//! A file made ready for the next generation: as long as that is likely to become, and full of zeros.
//!
//! An append that makes a file longer has the file system write down the file's new length and where its new bytes are, before it
//! can say that they are durable: two more writes, and another thread that must have its turn. Where the bytes have their places
//! already, only they are written. To fill a file takes as long as to write it, so it is done while the generation before is
//! written, by whoever calls [`Spare::make`]; a generation that finds no spare file begins an empty one.
//!
//! On disk: beside the journal, the size of one generation.
//!
//! Not here: the thread that makes it.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::files::{Append, Files};

/// The spare file of one journal.
pub struct Spare<F: Files> {
    files: F,
    path: PathBuf,
    state: Mutex<State<F::File>>,
}

enum State<T> {
    /// There is none, and none is wanted.
    None,
    /// One of so many bytes is wanted.
    Wanted(u64),
    Making,
    Ready(T),
}

/// Generations of fewer bytes are no reason to make one ready: they are synced a few times.
const LEAST_BYTES: u64 = if cfg!(test) { 100 } else { 256 * 1024 };

const FILE_NAME: &str = "spare";

impl<F: Files> Spare<F> {
    /// Nothing yet; what an earlier run has left is removed, if it can be.
    pub(crate) fn new(files: F, journal: &Path) -> Self {
        let path = journal.join(FILE_NAME);
        // One that stays is written over.
        files.remove(&path).unwrap_or(());
        Self { files, path, state: Mutex::new(State::None) }
    }

    /// A generation of so many bytes has ended; the next is expected to be like it. Gives whether a file is to be made.
    pub(crate) fn expect(&self, bytes: u64) -> bool {
        let mut state = self.state.lock();
        if let (State::None, true) = (&*state, bytes >= LEAST_BYTES) {
            // Traffic that grows by a quarter within a generation is not expected.
            *state = State::Wanted(bytes + bytes / 4);
        }
        matches!(&*state, State::Wanted(_))
    }

    /// Makes the file, if one is wanted. Takes as long as writing and syncing a generation does.
    ///
    /// # Errors
    /// When there is no room for it. There will be a next one.
    pub fn make(&self) -> io::Result<()> {
        let bytes = {
            let mut state = self.state.lock();
            let State::Wanted(bytes) = *state else { return Ok(()) };
            *state = State::Making;
            bytes
        };
        let made = self.files.create(&self.path).and_then(|mut file| file.reserve(bytes).map(|()| file));
        let (state, result) = match made {
            Ok(file) => (State::Ready(file), Ok(())),
            Err(error) => {
                self.files.remove(&self.path).unwrap_or(());
                (State::None, Err(error))
            }
        };
        *self.state.lock() = state;
        result
    }

    /// The file and its path, if it is ready. Whoever takes it gives it another name.
    pub(crate) fn take(&self) -> Option<(F::File, &Path)> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::None) {
            State::Ready(file) => Some((file, &self.path)),
            other => {
                *state = other;
                None
            }
        }
    }
}

impl<F: Files> Drop for Spare<F> {
    fn drop(&mut self) {
        if let State::Ready(_) = self.state.get_mut() {
            // Room that nobody needs now; the next start would remove it.
            self.files.remove(&self.path).unwrap_or(());
        }
    }
}
