//! The memory that request bodies take, all of them together and each tenant's.
//!
//! One budget counts bodies as they arrive, the copies and buffers while they are unpacked, their decoders, and uploads
//! until the merge thread has them. Bytes are taken before they are used. A request that finds no room is turned away,
//! told whether the node is full (503) or its own tenant's share is used up (429).
//!
//! Memory of its own: 16 bytes for each tenant with something in flight.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use weir_batch::Allowance;
use weir_config::Limits;
use weir_logic::admit::Limit;
use weir_logic::{Identity, Refusal};

use crate::metrics::Metrics;

/// Counts the bytes of bodies in memory. Clones are the same budget.
#[derive(Clone)]
pub struct Budget {
    books: Arc<Books>,
}

struct Books {
    used: AtomicUsize,
    /// By the hash of who has them. Two tenants of one hash, which takes luck that nobody has, share a share.
    shares: DashMap<u64, usize>,
    hashing: RandomState,
    metrics: Metrics,
}

/// The bounds in force for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all requests, at most.
    pub all: usize,
    /// Bytes of one tenant's requests, at most.
    pub share: usize,
    /// Whether `share` only counts what it would refuse.
    pub shadow: bool,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self {
            all: limits.max_buffered_bytes.as_usize(),
            share: limits.tenant_bytes(),
            shadow: limits.tenant_share_shadow,
        }
    }
}

/// Bytes taken out of the budget for one tenant; they return when this is dropped.
#[must_use]
pub struct Hold {
    books: Arc<Books>,
    owner: u64,
    bounds: Bounds,
    bytes: usize,
    refused: NoRoom,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// All bodies together are at the bound.
    Full,
    /// The tenant's are at its share.
    Share,
}

impl NoRoom {
    /// What the agent is told.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Full => Refusal::Overloaded,
            Self::Share => Limit::TenantMemory.refusal(),
        }
    }

    /// The same for people.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Full => "too many bodies are in memory",
            Self::Share => Limit::TenantMemory.detail(),
        }
    }
}

impl Budget {
    /// A budget of which nothing is taken.
    pub fn new(metrics: Metrics) -> Self {
        let books = Books { used: AtomicUsize::new(0), shares: DashMap::new(), hashing: RandomState::new(), metrics };
        Self { books: Arc::new(books) }
    }

    /// A hold of nothing yet, for whoever asks: its tenant's; an agent without a tenant stands for itself, and all
    /// without either for one.
    pub fn hold(&self, identity: &Identity, bounds: Bounds) -> Hold {
        let owner = match &identity.tenant {
            Some(tenant) => (0, tenant.as_str()),
            None => (1, identity.agent.as_ref().map_or("", |agent| agent.as_str())),
        };
        let owner = self.books.hashing.hash_one(owner);
        Hold { books: Arc::clone(&self.books), owner, bounds, bytes: 0, refused: NoRoom::Full }
    }
}

impl Hold {
    /// Takes `bytes` more, or none.
    pub fn take(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let taken = self.books.take(self.owner, bytes, self.bounds);
        match taken {
            Ok(()) => self.bytes += bytes,
            Err(refused) => self.refused = refused,
        }
        taken
    }

    /// Sees to at least `bytes` in all.
    pub fn cover(&mut self, bytes: usize) -> Result<(), NoRoom> {
        self.take(bytes.saturating_sub(self.bytes))
    }

    /// Gives all but `bytes` back.
    pub fn keep(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        self.books.release(self.owner, spare);
        self.bytes -= spare;
    }

    /// Why bytes were refused the last time.
    pub fn refused(&self) -> NoRoom {
        self.refused
    }
}

impl Allowance for Hold {
    fn grow(&mut self, bytes: usize) -> bool {
        self.take(bytes).is_ok()
    }

    fn shrink(&mut self, bytes: usize) {
        self.keep(self.bytes.saturating_sub(bytes));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.books.release(self.owner, self.bytes);
    }
}

impl Books {
    fn take(&self, owner: u64, bytes: usize, bounds: Bounds) -> Result<(), NoRoom> {
        if bytes == 0 {
            return Ok(());
        }
        let taken = self.take_share(owner, bytes, bounds).and_then(|()| {
            let grown = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= bounds.all)
            });
            grown.map(drop).map_err(|_| {
                self.release_share(owner, bytes);
                NoRoom::Full
            })
        });
        let cause = match taken {
            Ok(()) => {
                self.metrics.buffered_bytes.add(signed(bytes));
                return Ok(());
            }
            Err(NoRoom::Full) => "full",
            Err(NoRoom::Share) => "tenant_share",
        };
        self.metrics.buffered_refused.with_label_values(&[cause]).inc();
        taken
    }

    fn release(&self, owner: u64, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::AcqRel);
            self.release_share(owner, bytes);
            self.metrics.buffered_bytes.sub(signed(bytes));
        }
    }

    fn take_share(&self, owner: u64, bytes: usize, bounds: Bounds) -> Result<(), NoRoom> {
        let mut share = self.shares.entry(owner).or_default();
        let sum = share.saturating_add(bytes);
        if sum > bounds.share && !bounds.shadow {
            drop(share);
            // It may have been made just now.
            self.release_share(owner, 0);
            return Err(NoRoom::Share);
        }
        if sum > bounds.share {
            self.metrics.limit_shadow.with_label_values(&[Limit::TenantMemory.label()]).inc();
        }
        *share = sum;
        Ok(())
    }

    fn release_share(&self, owner: u64, bytes: usize) {
        self.shares.remove_if_mut(&owner, |_, share| {
            *share -= bytes;
            *share == 0
        });
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_logic::{AgentId, TenantId};

    use super::*;

    fn budget() -> (Budget, Metrics) {
        let metrics = Metrics::new();
        (Budget::new(metrics.clone()), metrics)
    }

    fn tenant(name: &str) -> Identity {
        Identity { agent: AgentId::new("a-1"), tenant: TenantId::new(name) }
    }

    #[test]
    fn holds_never_pass_the_bound_together() {
        let (budget, metrics) = budget();
        let bounds = Bounds { all: 100, share: 60, shadow: false };
        let (mut first, mut second) = (budget.hold(&tenant("t-1"), bounds), budget.hold(&tenant("t-2"), bounds));
        assert_eq!(first.take(60), Ok(()));
        assert_eq!(second.take(41), Err(NoRoom::Full));
        assert_eq!(second.take(40), Ok(()));
        assert_eq!(metrics.buffered_bytes.get(), 100);
        drop(first);
        assert_eq!(second.take(20), Ok(()));
        drop(second);
        assert_eq!((metrics.buffered_bytes.get(), budget.books.shares.len()), (0, 0));
        assert_eq!(metrics.buffered_refused.with_label_values(&["full"]).get(), 1);
    }

    #[test]
    fn a_tenant_at_its_share_is_refused_while_others_find_room() {
        let (budget, metrics) = budget();
        let bounds = Bounds { all: 100, share: 25, shadow: false };
        let mut holds: Vec<Hold> = (0..2).map(|_| budget.hold(&tenant("t-1"), bounds)).collect();
        assert_eq!((holds[0].take(15), holds[1].take(11)), (Ok(()), Err(NoRoom::Share)));
        assert_eq!(holds[1].take(10), Ok(()), "exactly its share");
        let mut other = budget.hold(&tenant("t-2"), bounds);
        assert_eq!((other.take(26), other.take(25)), (Err(NoRoom::Share), Ok(())));
        drop(holds);
        assert_eq!(budget.hold(&tenant("t-1"), bounds).take(25), Ok(()));
        assert_eq!(metrics.buffered_refused.with_label_values(&["tenant_share"]).get(), 2);
    }

    #[test]
    fn a_share_that_is_a_shadow_counts_and_refuses_nothing() {
        let (budget, metrics) = budget();
        let bounds = Bounds { all: 100, share: 25, shadow: true };
        let mut hold = budget.hold(&tenant("t-1"), bounds);
        assert_eq!((hold.take(25), hold.take(50), hold.take(26)), (Ok(()), Ok(()), Err(NoRoom::Full)));
        assert_eq!(metrics.limit_shadow.with_label_values(&["tenant_memory"]).get(), 2);
        drop(hold);
        assert_eq!((metrics.buffered_bytes.get(), budget.books.shares.len()), (0, 0));
    }

    #[test]
    fn agents_without_a_tenant_have_a_share_each_and_strangers_one_together() {
        let (budget, _) = budget();
        let bounds = Bounds { all: 1000, share: 10, shadow: false };
        let agent = |name| Identity { agent: AgentId::new(name), tenant: None };
        let (mut first, mut second) = (budget.hold(&agent("a-1"), bounds), budget.hold(&agent("a-2"), bounds));
        assert_eq!((first.take(10), second.take(10)), (Ok(()), Ok(())));
        let strangers = [Identity::default(), Identity::default()];
        let [mut first, mut second] = strangers.map(|stranger| budget.hold(&stranger, bounds));
        assert_eq!((first.take(10), second.take(1)), (Ok(()), Err(NoRoom::Share)));
        let mut namesake = budget.hold(&tenant("a-1"), bounds);
        assert_eq!(namesake.take(10), Ok(()), "a tenant and an agent of one name are two");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (budget, _) = budget();
        let bounds = Bounds { all: 10, share: 10, shadow: false };
        let mut hold = budget.hold(&tenant("t-1"), bounds);
        assert_eq!((hold.cover(8), hold.cover(4), hold.cover(10)), (Ok(()), Ok(()), Ok(())));
        hold.keep(3);
        let mut other = budget.hold(&tenant("t-1"), bounds);
        assert_eq!((other.take(8), other.take(7)), (Err(NoRoom::Share), Ok(())));
    }

    proptest! {
        #[test]
        fn the_books_add_up_after_any_order_of_steps(steps in proptest::collection::vec((0..6usize, 0..3u8, 0..40usize), 0..60)) {
            let (budget, metrics) = budget();
            let bounds = Bounds { all: 100, share: 50, shadow: false };
            let names = ["t-1", "t-1", "t-2", "t-3", "t-3", "t-3"];
            let mut holds: Vec<Hold> = names.iter().map(|name| budget.hold(&tenant(name), bounds)).collect();
            for (which, step, bytes) in steps {
                match step {
                    0 => drop(holds[which].take(bytes)),
                    1 => holds[which].keep(bytes),
                    _ => holds[which] = budget.hold(&tenant(names[which]), bounds),
                }
                let held: usize = holds.iter().map(|hold| hold.bytes).sum();
                prop_assert!(held <= bounds.all);
                prop_assert_eq!(metrics.buffered_bytes.get(), signed(held));
                let shares: usize = budget.books.shares.iter().map(|share| *share).sum();
                prop_assert_eq!(shares, held);
                prop_assert!(budget.books.shares.iter().all(|share| *share > 0 && *share <= bounds.share));
            }
        }
    }
}
