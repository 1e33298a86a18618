//! The last state wins, unchanged ones are counted, and tables with what came since are as good as never having stopped.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const WINDOW: u64 = 60_000;
const REFRESH: u64 = 600_000;
const START: u64 = 1_700_000_000_000;

fn plan() -> StatePlan {
    StatePlan {
        key: vec!["disk".to_owned()],
        window_ms: WINDOW,
        refresh_ms: REFRESH,
        max_keys: 1000,
        max_bytes: u64::MAX,
    }
}

fn states_at(now: u64) -> States {
    let mut states = States::new(plan());
    assert_eq!(states.advance(Millis(now)), []);
    states
}

fn origin(agent: &str) -> Origin<'_> {
    Origin::new(Some("t-1"), Some(agent))
}

fn record(row: &Row) -> Option<&str> {
    row.record.as_deref().map(|record| std::str::from_utf8(record).unwrap())
}

fn send(states: &mut States, record: &str) {
    assert_ne!(states.apply(&origin("a"), record.as_bytes()), Taken::Settled);
}

#[test]
fn the_first_state_leaves_at_once_and_the_last_one_of_a_window_at_its_end() {
    let mut states = states_at(START);
    assert_eq!(states.apply(&origin("a"), br#"{"disk":1,"free":9}"#), Taken::First);
    assert_eq!(states.next_due(), None);
    for free in [8, 7, 6] {
        states.advance(Millis(START + 10 - free));
        assert_eq!(states.apply(&origin("a"), format!(r#"{{"disk":1,"free":{free}}}"#).as_bytes()), Taken::Held);
    }
    let due = states.next_due().unwrap();
    assert_eq!(states.advance(Millis(due.0 - 1)), []);
    let [row] = states.advance(due).try_into().unwrap();
    assert_eq!((record(&row), row.count), (Some(r#"{"disk":1,"free":6}"#), 3));
    assert_eq!((row.first_seen, row.last_seen), (Millis(START + 2), Millis(START + 4)));
    assert_eq!((row.tenant(), row.agent()), (Some("t-1"), Some("a")));
    assert_eq!((states.counted(), states.next_due()), (0, None));
}

#[test]
fn a_state_that_changes_back_within_a_window_has_not_changed() {
    let mut states = states_at(START);
    for record in [r#"{"disk":1,"free":9}"#, r#"{"disk":1,"free":8}"#, r#"{"disk":1,"free":9}"#] {
        send(&mut states, record);
    }
    assert_eq!(states.advance(Millis(START + WINDOW)), []);
    assert_eq!(states.counted(), 2);
}

#[test]
fn an_unchanged_state_leaves_again_after_the_refresh_with_all_that_were_counted() {
    let mut states = states_at(START);
    let mut rows = Vec::new();
    for minute in 0..12 {
        rows.extend(states.advance(Millis(START + minute * WINDOW)));
        send(&mut states, r#"{"disk":1}"#);
    }
    rows.extend(states.advance(Millis(START + 12 * WINDOW)));
    let [row] = rows.try_into().unwrap();
    assert_eq!((record(&row), row.count), (Some(r#"{"disk":1}"#), 10));
    assert_eq!(states.counted(), 1);
}

#[test]
fn what_an_agent_that_went_away_had_sent_unchanged_leaves_as_a_count() {
    let mut states = states_at(START);
    send(&mut states, r#"{"disk":1}"#);
    send(&mut states, r#"{"disk":1}"#);
    assert_eq!(states.advance(Millis(START + REFRESH - 1)), []);
    let due = states.next_due().unwrap();
    assert!(due >= Millis(START + REFRESH) && due <= Millis(START + REFRESH + WINDOW), "{due:?}");
    let [row] = states.advance(due).try_into().unwrap();
    assert_eq!((record(&row), row.count, row.last_seen), (None, 1, Millis(START)));
    assert_eq!(row.fields().collect::<Vec<_>>(), [Some(b"1".as_slice())]);
    assert_eq!((states.keys(), states.bytes()), (0, 0));
    assert_eq!(states.apply(&origin("a"), br#"{"disk":1}"#), Taken::First);
}

#[test]
fn without_key_fields_an_agent_has_one_state() {
    let mut states = States::new(StatePlan { key: Vec::new(), ..plan() });
    assert_eq!(states.apply(&origin("a"), b"{\"x\":1}"), Taken::First);
    assert_eq!(states.apply(&origin("a"), b"{\"y\":1}"), Taken::Held);
    assert_eq!(states.apply(&origin("b"), b"{\"y\":1}"), Taken::First);
}

#[test]
fn a_record_without_a_key_always_leaves_by_itself() {
    let mut states = states_at(START);
    for record in [r#"{"x":1}"#, r#"{"disk":1,"disk":2}"#] {
        assert_eq!(states.apply(&origin("a"), record.as_bytes()), Taken::First);
        assert_eq!(states.apply(&origin("a"), record.as_bytes()), Taken::First);
    }
    assert_eq!(states.keys(), 0);
}

#[test]
fn past_its_bounds_the_fullest_shard_forgets_the_half_that_was_not_seen_for_longer() {
    let mut states = States::new(StatePlan { max_keys: 3, ..plan() });
    for disk in 0..4 {
        states.advance(Millis(START + disk));
        for _ in 0..2 {
            send(&mut states, &format!(r#"{{"disk":{disk}}}"#));
        }
    }
    let which = states.overfull().unwrap();
    let rows = states.flush(which);
    let gone: Vec<&[u8]> = rows.iter().map(|row| row.fields().next().unwrap().unwrap()).collect();
    assert_eq!(gone, [b"0", b"1"]);
    assert!(rows.iter().all(|row| row.record.is_none() && row.count == 1));
    assert_eq!((states.overfull(), states.keys(), states.counted()), (None, 2, 2));
    let other = ShardWindow { window: which.window + 1, ..which };
    assert_eq!(states.flush(other), [], "a flush of another window does nothing");
}

#[test]
fn waiting_states_leave_early_when_they_are_most_of_what_is_held() {
    let mut states = States::new(StatePlan { max_bytes: 1000, ..plan() });
    states.advance(Millis(START));
    send(&mut states, r#"{"disk":1}"#);
    let long = format!(r#"{{"disk":1,"name":"{}"}}"#, "x".repeat(1000));
    assert_eq!((states.apply(&origin("a"), long.as_bytes()), states.keys()), (Taken::Held, 1));
    let [row] = states.flush(states.overfull().unwrap()).try_into().unwrap();
    assert_eq!((record(&row), row.count), (Some(long.as_str()), 1));
    assert_eq!((states.overfull(), states.keys()), (None, 1));
}

#[test]
fn a_lost_shard_sends_the_last_states_again_and_counts_none_twice() {
    let mut states = States::new(plan());
    let shard = u8::try_from(origin("a").shard()).unwrap();
    states.lose(shard);
    states.advance(Millis(START));
    assert_eq!(states.apply(&origin("a"), br#"{"disk":1,"free":1}"#), Taken::Settled);
    assert_eq!(states.apply(&origin("a"), br#"{"disk":1,"free":2}"#), Taken::Settled);
    assert_eq!(states.advance(Millis(START + 10 * WINDOW)), [], "not before it is known that they have not left");
    states.replayed();
    assert_eq!(states.apply(&origin("a"), br#"{"disk":1,"free":2}"#), Taken::Held);
    let due = states.next_due().unwrap();
    let [row] = states.advance(due).try_into().unwrap();
    assert_eq!((record(&row), row.count), (Some(r#"{"disk":1,"free":2}"#), 1));
    assert!(matches!(&states.take_changes()[..], [Change { content: Content::Full(_), .. }]));
}

#[test]
fn a_table_of_another_shard_or_time_is_refused() {
    let mut states = states_at(START);
    send(&mut states, r#"{"disk":1}"#);
    states.advance(Millis(START + WINDOW));
    let changes = states.take_changes();
    let [Change { shard, content: Content::Full(content) }] = &changes[..] else { panic!("{changes:?}") };
    let (shard, content) = (*shard, content.as_slice());
    let latest = Millis(START + WINDOW);
    assert_eq!(States::new(plan()).load(shard, content, latest), Ok(()));
    assert_eq!(States::new(plan()).load((shard + 1) % 64, content, latest), Err(Corrupt));
    assert_eq!(States::new(plan()).load(shard, content, Millis(START)), Err(Corrupt));
    assert_eq!(States::new(StatePlan { key: Vec::new(), ..plan() }).load(shard, content, latest), Err(Corrupt));
    assert_eq!(States::new(plan()).load(64, content, latest), Err(Corrupt));
}

#[test]
fn a_table_grows_by_what_changed_and_is_written_anew_before_it_is_three_times_too_long() {
    let mut states = States::new(StatePlan { key: vec!["disk".to_owned()], ..plan() });
    let mut table = 0;
    for minute in 0..300u64 {
        states.advance(Millis(START + minute * WINDOW));
        for disk in 0..2000u64 {
            if minute == 0 || disk % 100 == minute % 100 {
                send(&mut states, &format!(r#"{{"disk":{disk}}}"#));
            }
        }
        for change in states.take_changes() {
            match change.content {
                Content::Full(content) => table = content.len(),
                Content::More(content) => table += content.len(),
                Content::Nothing => panic!("there is a table"),
            }
        }
        assert!(table < 3 * 2000 * 90, "{table} bytes");
    }
}

#[test]
fn absurd_plans_divide_nothing_by_zero() {
    for (window_ms, refresh_ms) in [(0, 0), (u64::MAX, u64::MAX), (1, u64::MAX)] {
        let mut states = States::new(StatePlan { window_ms, refresh_ms, ..plan() });
        for now in [0, START, u64::MAX] {
            states.advance(Millis(now));
            send(&mut states, r#"{"disk":1}"#);
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Record { agent: u8, disk: u8, free: u8 },
    Wait(u64),
    Flush,
    Restart,
}

fn acts(with: &[Act]) -> impl Strategy<Value = Vec<Act>> + use<> {
    let act = prop_oneof![
        8 => (0..4u8, 0..2u8, 0..3u8).prop_map(|(agent, disk, free)| Act::Record { agent, disk, free }),
        3 => (1..WINDOW).prop_map(Act::Wait),
        1 => (WINDOW..REFRESH).prop_map(Act::Wait),
        2 => proptest::sample::select([with, &[Act::Wait(WINDOW)]].concat()),
    ];
    proptest::collection::vec(act, 1..80)
}

/// A key and what a row says of it: first seen, last seen, count, record.
type Said = (String, String, u64, u64, u64, Option<String>);

fn said(row: &Row) -> Said {
    let field = row.fields().next().unwrap().unwrap();
    let disk = String::from_utf8(field.to_vec()).unwrap();
    let agent = row.agent().unwrap().to_owned();
    (agent, disk, row.first_seen.0, row.last_seen.0, row.count, record(row).map(str::to_owned))
}

/// The same by the book: every key is looked at at every end of a window.
#[derive(Default)]
struct Book {
    keys: BTreeMap<(String, String), Known>,
}

struct Known {
    sent: String,
    sent_at: u64,
    last: String,
    /// Received since the last row.
    times: Vec<u64>,
    last_seen: u64,
}

impl Book {
    fn end_windows(&mut self, states: &States, from: u64, to: u64) -> Vec<Said> {
        let mut rows = Vec::new();
        self.keys.retain(|(agent, disk), known| {
            let shard = origin(agent).shard();
            let mut end = states.end_after(shard, Millis(from)).0;
            while end <= to {
                let due = known.last != known.sent || known.last_seen >= known.sent_at + REFRESH;
                let mut say = |known: &mut Known, record| {
                    let times = std::mem::take(&mut known.times);
                    let (first, last) = (times[0], times[times.len() - 1]);
                    rows.push((end, (agent.clone(), disk.clone(), first, last, times.len() as u64, record)));
                };
                if !known.times.is_empty() && due {
                    say(known, Some(known.last.clone()));
                    (known.sent, known.sent_at) = (known.last.clone(), end);
                }
                if known.last_seen + REFRESH <= end {
                    if !known.times.is_empty() {
                        say(known, None);
                    }
                    return false;
                }
                end += WINDOW;
            }
            true
        });
        rows.sort();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn apply(&mut self, agent: &str, disk: &str, record: &str, now: u64) -> Taken {
        let mut taken = Taken::Held;
        let known = self.keys.entry((agent.to_owned(), disk.to_owned())).or_insert_with(|| {
            taken = Taken::First;
            Known { sent: record.to_owned(), sent_at: now, last: String::new(), times: Vec::new(), last_seen: now }
        });
        (known.last, known.last_seen) = (record.to_owned(), now);
        if taken == Taken::Held {
            known.times.push(now);
        }
        taken
    }
}

fn of(agent: u8, disk: u8, free: u8) -> (String, String) {
    (format!("a-{agent}"), format!(r#"{{"disk":{disk},"free":{free}}}"#))
}

proptest! {
    #[test]
    fn rows_are_those_of_the_book(acts in acts(&[])) {
        let (mut states, mut book, mut now) = (states_at(START), Book::default(), START);
        let mut received = 0;
        let mut left = 0;
        for act in acts {
            match act {
                Act::Record { agent, disk, free } => {
                    let (agent, record) = of(agent, disk, free);
                    let taken = states.apply(&origin(&agent), record.as_bytes());
                    prop_assert_eq!(taken, book.apply(&agent, &disk.to_string(), &record, now));
                    received += 1;
                    left += u64::from(taken == Taken::First);
                }
                Act::Wait(time) => {
                    let mut rows: Vec<Said> = states.advance(Millis(now + time)).iter().map(said).collect();
                    left += rows.iter().map(|row| row.4).sum::<u64>();
                    let mut expected = book.end_windows(&states, now, now + time);
                    rows.sort();
                    expected.sort();
                    prop_assert_eq!(rows, expected);
                    now += time;
                }
                Act::Flush | Act::Restart => {}
            }
            prop_assert_eq!(left + states.counted(), received);
        }
        left += states.flush_all().iter().map(|row| row.count).sum::<u64>();
        prop_assert_eq!((left, states.counted(), states.bytes()), (received, 0, 0));
    }

    #[test]
    fn a_restart_from_tables_and_open_windows_changes_nothing(acts in acts(&[Act::Flush, Act::Restart])) {
        let mut now = START;
        let mut states = [states_at(now), states_at(now)];
        let mut tables: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
        let mut journal: Vec<(u64, Option<ShardWindow>, String, String)> = Vec::new();
        for act in acts {
            match act {
                Act::Record { agent, disk, free } => {
                    let (agent, record) = of(agent, disk, free);
                    let [one, other] = states.each_mut().map(|states| states.apply(&origin(&agent), record.as_bytes()));
                    prop_assert_eq!(one, other);
                    journal.push((now, None, agent, record));
                }
                Act::Wait(time) => {
                    now += time;
                    let [one, other] = states.each_mut().map(|states| states.advance(Millis(now)));
                    prop_assert_eq!(one, other);
                }
                Act::Flush => {
                    let which = ShardWindow {
                        shard: number(origin("a-1").shard()),
                        window: states[0].window_at(origin("a-1").shard(), Millis(now)),
                    };
                    let [one, other] = states.each_mut().map(|states| states.flush(which));
                    prop_assert_eq!(one, other);
                    journal.push((now, Some(which), String::new(), String::new()));
                }
                Act::Restart => {
                    journal.retain(|(time, ..)| time + WINDOW > now);
                    let mut restored = States::new(plan());
                    for (shard, contents) in &tables {
                        for content in contents {
                            prop_assert_eq!(restored.load(*shard, content, Millis(now)), Ok(()));
                        }
                    }
                    let mut replayed = Vec::new();
                    for (time, flush, agent, record) in &journal {
                        restored.advance(Millis(*time));
                        match flush {
                            Some(which) => drop(restored.flush(*which)),
                            None => replayed.push(restored.apply(&origin(agent), record.as_bytes())),
                        }
                    }
                    restored.advance(Millis(now));
                    restored.replayed();
                    states[1] = restored;
                }
            }
            for change in states[1].take_changes() {
                let contents = tables.entry(change.shard).or_default();
                match change.content {
                    Content::Full(content) => *contents = vec![content],
                    Content::More(content) => contents.push(content),
                    Content::Nothing => contents.clear(),
                }
            }
            prop_assert_eq!(states[0].keys(), states[1].keys());
            prop_assert_eq!(states[0].counted(), states[1].counted());
            prop_assert_eq!(states[0].bytes(), states[1].bytes());
        }
    }

    #[test]
    fn no_bytes_make_a_table_panic(content in proptest::collection::vec(any::<u8>(), 0..200), shard in any::<u8>()) {
        let mut states = States::new(plan());
        if states.load(shard, &content, Millis(START)).is_err() {
            states.lose(shard);
        }
        states.advance(Millis(START));
    }
}
