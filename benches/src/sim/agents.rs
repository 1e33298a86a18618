//! The fleet: what each agent does next, after each kind of answer.
//!
//! An agent has four activities, each asked for once an interval from its last success, as agents do that know no fleet. What
//! differs between agents is what they make of a failure. Memory: four bytes for each agent; what is due stands in the calendar.

use rand::Rng;
use rand::rngs::SmallRng;
use weir_logic::Millis;

/// One activity of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Activity(u32);

/// What agents do, in equal parts: the standard mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An update check.
    Update,
    /// A config fetch.
    Config,
    /// A poll for tasks.
    Tasks,
    /// An upload of 24 events.
    Upload,
}

const KINDS: u32 = 4;

/// What an agent hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What it wanted, or something harmless in its place.
    Good,
    /// A refusal, and after how many seconds it shall come back, where the refusal says so.
    Refused(Option<u32>),
    /// Nothing.
    Nothing,
}

/// How the agents of a fleet behave when they fail: parts of the whole, what is left obeys.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Manners {
    /// Obey `Retry-After` to the second, and without it wait 5 s, doubled with each failure up to 300 s, all without jitter.
    pub without_jitter: f64,
    /// Come back after 30 s whatever they are told.
    pub ignoring: f64,
    /// Come back after 10 s, then after half as long each time, down to a second.
    pub accelerating: f64,
}

/// What one agent does when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// As without jitter, but each wait is drawn: full jitter where the agent chooses it, up to a tenth more where it was told.
    Obeying,
    WithoutJitter,
    Ignoring,
    Accelerating,
}

/// All agents.
#[derive(Debug)]
pub(super) struct Agents {
    /// Failures in a row of each activity.
    failures: Vec<u8>,
    manners: Manners,
    /// From a success to the next request of the same kind.
    interval_ms: f64,
    per_tenant: u32,
}

/// The first wait of an agent that was told nothing, and the longest.
const FIRST_WAIT_MS: f64 = 5_000.0;
const LONGEST_WAIT_MS: f64 = 300_000.0;
const IGNORING_WAIT_MS: f64 = 30_000.0;
const ACCELERATING_WAIT_MS: f64 = 10_000.0;
const SHORTEST_WAIT_MS: f64 = 1_000.0;

impl Activity {
    pub(super) fn agent(self) -> u32 {
        self.0 / KINDS
    }

    pub(super) fn kind(self) -> Kind {
        [Kind::Update, Kind::Config, Kind::Tasks, Kind::Upload][(self.0 % KINDS) as usize]
    }
}

impl Agents {
    /// So many agents with `requests_per_second` among them when all is well.
    pub(super) fn new(count: u32, requests_per_second: f64, per_tenant: u32, manners: Manners) -> Self {
        let activities = count * KINDS;
        Self {
            failures: vec![0; activities as usize],
            manners,
            interval_ms: f64::from(activities) / requests_per_second * 1_000.0,
            per_tenant,
        }
    }

    /// Every activity and the time of its first turn: spread evenly over the interval.
    pub(super) fn first_turns(&self) -> impl Iterator<Item = (Millis, Activity)> + use<> {
        let interval = self.interval_ms;
        let count = u32::try_from(self.failures.len()).unwrap_or(u32::MAX);
        (0..count).map(move |number| (after(Millis(0), interval * fraction(number.into())), Activity(number)))
    }

    pub(super) fn tenant(&self, activity: Activity) -> u32 {
        activity.agent() / self.per_tenant
    }

    pub(super) fn tenants(&self) -> u32 {
        let agents = u32::try_from(self.failures.len()).unwrap_or(u32::MAX) / KINDS;
        agents.div_ceil(self.per_tenant)
    }

    /// A number that is always the same for an agent, evenly spread over agents: the product's hash of its name in small.
    pub(super) fn hash(activity: Activity) -> u64 {
        mixed(u64::from(activity.agent()) + 1)
    }

    /// Takes in what an agent was told and says when it asks next.
    pub(super) fn next_turn(&mut self, activity: Activity, told: Told, now: Millis, rng: &mut SmallRng) -> Millis {
        let manner = self.manner(activity);
        let failures = &mut self.failures[activity.0 as usize];
        if told == Told::Good {
            *failures = 0;
            // Agents with jitter spread what happened to bunch; those without repeat it.
            let jitter = if manner == Manner::Obeying { rng.random_range(0.95..1.05) } else { 1.0 };
            return after(now, self.interval_ms * jitter);
        }
        *failures = failures.saturating_add(1);
        let own = FIRST_WAIT_MS * 2_f64.powi(i32::from(*failures) - 1);
        let own = own.min(LONGEST_WAIT_MS).min(self.interval_ms);
        let asked = match told {
            Told::Refused(Some(seconds)) => Some(f64::from(seconds) * 1_000.0),
            _ => None,
        };
        let wait = match manner {
            Manner::Obeying => match asked {
                Some(asked) => asked * rng.random_range(1.0..1.1),
                None => own * rng.random_range(0.0..1.0),
            },
            Manner::WithoutJitter => asked.unwrap_or(own),
            Manner::Ignoring => IGNORING_WAIT_MS,
            Manner::Accelerating => (ACCELERATING_WAIT_MS / 2_f64.powi(i32::from(*failures) - 1)).max(SHORTEST_WAIT_MS),
        };
        after(now, wait)
    }

    fn manner(&self, activity: Activity) -> Manner {
        let Manners { without_jitter, ignoring, accelerating } = self.manners;
        let place = fraction(u64::from(activity.agent()) ^ 0x5bd1_e995);
        match place {
            _ if place < without_jitter => Manner::WithoutJitter,
            _ if place < without_jitter + ignoring => Manner::Ignoring,
            _ if place < without_jitter + ignoring + accelerating => Manner::Accelerating,
            _ => Manner::Obeying,
        }
    }
}

/// A number from 0 to 1 that is always the same for `number`, evenly spread over numbers.
fn fraction(number: u64) -> f64 {
    (mixed(number) >> 11) as f64 / (1_u64 << 53) as f64
}

fn after(now: Millis, wait_ms: f64) -> Millis {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates; waits are positive")]
    let wait = wait_ms as u64;
    Millis(now.0 + wait)
}

/// The finalizer of SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn waits(manners: Manners, told: &[Told]) -> Vec<u64> {
        let mut agents = Agents::new(1, 0.004, 1, manners);
        let mut rng = SmallRng::seed_from_u64(1);
        told.iter().map(|told| agents.next_turn(Activity(0), *told, Millis(0), &mut rng).0 / 1_000).collect()
    }

    #[test]
    fn each_manner_waits_as_it_is_described() {
        let told = [Told::Nothing, Told::Nothing, Told::Refused(Some(7)), Told::Good];
        let all = |manners: fn(&mut Manners) -> &mut f64| {
            let mut whole = Manners::default();
            *manners(&mut whole) = 1.0;
            waits(whole, &told)
        };
        assert_eq!(all(|manners| &mut manners.without_jitter), [5, 10, 7, 1_000]);
        assert_eq!(all(|manners| &mut manners.ignoring), [30, 30, 30, 1_000]);
        assert_eq!(all(|manners| &mut manners.accelerating), [10, 5, 2, 1_000]);
        let obeying = waits(Manners::default(), &told);
        assert!(
            obeying[0] < 5 && obeying[1] < 10 && obeying[2] == 7 && (950..1_050).contains(&obeying[3]),
            "{obeying:?}"
        );
    }

    #[test]
    fn first_turns_are_spread_evenly_and_add_up_to_the_rate() {
        let agents = Agents::new(10_000, 400.0, 17, Manners::default());
        let mut slots = [0_u32; 10];
        for (time, _) in agents.first_turns() {
            slots[usize::try_from(time.0 / 10_000).unwrap()] += 1;
        }
        assert!(slots.iter().all(|slot| (3_700..4_300).contains(slot)), "{slots:?}");
        assert_eq!((slots.iter().sum::<u32>(), agents.tenants()), (40_000, 589));
    }

    #[test]
    fn manners_are_shared_out_in_the_parts_that_were_asked_for() {
        let agents = Agents::new(10_000, 1.0, 1, Manners { ignoring: 0.15, accelerating: 0.05, ..Manners::default() });
        let count = |manner| (0..10_000).filter(|agent| agents.manner(Activity(agent * 4)) == manner).count();
        assert!((1_400..1_600).contains(&count(Manner::Ignoring)) && (440..560).contains(&count(Manner::Accelerating)));
    }
}
