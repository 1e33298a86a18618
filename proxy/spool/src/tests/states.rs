//! Streams of states: what tables remember survives whatever happens, and what damage takes is said.

use weir_logic::state::StatePlan;

use super::*;

const REFRESH: u64 = 5 * WINDOW;

fn state_plan() -> Plan {
    let state = StatePlan {
        key: vec!["image".to_owned()],
        window_ms: WINDOW,
        refresh_ms: REFRESH,
        max_keys: 8,
        max_bytes: 1 << 20,
    };
    Plan { mode: PlanMode::State(state), ..plan() }
}

fn node() -> Node {
    Node::start_with(Memory::default(), state_plan())
}

fn upload(node: &mut Node, images: &[u8]) {
    node.upload(1, 1, images);
    node.commit().unwrap();
}

/// Goes on by a window, and closes what is open.
fn next_window(node: &mut Node) {
    node.seal().unwrap();
    node.now += WINDOW;
    node.seal().unwrap();
}

fn table_files(node: &Node) -> Vec<std::path::PathBuf> {
    let dir = Path::new(ROOT).join("tables");
    node.files.list(&dir).unwrap().into_iter().map(|listed| dir.join(listed.name)).collect()
}

/// The rows of the core, in the order in which they were made.
fn rows(node: &Node) -> Vec<serde_json::Value> {
    let order = |id: &String| {
        let id: weir_batch::BatchId = id.parse().unwrap();
        (id.generation, id.ordinal)
    };
    let mut batches: Vec<_> = node.core.batches.iter().collect();
    batches.sort_by_key(|(id, _)| order(id));
    let lines = batches.into_iter().flat_map(|(_, rows)| rows.split(|byte| *byte == b'\n'));
    lines.filter(|row| !row.is_empty()).map(|row| serde_json::from_slice(row).unwrap()).collect()
}

fn kinds(node: &Node) -> Vec<(String, u64)> {
    let kind = |row: &serde_json::Value| (row["kind"].as_str().unwrap().to_owned(), row["count"].as_u64().unwrap());
    rows(node).iter().filter(|row| row["kind"] != "loss").map(kind).collect()
}

/// The last state of each key that reached the core is the last one that was acknowledged.
fn last_ones_won(node: &Node) {
    let mut last = BTreeMap::new();
    for row in rows(node).iter().filter(|row| row["record"].is_object()) {
        let key = (
            format!("{}/{}", row["tenant"].as_str().unwrap_or_default(), row["agent"].as_str().unwrap()),
            row["record"]["image"].as_str().unwrap().to_owned(),
        );
        last.insert(key, row["record"].to_string());
    }
    for (key, record) in &node.latest {
        if let Some(record) = record {
            assert_eq!(last.get(key), Some(record), "{key:?}");
        }
    }
}

/// Everything leaves but what was forgotten, and the ledger balances; gives how much that was.
fn finish_with_damage(node: &mut Node) -> u64 {
    node.commit().unwrap();
    node.seal().unwrap();
    node.now += 100 * WINDOW;
    node.seal().unwrap();
    node.deliver().unwrap();
    let ledger = node.spool.outbox.ledger();
    assert_eq!((node.spool.emitter.load().keys, node.spool.journal.meters().imbalance()), (0, 0));
    assert_eq!(ledger.delivered.records + ledger.damaged.records, ledger.accepted);
    assert_eq!(node.core.tally().values().sum::<u64>(), ledger.delivered.records);
    ledger.damaged.records
}

fn acts(replans: bool) -> impl Strategy<Value = Vec<Act>> {
    let upload = (0..3u8, proptest::collection::vec(0..4u8, 1..4));
    let act = prop_oneof![
        6 => upload.prop_map(|(agent, images)| Act::Upload { tenant: 1, agent, images }),
        5 => Just(Act::Commit),
        3 => Just(Act::Seal),
        4 => (1..700u64).prop_map(Act::Wait),
        1 => (WINDOW..2 * REFRESH).prop_map(Act::Wait),
        2 => Just(Act::Deliver),
        1 => (700..720u64).prop_map(move |window| if replans { Act::Replan(window) } else { Act::Seal }),
    ];
    proptest::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_last_state_wins_and_counts_are_exact_whenever_power_fails(
        acts in acts(true),
        deaths in proptest::collection::vec((1..150u64, any::<u64>(), proptest::option::of(0..60u64)), 0..6),
    ) {
        let mut node = node();
        let mut deaths = deaths.into_iter();
        let mut next = deaths.next();
        if let Some((calls, ..)) = next { node.files.die_after(calls); }
        for act in &acts {
            if node.act(act).is_ok() { continue; }
            let Some((_, luck, again)) = next else { panic!("a call failed on a whole file system") };
            node.restart(luck, again.into_iter());
            next = deaths.next();
            if let Some((calls, ..)) = next { node.files.die_after(calls); }
        }
        node.restart(7, std::iter::empty());
        node.finish();
        prop_assert_eq!(node.spool.outbox.ledger().damaged.records, 0);
        last_ones_won(&node);
    }

    #[test]
    fn one_failed_call_costs_no_state(acts in acts(true), calls in 1..150u64) {
        let mut node = node();
        node.files.fail_once_after(calls);
        for act in &acts {
            node.act(act).unwrap_or(());
        }
        node.restart(7, std::iter::empty());
        node.finish();
        prop_assert_eq!(node.spool.outbox.ledger().damaged.records, 0);
    }

    #[test]
    fn what_a_damaged_table_had_counted_is_said_and_nothing_is_counted_twice(
        acts in acts(false),
        place in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
        after in acts(false),
    ) {
        let mut node = node();
        acts.iter().for_each(|act| node.act(act).unwrap());
        node.commit().unwrap();
        let tables = table_files(&node);
        prop_assume!(!tables.is_empty());
        node.files.damage(&tables[place.index(tables.len())], |bytes| {
            let at = bit.index(bytes.len() * 8);
            // A later version's number or feature is no damage.
            if !(64..96).contains(&at) { bytes[at / 8] ^= 1 << (at % 8); } else { bytes[at / 8 - 8] ^= 1; }
        });
        let before = node.spool.outbox.ledger();
        node.reopen();
        prop_assert_eq!(node.spool.follower.report().damaged_files, 1);
        after.iter().for_each(|act| node.act(act).unwrap());
        let forgotten = finish_with_damage(&mut node);
        prop_assert!(forgotten <= before.accepted);
        last_ones_won(&node);
    }
}

#[test]
fn an_unchanged_state_is_not_sent_again_after_a_restart_though_its_segment_is_gone() {
    let mut node = node();
    upload(&mut node, &[1]);
    next_window(&mut node);
    assert_eq!((table_files(&node).len(), node.spool.journal.meters().journal_bytes()), (1, 0));
    node.restart(7, std::iter::empty());
    upload(&mut node, &[1, 1]);
    node.restart(7, std::iter::empty());
    node.finish();
    assert_eq!(kinds(&node), [("state".to_owned(), 1), ("unchanged".to_owned(), 2)]);
}

#[test]
fn counts_of_an_agent_that_went_away_leave_after_a_restart_with_nothing_in_the_journal() {
    let mut node = node();
    upload(&mut node, &[1, 1, 1]);
    next_window(&mut node);
    node.restart(7, std::iter::empty());
    node.follow().unwrap();
    let due = node.spool.emitter.next_due().unwrap();
    assert!(due.0 > START + REFRESH && due.0 <= START + REFRESH + WINDOW, "{due:?}");
    node.now = due.0;
    node.seal().unwrap();
    node.deliver().unwrap();
    assert_eq!(kinds(&node), [("state".to_owned(), 1), ("unchanged".to_owned(), 2)]);
    assert_eq!((node.spool.emitter.load().keys, node.spool.emitter.next_due()), (0, None));
}

#[test]
fn a_change_of_the_mode_lets_everything_leave_and_takes_the_tables_away() {
    let mut node = node();
    upload(&mut node, &[1, 1]);
    next_window(&mut node);
    node.restart(7, std::iter::empty());
    node.spool.journal.replan(Millis(node.now), plan()).unwrap();
    node.follow().unwrap();
    node.deliver().unwrap();
    assert_eq!(kinds(&node), [("state".to_owned(), 1), ("unchanged".to_owned(), 1)]);
    assert_eq!(table_files(&node), Vec::<std::path::PathBuf>::new());
    node.plan = plan();
    node.restart(7, std::iter::empty());
    assert_eq!(node.spool.emitter.load().keys, 0);
}

#[test]
fn a_lost_table_costs_its_counts_and_the_state_is_sent_again() {
    let mut node = node();
    upload(&mut node, &[1, 1, 1]);
    next_window(&mut node);
    node.files.remove(&table_files(&node)[0]).unwrap();
    node.reopen();
    assert_eq!(node.spool.follower.report().damaged_files, 1);
    upload(&mut node, &[1]);
    assert_eq!(finish_with_damage(&mut node), 2);
    assert_eq!(kinds(&node), [("state".to_owned(), 1), ("state".to_owned(), 1)]);
}

#[test]
fn a_segment_goes_when_its_window_has_ended_though_empty_ones_follow_it() {
    let mut node = node();
    upload(&mut node, &[1]);
    node.seal().unwrap();
    node.now += WINDOW / 10;
    node.seal().unwrap();
    assert_eq!(node.spool.emitter.next_due(), Some(Millis(START + WINDOW)));
    node.now = START + WINDOW;
    node.seal().unwrap();
    assert_eq!(node.spool.journal.meters().journal_bytes(), 0);
}

#[test]
fn an_early_flush_is_kept_until_the_table_knows_of_it() {
    let mut node = node();
    (0..3).for_each(|agent| node.upload(1, agent, &[0, 0, 1, 2, 3]));
    node.seal().unwrap();
    node.now += WINDOW;
    // More than the eight keys that may be held: half of a shard's leave, once the time has moved on to its window.
    node.commit().unwrap();
    node.commit().unwrap();
    node.seal().unwrap();
    let keys = node.spool.emitter.load().keys;
    assert!(keys < 12, "{keys}");
    node.restart(7, std::iter::empty());
    node.follow().unwrap();
    assert_eq!(node.spool.emitter.load().keys, keys);
    node.finish();
}

#[test]
fn verifying_reads_tables_as_far_as_they_count() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = recover(Disk, directory.path(), Some(state_plan()), Millis(START)).unwrap();
    spool.journal.push(Millis(START), None, None, 1, b"{\"image\":\"1\"}\n");
    for now in [START, START + 2 * WINDOW] {
        spool.journal.seal(Millis(now), EndReason::Age).unwrap();
        spool.catch_up().unwrap();
    }
    let tables: Vec<_> =
        std::fs::read_dir(directory.path().join("tables")).unwrap().map(|file| file.unwrap()).collect();
    assert_eq!((tables.len(), inspect::Inventory::of(directory.path()).unwrap().tables.files), (1, 1));
    let path = tables[0].path();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [whole.as_slice(), b"of a generation that was not announced"].concat()).unwrap();
    assert!(inspect::verify(directory.path()).unwrap().1.is_empty());
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let (_, damaged) = inspect::verify(directory.path()).unwrap();
    assert_eq!(damaged.iter().map(|damage| &damage.path).collect::<Vec<_>>(), [&path]);
}

#[test]
fn a_table_of_a_later_version_is_refused_and_left_alone() {
    let mut node = node();
    upload(&mut node, &[1]);
    next_window(&mut node);
    let tables = table_files(&node);
    node.files.damage(&tables[0], |bytes| bytes[8] = 2);
    let refused = recover(node.files.clone(), Path::new(ROOT), Some(state_plan()), Millis(node.now));
    assert!(matches!(refused, Err(SpoolError::Newer { version: 2, .. })));
    assert_eq!(table_files(&node), tables);
}
