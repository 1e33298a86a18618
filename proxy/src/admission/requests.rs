//! How many requests are worked on, all of them and each tenant's.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use prometheus::IntGauge;
use weir_logic::admit::Limit;

/// The counts. Clones are the same.
#[derive(Clone)]
pub(super) struct Requests {
    counts: Arc<Counts>,
}

struct Counts {
    all: AtomicUsize,
    /// By owners, which are hashes already.
    of_tenants: DashMap<u64, usize, BuildHasherDefault<AsIs>>,
    gauge: IntGauge,
}

/// The hash of a hash: itself.
#[derive(Clone, Copy, Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A request that is worked on, until this is dropped.
pub struct Admitted {
    counts: Arc<Counts>,
    owner: u64,
}

/// Limits that a request was past and that only count.
#[derive(Clone, Copy, Default)]
pub(super) struct Shadows([Option<Limit>; 2]);

impl Shadows {
    /// One more; only two limits on what is under way can be shadows.
    pub(super) fn add(&mut self, limit: Limit) {
        if let Some(place) = self.0.iter_mut().find(|place| place.is_none()) {
            *place = Some(limit);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Limit> {
        self.0.into_iter().flatten()
    }
}

impl Requests {
    /// None yet. `gauge` shows how many there are.
    pub(super) fn new(gauge: IntGauge) -> Self {
        Self { counts: Arc::new(Counts { all: AtomicUsize::new(0), of_tenants: DashMap::default(), gauge }) }
    }

    /// Counts one more of that tenant when `admits`, given how many there are and how many the tenant has, lets it in.
    pub(super) fn enter(
        &self,
        owner: u64,
        admits: impl Fn(usize, usize, &mut Shadows) -> Result<(), Limit>,
    ) -> Result<(Admitted, Shadows), Limit> {
        let counts = &self.counts;
        let mut mine = counts.of_tenants.entry(owner).or_default();
        let mut all = counts.all.load(Ordering::Acquire);
        loop {
            let mut shadows = Shadows::default();
            if let Err(limit) = admits(all, *mine, &mut shadows) {
                drop(mine);
                // It may have been made just now.
                counts.of_tenants.remove_if(&owner, |_, mine| *mine == 0);
                return Err(limit);
            }
            match counts.all.compare_exchange_weak(all, all + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    *mine += 1;
                    counts.gauge.inc();
                    return Ok((Admitted { counts: Arc::clone(counts), owner }, shadows));
                }
                Err(now) => all = now,
            }
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.counts.all.fetch_sub(1, Ordering::AcqRel);
        self.counts.gauge.dec();
        self.counts.of_tenants.remove_if_mut(&self.owner, |_, mine| {
            *mine -= 1;
            *mine == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> (Requests, IntGauge) {
        let gauge = IntGauge::new("flying", "Flying.").unwrap();
        (Requests::new(gauge.clone()), gauge)
    }

    #[test]
    fn requests_count_until_they_end() {
        let (requests, gauge) = requests();
        let bound = |all, _, _: &mut Shadows| if all < 1 { Ok(()) } else { Err(Limit::Class) };
        let first = requests.enter(1, bound);
        assert!(first.is_ok());
        assert_eq!(requests.enter(2, bound).err(), Some(Limit::Class));
        assert_eq!((gauge.get(), requests.counts.of_tenants.len()), (1, 1));
        drop(first);
        assert!(requests.enter(2, bound).is_ok());
        assert_eq!((gauge.get(), requests.counts.of_tenants.len()), (0, 0));
    }

    #[test]
    fn a_tenant_has_what_its_requests_are() {
        let (requests, _) = requests();
        let mut held = Vec::new();
        for expected in 0..3 {
            let entered = requests.enter(7, |all, mine, _| {
                assert_eq!((all, mine), (expected, expected));
                Ok(())
            });
            held.push(entered.unwrap_or_else(|limit| panic!("{limit:?}")));
        }
        let other = requests.enter(8, |all, mine, _| if (all, mine) == (3, 0) { Ok(()) } else { Err(Limit::Class) });
        assert!(other.is_ok());
    }
}
