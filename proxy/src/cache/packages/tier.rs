//! What all bodies on disk share: the directory, the threads that read and write it, the memory for reading.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use weir_config::PackageLimits;

use super::files::Files;
use crate::metrics::Metrics;

/// Memory: none of its own. Threads: [`MAX_BLOCKING`] of the runtime's at once.
pub(in crate::cache) struct Tier {
    pub(super) files: Arc<Files>,
    turns: Semaphore,
    readers: AtomicUsize,
    max_read_bytes: AtomicUsize,
    started: Instant,
    reading: IntGauge,
    pub(super) damaged: IntCounter,
}

impl Tier {
    pub(super) fn new(dir: &Path, limits: &PackageLimits, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            files: Arc::new(Files::new(dir)),
            turns: Semaphore::new(MAX_BLOCKING),
            readers: AtomicUsize::new(0),
            max_read_bytes: AtomicUsize::new(limits.max_read_bytes.as_usize()),
            started: Instant::now(),
            reading: metrics.package_readers.clone(),
            damaged: metrics.package_damaged.clone(),
        })
    }

    pub(super) fn reconfigure(&self, limits: &PackageLimits) {
        self.max_read_bytes.store(limits.max_read_bytes.as_usize(), Ordering::Relaxed);
    }

    /// Does `work` on a thread that may block, in turn.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }

    /// Removes the files of that name, soon where a runtime can do it, else at once.
    pub(super) fn remove(&self, name: &str) {
        let (files, name) = (Arc::clone(&self.files), name.to_owned());
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || files.remove(&name))),
            Err(_) => files.remove(&name),
        }
    }

    /// The part of the memory for reading that each reader may use now.
    pub(super) fn read_bytes_each(&self) -> usize {
        self.max_read_bytes.load(Ordering::Relaxed) / self.readers.load(Ordering::Relaxed).max(1)
    }

    pub(super) fn reader_came(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
        self.reading.inc();
    }

    pub(super) fn reader_left(&self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
        self.reading.dec();
    }

    /// The time since the tier was made, on the clock that its waits run on.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Reads and writes at once: most are served by the page cache at once, and a disk gains nothing from more.
const MAX_BLOCKING: usize = 16;
