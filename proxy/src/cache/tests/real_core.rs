//! The cache over real connections to a core that fails in every way it can.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir_config::{ByteSize, CacheLimits, CacheRoute, MemoryEnvironment, Method};
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointKind};
use weir_logic::{Answer, Outcome};

use super::support::{Ask, asked, cache_before, manifest, routed, text};
use crate::cache::CacheAction;
use crate::clock::{Clock, Hand};
use crate::metrics::Metrics;
use crate::upstream::Upstream;

struct Edge {
    sim: CoreSim,
    cache: Arc<CacheAction>,
    clock: Clock,
    hand: Hand,
}

impl Edge {
    async fn start() -> Self {
        let sim = CoreSim::start(CoreOptions::default()).await.unwrap();
        let text = format!(
            "[edge]\nregion = \"test\"\ndata_dir = \"/d\"\n[[listener]]\naddress = \"127.0.0.1:8080\"\n\
             [core]\npeers = [\"{}\"]\nrequest_timeout = \"300ms\"\nmax_wait = \"100ms\"\nbreaker_cooldown = \"20ms\"\n\
             [[route]]\nname = \"r\"\nmatch = {{ method = \"GET\", path = \"/{{rest*}}\" }}\nclass = \"update\"\naction = \"forward\"\n",
            sim.address()
        );
        let environment = MemoryEnvironment::new().file("/weir.toml", text);
        let config = match weir_config::parse(&environment, Path::new("/weir.toml")) {
            Ok(parsed) => parsed.config,
            Err(problems) => panic!("{problems}"),
        };
        let metrics = Metrics::new();
        let upstream = Arc::new(Upstream::new(&config, metrics.clone(), Clock::start()).unwrap());
        let limits = CacheLimits {
            max_bytes: ByteSize::mib(1),
            max_object_bytes: ByteSize::mib(1),
            max_waiters: 1_000,
            max_keys: 1_000,
            what_if_keys: 0,
        };
        let (cache, clock, hand) = cache_before(upstream, &metrics, &limits, Path::new("/nowhere"));
        Self { sim, cache, clock, hand }
    }

    async fn get(&self, headers: &[(&'static str, &str)]) -> Answer {
        self.get_on(manifest(), headers).await
    }

    async fn get_on(&self, route: CacheRoute, headers: &[(&'static str, &str)]) -> Answer {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let ask = Ask { method: Method::Get, path: "/v1/updates/stable/manifest.json", headers, ..Ask::get() };
        asked(&self.cache, &routed(route), self.clock.now(), &ask).await
    }

    fn asked(&self) -> u64 {
        self.sim.snapshot().requests
    }
}

#[tokio::test]
async fn a_manifest_is_filled_hit_confirmed_and_replaced() {
    let edge = Edge::start().await;
    let first = edge.get(&[]).await;
    assert_eq!((first.status, first.outcome), (200, Outcome::Miss));
    let tag = text(&first, "etag").to_owned();
    assert_eq!(edge.get(&[("if-none-match", &tag)]).await.status, 304);
    assert_eq!(edge.asked(), 1);
    edge.hand.advance(Duration::from_secs(100));
    let confirmed = edge.get(&[]).await;
    assert_eq!((confirmed.outcome, &confirmed.body), (Outcome::Revalidated, &first.body));
    edge.sim.bump_manifest();
    edge.hand.advance(Duration::from_secs(100));
    let replaced = edge.get(&[("if-none-match", &tag)]).await;
    assert_eq!((replaced.status, replaced.outcome), (200, Outcome::Miss));
    assert_ne!(replaced.body, first.body);
    assert_eq!(edge.asked(), 3);
}

#[tokio::test]
async fn however_the_core_fails_agents_get_what_is_stored_and_its_return_is_noticed() {
    let edge = Edge::start().await;
    let stored = edge.get(&[]).await;
    let failures = [
        Behaviour::status(500),
        Behaviour::status(401),
        Behaviour::Status { code: 429, retry_after: Some(1) },
        Behaviour::Garbage,
        Behaviour::Reset,
        Behaviour::Hang,
        Behaviour::Down,
    ];
    edge.hand.advance(Duration::from_secs(91));
    for failure in failures {
        edge.sim.script(failure.clone()).unwrap();
        for _ in 0..3 {
            let answer = edge.get(&[]).await;
            assert_eq!(
                (answer.status, answer.outcome, &answer.body),
                (200, Outcome::Stale, &stored.body),
                "{failure:?}"
            );
            edge.hand.advance(Duration::from_secs(10));
        }
    }
    edge.sim.script(Behaviour::Up).unwrap();
    edge.sim.bump_manifest();
    let back = tokio::time::timeout(Duration::from_secs(30), async {
        while edge.get(&[]).await.body == stored.body {
            edge.hand.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    });
    back.await.expect("the new manifest arrives once the breaker closes");
}

#[tokio::test]
async fn a_thousand_agents_on_a_cold_key_cost_the_core_one_request() {
    let edge = Edge::start().await;
    edge.sim.script_for(EndpointKind::Update, Behaviour::slow(Duration::from_millis(50)));
    let answers = futures::future::join_all((0..1_000).map(|_| edge.get(&[]))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(edge.asked(), 1);
}

#[tokio::test]
async fn ranges_are_cut_from_one_fill_and_a_changed_manifest_is_sent_whole() {
    let edge = Edge::start().await;
    let first = edge.get(&[("range", "bytes=0-9")]).await;
    let tag = text(&first, "etag").to_owned();
    assert_eq!((first.status, first.body.len(), first.outcome), (206, 10, Outcome::Miss));
    let whole = edge.get(&[]).await;
    assert_eq!((whole.status, &whole.body[..10]), (200, &first.body[..]));
    let length = whole.body.len();
    let rest = edge.get(&[("range", "bytes=10-"), ("if-range", &tag)]).await;
    assert_eq!((rest.status, &rest.body[..]), (206, &whole.body[10..]));
    assert_eq!(text(&rest, "content-range"), format!("bytes 10-{}/{length}", length - 1));
    assert_eq!(edge.get(&[("range", &format!("bytes={length}-"))]).await.status, 416);
    assert_eq!(edge.asked(), 1);
    edge.sim.bump_manifest();
    edge.hand.advance(Duration::from_secs(100));
    let changed = edge.get(&[("range", "bytes=10-"), ("if-range", &tag)]).await;
    assert_eq!((changed.status, changed.outcome), (200, Outcome::Miss));
}

#[tokio::test]
async fn an_obeyed_agent_has_the_manifest_confirmed_and_given_from_the_store_when_the_core_fails() {
    let edge = Edge::start().await;
    let obeying = || CacheRoute { obey_agents: true, ..manifest() };
    let first = edge.get_on(obeying(), &[]).await;
    let says = [("cache-control", "no-cache")];
    let confirmed = edge.get_on(obeying(), &says).await;
    assert_eq!((confirmed.outcome, &confirmed.body, edge.asked()), (Outcome::Revalidated, &first.body, 2));
    edge.sim.bump_manifest();
    assert_eq!(edge.get_on(obeying(), &[("cache-control", "max-age=60")]).await.outcome, Outcome::Hit);
    let anew = edge.get_on(obeying(), &says).await;
    assert_eq!((anew.outcome, edge.asked()), (Outcome::Miss, 3));
    assert_ne!(anew.body, first.body);
    edge.sim.script(Behaviour::status(500)).unwrap();
    let kept = edge.get_on(obeying(), &says).await;
    assert_eq!((kept.status, kept.outcome, &kept.body), (200, Outcome::Hit, &anew.body));
}
