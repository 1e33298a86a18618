//! Nothing is lost and nothing counted twice, whatever the order of records, time and flushes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const WINDOW: u64 = 60_000;
const START: u64 = 1_700_000_000_000;

fn plan() -> MergePlan {
    MergePlan {
        same: vec!["image".to_owned(), "cmd".to_owned()],
        exemplars: vec!["pid".to_owned()],
        max_exemplars: 2,
        window_ms: WINDOW,
        max_keys: 1000,
    }
}

fn merger_at(now: u64) -> Merger {
    let mut merger = Merger::new(plan());
    assert_eq!(merger.advance(Millis(now)), []);
    merger
}

fn origin() -> Origin {
    Origin::new(Some("t-1"), Some("a-1"))
}

#[test]
fn a_repeat_counts_what_follows_the_first_sight() {
    let mut merger = merger_at(START);
    assert_eq!(merger.apply(&origin(), br#"{"image":"x","pid":1}"#), Applied::First);
    let due = merger.next_due();
    assert_eq!(due, None, "a key seen once has nothing to give back");
    merger.advance(Millis(START + 5));
    for pid in 2..6 {
        assert_eq!(merger.apply(&origin(), format!(r#"{{"image":"x","pid":{pid}}}"#).as_bytes()), Applied::Repeat);
    }
    let due = merger.next_due().unwrap();
    assert!(due > Millis(START) && due <= Millis(START + WINDOW));
    assert_eq!(merger.advance(Millis(due.0 - 1)), []);
    let [repeat] = merger.advance(due).try_into().unwrap();
    assert_eq!((repeat.first_seen, repeat.last_seen, repeat.count), (Millis(START), Millis(START + 5), 4));
    assert_eq!((repeat.tenant(), repeat.agent(), repeat.early), (Some("t-1"), Some("a-1"), false));
    assert_eq!(repeat.fields().collect::<Vec<_>>(), [Some(b"\"x\"".as_slice()), None]);
    assert_eq!(repeat.exemplars, [br#"{"pid":2}"#.as_slice().into(), br#"{"pid":3}"#.as_slice().into()]);
    assert_eq!((merger.keys(), merger.counted(), merger.next_due()), (0, 0, None));
}

#[test]
fn one_byte_or_one_type_changed_is_a_new_key() {
    let mut merger = merger_at(START);
    for record in [
        r#"{"image":"x"}"#,
        r#"{"image":"y"}"#,
        r#"{"image":"x","cmd":null}"#,
        r#"{"image":"x","cmd":""}"#,
        r#"{"image":"x","cmd":1}"#,
        r#"{"image":"x","cmd":"1"}"#,
        r#"{"image":"x","cmd":1.0}"#,
        r#"{"cmd":"x"}"#,
    ] {
        assert_eq!(merger.apply(&origin(), record.as_bytes()), Applied::First, "{record}");
    }
    assert_eq!(merger.keys(), 8);
}

#[test]
fn agents_and_tenants_never_meet() {
    let mut merger = merger_at(START);
    let origins = [
        (Some("t"), Some("a")),
        (Some("t"), None),
        (None, Some("t")),
        (Some("ta"), Some("")),
        (Some(""), Some("ta")),
        (None, None),
    ];
    for (tenant, agent) in origins {
        assert_eq!(merger.apply(&Origin::new(tenant, agent), br#"{"image":"x"}"#), Applied::First);
    }
}

#[test]
fn a_window_closes_under_continuous_input() {
    let mut merger = merger_at(START);
    let mut firsts = 0u64;
    let mut left = 0;
    for step in 0..600 {
        left += merger.advance(Millis(START + step * 1000)).iter().map(|repeat| repeat.count).sum::<u64>();
        firsts += u64::from(merger.apply(&origin(), br#"{"image":"x"}"#) == Applied::First);
    }
    assert!((10..=11).contains(&firsts), "ten windows, one first sight each: {firsts}");
    assert_eq!(firsts + left + merger.counted(), 600);
}

#[test]
fn the_fullest_shard_leaves_early_and_says_so() {
    let mut merger = Merger::new(MergePlan { max_keys: 2, ..plan() });
    merger.advance(Millis(START));
    for (image, applied) in
        [("x", Applied::First), ("y", Applied::First), ("z", Applied::First), ("x", Applied::Repeat)]
    {
        assert_eq!(merger.apply(&origin(), format!(r#"{{"image":"{image}"}}"#).as_bytes()), applied);
    }
    let which = merger.overfull().unwrap();
    let [repeat] = merger.flush(which).try_into().unwrap();
    assert!(repeat.early && repeat.count == 1);
    assert_eq!((merger.overfull(), merger.keys()), (None, 0));
    assert_eq!(merger.flush(which), [], "a flush of a window that is gone does nothing");
}

#[test]
fn windows_do_not_all_end_at_once() {
    let mut merger = merger_at(START);
    let mut ends = std::collections::BTreeSet::new();
    for agent in 0..500 {
        let origin = Origin::new(Some("t"), Some(&agent.to_string()));
        assert_eq!(merger.apply(&origin, br#"{"image":"x"}"#), Applied::First);
        assert_eq!(merger.apply(&origin, br#"{"image":"x"}"#), Applied::Repeat);
    }
    while let Some(due) = merger.next_due() {
        ends.insert(due);
        merger.advance(due);
    }
    assert_eq!(ends.len(), SHARDS);
}

#[derive(Clone, Debug)]
enum Step {
    Record { agent: u8, image: u8 },
    Wait(u64),
    Flush,
    FlushAll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..4u8, 0..4u8).prop_map(|(agent, image)| Step::Record { agent, image }),
        3 => (0..30_000u64).prop_map(Step::Wait),
        1 => Just(Step::Flush),
        1 => Just(Step::FlushAll),
    ];
    proptest::collection::vec(step, 0..200)
}

type Tally = BTreeMap<(String, Vec<u8>), u64>;

fn tally(counts: &mut Tally, repeats: &[Repeat]) {
    for repeat in repeats {
        let image = repeat.fields().next().flatten().unwrap().to_vec();
        *counts.entry((repeat.agent().unwrap().to_owned(), image)).or_default() += repeat.count;
    }
}

proptest! {
    #[test]
    fn first_sights_and_counts_add_up_to_the_records_of_every_key(steps in steps()) {
        let mut merger = Merger::new(MergePlan { max_keys: 5, ..plan() });
        let (mut sent, mut seen) = (Tally::new(), Tally::new());
        let mut now = START;
        for step in steps {
            tally(&mut seen, &merger.advance(Millis(now)));
            match step {
                Step::Wait(time) => now += time,
                Step::Flush => if let Some(which) = merger.overfull() { tally(&mut seen, &merger.flush(which)) },
                Step::FlushAll => tally(&mut seen, &merger.flush_all()),
                Step::Record { agent, image } => {
                    let key = (agent.to_string(), format!("\"{image}\"").into_bytes());
                    *sent.entry(key.clone()).or_default() += 1;
                    let record = format!(r#"{{"image":"{image}"}}"#);
                    if merger.apply(&Origin::new(None, Some(&key.0)), record.as_bytes()) == Applied::First {
                        *seen.entry(key).or_default() += 1;
                    }
                }
            }
        }
        let waiting = merger.counted();
        let repeats = merger.advance(Millis(now + WINDOW));
        prop_assert_eq!(waiting, repeats.iter().map(|repeat| repeat.count).sum::<u64>());
        tally(&mut seen, &repeats);
        prop_assert_eq!(merger.keys(), 0);
        prop_assert_eq!(sent, seen);
    }
}
