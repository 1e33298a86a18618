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
        window_ms: NonZeroU64::new(WINDOW).unwrap(),
        max: Load { keys: 1000, bytes: 1 << 30 },
        max_tenant: Load { keys: 1000, bytes: 1 << 30 },
    }
}

/// A plan of at most so many keys for all and for each tenant.
fn plan_of_keys(all: usize, tenant: usize) -> MergePlan {
    let bound = |keys| Load { keys, bytes: u64::MAX };
    MergePlan { max: bound(all), max_tenant: bound(tenant), ..plan() }
}

fn advance(merger: &mut Merger, now: u64) -> Vec<Repeat> {
    merger.advance(Millis(now)).collect()
}

/// Does what [`Merger::overfull`] asks for.
fn relieve(merger: &mut Merger) -> Vec<Repeat> {
    merger.overfull().iter().flat_map(|eviction| merger.evict(eviction)).collect()
}

fn merger_at(now: u64) -> Merger {
    let mut merger = Merger::new(plan());
    assert_eq!(advance(&mut merger, now), []);
    merger
}

fn origin() -> Origin<'static> {
    Origin::new(Some("t-1"), Some("a-1"))
}

#[test]
fn a_repeat_counts_what_follows_the_first_sight() {
    let mut merger = merger_at(START);
    assert_eq!(merger.apply(&origin(), br#"{"image":"x","pid":1}"#), Applied::First);
    let due = merger.next_due();
    assert_eq!(due, None, "a key seen once has nothing to give back");
    assert_eq!(advance(&mut merger, START + 5), []);
    for pid in 2..6 {
        assert_eq!(merger.apply(&origin(), format!(r#"{{"image":"x","pid":{pid}}}"#).as_bytes()), Applied::Repeat);
    }
    let due = merger.next_due().unwrap();
    assert!(due > Millis(START) && due <= Millis(START + WINDOW));
    assert_eq!(advance(&mut merger, due.0 - 1), []);
    let [repeat] = advance(&mut merger, due.0).try_into().unwrap();
    assert_eq!((repeat.first_seen, repeat.last_seen, repeat.count), (Millis(START), Millis(START + 5), 4));
    assert_eq!((repeat.tenant(), repeat.agent(), repeat.early), (Some("t-1"), Some("a-1"), false));
    assert_eq!(repeat.fields().collect::<Vec<_>>(), [Some(b"\"x\"".as_slice()), None]);
    assert_eq!(repeat.exemplars, [br#"{"pid":2}"#.as_slice().into(), br#"{"pid":3}"#.as_slice().into()]);
    assert_eq!((merger.load(), merger.counted(), merger.next_due()), (Load::default(), 0, None));
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
    assert_eq!(merger.load().keys, 8);
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
        left += advance(&mut merger, START + step * 1000).iter().map(|repeat| repeat.count).sum::<u64>();
        firsts += u64::from(merger.apply(&origin(), br#"{"image":"x"}"#) == Applied::First);
    }
    assert!((10..=11).contains(&firsts), "ten windows, one first sight each: {firsts}");
    assert_eq!(firsts + left + merger.counted(), 600);
}

#[test]
fn the_oldest_window_leaves_early_and_says_so() {
    let mut merger = Merger::new(plan_of_keys(2, 9));
    assert_eq!(advance(&mut merger, START), []);
    for (image, applied) in
        [("x", Applied::First), ("y", Applied::First), ("z", Applied::First), ("x", Applied::Repeat)]
    {
        assert_eq!(merger.apply(&origin(), format!(r#"{{"image":"{image}"}}"#).as_bytes()), applied);
    }
    let which = merger.overfull();
    assert_eq!(which.len(), 1);
    let [repeat] = merger.evict(&which[0]).collect::<Vec<_>>().try_into().unwrap();
    assert!(repeat.early && repeat.count == 1);
    assert_eq!((merger.overfull(), merger.load()), (vec![], Load::default()));
    assert_eq!(merger.evict(&which[0]).count(), 0, "an eviction of what is gone does nothing");
}

#[test]
fn windows_leave_in_the_order_of_their_ends_until_an_eighth_is_free() {
    let mut merger = Merger::new(plan_of_keys(1000, 2000));
    assert_eq!(advance(&mut merger, START), []);
    for agent in 0..1001 {
        let agent = agent.to_string();
        assert_eq!(merger.apply(&Origin::new(Some("t"), Some(&agent)), br#"{"image":"x"}"#), Applied::First);
    }
    let evicted = merger.overfull();
    let last = merger.next_due();
    assert_eq!((evicted.len() > 1, last), (true, None));
    assert_eq!(relieve(&mut merger), []);
    let left = merger.load().keys;
    assert!((800..=875).contains(&left), "{left}");
    let ends: Vec<Millis> = evicted
        .iter()
        .map(|eviction| {
            let Eviction::Window(which) = eviction else { panic!("no tenant holds too much") };
            let phase = WINDOW * u64::from(which.shard) / SHARDS as u64;
            Millis((which.window + 1) * WINDOW - phase)
        })
        .collect();
    assert!(ends.is_sorted());
    let earliest_left = merger.windows().map(|(end, _)| end).min().unwrap();
    assert!(ends.iter().all(|end| *end <= earliest_left));
}

#[test]
fn a_tenant_past_its_share_gives_way_and_nobody_else() {
    let mut merger = Merger::new(plan_of_keys(1000, 20));
    assert_eq!(advance(&mut merger, START), []);
    let quiet = Origin::new(Some("quiet"), Some("a-1"));
    for _ in 0..2 {
        let _applied = merger.apply(&quiet, br#"{"image":"x"}"#);
    }
    for number in 0..42 {
        let agent = format!("a-{}", number / 2 % 5);
        let record = format!(r#"{{"image":"{}"}}"#, number / 2);
        let _applied = merger.apply(&Origin::new(Some("noisy"), Some(&agent)), record.as_bytes());
    }
    assert_eq!(merger.overfull(), [Eviction::Tenant(Some("noisy".to_owned()))]);
    let repeats = relieve(&mut merger);
    assert!(repeats.iter().all(|repeat| repeat.tenant() == Some("noisy") && repeat.early && repeat.count == 1));
    assert_eq!((repeats.len(), merger.load().keys, merger.counted()), (21, 1, 1));
    assert_eq!(merger.overfull(), []);
    assert_eq!(merger.apply(&quiet, br#"{"image":"x"}"#), Applied::Repeat, "the quiet tenant's window is still open");
}

#[test]
fn those_who_name_no_tenant_have_a_share_like_one() {
    let mut merger = Merger::new(plan_of_keys(1000, 1));
    for image in ["1", "2"] {
        let _applied = merger.apply(&Origin::new(None, Some("a")), format!(r#"{{"image":{image}}}"#).as_bytes());
    }
    assert_eq!(merger.overfull(), [Eviction::Tenant(None)]);
    assert_eq!(relieve(&mut merger), []);
    assert_eq!(merger.load(), Load::default());
}

#[test]
fn a_flood_of_distinct_keys_stays_under_the_bounds_and_loses_no_count() {
    const GROUP: usize = 500;
    let max = Load { keys: 20_000, bytes: 6 << 20 };
    let max_tenant = Load { keys: 5_000, bytes: 3 << 20 };
    let mut merger = Merger::new(MergePlan { max, max_tenant, ..plan() });
    let (mut firsts, mut repeats, mut sent) = (0u64, 0u64, 0u64);
    let mut most = Load::default();
    for group in 0..300u64 {
        let ended = advance(&mut merger, START + group * 200);
        repeats += ended.iter().map(|repeat| repeat.count).sum::<u64>();
        let before = merger.load();
        for number in 0..GROUP as u64 {
            // Every third record repeats the one before; half of all come from one tenant.
            let (tenant, agent) = if number % 2 == 0 { (0, number / 2 % 7) } else { (1 + number % 40, number) };
            let (tenant, agent) = (format!("t-{tenant}"), format!("a-{agent}"));
            let origin = Origin::new(Some(&tenant), Some(&agent));
            let record = format!(r#"{{"image":"C:\\{group}\\{number}.exe","pid":{number}}}"#);
            for _ in 0..=u64::from(number.is_multiple_of(3)) {
                sent += 1;
                firsts += u64::from(merger.apply(&origin, record.as_bytes()) == Applied::First);
            }
        }
        most = Load { keys: most.keys.max(merger.load().keys), bytes: most.bytes.max(merger.load().bytes) };
        assert!(before.keys <= max.keys && before.bytes <= max.bytes);
        assert!(merger.load().keys <= max.keys + GROUP);
        while !merger.overfull().is_empty() {
            repeats += relieve(&mut merger).iter().map(|repeat| repeat.count).sum::<u64>();
        }
    }
    assert!(most.keys > max.keys / 2, "the flood was none: {most:?}");
    assert_eq!(firsts + repeats + merger.counted(), sent);
    repeats += merger.flush_all().map(|repeat| repeat.count).sum::<u64>();
    assert_eq!((firsts + repeats, merger.load(), merger.counted()), (sent, Load::default(), 0));
}

#[test]
fn windows_do_not_all_end_at_once() {
    let mut merger = merger_at(START);
    let mut ends = std::collections::BTreeSet::new();
    for agent in 0..500 {
        let agent = agent.to_string();
        let origin = Origin::new(Some("t"), Some(&agent));
        assert_eq!(merger.apply(&origin, br#"{"image":"x"}"#), Applied::First);
        assert_eq!(merger.apply(&origin, br#"{"image":"x"}"#), Applied::Repeat);
    }
    while let Some(due) = merger.next_due() {
        ends.insert(due);
        assert!(!advance(&mut merger, due.0).is_empty());
    }
    assert_eq!(ends.len(), SHARDS);
}

#[derive(Clone, Debug)]
enum Step {
    Record { agent: u8, image: u8 },
    Wait(u64),
    Relieve,
    Evict(u8),
    FlushAll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..6u8, 0..4u8).prop_map(|(agent, image)| Step::Record { agent, image }),
        3 => (0..30_000u64).prop_map(Step::Wait),
        1 => Just(Step::Relieve),
        1 => (0..4u8).prop_map(Step::Evict),
        1 => Just(Step::FlushAll),
    ];
    proptest::collection::vec(step, 0..200)
}

/// Tenant, agent and image.
type Key = (Option<String>, String, Vec<u8>);

#[derive(Default)]
struct Model {
    /// First and last time and count of what has been sent since a key's first sight.
    open: BTreeMap<Key, (u64, u64, u64)>,
    left: u64,
}

impl Model {
    fn apply(&mut self, merger: &mut Merger, now: u64, agent: u8, image: u8) {
        let tenant = (agent > 0).then(|| (agent % 3).to_string());
        let record = format!(r#"{{"image":"{image}"}}"#);
        let name = agent.to_string();
        let applied = merger.apply(&Origin::new(tenant.as_deref(), Some(&name)), record.as_bytes());
        let key = (tenant, name, format!("\"{image}\"").into_bytes());
        let (_, last, count) = match applied {
            Applied::First => {
                self.left += 1;
                let before = self.open.insert(key, (now, now, 0));
                assert_eq!(before.unwrap_or_default().2, 0, "a first sight while repeats of it wait");
                return;
            }
            Applied::Repeat => self.open.get_mut(&key).expect("a repeat follows a first sight"),
        };
        (*last, *count) = (now, *count + 1);
    }

    fn leave(&mut self, repeats: impl IntoIterator<Item = Repeat>) {
        for repeat in repeats {
            let image = repeat.fields().next().flatten().unwrap().to_vec();
            let key = (repeat.tenant().map(str::to_owned), repeat.agent().unwrap().to_owned(), image);
            let expected = self.open.remove(&key);
            assert_eq!(expected, Some((repeat.first_seen.0, repeat.last_seen.0, repeat.count)));
            self.left += repeat.count;
        }
    }
}

proptest! {
    #[test]
    fn every_record_leaves_once_with_its_times_and_no_window_stays_open(steps in steps()) {
        let mut merger = Merger::new(plan_of_keys(8, 5));
        let mut model = Model::default();
        let (mut now, mut sent) = (START, 0);
        for step in steps {
            model.leave(advance(&mut merger, now));
            let waits = model.open.values().filter(|(first, _, count)| *count > 0 && first + WINDOW <= now);
            prop_assert_eq!(waits.count(), 0);
            match step {
                Step::Wait(time) => now += time,
                Step::Relieve => model.leave(relieve(&mut merger)),
                Step::Evict(tenant) => {
                    let tenant = (tenant < 3).then(|| tenant.to_string());
                    model.leave(merger.evict(&Eviction::Tenant(tenant.clone())));
                    let held = model.open.iter().filter(|((name, ..), (.., count))| *name == tenant && *count > 0);
                    prop_assert_eq!(held.count(), 0);
                }
                Step::FlushAll => model.leave(merger.flush_all()),
                Step::Record { agent, image } => {
                    sent += 1;
                    model.apply(&mut merger, now, agent, image);
                }
            }
            prop_assert_eq!(model.left + merger.counted(), sent);
        }
        model.leave(advance(&mut merger, now + WINDOW));
        prop_assert_eq!((model.left, merger.load(), merger.counted()), (sent, Load::default(), 0));
    }

    #[test]
    fn no_plan_and_no_time_makes_it_panic_or_lose_a_record(
        window in number(),
        bounds in proptest::collection::vec(number(), 4),
        max_exemplars in number(),
        steps in proptest::collection::vec((number(), 0..3u8, any::<u8>()), 0..40),
    ) {
        let bound = |keys: u64, bytes| Load { keys: usize::try_from(keys).unwrap_or(usize::MAX), bytes };
        let mut merger = Merger::new(MergePlan {
            window_ms: NonZeroU64::new(window).unwrap_or(NonZeroU64::MIN),
            max: bound(bounds[0], bounds[1]),
            max_tenant: bound(bounds[2], bounds[3]),
            max_exemplars: usize::try_from(max_exemplars).unwrap_or(usize::MAX),
            ..plan()
        });
        let mut left = 0;
        let mut count = |repeats: Vec<Repeat>| left += repeats.iter().map(|repeat| repeat.count).sum::<u64>();
        let (mut firsts, mut sent) = (0, 0);
        for (time, agent, image) in steps {
            count(advance(&mut merger, time));
            let agent = agent.to_string();
            for _ in 0..2 {
                sent += 1;
                let record = format!(r#"{{"image":{image},"pid":1}}"#);
                firsts += u64::from(merger.apply(&Origin::new(None, Some(&agent)), record.as_bytes()) == Applied::First);
            }
            count(relieve(&mut merger));
            count(merger.evict(&Eviction::Window(ShardWindow { shard: image, window: time })).collect());
            let _due = merger.next_due();
        }
        count(merger.flush_all().collect());
        prop_assert_eq!((firsts + left, merger.load()), (sent, Load::default()));
    }
}

/// Numbers of which many are at an end of what there is.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..3u64, any::<u64>(), (0..3u64).prop_map(|less| u64::MAX - less), Just(START)]
}
