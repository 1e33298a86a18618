//! How much of the node one tenant may take.
//!
//! One law for everything that tenants share, requests under way and requests a second: a tenant is let in while it has less than
//! `weight` times a factor of what is **free**. Alone it may take nearly the factor's share of the whole; `k` tenants that want all
//! there is settle at equal parts, in the ratio of their weights, and something is always left free for those who come new. Nobody counts
//! tenants or looks at one but the one that asks, and a share that is not used is not kept for its owner.
//!
//! Choudhury and Hahne analyse the law for the buffers of switches ("Dynamic queue length thresholds for shared-memory packet
//! switches", 1998).

use weir_config::Ratio;

use super::slots::Keep;
use crate::Millis;

/// The law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FairShare {
    /// How many times of what is free a tenant of weight 1 may have; `None`: any.
    factor: Option<f64>,
}

impl FairShare {
    /// The law under which a lone tenant of weight 1 may take `share` of the whole. With a share of 1 nobody is bound.
    pub fn new(share: Ratio) -> Self {
        let share = share.value();
        // Rounded, so that 0.8 is four times and not a trace more.
        Self { factor: (share < 1.0).then(|| (share / (1.0 - share) * 1e6).round() / 1e6) }
    }

    /// Whether a tenant that has `mine` may have one more, with `free` of the whole free for those of its class. One that has nothing may,
    /// as long as anything is free.
    pub fn admits(self, mine: f64, weight: u32, free: f64) -> bool {
        match self.factor {
            None => free > 0.0,
            Some(factor) => free > 0.0 && (mine <= 0.0 || mine < factor * f64::from(weight) * free),
        }
    }
}

/// Requests of late: those of the last second or so, older ones fading. A steady rate of `r` a second settles at `r`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recent {
    level: f64,
    at: u64,
}

impl Recent {
    /// How many they are now.
    pub fn level(&self, now: Millis) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a time that matters is a few seconds")]
        let passed = now.0.saturating_sub(self.at) as f64 / 1000.0;
        self.level * (-passed).exp()
    }

    /// One more.
    pub fn add(&mut self, now: Millis) {
        *self = Self { level: self.level(now) + 1.0, at: self.at.max(now.0) };
    }
}

impl Keep for Recent {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
    fn worth(&self, now: Millis) -> u64 {
        (self.level(now) * 1024.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(part: f64) -> FairShare {
        FairShare::new(Ratio::new(part).unwrap())
    }

    fn near(part: f64, expected: f64) -> bool {
        (part / expected - 1.0).abs() < 0.08
    }

    /// Tenants that want everything, whose requests end one in ten at a time: what they have in the end.
    fn settled(law: FairShare, room: f64, weights: &[u32]) -> Vec<f64> {
        let mut have = vec![0.0_f64; weights.len()];
        for _ in 0..300 {
            have.iter_mut().for_each(|mine| *mine -= (*mine / 10.0).floor());
            let mut before = -1.0;
            while have.iter().sum::<f64>() > before {
                before = have.iter().sum();
                for (who, weight) in weights.iter().enumerate() {
                    let free = room - have.iter().sum::<f64>();
                    have[who] += if law.admits(have[who], *weight, free) { 1.0 } else { 0.0 };
                }
            }
        }
        have
    }

    #[test]
    fn a_lone_tenant_takes_its_share_and_no_more() {
        assert!(near(settled(share(0.8), 1000.0, &[1])[0], 800.0));
        assert!(near(settled(share(1.0), 1000.0, &[1])[0], 1000.0));
    }

    #[test]
    fn tenants_that_want_everything_get_parts_by_their_weights() {
        let parts = settled(share(0.8), 9000.0, &[1, 1]);
        assert!(parts.iter().all(|part| near(*part, 4000.0)), "{parts:?}");
        let parts = settled(share(0.5), 4000.0, &[1, 2]);
        assert!(near(parts[0], 1000.0) && near(parts[1], 2000.0), "{parts:?}");
    }

    #[test]
    fn who_has_nothing_is_let_in_while_anything_is_free() {
        assert!(share(0.01).admits(0.0, 1, 0.5));
        assert!(!share(0.8).admits(0.0, 1, 0.0) && !share(1.0).admits(5.0, 1, 0.0));
    }

    #[test]
    fn a_steady_rate_settles_at_itself() {
        let mut recent = Recent::default();
        for step in 0..2_000 {
            recent.add(Millis(10_000 + step * 5));
        }
        let level = recent.level(Millis(20_000));
        assert!((level - 200.0).abs() < 2.0, "{level}");
        assert!(recent.level(Millis(30_000)) < 0.01);
    }

    proptest! {
        /// One tenant at fifty times the others' rate, and no other is refused. Requests last as long as they
        /// like; the others together have at most a tenth of the room under way, none more than three.
        #[test]
        fn one_tenant_at_fifty_times_has_no_other_refused(steps in prop::collection::vec((0_usize..100, any::<bool>()), 200..2000)) {
            let (law, room) = (share(0.8), 1000_usize);
            let mut have = [0_usize; 34];
            for (who, ends) in steps {
                // All numbers from the 33rd on are the tenant that asks as often as all others together, fifty times for one.
                let attempts = if who < 33 { 1 } else { 50 };
                let who = who.min(33);
                if ends {
                    have[who] = have[who].saturating_sub(attempts);
                    continue;
                }
                for _ in 0..attempts {
                    let taken: usize = have.iter().sum();
                    #[expect(clippy::cast_precision_loss, reason = "small counts")]
                    let admitted = law.admits(have[who] as f64, 1, (room - taken) as f64);
                    prop_assert!(admitted || who == 33, "tenant {who} with {} of {taken}", have[who]);
                    let bound = if who == 33 { room } else { 3 };
                    have[who] += usize::from(admitted && have[who] < bound);
                }
            }
        }

        /// Over `t` seconds, at most the room for a second and the room for each second pass.
        #[test]
        fn the_rate_admitted_is_bounded(pauses in prop::collection::vec(0_u64..20, 100..2000)) {
            let room = 50.0;
            let mut recent = Recent::default();
            let start = 1_000_000;
            let (mut now, mut admitted) = (Millis(start), 0.0);
            for pause in pauses {
                now.0 += pause;
                if recent.level(now) < room {
                    recent.add(now);
                    admitted += 1.0;
                }
                #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
                let seconds = (now.0 - start) as f64 / 1000.0;
                prop_assert!(admitted <= (room + 1.0) * (1.0 + seconds) + 1.0);
            }
        }
    }
}
