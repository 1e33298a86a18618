//! A file system in memory that dies on command and forgets what was never made durable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::files::{Append, Files, Listed};

/// Clones are the same file system.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<Inner>>);

#[derive(Clone, Debug, Default)]
struct Inner {
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Calls until one fails; `None` for never.
    fuse: Option<u64>,
    /// Whether every call after the failed one fails too.
    dead: bool,
    recovers: bool,
    /// Bytes that all files may have together; `None` for no bound.
    room: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    content: Vec<u8>,
    durable: Vec<u8>,
}

/// A file of [`Memory`].
#[derive(Debug)]
pub(crate) struct Handle {
    memory: Memory,
    node: usize,
    /// Where the next append goes.
    at: usize,
}

impl Memory {
    /// Dies within the call that follows `calls` calls: half of it is done.
    pub(crate) fn die_after(&self, calls: u64) {
        let mut inner = self.0.lock();
        (inner.fuse, inner.recovers) = (Some(calls), false);
    }

    /// Fails once, in the call that follows `calls` calls.
    pub(crate) fn fail_once_after(&self, calls: u64) {
        let mut inner = self.0.lock();
        (inner.fuse, inner.recovers) = (Some(calls), true);
    }

    /// From now on files may have so many bytes more than they have, and only those with a name count.
    pub(crate) fn leave_room(&self, bytes: Option<usize>) {
        let mut inner = self.0.lock();
        inner.room = bytes.map(|bytes| bytes + inner.used());
    }

    /// Takes back an order to fail.
    pub(crate) fn live_on(&self) {
        self.0.lock().fuse = None;
    }

    /// Whether it has died.
    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    /// What a process finds that is started after another one has died: what was not durable is there, and is no more
    /// durable than it was.
    pub(crate) fn after_kill(&self) -> Self {
        let mut inner = self.0.lock().clone();
        (inner.fuse, inner.dead) = (None, false);
        Self(Arc::new(Mutex::new(inner)))
    }

    /// What is there after power comes back. `luck` decides how much of what was not durable is there all the same.
    pub(crate) fn after_power_loss(&self, mut luck: u64) -> Self {
        let mut draw = |bound: u64| {
            luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (luck >> 33) % bound
        };
        let mut inner = self.0.lock().clone();
        (inner.fuse, inner.dead) = (None, false);
        if draw(2) == 0 {
            inner.names = inner.durable_names.clone();
        }
        inner.durable_names = inner.names.clone();
        for node in &mut inner.nodes {
            let appended = node.content.strip_prefix(node.durable.as_slice()).map(<[u8]>::to_vec);
            let mut content = node.durable.clone();
            match appended {
                Some(tail) if !tail.is_empty() => {
                    let kept = usize::try_from(draw(tail.len() as u64 + 1)).unwrap();
                    content.extend_from_slice(&tail[..kept]);
                    if draw(2) == 0 {
                        // The length can be durable before the bytes are.
                        content.resize(content.len() + usize::try_from(draw(40)).unwrap(), 0);
                    }
                }
                // Zeros were written over, from the front on.
                None if content.len() == node.content.len() => {
                    let differs = |at: &usize| content[*at] != node.content[*at];
                    let first = (0..content.len()).find(differs).unwrap_or_default();
                    let last = (0..content.len()).rfind(differs).unwrap_or_default();
                    let kept = first + usize::try_from(draw((last - first) as u64 + 2)).unwrap();
                    content[first..kept].copy_from_slice(&node.content[first..kept]);
                }
                None if draw(2) == 0 => content = node.content.clone(),
                _ => {}
            }
            (node.content, node.durable) = (content.clone(), content);
        }
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Does something that fails for no order, and brings none forward.
    pub(crate) fn undisturbed<T>(&self, act: impl FnOnce(&Self) -> T) -> T {
        let fuse = self.0.lock().fuse.take();
        let done = act(self);
        self.0.lock().fuse = fuse;
        done
    }

    /// The files below a directory.
    pub(crate) fn count(&self, dir: &Path) -> usize {
        self.0.lock().names.keys().filter(|path| path.parent() == Some(dir)).count()
    }

    /// Changes a file's bytes in place.
    pub(crate) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.0.lock();
        let node = inner.names[path];
        change(&mut inner.nodes[node].content);
        inner.nodes[node].durable = inner.nodes[node].content.clone();
    }

    fn call<T>(&self, act: impl FnOnce(&mut Inner, bool) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.0.lock();
        let broken = || io::Error::other("on purpose");
        if inner.dead {
            return Err(broken());
        }
        match inner.fuse {
            Some(0) => {
                inner.fuse = None;
                inner.dead = !inner.recovers;
                // A call that dies may have done its work or not; appends do half of it.
                act(&mut inner, true).and(Err(broken()))
            }
            fuse => {
                inner.fuse = fuse.map(|calls| calls - 1);
                act(&mut inner, false)
            }
        }
    }
}

impl Inner {
    fn used(&self) -> usize {
        self.names.values().map(|node| self.nodes[*node].content.len()).sum()
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Files for Memory {
    type File = Handle;

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.call(|_, _| Ok(()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.call(|inner, _| {
            let below = inner.names.iter().filter(|(path, _)| path.parent() == Some(dir));
            let listed = below.map(|(path, node)| Listed {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                bytes: inner.nodes[*node].content.len() as u64,
            });
            Ok(listed.collect())
        })
    }

    fn read_at(&self, path: &Path, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        self.call(|inner, _| {
            let node = inner.names.get(path).ok_or_else(missing)?;
            let content = &inner.nodes[*node].content;
            let rest = &content[content.len().min(usize::try_from(offset).unwrap())..];
            Ok(rest[..rest.len().min(max_bytes)].to_vec())
        })
    }

    fn create(&self, path: &Path) -> io::Result<Handle> {
        self.call(|inner, _| {
            inner.nodes.push(Node::default());
            let node = inner.nodes.len() - 1;
            inner.names.insert(path.to_owned(), node);
            Ok(Handle { memory: self.clone(), node, at: 0 })
        })
    }

    fn open(&self, path: &Path) -> io::Result<Handle> {
        self.call(|inner, _| {
            let node = *inner.names.get(path).ok_or_else(missing)?;
            Ok(Handle { memory: self.clone(), node, at: inner.nodes[node].content.len() })
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|inner, broken| {
            if !broken {
                let node = inner.names.remove(from).ok_or_else(missing)?;
                inner.names.insert(to.to_owned(), node);
            }
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|inner, broken| {
            if !broken {
                inner.names.remove(path);
            }
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(|inner, broken| {
            if !broken {
                inner.durable_names.retain(|path, _| path.parent() != Some(dir));
                let below: Vec<(PathBuf, usize)> = inner
                    .names
                    .iter()
                    .filter(|(path, _)| path.parent() == Some(dir))
                    .map(|(path, node)| (path.clone(), *node))
                    .collect();
                inner.durable_names.extend(below);
            }
            Ok(())
        })
    }
}

impl Append for Handle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.memory.call(|inner, broken| {
            let taken = inner.nodes[self.node].content.len() - self.at;
            let free = inner.room.map_or(usize::MAX, |room| room.saturating_sub(inner.used()).saturating_add(taken));
            let done = if broken { bytes.len() / 2 } else { bytes.len() }.min(free);
            let content = &mut inner.nodes[self.node].content;
            let over = done.min(taken);
            content[self.at..self.at + over].copy_from_slice(&bytes[..over]);
            content.extend_from_slice(&bytes[over..done]);
            self.at += done;
            if free < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.memory.call(|inner, broken| {
            if !broken {
                let node = &mut inner.nodes[self.node];
                node.durable = node.content.clone();
            }
            Ok(())
        })
    }

    fn reserve(&mut self, length: u64) -> io::Result<()> {
        self.memory.call(|inner, broken| {
            let length = usize::try_from(length).unwrap() / if broken { 2 } else { 1 };
            let missing = length.saturating_sub(inner.nodes[self.node].content.len());
            if inner.room.is_some_and(|room| room.saturating_sub(inner.used()) < missing) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let node = &mut inner.nodes[self.node];
            node.content.resize(node.content.len() + missing, 0);
            node.durable = node.content.clone();
            Ok(())
        })
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.memory.call(|inner, broken| {
            if !broken {
                self.at = usize::try_from(length).unwrap();
                inner.nodes[self.node].content.truncate(self.at);
            }
            Ok(())
        })
    }
}
