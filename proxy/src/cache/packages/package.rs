//! One body on disk: on its way or whole, read by any number of agents at once.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use futures::stream::try_unfold;
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use tokio::sync::{OnceCell, watch};
use weir_logic::Digest;
use weir_logic::cache::Bandwidth;

use super::tier::Tier;
use crate::answer::{Cut, Stream};
use crate::task;

/// A body on disk. Its file stays open from its first use on, so that whoever reads it goes on though it has left the store.
/// Memory: a few hundred bytes, and a piece for each reader.
pub(in crate::cache) struct Package {
    tier: Arc<Tier>,
    name: String,
    length: OnceLock<u64>,
    digest: OnceLock<Digest>,
    progress: watch::Sender<Progress>,
    /// `None` in it: the file is missing or is not what was written.
    file: OnceCell<Option<Arc<File>>>,
    bandwidth: Mutex<Bandwidth>,
    /// Bytes a second for all readers together; zero: no bound.
    rate: AtomicU64,
    readers: AtomicUsize,
    /// In how many places of the store it is: its files go when it leaves the last one.
    places: AtomicUsize,
}

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many bytes can be read.
    Growing(u64),
    Whole,
    /// It will never be whole.
    Broken,
}

impl Package {
    /// A body that begins, of a length that the core has announced or not.
    pub(super) fn begun(tier: &Arc<Tier>, name: String, file: &Arc<File>, length: Option<u64>) -> Arc<Self> {
        let package = Self::new(tier, name, Progress::Growing(0), OnceCell::new_with(Some(Some(Arc::clone(file)))));
        if let Some(length) = length {
            package.settle(length, None);
        }
        Arc::new(package)
    }

    /// A body that a start has found. It is looked at when it is first asked for.
    pub(super) fn found(tier: &Arc<Tier>, name: String, length: u64, digest: Digest) -> Arc<Self> {
        let package = Self::new(tier, name, Progress::Whole, OnceCell::new());
        package.settle(length, Some(digest));
        Arc::new(package)
    }

    fn new(tier: &Arc<Tier>, name: String, progress: Progress, file: OnceCell<Option<Arc<File>>>) -> Self {
        Self {
            tier: Arc::clone(tier),
            name,
            length: OnceLock::new(),
            digest: OnceLock::new(),
            progress: watch::Sender::new(progress),
            file,
            bandwidth: Mutex::default(),
            rate: AtomicU64::new(0),
            readers: AtomicUsize::new(0),
            places: AtomicUsize::new(0),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The length; `None` while it is not known.
    pub(in crate::cache) fn length(&self) -> Option<u64> {
        self.length.get().copied()
    }

    /// The SHA-256 of a whole body.
    pub(in crate::cache) fn digest(&self) -> Option<&Digest> {
        self.digest.get()
    }

    /// Notes what is known at the end at the latest. What has been said before stays.
    pub(super) fn settle(&self, length: u64, digest: Option<Digest>) {
        self.length.get_or_init(|| length);
        if let Some(digest) = digest {
            self.digest.get_or_init(|| digest);
        }
    }

    pub(super) fn tell(&self, progress: Progress) {
        self.progress.send_replace(progress);
    }

    /// Bounds what all readers together are given.
    pub(in crate::cache) fn limit(&self, bytes_per_second: u64) {
        if self.rate.swap(bytes_per_second, Ordering::Relaxed) != bytes_per_second {
            // What was taken at another rate is not owed at this one.
            *self.bandwidth.lock() = Bandwidth::default();
        }
    }

    /// It is in one more place of the store.
    pub(in crate::cache) fn placed(&self) {
        self.places.fetch_add(1, Ordering::AcqRel);
    }

    /// It is in one place less. With the last one its files go; whoever reads it goes on.
    pub(in crate::cache) fn displaced(&self) {
        if self.places.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.tier.remove(&self.name);
        }
    }

    /// Whether the body can be read. One that a start has found is read through once and compared with its SHA-256, whoever waits.
    pub(in crate::cache) async fn is_sound(self: &Arc<Self>) -> bool {
        if let Some(file) = self.file.get() {
            return file.is_some();
        }
        let package = Arc::clone(self);
        // In a task of its own, so that the work is not lost when the agent leaves.
        let check =
            task::spawn("package check", async move { package.file.get_or_init(|| package.check()).await.is_some() });
        check.await.ok().flatten().unwrap_or(false)
    }

    async fn check(&self) -> Option<Arc<File>> {
        let (tier, name) = (Arc::clone(&self.tier), self.name.clone());
        let (length, digest) = (self.length()?, *self.digest()?);
        let checked = self.tier.blocking(move || -> io::Result<Option<File>> {
            let file = tier.files.open(&name)?;
            Ok((digest_of(&file)? == (length, digest)).then_some(file))
        });
        let checked = checked.await;
        if !matches!(checked, Ok(Some(_))) {
            self.tier.damaged.inc();
            tracing::warn!(name = self.name, ?checked, "a stored answer is damaged and will be fetched anew");
        }
        checked.ok().flatten().map(Arc::new)
    }

    /// The bytes of `range`; all of them without one. Those that are not there yet are waited for.
    pub(in crate::cache) fn read(self: &Arc<Self>, range: Option<Range<u64>>) -> Stream {
        let length = range.as_ref().map(|range| range.end - range.start).or_else(|| self.length());
        let (at, end) = range.map_or((0, None), |range| (range.start, Some(range.end)));
        let reader = Reader {
            progress: self.progress.subscribe(),
            reading: Reading::begin(self),
            at,
            end,
            buffer: BytesMut::new(),
        };
        Stream::new(length, try_unfold(reader, Reader::step))
    }

    /// How long the next piece is, at most: an even part of the memory for all readers, and of a second's bandwidth.
    fn piece_bytes(&self) -> usize {
        let memory = self.tier.read_bytes_each();
        let rate = self.rate.load(Ordering::Relaxed);
        let share = rate / (self.readers.load(Ordering::Relaxed).max(1) as u64);
        let share = if rate == 0 { usize::MAX } else { usize::try_from(share).unwrap_or(usize::MAX) };
        memory.min(share).clamp(MIN_PIECE_BYTES, MAX_PIECE_BYTES)
    }
}

impl Drop for Package {
    /// One that never was in the store, or was taken out of it, leaves nothing behind. Those that are in it when the node ends stay.
    fn drop(&mut self) {
        if self.places.load(Ordering::Acquire) == 0 && *self.progress.borrow() == Progress::Whole {
            self.tier.remove(&self.name);
        }
    }
}

impl fmt::Debug for Package {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let progress = *self.progress.borrow();
        formatter.debug_struct("Package").field("name", &self.name).field("progress", &progress).finish_non_exhaustive()
    }
}

/// Length and hash of a file, read through once.
fn digest_of(file: &File) -> io::Result<(u64, Digest)> {
    let mut hash = Context::new(&SHA256);
    let mut piece = vec![0; MAX_PIECE_BYTES];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut piece, at)?;
        if read == 0 {
            return Ok((at, finished(hash)));
        }
        hash.update(&piece[..read]);
        at += read as u64;
    }
}

/// The hash at its end.
pub(super) fn finished(hash: Context) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    Digest(digest)
}

/// One agent's way through a body.
struct Reader {
    reading: Reading,
    progress: watch::Receiver<Progress>,
    at: u64,
    end: Option<u64>,
    buffer: BytesMut,
}

impl Reader {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, Cut> {
        let there = self.there().await?;
        if there == 0 {
            return Ok(None);
        }
        let package = &self.reading.0;
        let piece = usize::try_from(there).unwrap_or(usize::MAX).min(package.piece_bytes());
        let wait = package.bandwidth.lock().take(piece, package.rate.load(Ordering::Relaxed), package.tier.elapsed());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let bytes = self.fetch(piece).await?;
        self.at += piece as u64;
        Ok(Some((bytes, self)))
    }

    /// How many bytes from here on can be read now, at least one unless the reader is at its end.
    async fn there(&mut self) -> Result<u64, Cut> {
        let (at, end) = (self.at, self.end);
        let arrived = |progress: &Progress| match progress {
            Progress::Growing(bytes) => *bytes > at || end.is_some_and(|end| end <= at),
            Progress::Whole | Progress::Broken => true,
        };
        let progress = *self.progress.wait_for(arrived).await.map_err(|_| Cut)?;
        let end = end.unwrap_or(u64::MAX);
        let readable = match progress {
            Progress::Growing(bytes) => bytes,
            Progress::Whole => self.reading.0.length().ok_or(Cut)?,
            Progress::Broken => return Err(Cut),
        };
        Ok(end.min(readable).saturating_sub(at))
    }

    async fn fetch(&mut self, bytes: usize) -> Result<Bytes, Cut> {
        let package = &self.reading.0;
        let file = Arc::clone(package.file.get().and_then(Option::as_ref).ok_or(Cut)?);
        let (at, mut buffer) = (self.at, std::mem::take(&mut self.buffer));
        let read = package.tier.blocking(move || {
            // The memory of the last piece, once the agent has taken it.
            buffer.reserve(bytes);
            buffer.resize(bytes, 0);
            file.read_exact_at(&mut buffer, at).map(|()| buffer)
        });
        let mut buffer = read.await.map_err(|error| {
            tracing::warn!(name = package.name, %error, "a stored answer cannot be read");
            Cut
        })?;
        let piece = buffer.split().freeze();
        self.buffer = buffer;
        Ok(piece)
    }
}

/// Counts as a reader until it is dropped.
struct Reading(Arc<Package>);

impl Reading {
    fn begin(package: &Arc<Package>) -> Self {
        package.readers.fetch_add(1, Ordering::Relaxed);
        package.tier.reader_came();
        Self(Arc::clone(package))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
        self.0.tier.reader_left();
    }
}

/// Smaller pieces cost more than they spare.
const MIN_PIECE_BYTES: usize = 4 * 1024;
/// Larger ones gain nothing.
pub(super) const MAX_PIECE_BYTES: usize = 128 * 1024;
