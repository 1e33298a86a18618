use std::time::Duration;

use proptest::prelude::*;

use super::*;

const HOUR: u64 = 3_600_000;

fn pacing(hours: u64, share: f64) -> Pacing {
    Pacing { over: Duration::from_secs(hours * 3600), share: Ratio::new(share).unwrap() }
}

fn agents() -> impl Iterator<Item = String> {
    (0..10_000).map(|number| format!("agent-{number}"))
}

fn reached(rollout: &Rollout, release: &Digest, now: u64) -> Vec<bool> {
    agents().map(|agent| rollout.reaches(Some(&agent), release, Millis(now))).collect()
}

fn part(reached: &[bool]) -> f64 {
    reached.iter().filter(|reached| **reached).count() as f64 / reached.len() as f64
}

#[test]
fn the_share_of_agents_is_the_fraction_within_the_error_of_a_sample() {
    let rollout = Rollout::begin(pacing(4, 1.0), Millis(5));
    for (release, step) in (0..=20_u64).map(|step| (Digest::of(&[u8::try_from(step).unwrap()]), step)) {
        let now = 5 + step * 4 * HOUR / 20;
        let fraction = rollout.fraction(Millis(now));
        assert!((fraction - step as f64 / 20.0).abs() < 1e-9);
        // Five standard deviations of a share of 10,000.
        let error = 5.0 * (fraction * (1.0 - fraction) / 10_000.0).sqrt();
        assert!((part(&reached(&rollout, &release, now)) - fraction).abs() <= error, "at {fraction}");
    }
}

#[test]
fn each_release_has_other_agents_go_first() {
    let rollout = Rollout::begin(pacing(10, 1.0), Millis(0));
    let first = |release: &[u8]| reached(&rollout, &Digest::of(release), HOUR);
    let (one, two) = (first(b"one"), first(b"two"));
    let both = one.iter().zip(&two).filter(|(one, two)| **one && **two).count();
    assert!((50..=150).contains(&both), "{both} of 10,000 are among the first tenth twice");
    assert_eq!(one, first(b"one"), "and every node draws the same");
}

#[test]
fn who_has_no_name_comes_last() {
    let release = Digest::of(b"x");
    let mut rollout = Rollout::begin(pacing(1, 0.5), Millis(0));
    assert!(!rollout.reaches(None, &release, Millis(100 * HOUR)));
    rollout.step(Step::Share(Ratio::new(1.0).unwrap()), Millis(100 * HOUR));
    assert!(!rollout.reaches(None, &release, Millis(100 * HOUR)));
    assert!(rollout.reaches(None, &release, Millis(101 * HOUR)));
}

#[test]
fn no_time_means_everybody_at_once_up_to_the_share() {
    assert_eq!(Rollout::begin(pacing(0, 1.0), Millis(9)).fraction(Millis(9)), 1.0);
    assert_eq!(Rollout::begin(pacing(0, 0.25), Millis(9)).fraction(Millis(9)), 0.25);
}

#[test]
fn a_pause_freezes_and_going_on_does_not_jump() {
    let mut rollout = Rollout::begin(pacing(4, 1.0), Millis(0));
    rollout.step(Step::Pause, Millis(HOUR));
    assert_eq!(rollout.fraction(Millis(50 * HOUR)), 0.25);
    rollout.step(Step::Resume, Millis(50 * HOUR));
    assert_eq!(rollout.fraction(Millis(50 * HOUR)), 0.25);
    assert_eq!(rollout.fraction(Millis(51 * HOUR)), 0.5);
}

#[test]
fn a_share_that_is_raised_late_goes_on_from_where_it_stood() {
    let mut rollout = Rollout::begin(pacing(4, 0.1), Millis(0));
    assert_eq!(rollout.fraction(Millis(40 * HOUR)), 0.1);
    rollout.adopt(pacing(4, 1.0), Millis(40 * HOUR));
    assert!((rollout.fraction(Millis(41 * HOUR)) - 0.35).abs() < 1e-9);
}

#[test]
fn the_operators_word_holds_until_the_configuration_changes() {
    let mut rollout = Rollout::begin(pacing(4, 1.0), Millis(0));
    rollout.step(Step::Share(Ratio::new(0.2).unwrap()), Millis(0));
    rollout.adopt(pacing(4, 1.0), Millis(HOUR));
    assert_eq!(rollout.fraction(Millis(9 * HOUR)), 0.2);
    rollout.adopt(pacing(2, 1.0), Millis(9 * HOUR));
    assert_eq!(rollout.fraction(Millis(10 * HOUR)), 0.7);
}

#[test]
fn what_is_aborted_reaches_nobody_and_begins_anew_when_resumed() {
    let release = Digest::of(b"x");
    let mut rollout = Rollout::begin(pacing(1, 1.0), Millis(0));
    rollout.step(Step::Abort, Millis(HOUR / 2));
    assert!(reached(&rollout, &release, 9 * HOUR).iter().all(|reached| !reached));
    rollout.step(Step::Resume, Millis(9 * HOUR));
    assert_eq!(rollout.fraction(Millis(9 * HOUR + HOUR / 4)), 0.25);
}

#[test]
fn a_rollout_is_the_same_after_it_was_written_down() {
    let mut rollout = Rollout::begin(pacing(7, 0.3), Millis(123));
    rollout.step(Step::Pause, Millis(HOUR));
    let text = serde_json::to_string(&rollout).unwrap();
    assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), rollout);
}

#[test]
fn a_restart_with_a_clock_set_back_goes_on_from_where_agents_have_met_it() {
    let mut rollout = Rollout::begin(pacing(4, 1.0), Millis(HOUR));
    let mut kept = rollout;
    for second in 0..2 * 3600 {
        let now = Millis(HOUR + second * 1000);
        if rollout.nears_its_promise(now) {
            rollout.promise(now);
            kept = rollout;
        }
    }
    let stopped = rollout.fraction(Millis(3 * HOUR));
    kept.resume_at(Millis(HOUR / 2));
    let going_on = kept.fraction(Millis(HOUR / 2));
    assert!((stopped..=stopped + 0.01).contains(&going_on), "{stopped}, then {going_on}");
    let later = kept.fraction(Millis(HOUR / 2 + HOUR));
    assert!((later - going_on - 0.25).abs() < 1e-9, "and does not wait for the clock to catch up");
}

#[test]
fn what_stands_still_stands_where_it_did_after_a_restart() {
    for step in [Step::Pause, Step::Abort, Step::Finish] {
        let mut rollout = Rollout::begin(pacing(4, 1.0), Millis(0));
        rollout.step(step, Millis(HOUR));
        let stood = rollout.fraction(Millis(HOUR));
        rollout.resume_at(Millis(5));
        assert_eq!(rollout.fraction(Millis(9 * HOUR)), stood, "{step:?}");
        assert!(!rollout.nears_its_promise(Millis(9 * HOUR)), "nothing to keep anew");
    }
    let mut aborted = Rollout::begin(pacing(4, 1.0), Millis(0));
    aborted.step(Step::Abort, Millis(HOUR));
    aborted.step(Step::Resume, Millis(2 * HOUR));
    aborted.resume_at(Millis(2 * HOUR));
    assert!(aborted.fraction(Millis(2 * HOUR)) <= 0.01, "from the beginning");
}

fn steps() -> impl Strategy<Value = Vec<(u64, Option<Step>, u64, f64)>> {
    let share = || (0.0..=1.0).prop_map(|share| Ratio::new(share).unwrap());
    let step = prop_oneof![
        Just(None),
        Just(Some(Step::Pause)),
        Just(Some(Step::Resume)),
        share().prop_map(|share| Some(Step::Share(share))),
    ];
    prop::collection::vec((0..2 * HOUR, step, 0..5_u64, 0.0..=1.0), 1..40)
}

proptest! {
    /// Whatever happens but an abort: the fraction stays within its bounds and no agent falls back.
    #[test]
    fn no_agent_falls_back_while_the_release_stands(steps in steps()) {
        let (mut rollout, mut now) = (Rollout::begin(pacing(4, 1.0), Millis(0)), 0);
        let mut before = 0.0;
        for (passed, step, hours, share) in steps {
            now += passed;
            let fraction = rollout.fraction(Millis(now));
            prop_assert!((before..=1.0).contains(&fraction), "{before} then {fraction}");
            match step {
                Some(step) => rollout.step(step, Millis(now)),
                None => rollout.adopt(pacing(hours, share), Millis(now)),
            }
            before = rollout.fraction(Millis(now));
            prop_assert!(before >= fraction, "{fraction} then {before}");
        }
    }

    /// The same where the node is killed and starts at any time of day, when it is kept as soon as that is due.
    #[test]
    fn no_agent_falls_back_over_restarts(steps in steps(), starts in prop::collection::vec(prop::option::of(0..8 * HOUR), 40)) {
        let (mut rollout, mut now) = (Rollout::begin(pacing(4, 1.0), Millis(0)), 0);
        let mut kept = rollout;
        for ((passed, step, ..), start) in steps.into_iter().zip(starts) {
            // Looked after every half minute, which is often enough at this pace.
            for _ in 0..passed / 30_000 {
                now += 30_000;
                if rollout.nears_its_promise(Millis(now)) {
                    rollout.promise(Millis(now));
                    kept = rollout;
                }
            }
            if let Some(step) = step {
                rollout.step(step, Millis(now));
                kept = rollout;
            }
            let before = rollout.fraction(Millis(now));
            if let Some(start) = start {
                (rollout, now) = (kept, start);
                rollout.resume_at(Millis(now));
                kept = rollout;
            }
            let after = rollout.fraction(Millis(now));
            prop_assert!(after >= before, "{before} then {after}");
        }
    }

    /// Against a naive model: a list of what the core brought, in order.
    #[test]
    fn agents_are_given_the_settled_release_or_the_newest(bodies in prop::collection::vec((0..3_u8, 0..6_u64), 1..30)) {
        let digest = |body: u8| Digest::of(&[body]);
        let mut releases = Releases::settled(digest(0), 0_u8);
        let (mut settled, mut newest, mut begun, mut now) = (0, 0, 0, 0);
        for (body, hours) in bodies {
            now += hours * HOUR;
            if newest != settled && now - begun >= 4 * HOUR {
                settled = newest;
            }
            let arrival = releases.arrive(digest(body), body, pacing(4, 1.0), Millis(now));
            let expected = match (body == settled, newest == settled) {
                (true, true) => Arrival::Known,
                (true, false) => Arrival::Withdrawn,
                (false, _) if body == newest => Arrival::Known,
                (false, true) => Arrival::Begun,
                (false, false) => Arrival::Replaced,
            };
            prop_assert_eq!(arrival, expected);
            if body != newest {
                begun = now;
            }
            newest = body;
            prop_assert_eq!(releases.previous().answer, settled);
            for agent in agents().take(20) {
                let choice = releases.choice(&digest(newest), Some(&agent), Millis(now));
                let allowed = match choice {
                    Choice::Settled => newest == settled,
                    Choice::Candidate => newest != settled && now > begun,
                    Choice::Previous => newest != settled,
                };
                prop_assert!(allowed, "{choice:?}");
            }
        }
    }
}
