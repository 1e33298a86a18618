//! A file system over another one: what is done to it is remembered and not done.
//!
//! Memory: what is written to it, and the files that are appended to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::files::{Append, Files, Listed};

/// Clones are the same file system.
#[derive(Clone)]
pub(crate) struct Rehearsal<F: Files> {
    below: F,
    /// What differs from the file system below; `None` for a file that is gone.
    changed: Arc<Mutex<BTreeMap<PathBuf, Option<Node>>>>,
}

/// A file, under whatever name: one that is open may be renamed.
type Node = Arc<Mutex<Content>>;

enum Content {
    /// A file below, or as many of its first bytes.
    Below {
        path: PathBuf,
        limit: u64,
    },
    Held(Vec<u8>),
}

/// A file of a [`Rehearsal`].
pub(crate) struct Rehearsed<F: Files> {
    below: F,
    node: Node,
}

impl<F: Files> Rehearsal<F> {
    pub(crate) fn new(below: F) -> Self {
        Self { below, changed: Arc::default() }
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        if let Some(changed) = self.changed.lock().get(path) {
            return changed.clone().ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        // Fails when it is not there.
        self.below.read(path, 0)?;
        Ok(Arc::new(Mutex::new(Content::Below { path: path.to_owned(), limit: u64::MAX })))
    }

    fn change(&self, path: &Path, node: Option<Node>) {
        self.changed.lock().insert(path.to_owned(), node);
    }
}

impl Content {
    fn length<F: Files>(&self, below: &F) -> io::Result<u64> {
        match self {
            Self::Below { path, limit } => {
                let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(0) };
                let listed = below.list(dir)?.into_iter().find(|listed| *listed.name == *name);
                Ok(listed.map_or(0, |listed| listed.bytes.min(*limit)))
            }
            Self::Held(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn read_at<F: Files>(&self, below: &F, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Below { path, limit } => {
                let room = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
                below.read_at(path, offset, room.min(max_bytes))
            }
            Self::Held(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
                Ok(rest[..rest.len().min(max_bytes)].to_vec())
            }
        }
    }
}

impl<F: Files> Files for Rehearsal<F> {
    type File = Rehearsed<F>;

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let below = match self.below.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        let mut listed: BTreeMap<String, u64> = below.into_iter().map(|listed| (listed.name, listed.bytes)).collect();
        for (path, node) in self.changed.lock().iter().filter(|(path, _)| path.parent() == Some(dir)) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            match node {
                Some(node) => drop(listed.insert(name.to_owned(), node.lock().length(&self.below)?)),
                None => drop(listed.remove(name)),
            }
        }
        Ok(listed.into_iter().map(|(name, bytes)| Listed { name, bytes }).collect())
    }

    fn read_at(&self, path: &Path, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        self.find(path)?.lock().read_at(&self.below, offset, max_bytes)
    }

    fn create(&self, path: &Path) -> io::Result<Rehearsed<F>> {
        let node = Arc::new(Mutex::new(Content::Held(Vec::new())));
        self.change(path, Some(Arc::clone(&node)));
        Ok(Rehearsed { below: self.below.clone(), node })
    }

    fn open(&self, path: &Path) -> io::Result<Rehearsed<F>> {
        let node = self.find(path)?;
        self.change(path, Some(Arc::clone(&node)));
        Ok(Rehearsed { below: self.below.clone(), node })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        self.change(from, None);
        self.change(to, Some(node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(path, None);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl<F: Files> Append for Rehearsed<F> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.node.lock();
        if let Content::Below { .. } = &*content {
            *content = Content::Held(content.read_at(&self.below, 0, usize::MAX)?);
        }
        if let Content::Held(held) = &mut *content {
            held.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        match &mut *self.node.lock() {
            Content::Below { limit, .. } => *limit = length.min(*limit),
            Content::Held(bytes) => bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX)),
        }
        Ok(())
    }
}
