//! What all agents of a fleet share, and what they ask for.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::watch;

use crate::acknowledged::Memory;
use crate::connection::Dialer;
use crate::events::Events;
use crate::options::{FleetOptions, Mix};
use crate::recorder::Recorder;
use crate::report::Route;
use crate::zipf::Zipf;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: FleetOptions,
    pub(crate) dialer: Dialer,
    pub(crate) events: Events,
    pub(crate) update_keys: UpdateKeys,
    pub(crate) routes: [Route; 4],
    pub(crate) mix: Weights,
    /// Names this run in every `eid`, so that the records of two runs are told apart, and those of two seeds
    /// in one run.
    pub(crate) run: String,
    pub(crate) recorder: Mutex<Recorder>,
    pub(crate) memory: Option<Mutex<Memory>>,
    pub(crate) stop: watch::Sender<bool>,
    /// Connections open now.
    pub(crate) connected: AtomicU64,
}

/// Draws by weight.
#[derive(Debug)]
pub(crate) struct Weights([f64; 4]);

impl Weights {
    pub(crate) fn new(mix: Mix) -> Self {
        Self([mix.update, mix.config, mix.tasks, mix.upload])
    }

    pub(crate) fn draw(&self, rng: &mut impl Rng) -> usize {
        let mut point = rng.random_range(0.0..self.0.iter().sum());
        for (at, weight) in self.0.iter().enumerate() {
            if point < *weight {
                return at;
            }
            point -= weight;
        }
        // Rounding alone leads here.
        self.0.iter().rposition(|weight| *weight > 0.0).unwrap_or(0)
    }
}

/// The 50 things that update checks ask about.
#[derive(Debug)]
pub(crate) struct UpdateKeys(Zipf);

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UpdateKey(usize);

const CHANNELS: [&str; 5] = ["stable", "early", "lts", "beta", "canary"];
const PLATFORMS: [&str; 5] = ["windows-11", "windows-10", "windows-server-2022", "macos-15", "linux"];
const ARCHITECTURES: [&str; 2] = ["x64", "arm64"];

impl UpdateKeys {
    pub(crate) fn new() -> Self {
        Self(Zipf::new(CHANNELS.len() * PLATFORMS.len() * ARCHITECTURES.len(), 1.0))
    }

    pub(crate) fn draw(&self, rng: &mut impl Rng) -> UpdateKey {
        UpdateKey(self.0.draw(rng))
    }
}

impl UpdateKey {
    /// The path with its placeholders filled in.
    pub(crate) fn fill(self, path: &str) -> String {
        path.replace("{channel}", CHANNELS[self.0 % 5])
            .replace("{platform}", PLATFORMS[self.0 / 5 % 5])
            .replace("{arch}", ARCHITECTURES[self.0 / 25 % 2])
    }
}

/// Milliseconds of the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn there_are_fifty_update_keys() {
        let paths: HashSet<String> = (0..50).map(|key| UpdateKey(key).fill("/{channel}/{platform}/{arch}")).collect();
        assert_eq!(paths.len(), 50);
    }

    #[test]
    fn routes_are_drawn_by_weight_and_never_without() {
        let weights = Weights::new(Mix { update: 0.0, config: 3.0, tasks: 0.0, upload: 1.0 });
        let mut rng = SmallRng::seed_from_u64(1);
        let mut counts = [0; 4];
        for _ in 0..4000 {
            counts[weights.draw(&mut rng)] += 1;
        }
        assert_eq!((counts[0], counts[2]), (0, 0));
        assert!((2850..3150).contains(&counts[1]), "{counts:?}");
    }
}
