//! A file system in memory for the spool: what is written is there, nothing fails and nothing is forgotten.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use weir_spool::{Append, Files, Listed};

/// Clones are the same file system.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<PathBuf, Content>>>);

type Content = Arc<Mutex<Vec<u8>>>;

/// A file of [`Memory`].
#[derive(Debug)]
pub struct Handle(Content);

impl Memory {
    /// Puts a file there.
    pub fn put(&self, path: impl Into<PathBuf>, content: Vec<u8>) {
        self.0.lock().insert(path.into(), Arc::new(Mutex::new(content)));
    }

    /// All files and their content.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.0.lock().iter().map(|(path, content)| (path.clone(), content.lock().clone())).collect()
    }

    /// Changes the bytes of the file at that place in the list of all files, counted round and round.
    pub fn damage(&self, place: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let files = self.0.lock();
        if let Some(content) = files.values().nth(place.checked_rem(files.len()).unwrap_or_default()) {
            change(&mut content.lock());
        }
    }

    fn find(&self, path: &Path) -> io::Result<Content> {
        self.0.lock().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for Memory {
    type File = Handle;

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let files = self.0.lock();
        let below = files.iter().filter(|(path, _)| path.parent() == Some(dir));
        let named = below.filter_map(|(path, content)| Some((path.file_name()?.to_str()?.to_owned(), content)));
        Ok(named.map(|(name, content)| Listed { name, bytes: content.lock().len() as u64 }).collect())
    }

    fn read_at(&self, path: &Path, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        let content = self.find(path)?;
        let content = content.lock();
        let rest = &content[content.len().min(usize::try_from(offset).unwrap_or(usize::MAX))..];
        Ok(rest[..rest.len().min(max_bytes)].to_vec())
    }

    fn create(&self, path: &Path) -> io::Result<Handle> {
        let content = Content::default();
        self.0.lock().insert(path.to_owned(), Arc::clone(&content));
        Ok(Handle(content))
    }

    fn open(&self, path: &Path) -> io::Result<Handle> {
        self.find(path).map(Handle)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.0.lock();
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().remove(path);
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl Append for Handle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.lock().truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }
}
