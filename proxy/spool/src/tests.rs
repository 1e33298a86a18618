//! A spool that dies at any call and comes back: what was acknowledged reaches the core exactly once.

mod absurd;
mod golden;
mod losses;
mod ready;
mod repairing;
mod reviving;
mod spares;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::NonZeroU64;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use weir_batch::{Batch, Compression, Format, PartialAnswer, Refused};
use weir_logic::Millis;
use weir_logic::merge::{Eviction, Load, MergePlan, Origin, ShardWindow};

use crate::memory::Memory;
use crate::*;

mod states;

const ROOT: &str = "/spool";
const START: u64 = 1_700_000_000_000;
const WINDOW: u64 = 1000;

fn plan() -> Plan {
    Plan {
        edge: "edge-1".to_owned(),
        stream: "process".to_owned(),
        core: "core".to_owned(),
        path: "/v1/bulk".to_owned(),
        mode: PlanMode::Events(merge_plan(WINDOW)),
        max_batch_bytes: 600,
        max_batch_rows: 5,
        lanes: 2,
        compression: Compression::Lz4,
        format: Format::Shapes,
    }
}

fn merge_plan(window_ms: u64) -> MergePlan {
    MergePlan {
        same: vec!["image".to_owned()],
        exemplars: vec!["pid".to_owned()],
        max_exemplars: 2,
        window_ms: NonZeroU64::new(window_ms).unwrap(),
        max: Load { keys: 6, bytes: 1 << 20 },
        max_tenant: Load { keys: 4, bytes: 1 << 20 },
    }
}

/// Another plan of the same mode; now and then, for states, another mode.
fn replan(mode: &mut PlanMode, window: u64) {
    match mode {
        PlanMode::State(_) if window.is_multiple_of(5) => *mode = PlanMode::Raw,
        PlanMode::State(plan) => plan.window_ms = window,
        PlanMode::Events(_) | PlanMode::Raw | PlanMode::Rows => *mode = PlanMode::Events(merge_plan(window)),
    }
}

/// Records by tenant and agent, and by image.
type Tally = BTreeMap<(String, String), u64>;

/// The core: keeps each batch once, by its id, and checks that an id never names two different batches.
#[derive(Default)]
struct Core {
    batches: BTreeMap<String, Vec<u8>>,
    /// What it said when it took a part only. It says the same to the same id.
    partial: BTreeMap<String, PartialAnswer>,
}

impl Core {
    fn accept(&mut self, parcel: &Parcel) {
        let rows = Batch::open(&parcel.payload).unwrap().rows(1 << 20).unwrap().into_owned();
        assert_eq!(rows.iter().filter(|byte| **byte == b'\n').count() as u64, parcel.meta.counts.rows);
        for row in rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()) {
            let row: serde_json::Value = serde_json::from_slice(row).unwrap();
            let shard = Origin::new(row["tenant"].as_str(), row["agent"].as_str()).shard();
            let named = parcel.meta.shards & 1 << shard != 0 || row["kind"] == "loss";
            assert!(named, "{} does not name the shard of {row}", parcel.meta.id);
        }
        let id = parcel.meta.id.to_string();
        let known = self.batches.entry(id.clone()).or_insert_with(|| rows.clone());
        assert_eq!(String::from_utf8_lossy(known), String::from_utf8_lossy(&rows), "two batches under the id {id}");
    }

    fn knows(&self, parcel: &Parcel) -> bool {
        self.batches.contains_key(&parcel.meta.id.to_string())
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::new();
        for (id, rows) in &self.batches {
            let partial = self.partial.get(id).cloned().unwrap_or_default();
            let taken = |row| !partial.rejected.contains_key(&row) && !partial.retry.contains(&row);
            count_rows(&mut tally, rows, taken);
        }
        tally
    }
}

fn count_rows(tally: &mut Tally, rows: &[u8], taken: impl Fn(u64) -> bool) {
    let rows = rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty());
    for (_, row) in (0..).zip(rows).filter(|(number, _)| taken(*number)) {
        let row: serde_json::Value = serde_json::from_slice(row).unwrap();
        let (fields, count) = match row["kind"].as_str().unwrap() {
            "event" => (&row["record"], 1),
            "state" => (&row["record"], row["count"].as_u64().unwrap()),
            "repeat" | "unchanged" => (&row["key"], row["count"].as_u64().unwrap()),
            "loss" => continue,
            other => panic!("a row of kind {other}"),
        };
        let who = format!("{}/{}", row["tenant"].as_str().unwrap_or_default(), row["agent"].as_str().unwrap());
        let key = (who, fields["image"].as_str().unwrap().to_owned());
        *tally.entry(key).or_default() += count;
    }
}

/// A node as `proxy` drives it, without its threads.
struct Node {
    files: Memory,
    plan: Plan,
    spool: Recovered<Memory>,
    now: u64,
    core: Core,
    acknowledged: Tally,
    /// Records that were sent but whose acknowledgement the node did not live to give.
    doubtful: Tally,
    /// Whether a batch may have been given up that the core has: its answer did not reach the node.
    doubted: bool,
    unanswered: Vec<((String, String), String)>,
    /// The last record acknowledged of each key, unless another is in doubt.
    latest: BTreeMap<(String, String), Option<String>>,
    pace: usize,
}

#[derive(Clone, Debug)]
enum Act {
    Upload {
        tenant: u8,
        agent: u8,
        images: Vec<u8>,
    },
    Commit,
    /// Something leaves early, wished for or not.
    Evict(u8),
    Seal,
    Wait(u64),
    Deliver,
    Halve,
    /// Some refusals of the first batch, and what it is told then.
    Isolate(u8),
    Divide(u8),
    Bury,
    Replan(u64),
    /// Batches older than this are given up.
    Expire(u64),
    /// So many dead letters may stay.
    Tidy(usize),
    /// Dead letters are put back.
    Revive,
    /// From now on no more than so many steps are merged after each commit.
    Pace(usize),
}

impl Node {
    fn start(files: Memory) -> Self {
        Self::start_with(files, plan())
    }

    fn start_with(files: Memory, plan: Plan) -> Self {
        let spool = recover(files.clone(), Path::new(ROOT), Some(plan.clone()), Millis(START)).unwrap();
        Self {
            files,
            plan,
            spool,
            now: START,
            core: Core::default(),
            acknowledged: Tally::new(),
            doubtful: Tally::new(),
            unanswered: Vec::new(),
            doubted: false,
            latest: BTreeMap::new(),
            pace: usize::MAX,
        }
    }

    fn act(&mut self, act: &Act) -> io::Result<()> {
        match act {
            Act::Upload { tenant, agent, images } => {
                self.upload(*tenant, *agent, images);
                Ok(())
            }
            Act::Evict(what) => {
                self.evict(*what);
                Ok(())
            }
            Act::Pace(pace) => {
                self.pace = *pace;
                Ok(())
            }
            Act::Commit => self.commit(),
            Act::Seal => self.seal(),
            Act::Wait(time) => {
                self.now += time;
                Ok(())
            }
            Act::Deliver => self.deliver(),
            Act::Halve => self.refuse(|outbox, waiting| outbox.halve(waiting).map(drop)),
            Act::Isolate(times) => (0..*times).try_for_each(|_| {
                self.refuse(|outbox, waiting| outbox.isolate(waiting, Refused::whole(422, "no")).map(drop))
            }),
            Act::Bury => self.refuse(|outbox, waiting| outbox.bury(waiting, Refused::whole(415, "never"))),
            Act::Divide(pattern) => self.divide(*pattern),
            Act::Expire(age) => self.expire(Millis(self.now - age)),
            Act::Revive => self.spool.outbox.revive(u64::MAX).map(drop),
            Act::Tidy(files) => self.spool.outbox.drop_dead(*files, u64::MAX).map(drop),
            Act::Replan(window) => {
                self.commit()?;
                let mut plan = self.plan.clone();
                replan(&mut plan.mode, *window);
                self.spool.journal.replan(Millis(self.now), plan)?;
                self.follow()
            }
        }
    }

    fn expire(&mut self, before: Millis) -> io::Result<()> {
        for waiting in self.spool.outbox.waiting() {
            self.doubted |= self.core.knows(&self.spool.outbox.parcel(&waiting)?);
        }
        while self.spool.outbox.expire(before)?.rows > 0 {}
        Ok(())
    }

    /// The core refuses what comes next of the oldest batch, unless it has accepted that before.
    fn refuse(&mut self, act: impl FnOnce(&Outbox<Memory>, &Waiting) -> io::Result<()>) -> io::Result<()> {
        let waiting = self.spool.outbox.waiting();
        let Some(waiting) = waiting.first() else { return Ok(()) };
        let parcel = self.spool.outbox.parcel(waiting)?;
        // A core may refuse a row that tells of a loss; this one wants to know.
        if self.core.knows(&parcel) || losses::tells(&parcel) {
            return Ok(());
        }
        act(&self.spool.outbox, waiting)
    }

    /// The core takes a part of what comes next of the oldest batch.
    fn divide(&mut self, pattern: u8) -> io::Result<()> {
        let waiting = self.spool.outbox.waiting();
        let Some(waiting) = waiting.first() else { return Ok(()) };
        let parcel = self.spool.outbox.parcel(waiting)?;
        if self.core.knows(&parcel) {
            return Ok(());
        }
        let mut answer = PartialAnswer::default();
        let spared = losses::tells(&parcel);
        for row in 0..parcel.meta.counts.rows {
            match (u64::from(pattern) >> (row % 4 * 2)) & 3 {
                0 if !spared => drop(answer.rejected.insert(row, "bad".to_owned())),
                1 => drop(answer.retry.insert(row)),
                _ => {}
            }
        }
        self.core.accept(&parcel);
        self.core.partial.insert(parcel.meta.id.to_string(), answer.clone());
        self.spool.outbox.divide(waiting, 207, &answer).map(drop)
    }

    fn evict(&mut self, what: u8) {
        let eviction = match what {
            0..64 => Eviction::Window(ShardWindow { shard: what, window: (self.now + WINDOW / 2) / WINDOW }),
            _ => Eviction::Tenant(tenant(what % 4)),
        };
        self.spool.journal.push_flush(Millis(self.now), eviction);
    }

    fn upload(&mut self, name: u8, agent: u8, images: &[u8]) {
        let tenant = tenant(name);
        let agent = format!("a-{agent}");
        let mut lines = Vec::new();
        for image in images {
            let record = format!("{{\"image\":\"{image}\",\"pid\":{}}}", self.now / 2000);
            lines.extend_from_slice(record.as_bytes());
            lines.push(b'\n');
            let who = format!("{}/{agent}", tenant.as_deref().unwrap_or_default());
            self.unanswered.push(((who, image.to_string()), record));
        }
        let records = u32::try_from(images.len()).unwrap();
        self.spool.journal.push(Millis(self.now), tenant.as_deref(), Some(&agent), records, &lines);
    }

    fn commit(&mut self) -> io::Result<()> {
        for eviction in self.spool.emitter.overfull() {
            self.spool.journal.push_flush(Millis(self.now), eviction);
        }
        self.spool.journal.push_losses(Millis(self.now));
        let committed = self.spool.journal.commit();
        self.answer(committed)?;
        self.follow()
    }

    fn seal(&mut self) -> io::Result<()> {
        let sealed = self.spool.journal.seal(Millis(self.now), EndReason::Age);
        self.answer(sealed)?;
        // One that cannot be made is done without.
        self.spool.journal.wanted_spare().map_or(Ok(()), |spare| spare.make()).unwrap_or(());
        self.follow()
    }

    /// Answers those who wait for a commit: 202, or 503 when it failed. A dead node answers nobody.
    fn answer(&mut self, committed: io::Result<()>) -> io::Result<()> {
        for (key, record) in self.unanswered.drain(..) {
            match &committed {
                Ok(()) => {
                    self.latest.insert(key.clone(), Some(record));
                    *self.acknowledged.entry(key).or_default() += 1;
                }
                Err(_) if self.files.is_dead() => {
                    self.latest.insert(key.clone(), None);
                    *self.doubtful.entry(key).or_default() += 1;
                }
                Err(_) => {}
            }
        }
        committed
    }

    /// Merges at the pace in force.
    fn follow(&mut self) -> io::Result<()> {
        self.spool.emitter.settle()?;
        for _ in 0..self.pace {
            let Some(step) = self.spool.follower.next_step()? else { break };
            self.spool.emitter.apply(step)?;
            self.spool.emitter.settle().or_else(|_| self.spool.emitter.settle())?;
        }
        assert_eq!(self.spool.journal.meters().imbalance(), 0);
        Ok(())
    }

    /// Delivers until nothing waits.
    fn deliver(&mut self) -> io::Result<()> {
        while let Some(waiting) = self.spool.outbox.waiting().pop() {
            let parcel = self.spool.outbox.parcel(&waiting)?;
            self.core.accept(&parcel);
            match self.core.partial.get(&parcel.meta.id.to_string()) {
                Some(answer) => drop(self.spool.outbox.divide(&waiting, 207, answer)?),
                None => self.spool.outbox.deliver(&waiting)?,
            }
        }
        Ok(())
    }

    /// What is in the dead letters.
    fn dead(&self) -> Tally {
        let dir = Path::new(ROOT).join("dead");
        let mut tally = Tally::new();
        for listed in self.files.list(&dir).unwrap() {
            let file = self.files.read(&dir.join(&listed.name), usize::MAX).unwrap();
            let batch = Batch::open(&file).unwrap();
            assert!(batch.meta.as_ref().unwrap().refusal.is_some(), "{}", listed.name);
            count_rows(&mut tally, &batch.rows(1 << 20).unwrap(), |_| true);
        }
        tally
    }

    /// The machine loses power and comes back; on the way up it may die again.
    fn restart(&mut self, luck: u64, mut deaths: impl Iterator<Item = u64>) {
        for (key, _) in self.unanswered.drain(..) {
            self.latest.insert(key.clone(), None);
            *self.doubtful.entry(key).or_default() += 1;
        }
        loop {
            // Killed alone, or without power.
            self.files =
                if luck.is_multiple_of(3) { self.files.after_kill() } else { self.files.after_power_loss(luck) };
            let death = deaths.next();
            if let Some(calls) = death {
                self.files.die_after(calls);
            }
            match recover(self.files.clone(), Path::new(ROOT), Some(self.plan.clone()), Millis(self.now)) {
                Ok(_) if self.files.is_dead() => continue,
                Ok(spool) => self.spool = spool,
                Err(_) if death.is_some() => continue,
                Err(error) => panic!("{error}"),
            }
            self.files.live_on();
            return;
        }
    }

    fn reopen(&mut self) {
        self.spool = recover(self.files.clone(), Path::new(ROOT), Some(self.plan.clone()), Millis(self.now)).unwrap();
        self.spool.catch_up().unwrap();
    }

    /// Everything leaves: windows end, batches are delivered, and the ledger balances.
    fn finish(&mut self) {
        self.pace = usize::MAX;
        self.commit().unwrap();
        let report = self.spool.follower.report();
        assert_eq!(report.damaged_entries + report.damaged_files, 0);
        self.seal().unwrap();
        self.now += 100 * WINDOW;
        self.seal().unwrap();
        // The last rows of a search may turn out to be bad: the core is told of that later.
        for _ in 0..2 {
            self.now += 100 * WINDOW;
            self.commit().unwrap();
            self.seal().unwrap();
            self.deliver().unwrap();
        }
        let ledger = self.spool.outbox.ledger();
        let meters = self.spool.journal.meters();
        let content = self.spool.outbox.balance().0;
        let Content { dead_files, dead_bytes, .. } = content;
        assert_eq!(content, Content { dead_files, dead_bytes, ..Content::default() });
        assert_eq!(self.spool.emitter.load(), Load::default());
        assert_eq!(meters.imbalance(), 0);
        let mut left = ledger.delivered;
        left += ledger.buried;
        left += ledger.expired;
        assert_eq!((ledger.accepted, ledger.emitted), (meters.accepted(), left));
        assert_eq!(left.records, ledger.accepted);
        assert_eq!(meters.journal_bytes(), 0);
        assert_eq!(segments(&self.files), 0);
        assert_eq!(self.files.count(&Path::new(ROOT).join("outbox")), 0);
        let mut tally = self.core.tally();
        let unheard = tally.values().sum::<u64>().checked_sub(ledger.delivered.records);
        assert!(unheard == Some(0) || self.doubted && unheard <= Some(ledger.expired.records), "{unheard:?}");
        assert_eq!(self.dead().values().sum::<u64>() + ledger.dropped.records, ledger.buried.records);
        assert_eq!(ledger.damaged, Lost::default());
        losses::check(self);
        let mut given_up = ledger.expired.records + ledger.dropped.records;
        self.dead().into_iter().for_each(|(key, count)| *tally.entry(key).or_default() += count);
        let keys: BTreeSet<_> = tally.keys().chain(self.acknowledged.keys()).collect();
        for key in keys {
            let at_core = tally.get(key).copied().unwrap_or_default();
            let acknowledged = self.acknowledged.get(key).copied().unwrap_or_default();
            let doubtful = self.doubtful.get(key).copied().unwrap_or_default();
            assert!(at_core <= acknowledged + doubtful, "{key:?}: {at_core} at the core, {acknowledged} acknowledged");
            let missing = acknowledged.saturating_sub(at_core);
            assert!(
                missing <= given_up,
                "{key:?}: {acknowledged} acknowledged, {doubtful} in doubt, {at_core} at the core"
            );
            given_up -= missing;
        }
    }
}

/// A tenant, or none.
fn tenant(number: u8) -> Option<String> {
    (number > 0).then(|| format!("t-{number}"))
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..3u8, 0..3u8, proptest::collection::vec(0..4u8, 1..8))
            .prop_map(|(tenant, agent, images)| Act::Upload { tenant, agent, images }),
        2 => any::<u8>().prop_map(Act::Evict),
        5 => Just(Act::Commit),
        3 => Just(Act::Seal),
        4 => (1..700u64).prop_map(Act::Wait),
        2 => Just(Act::Deliver),
        1 => Just(Act::Halve),
        2 => (1..5u8).prop_map(Act::Isolate),
        1 => any::<u8>().prop_map(Act::Divide),
        1 => Just(Act::Bury),
        1 => (500..1500u64).prop_map(Act::Replan),
        1 => (0..3000u64).prop_map(Act::Expire),
        1 => (0..3usize).prop_map(Act::Tidy),
        1 => Just(Act::Revive),
        1 => prop_oneof![0..6usize, Just(usize::MAX)].prop_map(Act::Pace),
    ];
    proptest::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_reaches_the_core_once_whenever_power_fails(
        acts in acts(),
        deaths in proptest::collection::vec((1..120u64, any::<u64>(), proptest::option::of(0..40u64)), 0..5),
    ) {
        let mut node = Node::start(Memory::default());
        let mut deaths = deaths.into_iter();
        let mut next = deaths.next();
        if let Some((calls, ..)) = next { node.files.die_after(calls); }
        for act in &acts {
            if node.act(act).is_ok() {
                // One that died while it tidied up behind itself does not say so.
                if !node.files.is_dead() { losses::compare_with_a_walk(&node); }
                continue;
            }
            let Some((_, luck, again)) = next else { panic!("a call failed on a whole file system") };
            node.restart(luck, again.into_iter());
            losses::compare_with_a_walk(&node);
            next = deaths.next();
            if let Some((calls, ..)) = next { node.files.die_after(calls); }
        }
        node.restart(7, std::iter::empty());
        node.finish();
    }

    #[test]
    fn one_failed_call_refuses_uploads_and_changes_nothing_else(acts in acts(), calls in 1..150u64) {
        let mut node = Node::start(Memory::default());
        node.files.fail_once_after(calls);
        for act in &acts {
            node.act(act).unwrap_or(());
        }
        node.restart(7, std::iter::empty());
        node.finish();
    }
}

fn node_with(uploads: &[&[u8]]) -> Node {
    let mut node = Node::start(Memory::default());
    for images in uploads {
        node.upload(0, 1, images);
        node.commit().unwrap();
    }
    node
}

/// The segments that there are.
fn segments(files: &Memory) -> usize {
    let listed = files.list(&Path::new(ROOT).join("journal")).unwrap();
    listed.iter().filter(|file| file.name.ends_with(".segment")).count()
}

fn only_segment(node: &Node) -> std::path::PathBuf {
    let dir = Path::new(ROOT).join("journal");
    let mut listed = node.files.list(&dir).unwrap();
    listed.retain(|file| file.name != "spare");
    assert_eq!(listed.len(), 1);
    dir.join(&listed[0].name)
}

#[test]
fn a_damaged_entry_costs_that_entry_alone() {
    let mut node = node_with(&[&[1], &[2, 2], &[3]]);
    let path = only_segment(&node);
    node.files.damage(&path, |bytes| {
        let at = bytes.windows(11).position(|window| window == br#"{"image":"2"#.as_slice()).unwrap();
        bytes[at] ^= 1;
    });
    node.reopen();
    assert_eq!((node.spool.follower.report().damaged_entries, node.spool.follower.report().replayed), (1, 2));
    node.deliver().unwrap();
    let images: Vec<String> = node.core.tally().into_keys().map(|(_, image)| image).collect();
    assert_eq!(images, ["1", "3"]);
}

#[test]
fn a_damaged_entry_head_does_not_hide_what_follows() {
    let mut node = node_with(&[&[1], &[2], &[3]]);
    let path = only_segment(&node);
    node.files.damage(&path, |bytes| {
        let at = bytes.windows(11).position(|window| window == br#"{"image":"2"#.as_slice()).unwrap();
        // Time, record count, no tenant, and `a-1` stand between the head and the lines.
        bytes[at - (8 + 4 + 4 + 7) - 16] ^= 0xff;
    });
    node.reopen();
    assert_eq!((node.spool.follower.report().damaged_entries, node.spool.follower.report().replayed), (1, 2));
}

#[test]
fn a_segment_of_a_later_version_is_refused_and_left_alone() {
    let node = node_with(&[&[1]]);
    let path = only_segment(&node);
    node.files.damage(&path, |bytes| bytes[8] = 2);
    let refused = recover(node.files.clone(), Path::new(ROOT), Some(plan()), Millis(node.now));
    assert!(matches!(refused, Err(SpoolError::Newer { version: 2, .. })));
    assert_eq!(only_segment(&node), path);
}

#[test]
fn a_segment_without_a_head_is_put_aside() {
    let mut node = node_with(&[&[1]]);
    let path = only_segment(&node);
    node.files.damage(&path, |bytes| bytes[0] = b'x');
    node.reopen();
    assert_eq!(node.spool.follower.report().damaged_files, 1);
    assert!(only_segment(&node).to_str().unwrap().ends_with(".damaged"));
}

#[test]
fn a_buried_batch_waits_among_the_dead_letters() {
    let mut node = node_with(&[&[1, 2]]);
    node.seal().unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    node.spool.outbox.bury(&waiting, Refused::whole(422, "no")).unwrap();
    node.spool.outbox.bury(&waiting, Refused::whole(422, "no")).unwrap();
    assert_eq!(node.spool.outbox.ledger().buried.records, 2);
    assert_eq!(node.files.count(&Path::new(ROOT).join("dead")), 1);
}

#[test]
fn a_copy_of_a_batch_under_another_name_is_put_aside() {
    let mut node = node_with(&[&[1, 2]]);
    node.seal().unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    let bytes = node.spool.outbox.load(&waiting).unwrap();
    node.files.create(&Path::new(ROOT).join("outbox/copy.batch")).unwrap().append(&bytes).unwrap();
    node.reopen();
    assert_eq!(node.spool.outbox.bytes(), waiting.bytes);
    assert_eq!(node.spool.outbox.waiting(), [waiting]);
    assert_eq!(node.spool.follower.report().damaged_files, 1);
}

#[test]
fn batches_without_a_segment_or_a_plan_say_where_they_go() {
    let mut node = node_with(&[&[1]]);
    for wait in [0, 10 * WINDOW, 10 * WINDOW] {
        node.now += wait;
        node.seal().unwrap();
    }
    assert_eq!(segments(&node.files), 0);
    let spool = recover(node.files.clone(), Path::new(ROOT), None, Millis(node.now)).unwrap();
    assert_eq!((spool.outbox.waiting().len(), &*spool.journal.plan().path), (1, "/v1/bulk"));
    node.deliver().unwrap();
    let empty = recover(node.files.clone(), Path::new(ROOT), None, Millis(node.now));
    assert!(matches!(empty, Err(SpoolError::NoPlan { .. })));
}

#[test]
fn a_new_spool_never_reuses_the_generations_of_a_lost_one() {
    let mut before = node_with(&[&[1]]);
    before.seal().unwrap();
    let mut after = Node::start(Memory::default());
    after.now += 1;
    after.spool = recover(Memory::default(), Path::new(ROOT), Some(plan()), Millis(START + 5000)).unwrap();
    after.upload(0, 1, &[1]);
    after.seal().unwrap();
    let [before, after] = [before, after].map(|node| node.spool.outbox.waiting()[0].meta.id.generation);
    assert!(before < after);
}

#[test]
fn a_full_disk_keeps_no_spool_from_starting_and_empties_by_delivery() {
    let mut node = node_with(&[&[1], &[2, 2], &[3]]);
    node.seal().unwrap();
    node.upload(0, 1, &[4]);
    node.commit().unwrap();
    // A write that was never finished, and then not a byte is left.
    let newest = node.files.list(&Path::new(ROOT).join("journal")).unwrap().into_iter().max().unwrap();
    node.files.damage(&Path::new(ROOT).join("journal").join(newest.name), |bytes| bytes.extend_from_slice(b"torn"));
    node.files.leave_room(Some(0));
    node.spool = recover(node.files.clone(), Path::new(ROOT), Some(plan()), Millis(node.now)).unwrap();
    assert_eq!(node.spool.outbox.waiting().len(), 1);
    assert!(node.spool.catch_up().is_err(), "there is no room for the batch of the record that was not emitted");
    // Some was where the write was cut off.
    node.files.leave_room(Some(0));
    node.upload(0, 1, &[5]);
    assert!(node.commit().is_err());
    // Delivering needs a note, which the reserve has room for, and frees what the batch has taken.
    node.deliver().unwrap();
    assert_eq!(node.spool.outbox.ledger().delivered.records, 3);
    node.upload(0, 1, &[5]);
    assert!(node.commit().is_err(), "uploads wait until there is room for the reserve");
    node.files.leave_room(None);
    node.upload(0, 1, &[5]);
    node.commit().unwrap();
    node.finish();
    assert_eq!(node.spool.outbox.ledger().accepted, 6);
}

#[test]
fn notes_that_cannot_be_written_anew_go_on_in_the_old_file() {
    let mut node = node_with(&[]);
    for image in 0..200 {
        node.upload(0, 1, &[image]);
        node.seal().unwrap();
        if image == 100 {
            node.deliver().unwrap();
            // No other file can be made, but this one can grow.
            node.files.leave_room(Some(200));
            node.reopen();
            node.files.leave_room(None);
        }
    }
    node.restart(7, std::iter::empty());
    node.finish();
    assert_eq!(node.spool.outbox.ledger().accepted, 200);
}

#[test]
fn the_real_file_system_keeps_what_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = recover(Disk, dir.path(), Some(plan()), Millis(START)).unwrap();
    let lines = b"{\"image\":\"x\"}\n{\"image\":\"x\"}\n";
    spool.journal.push(Millis(START), Some("t"), None, 2, lines);
    spool.journal.commit().unwrap();
    drop(spool);
    let mut spool = recover(Disk, dir.path(), None, Millis(START + 1)).unwrap();
    assert_eq!((spool.journal.meters().accepted(), spool.journal.meters().unread_bytes() > 0), (0, true));
    spool.catch_up().unwrap();
    assert_eq!(spool.journal.meters().unread_bytes(), 0);
    assert_eq!((spool.follower.report().replayed, spool.journal.meters().accepted()), (2, 2));
    let [waiting] = spool.outbox.waiting().try_into().unwrap();
    let file = spool.outbox.load(&waiting).unwrap();
    let rows = Batch::open(&file).unwrap().rows(1000).unwrap().into_owned();
    let expected = r#"{"kind":"event","tenant":"t","agent":null,"received":1700000000000,"record":{"image":"x"}}"#;
    assert_eq!(String::from_utf8(rows).unwrap(), expected.to_owned() + "\n");
    spool.outbox.deliver(&waiting).unwrap();
    assert_eq!(spool.emitter.next_due().map(|due| due > Millis(START)), Some(true));
}
