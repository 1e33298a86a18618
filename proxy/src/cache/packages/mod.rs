//! The cache's tier on disk: bodies too large for memory, filled once and read by any number of agents while they arrive.
//!
//! An answer is kept by the same rules as in memory; only its body is elsewhere. Here is where and how: `files` the files and their order, `head` what is
//! written beside a body, `part` a body on its way, `package` a body and its readers, `tier` what they share. What fills them is
//! `cache::filling`.

mod files;
mod head;
mod package;
mod part;
mod tier;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use weir_config::{Action, AnswerStore, PackageLimits, Route};
use weir_logic::{CacheKey, Millis};

pub(super) use self::head::Told;
pub(super) use self::package::Package;
pub(super) use self::part::{Broken, Part};

use self::head::Head;
use self::tier::Tier;
use super::entry::Entry;
use super::store::{Bounds, Gauges, Store};
use crate::metrics::Metrics;
use crate::purging::Purging;

/// The answers whose bodies are on disk. Memory: a kibibyte or two for each; for reading, `max_read_bytes`, or 4 KiB for each reader
/// where that is more; for writing, 256 KiB for each fill. Disk: `max_bytes`, and what has left the store and is still read.
pub struct Packages {
    tier: Arc<Tier>,
    pub(super) store: Store,
    limits: ArcSwap<PackageLimits>,
}

/// Why there is no room for a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// It is larger than one body may be.
    TooLarge,
    /// Bodies on their way take all of it.
    Full,
}

impl Packages {
    /// The tier in that directory, empty until [`Packages::restore`]. Touches no file.
    pub fn new(dir: &Path, limits: &PackageLimits, metrics: &Metrics) -> Arc<Self> {
        let gauges = Gauges {
            entries: metrics.packages.clone(),
            bytes: metrics.package_bytes.clone(),
            evictions: metrics.package_evictions.clone(),
        };
        Arc::new(Self {
            tier: Tier::new(dir, limits, metrics),
            store: Store::new(limits.into(), gauges),
            limits: ArcSwap::from_pointee(*limits),
        })
    }

    /// Takes up what an earlier run has left, of routes that still keep answers on disk, and removes the rest. Reads heads only: a body
    /// is compared with its proof when it is first asked for. A purge may have been missed meanwhile, so that all of them are stale
    /// as after a soft one: they serve while the core is asked or fails, as their routes allow.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn restore(&self, routes: &[Route], purging: &Arc<Purging>, now: Millis) -> io::Result<usize> {
        let on_disk =
            |route: &&Route| matches!(&route.action, Action::Cache(cache) if cache.store == AnswerStore::Disk);
        let routes: HashSet<&str> = routes.iter().filter(on_disk).map(|route| route.name.as_str()).collect();
        let found = self.tier.files.restore()?;
        self.tier.damaged.inc_by(found.damaged as u64);
        let mut kept = 0;
        for (name, head) in found.whole {
            let restored =
                if routes.contains(head.route.as_str()) { self.restored(&name, &head, purging, now) } else { None };
            match restored {
                // An older body of the key gives way, with its files.
                Some((key, entry)) if self.store.insert(&key, &entry, 1) => kept += 1,
                _ => self.tier.files.remove(&name),
            }
        }
        Ok(kept)
    }

    fn restored(&self, name: &str, head: &Head, purging: &Arc<Purging>, now: Millis) -> Option<(CacheKey, Arc<Entry>)> {
        let (key, headers, digest) = (head.key()?, head.headers()?, head.digest()?);
        let package = Package::found(&self.tier, name.to_owned(), head.length, digest);
        let stamp = purging.depart().outdated_stamp(Arc::new(head.marks()), now);
        Some((key, Arc::new(Entry::on_disk(head.arrival(), &headers, package, stamp))))
    }

    /// Brings new bounds into force; what is over them leaves at once.
    pub(super) fn reconfigure(&self, limits: &PackageLimits) {
        self.tier.reconfigure(limits);
        self.limits.store(Arc::new(*limits));
        self.store.reconfigure(limits.into());
    }

    /// The time that one fill may take.
    pub(super) fn max_fill_time(&self) -> Duration {
        self.limits.load().max_fill_time
    }

    /// Begins a body, of a length that the core has announced or not.
    pub(super) async fn begin(self: &Arc<Self>, key: &CacheKey, announced: Option<u64>) -> Result<Part, Broken> {
        // Two bodies of one key may be on their way when the first was purged.
        let name = format!("{:032x}-{:08x}", key.digest(), rand::random::<u32>());
        let (tier, file_name) = (Arc::clone(&self.tier), name.clone());
        let begin = self.tier.blocking(move || tier.files.begin(&file_name));
        let mut part = Part::new(self, name, begin.await.map_err(Broken::Disk)?, announced);
        part.reserve(announced.unwrap_or(0)).map_err(Broken::Room)?;
        Ok(part)
    }

    /// Writes the head of a body that the core has confirmed. One that cannot be written leaves the last one in place.
    pub(super) async fn rewrite(&self, package: &Package, told: &Told<'_>) {
        let (Some(length), Some(digest)) = (package.length(), package.digest()) else { return };
        let head = Head::new(told, length, digest);
        let (tier, name) = (Arc::clone(&self.tier), package.name().to_owned());
        if let Err(error) = self.tier.blocking(move || tier.files.write_head(&name, &head)).await {
            tracing::debug!(%error, "a confirmed answer's head is not written");
        }
    }

    fn reserve(&self, had: u64, bytes: u64) -> Result<(), NoRoom> {
        if had.saturating_add(bytes) > self.limits.load().max_object_bytes.bytes() {
            return Err(NoRoom::TooLarge);
        }
        if self.store.reserve(usize::try_from(bytes).unwrap_or(usize::MAX)) { Ok(()) } else { Err(NoRoom::Full) }
    }

    fn release(&self, bytes: u64) {
        self.store.release(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
}

impl From<&PackageLimits> for Bounds {
    fn from(limits: &PackageLimits) -> Self {
        Self {
            bytes: limits.max_bytes.as_usize(),
            object_bytes: limits.max_object_bytes.as_usize(),
            keys: limits.max_objects,
        }
    }
}
