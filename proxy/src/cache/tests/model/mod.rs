//! The whole cache beside a naive one: the same requests, the same moods of the core, the same purges and the same clock; then the
//! same answers, and the same questions to the core.

mod core;
mod naive;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use weir_config::{ByteSize, CacheLimits, FreshnessMode};
use weir_logic::cache::purge::{Mark, Severity, Target};
use weir_logic::{Answer, Outcome};

use self::core::{CONTROLS, Kind, Mood, Question, Tag, route};
use self::naive::{Agent, Draw, Given, Naive, Stored};
use super::support::{Ask, World, routed, text};
use crate::cache::entry::Entry;
use crate::purging::Keeper;

#[derive(Clone, Debug)]
enum Step {
    /// One of the case's agents asks, and the core is in one of the case's moods.
    Request(usize, usize),
    Pass(u64),
    /// The core's content changes.
    Publish,
    Purge {
        tag: Option<&'static str>,
        hard: bool,
    },
    Reload(FreshnessMode, bool),
}

/// The cache and the model, side by side.
struct Pair {
    world: World,
    naive: Naive,
    mood: Arc<Mutex<(Mood, usize)>>,
    evicts: bool,
}

impl Pair {
    fn new(mode: FreshnessMode, obeys: bool, evicts: bool) -> Self {
        let mood = Arc::new(Mutex::new((QUIET, 0)));
        let told = Arc::clone(&mood);
        let limits = CacheLimits {
            max_bytes: ByteSize::mib(64),
            max_object_bytes: ByteSize::mib(1),
            max_waiters: 10,
            max_keys: if evicts { 3 } else { 100 },
            what_if_keys: 0,
        };
        let world = World::within(limits, route(mode, obeys), move |request, _| {
            let (mood, version) = *told.lock();
            mood.says(version, &Question::of(request)).reply()
        });
        Self { world, naive: Naive::new(mode, obeys), mood, evicts }
    }

    async fn step(&mut self, step: &Step, agents: &[Agent], moods: &[Mood]) {
        match step {
            Step::Request(agent, mood) => self.request(&agents[agent % agents.len()], &moods[mood % moods.len()]).await,
            Step::Pass(time) => self.world.hand.advance(Duration::from_millis(*time)),
            Step::Publish => self.naive.version += 1,
            Step::Purge { tag, hard } => {
                let target = tag.map_or(Target::All, |tag| Target::Marked(Mark::tag(tag)));
                let severity = if *hard { Severity::Hard } else { Severity::Soft };
                let now = self.world.clock.now();
                self.world.cache.shell.purging.purge(target, severity, now).unwrap();
                self.world.cache.sweep();
                self.naive.purge(*tag, *hard, now.0);
            }
            Step::Reload(mode, obeys) => {
                self.world.route = routed(route(*mode, *obeys));
                (self.naive.mode, self.naive.obeys) = (*mode, *obeys);
            }
        }
    }

    async fn request(&mut self, agent: &Agent, mood: &Mood) {
        self.forget_what_was_evicted();
        *self.mood.lock() = (*mood, self.naive.version);
        let before = self.world.core.count();
        let given = self.world.ask(&ask(agent)).await;
        self.world.settle().await;
        let given = (seen(&given), self.world.core.requests()[before..].iter().map(Question::of).collect::<Vec<_>>());
        let now = self.world.clock.now().0;
        let mut expected = Vec::new();
        for draw in [Draw::Long, Draw::Short] {
            let mut naive = self.naive.clone();
            let answer = naive.answer(agent, now, mood, draw);
            let asked = naive.asked.split_off(before);
            if (&answer, &asked) == (&given.0, &given.1) {
                naive.asked = self.naive.asked.iter().cloned().chain(asked).collect();
                self.naive = naive;
                return;
            }
            expected.push((answer, asked));
        }
        panic!(
            "{agent:?} at {now} with {mood:?}\ngot      {given:?}\nexpected {expected:?}\nstored   {:#?}",
            self.naive.stored
        );
    }

    /// Where there is no room for everything, the model is told what has left.
    fn forget_what_was_evicted(&mut self) {
        let kept = self.world.cache.shell.store.all();
        let known = self.naive.stored.len();
        self.naive.stored.retain(|stored| kept.iter().any(|entry| is_same(stored, entry)));
        assert_eq!(self.naive.stored.len(), kept.len(), "{kept:#?}");
        assert!(self.evicts || known == kept.len(), "something has left: {kept:#?}");
        assert_eq!(self.world.metrics.cache_entries.get(), i64::try_from(kept.len()).unwrap());
    }
}

fn is_same(stored: &Stored, entry: &Entry) -> bool {
    let chosen = entry.selection().readable();
    let chosen = chosen.iter().map(|(name, value)| (name.as_ref(), value.as_deref()));
    entry.body() == stored.answered.body.as_bytes() && chosen.eq(stored.chosen.iter().copied())
}

fn ask(agent: &Agent) -> Ask {
    let fields = [
        ("accept-language", agent.language),
        ("accept-encoding", agent.encoding),
        ("cache-control", Some(agent.control).filter(|control| !control.is_empty())),
        ("if-none-match", agent.holds.as_deref()),
    ];
    let ask = Ask::get().query(&format!("os={}", agent.os));
    fields.into_iter().fold(ask, |ask, (name, value)| value.map_or(ask.clone(), |value| ask.with(name, value)))
}

/// What an agent sees of an answer.
fn seen(answer: &Answer) -> Given {
    let own = answer.headers.iter().any(|(name, _)| name == "weir-refusal");
    Given {
        status: answer.status,
        body: (!own).then(|| String::from_utf8(answer.body.to_vec()).unwrap()),
        age: text(answer, "age").parse().ok(),
        outcome: Some(answer.outcome).filter(|outcome| !own && *outcome != Outcome::Refused),
    }
}

const QUIET: Mood =
    Mood { kind: Kind::Good(200), control: 0, age: 0, vary: None, tag: Tag::None, encoded: false, surrogate: None };

fn mood() -> impl Strategy<Value = Mood> {
    let kind = prop_oneof![
        8 => Just(Kind::Good(200)),
        1 => prop::sample::select(vec![201, 301, 302, 404]).prop_map(Kind::Good),
        1 => prop::sample::select(vec![400, 401, 500]).prop_map(Kind::Fault),
        1 => prop::sample::select(vec![Kind::Unchanged, Kind::Half, Kind::Timeout, Kind::Broken]),
    ];
    let vary = prop::sample::select(vec![
        None,
        Some("Accept-Language"),
        Some("Accept-Language"),
        Some("accept-encoding"),
        Some("x, Accept-Language ,Accept-Encoding"),
        Some("*"),
    ]);
    let tag = prop::sample::select(vec![Tag::None, Tag::Strong, Tag::Strong, Tag::Weak]);
    let surrogate = prop::sample::select(vec![None, Some("red"), Some("blue")]);
    let control = prop_oneof![Just(0), 0..CONTROLS.len()];
    let age = prop_oneof![3 => Just(0_u64), 1 => 1_u64..20];
    (kind, control, age, vary, tag, prop::bool::weighted(0.2), surrogate).prop_map(
        |(kind, control, age, vary, tag, encoded, surrogate)| Mood {
            kind,
            control,
            age,
            vary,
            tag,
            encoded,
            surrogate,
        },
    )
}

fn agent() -> impl Strategy<Value = Agent> {
    let language = prop::sample::select(vec![None, Some("de"), Some("DE"), Some("de-ch"), Some("en"), Some("")]);
    let encoding = prop::sample::select(vec![None, None, Some("br, gzip"), Some("gzip,br"), Some("gzip")]);
    let control = prop::sample::select(vec![
        "",
        "",
        "",
        "no-cache",
        "no-store",
        "only-if-cached",
        "max-age=3",
        "min-fresh=5",
        "max-stale",
        "max-stale=4",
    ]);
    let holds = prop::sample::select(vec![None, None, Some("*".to_owned()), Some("\"a.0.de.-\"".to_owned())]);
    let os = prop::sample::select(vec!["a", "a", "a", "b"]);
    (os, language, encoding, control, holds).prop_map(|(os, language, encoding, control, holds)| Agent {
        os,
        language,
        encoding,
        control,
        holds,
    })
}

fn mode() -> impl Strategy<Value = FreshnessMode> {
    prop::sample::select(vec![FreshnessMode::Override, FreshnessMode::Clamp, FreshnessMode::Honor])
}

fn step() -> impl Strategy<Value = Step> {
    // Quarters of seconds, so that ends of lifetimes are met exactly; often the ends themselves.
    let time = prop_oneof![
        (0_u64..8).prop_map(|quarters| quarters * 250),
        prop::sample::select(vec![5_000, 10_000, 15_000, 30_000, 59_750, 60_000, 90_000, 300_000, 360_000]),
    ];
    prop_oneof![
        12 => (any::<usize>(), any::<usize>()).prop_map(|(agent, mood)| Step::Request(agent, mood)),
        6 => time.prop_map(Step::Pass),
        1 => Just(Step::Publish),
        1 => (prop::sample::select(vec![None, Some("red"), Some("blue")]), any::<bool>())
            .prop_map(|(tag, hard)| Step::Purge { tag, hard }),
        1 => (mode(), any::<bool>()).prop_map(|(mode, obeys)| Step::Reload(mode, obeys)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn the_cache_answers_and_asks_as_the_naive_one_does(
        mode in mode(),
        obeys in any::<bool>(),
        evicts in prop::bool::weighted(0.3),
        // Few of each, so that they meet often.
        agents in prop::collection::vec(agent(), 1..6),
        moods in prop::collection::vec(mood(), 1..5),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new(mode, obeys, evicts);
            for step in &steps {
                pair.step(step, &agents, &moods).await;
            }
        });
    }
}
