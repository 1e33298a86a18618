//! The data directory: owned by one running node, which keeps its name there.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rand::Rng;

/// A data directory that this process owns until the value is dropped: another node that opens it is refused.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Holds the lock; the operating system lets go of it however the process ends.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It is not there and cannot be made.
    #[error("the data directory {path} cannot be made: {error}", path = path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file in it cannot be written.
    #[error("the data directory is not writable: {path}: {error}", path = path.display())]
    Write {
        /// The file that could not be written.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another node uses it.
    #[error("the data directory {path} is in use by another node", path = path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// The name kept in it is none.
    #[error("{path} does not hold an edge name: 1 to 64 letters, digits, '-', '_' or '.'", path = path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
}

impl DataDir {
    /// Makes the directory where it is not there (mode 0750), and takes its lock.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or written, or another node uses it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        make(path)?;
        let lock_path = path.join("lock");
        let unwritable = |error| DataDirError::Write { path: lock_path.clone(), error };
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::Taken { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(DataDirError::Write { path: lock_path, error }),
        }
    }

    /// The node's name: as configured, else as kept here, else a new random one, which is kept. A name that changed between two
    /// runs would make the batches of the first look new to the core, so the kept one is durable before it is used.
    ///
    /// # Errors
    ///
    /// When the name cannot be read or kept.
    pub fn edge_name(&self, configured: Option<&str>) -> Result<String, DataDirError> {
        if let Some(name) = configured {
            return Ok(name.to_owned());
        }
        let path = self.path.join("edge-name");
        match std::fs::read_to_string(&path) {
            Ok(text) if is_edge_name(text.trim()) => Ok(text.trim().to_owned()),
            Ok(_) => Err(DataDirError::Name { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = format!("edge-{:016x}", rand::rng().random::<u64>());
                keep(&path, &name).map_err(|error| DataDirError::Write { path, error })?;
                Ok(name)
            }
            Err(error) => Err(DataDirError::Write { path, error }),
        }
    }
}

/// Writes and removes a file in the directory, making the directory where it is not there.
///
/// # Errors
///
/// When that fails; the directory is then of no use to a node.
pub fn probe(path: &Path) -> Result<(), DataDirError> {
    make(path)?;
    let file = path.join(format!(".probe-{}", std::process::id()));
    let outcome = File::create(&file).and_then(|mut probe| probe.write_all(b"weir").and_then(|()| probe.sync_all()));
    let removed = std::fs::remove_file(&file);
    outcome.and(removed).map_err(|error| DataDirError::Write { path: file, error })
}

fn make(path: &Path) -> Result<(), DataDirError> {
    let made = DirBuilder::new().recursive(true).mode(0o750).create(path);
    made.map_err(|error| DataDirError::Create { path: path.to_owned(), error })
}

/// Durable before it is visible: a torn name would be another name.
fn keep(path: &Path, name: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    writeln!(file, "{name}")?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    let Some(directory) = path.parent() else { return Ok(()) };
    File::open(directory)?.sync_all()
}

fn is_edge_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_never_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDir::open(directory.path()).unwrap();
        assert!(matches!(DataDir::open(directory.path()), Err(DataDirError::Taken { .. })));
        drop(first);
        DataDir::open(directory.path()).unwrap();
    }

    #[test]
    fn a_name_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&directory.path().join("not/there/yet")).unwrap();
        let name = data_dir.edge_name(None).unwrap();
        assert!(is_edge_name(&name), "{name}");
        assert_eq!(data_dir.edge_name(None).unwrap(), name);
        assert_eq!(data_dir.edge_name(Some("edge-7")).unwrap(), "edge-7");
    }

    #[test]
    fn a_damaged_name_is_refused_rather_than_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(directory.path()).unwrap();
        std::fs::write(directory.path().join("edge-name"), "edge/7").unwrap();
        assert!(matches!(data_dir.edge_name(None), Err(DataDirError::Name { .. })));
    }

    #[test]
    fn a_file_in_the_directorys_place_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(probe(&path), Err(DataDirError::Create { .. })));
        probe(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
