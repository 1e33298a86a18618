//! A cache in front of a scripted core, on a clock that the test moves.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};
use weir_config::{
    Action, ByteSize, CacheLimits, CacheRoute, Calm, Class, CoreId, FreshnessMode, KeyPart, Method, PackageLimits,
    PathPattern, Ratio, Route, Segment, StatusTtl,
};
use weir_logic::cache::{Asking, CACHE_STATUS, Selection};
use weir_logic::key::Scope;
use weir_logic::{AgentId, Answer, CacheKey, Call, Identity, Millis, RequestView, TenantId};

use crate::answer::Body;
use crate::cache::shelf::Found;
use crate::cache::visit::Visit;
use crate::cache::{CacheAction, Packages};
use crate::clock::{Clock, Hand};
use crate::metrics::Metrics;
use crate::upstream::{Origin, OriginAnswer, OriginError, OriginRequest};

/// What the scripted core does with the request of that number, counted from one.
pub(in crate::cache) type Reply = Result<OriginAnswer, OriginError>;
type Script = Box<dyn Fn(&OriginRequest, usize) -> Reply + Send + Sync>;

/// A core that answers by script and remembers what it was asked.
pub(super) struct ScriptedCore {
    script: Mutex<Script>,
    asked: Mutex<Vec<OriginRequest>>,
    count: watch::Sender<usize>,
    gate: Semaphore,
    /// Passes that let one answer through each.
    single: AtomicUsize,
    flying: DashMap<String, usize>,
    most_for_one_target: AtomicUsize,
}

/// A request that the core is working on.
struct Flying<'a>(&'a ScriptedCore, String);

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        *self.0.flying.entry(self.1.clone()).or_default() -= 1;
    }
}

#[async_trait]
impl Origin for ScriptedCore {
    async fn send(&self, request: OriginRequest) -> Result<OriginAnswer, OriginError> {
        let number = {
            let mut asked = self.asked.lock();
            asked.push(request.clone());
            asked.len()
        };
        let _flying = self.take_off(&request);
        self.count.send_replace(number);
        tokio::task::yield_now().await;
        let pass = self.gate.acquire().await.expect("the gate is never closed for good");
        if self.single.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            pass.forget();
        }
        (self.script.lock())(&request, number)
    }
}

impl ScriptedCore {
    fn take_off(&self, request: &OriginRequest) -> Flying<'_> {
        let mut flying = self.flying.entry(request.target.clone()).or_default();
        *flying += 1;
        self.most_for_one_target.fetch_max(*flying, Ordering::SeqCst);
        Flying(self, request.target.clone())
    }

    /// The most requests for one target that were ever worked on at once.
    pub(super) fn most_for_one_target(&self) -> usize {
        self.most_for_one_target.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> Vec<OriginRequest> {
        self.asked.lock().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.asked.lock().len()
    }

    pub(super) fn now_does(&self, script: impl Fn(&OriginRequest, usize) -> Reply + Send + Sync + 'static) {
        *self.script.lock() = Box::new(script);
    }

    /// Holds all answers back until `open`.
    pub(super) async fn close(&self) {
        self.gate.acquire_many(PASSES).await.expect("the gate is never closed for good").forget();
    }

    /// Lets one answer through.
    pub(super) fn let_one_through(&self) {
        self.single.fetch_add(1, Ordering::SeqCst);
        self.gate.add_permits(1);
    }

    pub(super) fn open(&self) {
        self.gate.add_permits(PASSES as usize);
    }

    pub(super) async fn asked(&self, times: usize) {
        self.count.subscribe().wait_for(|count| *count >= times).await.expect("the sender lives as long as the core");
    }
}

const PASSES: u32 = 100_000;

/// A cache, its core and its clock.
pub(super) struct World {
    pub(super) cache: Arc<CacheAction>,
    pub(super) core: Arc<ScriptedCore>,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    pub(super) hand: Hand,
    pub(super) route: Arc<Route>,
    /// For routes that keep answers on disk.
    _disk: TempDir,
}

/// A request as tests write it.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) query: Option<String>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
    pub(super) tenant: String,
    pub(super) agent: String,
}

impl World {
    pub(super) fn new(
        route: CacheRoute,
        script: impl Fn(&OriginRequest, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let limits = CacheLimits {
            max_bytes: ByteSize::mib(64),
            max_object_bytes: ByteSize::mib(1),
            max_waiters: 100_000,
            max_keys: 10_000,
            what_if_keys: 0,
        };
        Self::within(limits, route, script)
    }

    pub(super) fn within(
        limits: CacheLimits,
        route: CacheRoute,
        script: impl Fn(&OriginRequest, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let core = Arc::new(ScriptedCore {
            script: Mutex::new(Box::new(script)),
            asked: Mutex::new(Vec::new()),
            count: watch::Sender::new(0),
            gate: Semaphore::new(PASSES as usize),
            single: AtomicUsize::new(0),
            flying: DashMap::new(),
            most_for_one_target: AtomicUsize::new(0),
        });
        let metrics = Metrics::new();
        let origin: Arc<dyn Origin> = Arc::clone(&core) as _;
        let disk = tempfile::tempdir().expect("a directory for the test");
        let (cache, clock, hand) = cache_before(origin, &metrics, &limits, disk.path());
        Self { cache, core, metrics, clock, hand, route: routed(route), _disk: disk }
    }

    /// The same world after a reload.
    pub(super) fn reloaded(self, route: CacheRoute) -> Self {
        Self { route: routed(route), ..self }
    }

    pub(super) async fn ask(&self, ask: &Ask) -> Answer {
        asked(&self.cache, &self.route, self.clock.now(), ask).await
    }

    pub(super) async fn get(&self) -> Answer {
        self.ask(&Ask::get()).await
    }

    /// A request that looked at the store before anything was there, and goes on now.
    pub(super) async fn get_after_a_late_look(&self) -> Answer {
        let Action::Cache(route) = &self.route.action else { panic!("a cached route") };
        called(&self.route, self.clock.now(), &Ask::get(), async |call| {
            let key = CacheKey::of(&route.key, Scope::of(route.shared), call).unwrap();
            let (lane, found, asking) = (Cow::Borrowed(&key), Found::Nothing, Asking::default());
            let selection = Selection::default();
            let visit = Visit { shell: &self.cache.shell, call, route, key: &key, selection, lane, found, asking };
            gathered(visit.wait().await).await
        })
        .await
    }

    /// The same request from `agents` agents at once, each in a task of its own.
    pub(super) fn crowd(&self, agents: usize) -> Vec<tokio::task::JoinHandle<Option<Answer>>> {
        let one = || {
            let (cache, route, now) = (Arc::clone(&self.cache), Arc::clone(&self.route), self.clock.now());
            crate::task::spawn("agent", async move { asked(&cache, &route, now, &Ask::get()).await })
        };
        (0..agents).map(|_| one()).collect()
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.hand.advance(Duration::from_secs(seconds));
    }

    /// Waits for the fills that run behind agents' backs.
    pub(super) async fn settle(&self) {
        while !self.cache.shell.flights.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn fills(&self, result: &str) -> u64 {
        self.metrics.cache_fills.with_label_values(&["r", result]).get()
    }
}

pub(super) async fn asked(cache: &CacheAction, route: &Arc<Route>, now: Millis, ask: &Ask) -> Answer {
    called(route, now, ask, async |call| {
        // Whoever watches requests would see it twice.
        let is_watched = cache.shell.what_if.known(&route.name, now).is_some();
        let at_once = if is_watched { None } else { cache.at_once(call) };
        let answer = gathered(cache.answer(call).await).await;
        if let Some(hit) = at_once {
            let hit = gathered(hit.into()).await;
            assert_eq!(format!("{hit:?}"), format!("{answer:?}"), "there are two answers to one request");
        }
        answer
    })
    .await
}

pub(super) async fn called<T>(route: &Arc<Route>, now: Millis, ask: &Ask, then: impl AsyncFnOnce(&Call<'_>) -> T) -> T {
    let headers: HeaderMap = ask
        .headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    let identity = Identity { agent: AgentId::new(&ask.agent), tenant: TenantId::new(&ask.tenant) };
    let call = Call {
        request: RequestView {
            method: ask.method,
            path: ask.path,
            query: ask.query.as_deref(),
            host: "edge",
            headers: &headers,
            body: ask.body.as_bytes(),
        },
        route,
        parameters: &Vec::new(),
        identity: &identity,
        now,
    };
    then(&call).await
}

/// The answer with all of its body.
pub(super) async fn gathered(mut answer: crate::answer::Answer) -> Answer {
    let body = std::mem::replace(&mut answer.body, Body::Whole(Bytes::new()));
    let body = body.gather().await.expect("the body broke off");
    answer.map_body(|_| body)
}

/// A cache on a clock that stands still.
pub(super) fn cache_before(
    origin: Arc<dyn Origin>,
    metrics: &Metrics,
    limits: &CacheLimits,
    disk: &Path,
) -> (Arc<CacheAction>, Clock, Hand) {
    let (clock, hand) = Clock::manual(Millis(1_700_000_000_000));
    let packages = Packages::new(disk, &package_limits(), metrics);
    let cache = CacheAction::new(packages, origin, Arc::default(), Arc::default(), metrics.clone(), clock, limits);
    (Arc::new(cache), clock, hand)
}

/// 64 MiB on disk, 16 MiB for one body.
pub(super) fn package_limits() -> PackageLimits {
    PackageLimits {
        max_bytes: ByteSize::mib(64),
        max_object_bytes: ByteSize::mib(16),
        max_objects: 100,
        max_read_bytes: ByteSize::mib(1),
        max_fill_time: Duration::from_secs(600),
    }
}

impl Ask {
    pub(super) fn get() -> Self {
        Self {
            method: Method::Get,
            path: "/v1/manifest",
            query: None,
            headers: vec![],
            body: String::new(),
            tenant: "t-1".into(),
            agent: "a-1".into(),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn query(self, query: &str) -> Self {
        Self { query: Some(query.into()), ..self }
    }
}

/// A shared route: fresh for 60 s, 404 for 5 s, stale for 30 s while it is revalidated and for 300 s while the core fails.
pub(super) fn manifest() -> CacheRoute {
    CacheRoute {
        vary: Vec::new(),
        max_variants: 8,
        key: vec![KeyPart::Query("os".into())],
        shared: true,
        freshness: FreshnessMode::Override,
        ttl: StatusTtl { ok: Duration::from_secs(60), redirect: Duration::ZERO, not_found: Duration::from_secs(5) },
        min_ttl: Duration::ZERO,
        max_ttl: Duration::from_secs(86_400),
        jitter: Ratio::default(),
        stale_while_revalidate: Duration::from_secs(30),
        stale_if_error: Duration::from_secs(300),
        calm: None,
        obey_agents: false,
        max_body_bytes: ByteSize::kib(64),
        etag: None,
        payload: None,
        rollout: None,
        store: weir_config::AnswerStore::Memory,
        max_bytes_per_second: ByteSize::default(),
    }
}

pub(super) fn calm() -> Calm {
    Calm { status: 204, body: String::new(), content_type: String::new(), retry_after: Some(Duration::from_secs(60)) }
}

pub(super) fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    Ok(OriginAnswer { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::from(body.to_owned()) })
}

pub(super) fn ok(body: &str) -> Reply {
    reply(200, &[("content-type", "text/plain"), ("etag", "\"v1\"")], body)
}

pub(super) fn cache_status(answer: &Answer) -> &str {
    text(answer, CACHE_STATUS.as_str())
}

pub(super) fn text<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let name: HeaderName = name.parse().unwrap();
    answer.header(&name).map_or("", |value| value.to_str().unwrap())
}

pub(super) fn routed(route: CacheRoute) -> Arc<Route> {
    Arc::new(Route {
        name: "r".into(),
        methods: vec![Method::Get, Method::Post],
        path: PathPattern { text: "/v1/manifest".into(), segments: vec![Segment::Literal("v1".into())] },
        host: None,
        class: Class::Update,
        core: CoreId(0),
        agent_limit: None,
        action: Action::Cache(route),
    })
}

/// A key that nothing but its name tells from another.
pub(crate) fn key_named(name: &str) -> CacheKey {
    let identity = Identity::default();
    let headers = HeaderMap::new();
    let query = format!("os={name}");
    let call = Call {
        request: RequestView {
            method: Method::Get,
            path: "/",
            query: Some(&query),
            host: "edge",
            headers: &headers,
            body: b"",
        },
        route: &routed(manifest()),
        parameters: &Vec::new(),
        identity: &identity,
        now: Millis(0),
    };
    CacheKey::of(&[KeyPart::Query("os".into())], Scope::Shared, &call).unwrap()
}
