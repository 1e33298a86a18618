use proptest::prelude::*;

use super::*;
use crate::admit::Slots;

const RULES: Damping = Damping { after: 3, longest: Duration::from_secs(600) };
const WAIT: Duration = Duration::from_secs(10);
const START: u64 = 1_700_000_000_000;

fn at(seconds: f64) -> Millis {
    Millis(START).after(Duration::from_secs_f64(seconds))
}

#[test]
fn who_waits_as_told_is_never_damped() {
    let mut conduct = Conduct::default();
    let mut now = at(0.0);
    for _ in 0..100 {
        let manner = conduct.comes(RULES, now);
        assert_eq!(manner, Manner { strikes_now: false, damped: None });
        now = now.after(conduct.told(WAIT, RULES, now));
    }
    assert_eq!(conduct.strikes(), 0);
}

#[test]
fn who_comes_early_again_and_again_is_damped_for_longer_and_longer() {
    let mut conduct = Conduct::default();
    let (mut now, mut waits) = (at(0.0), Vec::new());
    for _ in 0..11 {
        let manner = conduct.comes(RULES, now);
        assert_eq!(manner.damped, None, "its time has come, or it is not damped");
        let wait = conduct.told(WAIT, RULES, now);
        waits.push(wait.as_secs());
        now = now.after(Duration::from_secs(5));
        let early = conduct.comes(RULES, now);
        assert!(early.strikes_now);
        if let Some(left) = early.damped {
            now = now.after(left);
        }
    }
    assert_eq!(waits, [10, 10, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
}

#[test]
fn a_damped_agent_is_heard_once_when_its_time_has_come_and_obedience_frees_it() {
    let mut conduct = Conduct::default();
    for strike in 0..4 {
        let now = at(f64::from(strike) * 3.0);
        conduct.told(WAIT, RULES, now);
        assert!(conduct.comes(RULES, at(f64::from(strike) * 3.0 + 2.0)).strikes_now);
    }
    assert_eq!(conduct.strikes(), 4);
    let wait = conduct.told(WAIT, RULES, at(20.0));
    assert_eq!(wait.as_secs(), 40);
    assert_eq!(conduct.comes(RULES, at(60.0)).damped, None);
    assert_eq!(conduct.strikes(), 2, "it has waited");
    assert_eq!(conduct.told(WAIT, RULES, at(60.0)), WAIT);
}

#[test]
fn requests_that_were_on_their_way_are_no_strikes() {
    let mut conduct = Conduct::default();
    for step in 0..10 {
        let now = at(f64::from(step) * 0.09);
        assert!(!conduct.comes(RULES, now).strikes_now);
        conduct.told(WAIT, RULES, now);
    }
    assert!(conduct.comes(RULES, at(1.1)).strikes_now, "a second after the first refusal it has been told");
}

#[test]
fn an_agent_that_was_let_in_owes_nothing() {
    let mut conduct = Conduct::default();
    conduct.told(WAIT, RULES, at(0.0));
    assert!(conduct.comes(RULES, at(2.0)).strikes_now);
    conduct.let_in(at(2.0));
    assert!(!conduct.comes(RULES, at(4.0)).strikes_now);
}

#[test]
fn strikes_are_forgiven_in_time() {
    let mut conduct = Conduct::default();
    for strike in 0..4 {
        conduct.told(WAIT, RULES, at(f64::from(strike) * 3.0));
        assert!(conduct.comes(RULES, at(f64::from(strike) * 3.0 + 2.0)).strikes_now);
    }
    assert!(conduct.worth(at(20.0)) > 0);
    assert_eq!(conduct.worth(at(4000.0)), 0);
    assert_eq!(conduct.comes(RULES, at(1900.0)).damped, None);
    assert_eq!(conduct.strikes(), 0);
}

/// An agent of the model: what it does with what it is told.
#[derive(Clone, Copy)]
enum Model {
    /// Waits as told.
    Obeys,
    /// Asks every second, whatever it is told.
    Ignores,
    /// Asks twice as fast after each refusal, down to ten times a second.
    Accelerates,
}

/// Work of a node on refusals, in units of the cheapest: a look into the table. Whatever else a request costs before it is refused is
/// worth this many.
const FULL_COST: u64 = 50;

/// An hour of one agent against a node that admits nobody: requests, and the units that they cost.
fn an_hour(model: Model) -> (u64, u64) {
    let mut slots: Slots<Conduct> = Slots::new(64);
    let (mut now, end) = (at(0.0), at(3600.0));
    let (mut requests, mut cost, mut pause) = (0, 0, Duration::from_secs(1));
    while now < end {
        requests += 1;
        let conduct = slots.of(7, now);
        let wait = if let Some(left) = conduct.comes(RULES, now).damped {
            cost += 1;
            left
        } else {
            cost += FULL_COST;
            conduct.told(WAIT, RULES, now)
        };
        pause = match model {
            Model::Obeys => wait,
            Model::Ignores => Duration::from_secs(1),
            Model::Accelerates => (pause / 2).max(Duration::from_millis(100)),
        };
        now = now.after(pause);
    }
    (requests, cost)
}

#[test]
fn what_a_bad_agent_costs_is_bounded() {
    let (requests, cost) = an_hour(Model::Obeys);
    assert_eq!((requests, cost), (360, 360 * FULL_COST));
    for model in [Model::Ignores, Model::Accelerates] {
        let (requests, cost) = an_hour(model);
        assert!(requests >= 3600);
        let full = (cost - requests) / (FULL_COST - 1);
        assert!(full < 40, "asked {requests} times, {full} of them at the full cost");
    }
}

proptest! {
    /// However agents come and are told, the table never says that a damped agent has longer to wait than the longest wait.
    #[test]
    fn nobody_waits_longer_than_the_longest(steps in prop::collection::vec((0_u64..30_000, 1_u64..60, any::<bool>()), 1..200)) {
        let mut conduct = Conduct::default();
        let mut now = Millis(START);
        for (pause, wait, admitted) in steps {
            now.0 += pause;
            if let Some(left) = conduct.comes(RULES, now).damped {
                prop_assert!(left <= RULES.longest);
            } else if admitted {
                conduct.let_in(now);
            } else {
                let told = conduct.told(Duration::from_secs(wait), RULES, now);
                prop_assert!(told >= Duration::from_secs(wait) && told <= RULES.longest);
            }
        }
    }
}
