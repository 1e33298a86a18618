//! A body on its way to the disk, written at the core's speed whoever reads it and however slowly.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use ring::digest::{Context, SHA256};
use tokio::time::timeout;

use super::head::{Head, Told};
use super::package::{Package, Progress, finished};
use super::{NoRoom, Packages};
use crate::upstream::OriginError;

/// The writer of one body. Dropped before its end, the body is broken: its readers are cut and its file goes.
pub(in crate::cache) struct Part {
    packages: Arc<Packages>,
    package: Arc<Package>,
    writing: Option<Writing>,
    announced: Option<u64>,
    /// Bytes of the tier's room that are held for it.
    reserved: u64,
    ended: bool,
}

/// What a blocking thread needs to write.
struct Writing {
    file: Arc<File>,
    hash: Context,
    buffer: Vec<u8>,
    at: u64,
}

/// Why a body did not come to its end.
#[derive(Debug)]
pub(in crate::cache) enum Broken {
    /// The core broke off.
    Core(OriginError),
    /// It is not as long as the core had announced.
    Length,
    /// It is not what a manifest says of it.
    Another,
    /// It is longer than one body may be, or there is no room for it.
    Room(NoRoom),
    /// The disk is full or fails.
    Disk(io::Error),
}

impl Part {
    pub(super) fn new(packages: &Arc<Packages>, name: String, file: File, announced: Option<u64>) -> Self {
        let file = Arc::new(file);
        let package = Package::begun(&packages.tier, name, &file, announced);
        let writing = Writing { file, hash: Context::new(&SHA256), buffer: Vec::new(), at: 0 };
        let packages = Arc::clone(packages);
        Self { packages, package, writing: Some(writing), announced, reserved: 0, ended: false }
    }

    /// The body as its readers see it, from now on.
    pub(in crate::cache) fn package(&self) -> &Arc<Package> {
        &self.package
    }

    /// Bytes that have come, written or not.
    pub(in crate::cache) fn received(&self) -> u64 {
        self.written() + self.buffered() as u64
    }

    /// The length that the core has announced.
    pub(in crate::cache) fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// The core has announced the length after all. What it has said before stays.
    pub(in crate::cache) fn announce(&mut self, length: u64) -> Result<(), NoRoom> {
        if self.announced.is_none() {
            self.reserve(length.saturating_sub(self.reserved))?;
            self.announced = Some(length);
            self.package.settle(length, None);
        }
        Ok(())
    }

    /// Takes room for so many bytes more.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), NoRoom> {
        self.packages.reserve(self.reserved, bytes)?;
        self.reserved += bytes;
        Ok(())
    }

    /// Writes the body to its end. Its hash is known then. After an error of the core's what has come is kept: called again, it goes on.
    pub(in crate::cache) async fn fill(
        &mut self,
        mut body: BoxStream<'static, Result<Bytes, OriginError>>,
    ) -> Result<(), Broken> {
        loop {
            let piece = if self.buffered() == 0 {
                body.next().await
            } else {
                // What has come is written when no more comes at once: a core that drips is read as it drips.
                match timeout(LINGER, body.next()).await {
                    Ok(piece) => piece,
                    Err(_) => {
                        self.write().await?;
                        body.next().await
                    }
                }
            };
            let Some(piece) = piece else { break };
            let piece = piece.map_err(Broken::Core)?;
            if let Some(writing) = &mut self.writing {
                writing.buffer.extend_from_slice(&piece);
            }
            if self.buffered() >= WRITE_BYTES {
                self.write().await?;
            }
        }
        self.write().await?;
        if self.announced.is_some_and(|announced| announced != self.written()) {
            return Err(Broken::Length);
        }
        if let Some(writing) = self.writing.take() {
            self.package.settle(writing.at, Some(finished(writing.hash)));
        }
        Ok(())
    }

    /// Makes the body whole and keeps it, with this head.
    pub(in crate::cache) async fn keep(mut self, told: &Told<'_>) -> Result<(), Broken> {
        let (Some(length), Some(digest)) = (self.package.length(), self.package.digest()) else { return Ok(()) };
        let head = Head::new(told, length, digest);
        let (tier, name) = (Arc::clone(&self.packages.tier), self.package.name().to_owned());
        let finish = self.packages.tier.blocking(move || tier.files.finish(&name, &head));
        finish.await.map_err(Broken::Disk)?;
        self.end();
        Ok(())
    }

    /// Lets those who read the body read it to its end, and keeps nothing.
    pub(in crate::cache) fn give_up_to_readers(mut self) {
        self.end();
        self.packages.tier.remove(self.package.name());
    }

    fn end(&mut self) {
        self.ended = true;
        self.package.tell(Progress::Whole);
    }

    fn buffered(&self) -> usize {
        self.writing.as_ref().map_or(0, |writing| writing.buffer.len())
    }

    fn written(&self) -> u64 {
        self.writing.as_ref().map_or(0, |writing| writing.at)
    }

    /// Writes what has gathered and lets the readers have it.
    async fn write(&mut self) -> Result<(), Broken> {
        let end = self.written() + self.buffered() as u64;
        if self.buffered() == 0 {
            return Ok(());
        }
        if let Some(missing) = end.checked_sub(self.reserved) {
            self.reserve(missing).map_err(Broken::Room)?;
        }
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let written = self.packages.tier.blocking(move || writing.write());
        let writing = written.await.map_err(Broken::Disk)?;
        self.package.tell(Progress::Growing(writing.at));
        self.writing = Some(writing);
        Ok(())
    }
}

impl Writing {
    fn write(mut self) -> io::Result<Self> {
        self.file.write_all_at(&self.buffer, self.at)?;
        self.hash.update(&self.buffer);
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(self)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.packages.release(self.reserved);
        if !self.ended {
            self.package.tell(Progress::Broken);
            self.packages.tier.remove(self.package.name());
        }
    }
}

/// So much is written at once, if it comes fast enough.
const WRITE_BYTES: usize = 256 * 1024;
/// The time for which a smaller piece waits for more.
const LINGER: Duration = Duration::from_millis(20);
