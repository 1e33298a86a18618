//! What merging holds, counted from above, and which tenants hold more than their share.

use std::collections::{BTreeSet, HashMap};
use std::hash::RandomState;
use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Keys and the bytes they take: what is held, or what may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Keys.
    pub keys: usize,
    /// Bytes of memory.
    pub bytes: u64,
}

impl Load {
    /// Whether it is more than `bound` in keys or in bytes.
    pub fn exceeds(self, bound: Self) -> bool {
        self.keys > bound.keys || self.bytes > bound.bytes
    }

    /// An eighth less.
    pub(super) fn lowered(self) -> Self {
        Self { keys: self.keys - self.keys / 8, bytes: self.bytes - self.bytes / 8 }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.keys += other.keys;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.keys -= other.keys;
        self.bytes -= other.bytes;
    }
}

/// The bytes of a block of memory: what an allocator adds and rounds up, from above.
pub(super) const fn block(bytes: usize) -> u64 {
    let bytes = (bytes as u64 + 8).next_multiple_of(16);
    if bytes < 32 { 32 } else { bytes }
}

/// The bytes that a hash table takes for each entry, from above: right after it has grown, seven slots of sixteen are
/// taken, each a byte longer than the entry.
pub(super) const fn slot<K, V>() -> u64 {
    (size_of::<(K, V)>() as u64 + 1) * 16 / 7
}

/// The bytes of the smallest hash table there is.
pub(super) const fn smallest_table<K, V>() -> u64 {
    (size_of::<(K, V)>() as u64 + 1) * 4 + 32
}

/// Values by names that may be missing.
#[derive(Debug)]
pub(super) struct ByName<V> {
    named: HashMap<Arc<str>, V>,
    unnamed: Option<V>,
}

impl<V> ByName<V> {
    /// Nothing, by hashes that `state` makes.
    pub(super) fn new(state: &RandomState) -> Self {
        Self { named: HashMap::with_hasher(state.clone()), unnamed: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.named.is_empty() && self.unnamed.is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.named.len() + usize::from(self.unnamed.is_some())
    }

    pub(super) fn find(&mut self, name: Option<&str>) -> Option<&mut V> {
        match name {
            Some(name) => self.named.get_mut(name),
            None => self.unnamed.as_mut(),
        }
    }

    /// The value of that name, and whether it had to be made.
    pub(super) fn find_or_make(
        &mut self,
        name: Option<&str>,
        make: impl FnOnce() -> (Option<Arc<str>>, V),
    ) -> (&mut V, bool) {
        let missing = self.find(name).is_none();
        if missing {
            match make() {
                (Some(name), value) => drop(self.named.insert(name, value)),
                (None, value) => self.unnamed = Some(value),
            }
        }
        (self.find(name).expect("it was there or has been made"), missing)
    }

    pub(super) fn remove(&mut self, name: Option<&str>) -> Option<(Option<Arc<str>>, V)> {
        let Some(name) = name else { return self.unnamed.take().map(|value| (None, value)) };
        let (name, value) = self.named.remove_entry(name)?;
        // A crowd that has gone leaves no room behind.
        if self.named.len() < self.named.capacity() / 4 {
            self.named.shrink_to(self.named.len() * 2);
        }
        Some((Some(name), value))
    }
}

impl<V> IntoIterator for ByName<V> {
    type Item = (Option<Arc<str>>, V);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        let named = self.named.into_iter().map(|(name, value)| (Some(name), value));
        named.chain(self.unnamed.map(|value| (None, value))).collect::<Vec<_>>().into_iter()
    }
}

/// What each tenant holds.
#[derive(Debug)]
pub(super) struct Tenants {
    share: Load,
    held: ByName<Held>,
    /// Those that hold more than their share.
    over: BTreeSet<Option<Arc<str>>>,
}

#[derive(Debug)]
struct Held {
    name: Option<Arc<str>>,
    load: Load,
}

impl Tenants {
    pub(super) fn new(share: Load, state: &RandomState) -> Self {
        Self { share, held: ByName::new(state), over: BTreeSet::new() }
    }

    /// The tenant's name as it is held, for those who hold it too.
    pub(super) fn name(&mut self, name: Option<&str>) -> Option<Arc<str>> {
        let make = || {
            let name: Option<Arc<str>> = name.map(Arc::from);
            (name.clone(), Held { name, load: Load::default() })
        };
        self.held.find_or_make(name, make).0.name.clone()
    }

    /// Those that hold more than their share.
    pub(super) fn over(&self) -> &BTreeSet<Option<Arc<str>>> {
        &self.over
    }

    pub(super) fn grow(&mut self, name: Option<&str>, load: Load) {
        let Some(held) = self.held.find(name) else { return };
        let was_over = held.load.exceeds(self.share);
        held.load += load;
        if !was_over && held.load.exceeds(self.share) {
            self.over.insert(held.name.clone());
        }
    }

    pub(super) fn shrink(&mut self, name: Option<&str>, load: Load) {
        let Some(held) = self.held.find(name) else { return };
        let was_over = held.load.exceeds(self.share);
        held.load -= load;
        if was_over && !held.load.exceeds(self.share) {
            self.over.remove(&held.name);
        }
        if held.load.bytes == 0 {
            self.held.remove(name);
        }
    }
}
