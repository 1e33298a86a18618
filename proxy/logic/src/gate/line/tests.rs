use weir_config::Ratio;

use super::super::{Attempt, GateLimits, LimitBounds};
use super::*;

const CONFIG: Rank = Rank::Class(Class::Config);
const TASKING: Rank = Rank::Class(Class::Tasking);

/// A gate with room for so many, and for half of them of one of two flows.
fn gate(room: usize, rate: u32) -> (Gate, FlowId, FlowId) {
    let limits = GateLimits {
        in_flight: LimitBounds { floor: 1, ceiling: room, adaptive: false },
        max_requests_per_second: rate,
        breaker_failures: 3,
        breaker_cooldown: Duration::from_secs(1),
        ramp: Duration::from_secs(10),
        retry_budget: Ratio::new(0.1).unwrap(),
        flow_share: Ratio::new(0.5).unwrap(),
    };
    let gate = Gate::new(&limits, ["a", "b"]);
    let (a, b) = (gate.flow("a"), gate.flow("b"));
    (gate, a, b)
}

fn called(line: &mut Line<u32>, gate: &mut Gate, now: u64) -> Vec<u32> {
    let mut called = Vec::new();
    while let Call::Go(who, _) = line.call(gate, |_| false, Millis(now)) {
        called.push(who);
    }
    called
}

#[test]
fn higher_ranks_go_first_and_flows_of_a_rank_take_turns() {
    let (mut gate, a, b) = gate(100, 1_000);
    let mut line = Line::default();
    for (rank, flow, who) in
        [(Rank::Backlog, a, 9), (Rank::BATCH, a, 8), (CONFIG, a, 2), (CONFIG, a, 4), (CONFIG, b, 3), (TASKING, a, 1)]
    {
        line.push(rank, flow, who, Millis(0));
    }
    assert_eq!((line.ahead(CONFIG), line.ahead(Rank::Backlog)), (Ahead { same: 3, all: 4 }, Ahead { same: 1, all: 6 }));
    assert_eq!((line.waiting(Class::Telemetry), line.len()), (2, 6));
    assert_eq!(called(&mut line, &mut gate, 0), [1, 2, 3, 4, 8, 9]);
    assert_eq!(line.call(&mut gate, |_| false, Millis(0)), Call::Nobody);
}

#[test]
fn a_flow_whose_share_is_used_up_holds_up_nobody() {
    let (mut gate, a, b) = gate(4, 1_000);
    let mut line = Line::default();
    for who in 0..4 {
        line.push(TASKING, a, who, Millis(0));
    }
    line.push(CONFIG, b, 9, Millis(0));
    assert_eq!(called(&mut line, &mut gate, 0), [0, 1, 9]);
    assert_eq!(line.call(&mut gate, |_| false, Millis(0)), Call::WhenFreed);
}

/// An isolation order must pass while uploads fill the line and the pace is used up.
#[test]
fn tasking_passes_while_uploads_wait() {
    let (mut gate, a, b) = gate(100, 20);
    let mut line = Line::default();
    for who in 0..50 {
        line.push(Rank::BATCH, a, who, Millis(0));
    }
    assert!(called(&mut line, &mut gate, 0).len() <= 2);
    assert!(matches!(line.call(&mut gate, |_| false, Millis(0)), Call::At(_)));
    line.push(TASKING, b, 99, Millis(0));
    assert_eq!(called(&mut line, &mut gate, 0), [99]);
}

#[test]
fn every_rank_moves_while_those_above_want_everything() {
    let (mut gate, a, b) = gate(1_000, 100);
    let mut line = Line::default();
    (0..50).for_each(|_| line.push(Rank::BATCH, a, 1, Millis(0)));
    let mut batches = 0;
    for now in 0..10_000 {
        line.push(CONFIG, b, 0, Millis(now));
        while let Call::Go(who, ticket) = line.call(&mut gate, |_| false, Millis(now)) {
            batches += who;
            gate.on_result(ticket, Attempt::Succeeded(Duration::from_millis(1)), Millis(now), 0.5);
        }
    }
    assert!((48..=50).contains(&batches), "a twentieth of 100 a second, for ten seconds: {batches}");
}

#[test]
fn those_who_have_left_are_passed_over() {
    let (mut gate, a, _) = gate(100, 1_000);
    let mut line = Line::default();
    (0..3).for_each(|who| line.push(CONFIG, a, who, Millis(5)));
    assert_eq!(line.standing(Millis(9)), Duration::from_millis(4));
    assert!(matches!(line.call(&mut gate, |&who| who < 2, Millis(9)), Call::Go(2, _)));
    assert_eq!(line.call(&mut gate, |_| false, Millis(9)), Call::Nobody);
    assert_eq!(line.standing(Millis(99)), Duration::ZERO);
}

#[test]
fn a_full_line_loses_the_newest_of_the_lowest_rank_then_of_the_longest_flow() {
    let (_, a, b) = gate(1, 1);
    let mut line = Line::default();
    line.push(Rank::BATCH, a, 0, Millis(0));
    (1..4).for_each(|who| line.push(CONFIG, a, who, Millis(0)));
    assert_eq!(line.make_room(CONFIG, b, 5), Ok(None));
    assert_eq!(line.make_room(CONFIG, b, 4), Ok(Some(0)));
    line.push(CONFIG, b, 4, Millis(0));
    assert_eq!(line.make_room(CONFIG, b, 4), Ok(Some(3)), "a flow that floods the line makes room");
    line.push(CONFIG, b, 5, Millis(0));
    assert_eq!(line.make_room(CONFIG, b, 4), Err(Full));
    assert_eq!(line.make_room(Rank::Backlog, a, 4), Err(Full));
}

#[test]
fn a_rest_is_told_to_all_who_wait() {
    let (mut gate, a, _) = gate(100, 1_000);
    let mut line = Line::default();
    let Entry::Go(ticket) = gate.try_enter(Class::Tasking, a, Millis(0)) else { panic!("an idle gate") };
    gate.on_result(ticket, Attempt::RestAsked(Duration::from_secs(3)), Millis(0), 0.5);
    (0..3).for_each(|who| line.push(CONFIG, a, who, Millis(0)));
    let rest = Duration::from_secs(3);
    for who in 0..3 {
        assert_eq!(line.call(&mut gate, |_| false, Millis(0)), Call::Away(who, rest));
    }
}

#[test]
fn the_time_through_is_what_the_pace_and_the_ramp_take() {
    let (gate, ..) = gate(1_000, 100);
    let ahead = |same, all| Ahead { same, all };
    let ms = |class, ahead| gate.time_through(class, ahead, Millis(0)).as_millis();
    assert_eq!(ms(Class::Checkin, ahead(0, 0)), 0);
    assert_eq!(ms(Class::Checkin, ahead(104, 104)), 1_000);
    assert_eq!(ms(Class::Telemetry, ahead(0, 1_000)), 200, "a class alone in its rank has its part");
    assert_eq!(ms(Class::Tasking, ahead(50, 50)), 0);
}
