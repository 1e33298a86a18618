use proptest::prelude::*;

use super::*;
use crate::AgentId;

const BOUNDS: WindowBounds = WindowBounds { shortest: Duration::from_secs(5), longest: Duration::from_secs(600) };

fn hash(number: u32) -> u64 {
    agent_hash(&Identity { agent: AgentId::new(&format!("agent-{number}")), tenant: None }, 0)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn ten_thousand_agents_are_spread_evenly() {
    for (lead, returning, rate) in [(5, 1, 100.0), (5, 10_000, 100.0), (40, 100_000, 1000.0), (600, 1_000_000, 0.0)] {
        let window = Window::new(seconds(lead), returning, rate, BOUNDS);
        let (first, last) = window.span();
        let mut slots = vec![0_u32; usize::try_from(last - first + 1).unwrap()];
        for number in 0..10_000 {
            let second = window.second_of(hash(number));
            assert!((first..=last).contains(&second));
            slots[usize::try_from(second - first).unwrap()] += 1;
        }
        let expected = 10_000.0 / f64::from(u32::try_from(slots.len()).unwrap());
        let chi_square: f64 = slots.iter().map(|&seen| (f64::from(seen) - expected).powi(2) / expected).sum();
        let freedom = f64::from(u32::try_from(slots.len() - 1).unwrap());
        // Wilson and Hilferty: the value that one in a thousand passes.
        let bound = freedom * (1.0 - 2.0 / (9.0 * freedom) + 3.09 * (2.0 / (9.0 * freedom)).sqrt()).powi(3);
        assert!(chi_square < bound, "{window:?}: {chi_square} of {bound}");
    }
}

#[test]
fn an_agent_is_told_the_same_second_of_the_same_window() {
    let one = Identity { agent: AgentId::new("a-1"), tenant: None };
    assert_eq!(agent_hash(&one, 1), agent_hash(&one, 2));
    assert_eq!(agent_hash(&Identity::default(), 7), 7);
    let window = || Window::new(seconds(5), 10_000, 100.0, BOUNDS);
    assert_eq!(window().second_of(hash(7)), window().second_of(hash(7)));
}

#[test]
fn a_window_that_reaches_the_bound_opens_earlier() {
    let bounds = WindowBounds { longest: seconds(60), ..BOUNDS };
    assert_eq!(Window::new(seconds(600), 1, 1000.0, bounds).span(), (55, 60));
    assert_eq!(Window::new(seconds(600), 1_000_000, 0.0, bounds).span(), (30, 60));
    assert_eq!(Window::new(seconds(0), 1_000_000, 0.0, bounds).span(), (30, 60));
}

#[test]
fn the_calm_window_is_half_as_wide_as_its_lead() {
    assert_eq!(Window::of_calm(seconds(60)).span(), (60, 90));
    assert_eq!(Window::of_calm(Duration::from_millis(100)).span(), (1, 2));
}

#[test]
fn promises_stand_until_their_second() {
    let mut demand = Demand::new(Millis(10_000));
    for wait in [1, 5, 5, 3000] {
        demand.promise(wait, Millis(10_000));
    }
    let standing = [10_999, 11_000, 14_999, 15_000, 9_000_000].map(|now| demand.returning(Millis(now)));
    assert_eq!(standing, [4, 3, 3, 1, 0]);
}

/// All agents of a node ask at once, and come back as they are told, while it lets in a thousand a second of its usual traffic. Those who
/// come back are never more than about the fifth that they may be.
#[test]
fn a_stampede_comes_back_as_a_fifth_more_load() {
    const AGENTS: u32 = 50_000;
    let start = Millis(1_000_000_000);
    let mut demand = Demand::new(start);
    let mut admitted = 0;
    for second in 1..=20 {
        admitted += 1000;
        demand.window(seconds(0), admitted, BOUNDS, start.after(seconds(second)));
    }
    let now = start.after(seconds(20));
    let mut back = vec![0_u32; 700];
    for number in 0..AGENTS {
        let second = demand.window(seconds(0), admitted, BOUNDS, now).second_of(hash(number));
        demand.promise(second, now);
        back[usize::try_from(second).unwrap()] += 1;
    }
    assert!(back.iter().all(|count| *count <= 260), "{:?}", back.iter().max());
    let ten_seconds = back.windows(10).map(|slots| slots.iter().sum::<u32>()).max().unwrap();
    assert!(ten_seconds <= 2200, "{ten_seconds} in ten seconds where 2,000 are meant");
}

proptest! {
    #[test]
    fn every_second_is_within_the_bounds(
        lead in 0_u64..10_000,
        returning in 0_u64..10_000_000,
        rate in 0.0_f64..100_000.0,
        shortest in 1_u64..100,
        longest in 2_u64..3600,
        hash: u64,
    ) {
        let bounds = WindowBounds { shortest: seconds(shortest), longest: seconds(longest) };
        let window = Window::new(seconds(lead), returning, rate, bounds);
        let (first, last) = window.span();
        prop_assert!(first >= 1 && first < last && last <= longest);
        prop_assert!((first..=last).contains(&window.second_of(hash)));
    }

    /// More who come back, or less that is let in, never makes a wait shorter.
    #[test]
    fn the_window_is_monotone(
        lead in 0_u64..1000,
        returning in 0_u64..1_000_000,
        more in 0_u64..1_000_000,
        rate in 0.1_f64..10_000.0,
        longest in 10_u64..3600,
    ) {
        let bounds = WindowBounds { longest: seconds(longest), ..BOUNDS };
        let width = |returning, rate| {
            let (first, last) = Window::new(seconds(lead), returning, rate, bounds).span();
            last - first
        };
        prop_assert!(width(returning + more, rate) >= width(returning, rate));
        prop_assert!(width(returning, rate / 2.0) >= width(returning, rate));
        let shorter = WindowBounds { longest: seconds(longest - 1), ..BOUNDS };
        let last = |bounds| Window::new(seconds(lead), returning, rate, bounds).span().1;
        prop_assert!(last(shorter) <= last(bounds));
    }
}
