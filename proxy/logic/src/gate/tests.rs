use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn limits() -> GateLimits {
    GateLimits {
        in_flight: fixed(8),
        max_requests_per_second: 1_000,
        breaker_failures: 3,
        breaker_cooldown: Duration::from_secs(1),
        ramp: Duration::from_secs(10),
        retry_budget: Ratio::new(0.1).unwrap(),
        flow_share: Ratio::new(0.5).unwrap(),
    }
}

fn fixed(ceiling: usize) -> LimitBounds {
    LimitBounds { floor: 1, ceiling, adaptive: false }
}

const FLOW: FlowId = FlowId(0);

const FINE: Attempt = Attempt::Succeeded(Duration::from_millis(5));

fn enter(gate: &mut Gate, now: u64) -> Ticket {
    match gate.try_enter(Class::Tasking, FLOW, Millis(now)) {
        Entry::Go(ticket) => ticket,
        other => panic!("{other:?} at {now}"),
    }
}

fn fail(gate: &mut Gate, now: u64) {
    let ticket = enter(gate, now);
    gate.on_result(ticket, Attempt::Failed, Millis(now), 1.0);
}

fn rest(gate: &mut Gate, now: u64) -> Option<u128> {
    match gate.try_enter(Class::Tasking, FLOW, Millis(now)) {
        Entry::Resting(rest) => Some(rest.as_millis()),
        _ => None,
    }
}

#[test]
fn failures_in_a_row_open_the_breaker() {
    let mut gate = Gate::new(&limits(), []);
    fail(&mut gate, 0);
    fail(&mut gate, 0);
    let ticket = enter(&mut gate, 0);
    gate.on_result(ticket, FINE, Millis(0), 1.0);
    fail(&mut gate, 0);
    fail(&mut gate, 0);
    assert_eq!(gate.breaker(Millis(0)), BreakerState::Closed);
    fail(&mut gate, 0);
    assert_eq!(gate.breaker(Millis(0)), BreakerState::Open);
    assert_eq!(rest(&mut gate, 400), Some(600));
    assert_eq!(gate.in_flight(), 0);
}

#[test]
fn failed_probes_double_the_cooldown_up_to_eight_times() {
    let mut gate = Gate::new(&limits(), []);
    (0..3).for_each(|_| fail(&mut gate, 0));
    let mut now = 1_000;
    for cooldown in [2_000, 4_000, 8_000, 8_000] {
        fail(&mut gate, now);
        assert_eq!(rest(&mut gate, now), Some(cooldown));
        now += u64::try_from(cooldown).unwrap();
    }
}

#[test]
fn the_cooldown_is_jittered_over_its_upper_half() {
    for (random, rests) in [(0.0, 500), (0.5, 750), (1.0, 1_000)] {
        let mut gate = Gate::new(&GateLimits { breaker_failures: 1, ..limits() }, []);
        let ticket = enter(&mut gate, 0);
        gate.on_result(ticket, Attempt::Failed, Millis(0), random);
        assert_eq!(rest(&mut gate, 0), Some(rests));
    }
}

#[test]
fn a_good_probe_closes_the_breaker_and_starts_the_ramp() {
    let mut gate = Gate::new(&limits(), []);
    (0..3).for_each(|_| fail(&mut gate, 0));
    assert_eq!(gate.admitted_rate(Millis(0)), 0.0);
    let probe = enter(&mut gate, 1_000);
    assert_eq!(gate.breaker(Millis(1_000)), BreakerState::HalfOpen);
    assert!(rest(&mut gate, 1_000).is_some(), "one probe is enough");
    gate.on_result(probe, FINE, Millis(1_100), 0.0);
    assert_eq!(gate.breaker(Millis(1_100)), BreakerState::Closed);
    assert_eq!(gate.admitted_rate(Millis(1_100)).round(), 100.0);
    assert_eq!(gate.admitted_rate(Millis(6_100)).round(), 550.0);
    assert_eq!(gate.admitted_rate(Millis(11_100)).round(), 1_000.0);
    assert_eq!(gate.try_enter(Class::Config, FLOW, Millis(1_100)), Entry::Wait(Until::Time(Millis(1_114))));
}

#[test]
fn a_probe_whose_good_answer_has_begun_does_not_keep_the_others_waiting_for_its_end() {
    let mut gate = Gate::new(&limits(), []);
    (0..3).for_each(|_| fail(&mut gate, 0));
    let probe = enter(&mut gate, 1_000);
    gate.on_head(&probe, Millis(1_100), 0.0);
    assert_eq!(gate.breaker(Millis(1_100)), BreakerState::Closed);
    gate.on_result(probe, Attempt::Failed, Millis(60_000), 0.0);
    assert_eq!(gate.breaker(Millis(60_000)), BreakerState::Closed, "what becomes of the body is not the probe's word");
}

#[test]
fn a_lost_probe_makes_the_next_request_the_probe() {
    let mut gate = Gate::new(&limits(), []);
    (0..3).for_each(|_| fail(&mut gate, 0));
    let probe = enter(&mut gate, 1_000);
    gate.on_result(probe, Attempt::Abandoned, Millis(1_001), 0.0);
    let probe = enter(&mut gate, 1_001);
    gate.on_result(probe, FINE, Millis(1_002), 0.0);
    assert_eq!(gate.breaker(Millis(1_002)), BreakerState::Closed);
}

#[test]
fn late_results_of_before_the_opening_do_not_close_it() {
    let mut gate = Gate::new(&limits(), []);
    let early = enter(&mut gate, 0);
    let other = enter(&mut gate, 0);
    (0..3).for_each(|_| fail(&mut gate, 0));
    gate.on_result(early, FINE, Millis(10), 0.0);
    assert_eq!(gate.breaker(Millis(10)), BreakerState::Open);
    gate.on_result(other, Attempt::RestAsked(Duration::from_secs(5)), Millis(10), 0.0);
    assert_eq!(rest(&mut gate, 10), Some(5_000), "but a wish for more rest is heard");
}

#[test]
fn a_cooldown_is_cut_short_and_a_rest_that_was_asked_for_is_not() {
    let mut gate = Gate::new(&limits(), []);
    (0..3).for_each(|_| fail(&mut gate, 0));
    gate.hasten_probe(Millis(10));
    let probe = enter(&mut gate, 10);
    gate.on_result(probe, Attempt::RestAsked(Duration::from_secs(5)), Millis(11), 0.0);
    gate.hasten_probe(Millis(20));
    assert_eq!(rest(&mut gate, 11), Some(5_000));
}

#[test]
fn a_core_that_asks_for_rest_gets_it_within_bounds() {
    for (asked, granted) in [(7, 7_000), (86_400, 600_000)] {
        let mut gate = Gate::new(&limits(), []);
        let ticket = enter(&mut gate, 0);
        gate.on_result(ticket, Attempt::RestAsked(Duration::from_secs(asked)), Millis(0), 0.0);
        assert_eq!(rest(&mut gate, 0), Some(granted));
    }
}

#[test]
fn a_full_gate_waits_for_a_release() {
    let mut gate = Gate::new(&limits(), []);
    let tickets: Vec<_> = (0..6).map(|_| enter(&mut gate, 0)).collect();
    assert_eq!(gate.try_enter(Class::Telemetry, FLOW, Millis(0)), Entry::Wait(Until::Release));
    let more: Vec<_> = (0..2).map(|_| enter(&mut gate, 0)).collect();
    assert_eq!(gate.try_enter(Class::Tasking, FLOW, Millis(0)), Entry::Wait(Until::Release));
    for ticket in tickets.into_iter().chain(more) {
        gate.on_result(ticket, FINE, Millis(1), 0.0);
    }
    assert_eq!(gate.in_flight(), 0);
    assert!(matches!(gate.try_enter(Class::Telemetry, FLOW, Millis(1)), Entry::Go(_)));
}

#[test]
fn new_bounds_keep_what_is_known_of_the_core() {
    let mut gate = Gate::new(&limits(), []);
    (0..3).for_each(|_| fail(&mut gate, 0));
    gate.reconfigure(&GateLimits { in_flight: fixed(100), ..limits() }, [], Millis(1));
    assert_eq!((gate.breaker(Millis(1)), gate.limit()), (BreakerState::Open, 100));
}

#[test]
fn only_first_attempts_pay_for_retries() {
    let mut gate = Gate::new(&GateLimits { retry_budget: Ratio::new(0.5).unwrap(), ..limits() }, []);
    while gate.try_retry() {}
    for _ in 0..100 {
        let ticket = enter(&mut gate, 0);
        gate.on_result(ticket, FINE, Millis(0), 0.0);
    }
    assert!(!gate.try_retry(), "what is let through may be what failed before");
    (0..2).for_each(|_| gate.note_first_attempt());
    assert!(gate.try_retry());
}

/// Ten minutes of outage under a fleet that asks twelve times as often as is admitted, without a pause and without jitter.
#[test]
fn an_outage_ends_in_a_ramp_and_not_in_a_herd() {
    const DOWN: std::ops::Range<u64> = 60_000..660_000;
    let mut gate = Gate::new(
        &GateLimits {
            in_flight: fixed(1_000),
            max_requests_per_second: 500,
            breaker_failures: 5,
            ramp: Duration::from_secs(30),
            ..limits()
        },
        [],
    );
    let mut per_second = vec![0_u32; 760];
    let mut back = None;
    for now in (0..760_000).step_by(10) {
        for _ in 0..60 {
            if let Entry::Go(ticket) = gate.try_enter(Class::Config, FLOW, Millis(now)) {
                per_second[usize::try_from(now / 1_000).unwrap()] += 1;
                let attempt = if DOWN.contains(&now) { Attempt::Failed } else { FINE };
                gate.on_result(ticket, attempt, Millis(now), 0.3);
                if now >= DOWN.end && back.is_none() && gate.breaker(Millis(now)) == BreakerState::Closed {
                    back = Some(usize::try_from(now / 1_000).unwrap());
                }
            }
        }
    }
    let back = back.unwrap();
    assert!((660..669).contains(&back), "the longest cooldown is eight seconds: {back}");
    assert!(per_second[..60].iter().all(|&seen| seen <= 526), "the rate and a burst: {per_second:?}");
    assert!(per_second[61..660].iter().sum::<u32>() < 160, "one probe for each cooldown");
    for (second, &seen) in per_second[back..].iter().enumerate() {
        let part = 0.1 + 0.9 * f64::from(u32::try_from(second + 1).unwrap()) / 30.0;
        let allowed = 500.0 * part.min(1.0) + 26.0;
        assert!(f64::from(seen) <= allowed, "{seen} in second {second} after the recovery, {allowed} allowed");
    }
    assert!(per_second[back + 32..].iter().all(|&seen| seen >= 490), "the whole rate is back: {per_second:?}");
}

/// One thing that happens to a gate.
#[derive(Clone, Debug)]
enum Event {
    Later(u64),
    Ask(Class),
    Return(Attempt),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let class = prop::sample::select(vec![Class::Tasking, Class::Config, Class::Telemetry]);
    let attempt = prop::sample::select(vec![
        FINE,
        Attempt::Failed,
        Attempt::Failed,
        Attempt::RestAsked(Duration::from_secs(2)),
        Attempt::Abandoned,
    ]);
    let event = prop_oneof![
        2 => (0_u64..900).prop_map(Event::Later),
        6 => class.prop_map(Event::Ask),
        5 => attempt.prop_map(Event::Return),
    ];
    prop::collection::vec(event, 1..300)
}

proptest! {
    /// Whatever happens in whatever order: while the breaker is not closed at most one request leaves until it is decided, and
    /// what is in flight is what went and has not come back.
    #[test]
    fn a_half_open_breaker_lets_exactly_one_probe_through(events in events()) {
        let mut gate = Gate::new(&limits(), []);
        let mut now = Millis(0);
        let mut out: VecDeque<(Ticket, bool)> = VecDeque::new();
        for event in events {
            match event {
                Event::Later(time) => now = Millis(now.0 + time),
                Event::Ask(class) => {
                    let before = gate.breaker(now);
                    let probes_out = out.iter().filter(|(ticket, probe)| *probe && ticket.epoch == gate.breaker.epoch()).count();
                    if let Entry::Go(ticket) = gate.try_enter(class, FLOW, now) {
                        let probe = before == BreakerState::HalfOpen;
                        prop_assert!(before != BreakerState::Open);
                        prop_assert!(!probe || probes_out == 0, "a second probe");
                        out.push_back((ticket, probe));
                    }
                }
                Event::Return(attempt) => {
                    if let Some((ticket, _)) = out.pop_front() {
                        gate.on_result(ticket, attempt, now, 0.5);
                    }
                }
            }
            prop_assert_eq!(gate.in_flight(), out.len());
            prop_assert!(gate.in_flight() <= gate.limit() + 1);
        }
    }
}
