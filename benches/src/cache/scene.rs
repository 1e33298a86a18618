//! The cache's own code in this process: what the composition root makes of it, in front of a core that answers from memory.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use weir::admin::{Pages, Question, Reply};
use weir::answer::Answer;
use weir::cache::{CacheAction, Packages};
use weir::clock::Clock;
use weir::metrics::Metrics;
use weir::purging::{Keeper, PurgeOrders, Purging};
use weir::snapshot::ConfigSnapshot;
use weir::upstream::{Origin, OriginAnswer, OriginError, OriginRequest};
use weir_config::{Action, MemoryEnvironment, Method, Route};
use weir_logic::{AgentId, Call, Identity, Parameters, RequestView, TenantId};

use super::Failure;
use crate::text::fill;

/// A cache, its core and its operators' page.
pub(crate) struct Scene {
    cache: Arc<CacheAction>,
    pub(super) core: Arc<Core>,
    orders: PurgeOrders,
    pub(super) metrics: Metrics,
    route: Arc<Route>,
    clock: Clock,
}

impl Scene {
    /// An empty cache of at most so many bytes, whose core answers with bodies of `body` bytes.
    pub(crate) fn new(max_bytes: u64, body: usize) -> Result<Self, Failure> {
        Self::on("config", max_bytes, body)
    }

    /// The same, asked on another route of the scene's.
    pub(super) fn on(route: &str, max_bytes: u64, body: usize) -> Result<Self, Failure> {
        let text = fill(include_str!("scene.toml"), &[("bytes", max_bytes.to_string())]);
        let file = Path::new("/scene.toml");
        let parsed = weir_config::parse(&MemoryEnvironment::new().file(file, text), file);
        let config = parsed.map_err(|problems| problems.to_string())?.config;
        let route = config.routes.iter().find(|known| known.name == route).cloned().ok_or("no such route")?;
        let vary = matches!(&route.action, Action::Cache(cached) if !cached.vary.is_empty());
        let (metrics, clock, core) = (Metrics::new(), Clock::start(), Arc::new(Core::new(body, vary)));
        let (origin, purging) = (Arc::clone(&core) as Arc<dyn Origin>, Arc::<Purging>::default());
        let limits = config.limits.cache;
        // The scene's route keeps nothing on disk.
        let packages = Packages::new(Path::new("/nowhere"), &config.limits.packages, &metrics);
        let cache =
            CacheAction::new(packages, origin, Arc::clone(&purging), Arc::default(), metrics.clone(), clock, &limits);
        let cache = Arc::new(cache);
        let keepers = vec![Arc::clone(&cache) as Arc<dyn Keeper>];
        let snapshot = Arc::new(ArcSwap::from_pointee(ConfigSnapshot::new(config, 1)));
        let orders = PurgeOrders::new(purging, keepers, snapshot, metrics.clone(), clock);
        Ok(Self { cache, core, orders, metrics, route: Arc::new(route), clock })
    }

    /// Answers a request, as the gateway would have it answered.
    pub(crate) async fn answer(&self, asker: &Asker) -> Answer {
        self.answer_to(asker, &asker.parameters()).await
    }

    /// The same to a request whose parameters someone else has.
    pub(super) async fn answer_to(&self, asker: &Asker, parameters: &Parameters<'_>) -> Answer {
        let call = Call {
            request: RequestView {
                method: Method::Get,
                path: &asker.path,
                query: None,
                host: "edge",
                headers: &asker.headers,
                body: b"",
            },
            route: &self.route,
            parameters,
            identity: &asker.identity,
            now: self.clock.now(),
        };
        match self.cache.at_once(&call) {
            Some(hit) => hit.into(),
            None => self.cache.answer(&call).await,
        }
    }

    /// Has the answers to these requests stored, each once.
    pub(crate) async fn fill(&self, askers: &mut Asker, items: std::ops::Range<u32>) -> Result<(), Failure> {
        for item in items {
            let answer = self.answer(askers.of(item)).await;
            if answer.status != 200 {
                return Err(format!("the cache answered {} to a cold request", answer.status).into());
            }
        }
        Ok(())
    }

    /// Gives an order as `POST /purge` would.
    pub(super) fn purge(&self, order: &serde_json::Value) -> Result<Reply, Failure> {
        let body = order.to_string();
        let question = Question { method: &http::Method::POST, path: "/purge", query: None, body: body.as_bytes() };
        let reply = self.orders.answer(&question).ok_or("nobody takes purges")?;
        if reply.status == StatusCode::OK { Ok(reply) } else { Err(reply.document.to_string().into()) }
    }

    /// Answers stored, and the bytes that they count as.
    pub(super) fn stored(&self) -> (u64, u64) {
        let of = |gauge: i64| u64::try_from(gauge).unwrap_or(0);
        (of(self.metrics.cache_entries.get()), of(self.metrics.cache_bytes.get()))
    }
}

/// Who asks. One of them is made over from request to request, so that what agents send does not show in the cache's memory.
pub(crate) struct Asker {
    path: String,
    identity: Identity,
    headers: HeaderMap,
    tenants: u32,
}

const PREFIX: &str = "/v1/config/";

impl Asker {
    /// Asks for items on behalf of so many tenants in turn, at least one.
    pub(crate) fn new(tenants: u32) -> Self {
        let headers =
            [("host", "edge.example.com:8443"), ("user-agent", "agent/7.1.0"), ("accept", "application/json")];
        let headers = headers
            .into_iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let identity = Identity { agent: AgentId::new("a-1"), tenant: None };
        Self { path: PREFIX.to_owned(), identity, headers: headers.collect(), tenants: tenants.max(1) }
    }

    /// Asks in this language from now on.
    pub(super) fn in_language(&mut self, language: &'static str) {
        self.headers.insert("accept-language", HeaderValue::from_static(language));
    }

    /// Asks for this item next.
    pub(crate) fn of(&mut self, item: u32) -> &Self {
        self.path.truncate(PREFIX.len());
        // Writing to a string cannot fail.
        write!(self.path, "{item:08}").ok();
        self.identity.tenant = TenantId::new(&format!("tenant-{:08}", item % self.tenants));
        self
    }

    /// What the route's parameters took.
    pub(super) fn parameters(&self) -> Parameters<'_> {
        vec![("item", &self.path[PREFIX.len()..])]
    }
}

/// A core that has one answer for everyone and can be told to wait with it.
pub(super) struct Core {
    bodies: [Bytes; 2],
    release: AtomicUsize,
    headers: HeaderMap,
    asked: watch::Sender<usize>,
    gate: Semaphore,
    answered: parking_lot::Mutex<Option<Instant>>,
}

impl Core {
    /// With `vary` its answers say that they are chosen by language.
    fn new(body: usize, vary: bool) -> Self {
        let headers = [
            ("content-type", "application/json; charset=utf-8"),
            ("etag", "\"5f2b9323c39b3ad2\""),
            ("last-modified", "Wed, 18 Nov 2026 11:02:09 GMT"),
            ("date", "Sun, 22 Nov 2026 22:51:11 GMT"),
            ("server", "core"),
            ("cache-control", "max-age=60"),
            ("surrogate-key", "release-7"),
        ];
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(name, HeaderValue::from_static(value));
        }
        if vary {
            all.insert("vary", HeaderValue::from_static("accept-language"));
        }
        let body = |letter: &str| {
            let filler = letter.repeat(body.saturating_sub(r#"{"policy":""}"#.len()));
            Bytes::from(format!(r#"{{"policy":"{filler}"}}"#))
        };
        Self {
            bodies: ["x", "y"].map(body),
            release: AtomicUsize::new(0),
            headers: all,
            asked: watch::Sender::new(0),
            gate: Semaphore::new(PASSES as usize),
            answered: parking_lot::Mutex::new(None),
        }
    }

    /// Answers with another body from now on.
    pub(super) fn release(&self) {
        self.release.store(1, Ordering::Relaxed);
    }

    /// How often it was asked.
    pub(super) fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    /// Waits until it was asked so often.
    pub(super) async fn was_asked(&self, times: usize) {
        // The sender lives as long as the core.
        self.asked.subscribe().wait_for(|asked| *asked >= times).await.ok();
    }

    /// Holds all answers back until `open`.
    pub(super) async fn close(&self) -> Result<(), Failure> {
        self.gate.acquire_many(PASSES).await?.forget();
        Ok(())
    }

    /// Lets answers go.
    pub(super) fn open(&self) {
        self.gate.add_permits(PASSES as usize);
    }

    /// When its last byte was there.
    pub(super) fn answered(&self) -> Option<Instant> {
        *self.answered.lock()
    }
}

const PASSES: u32 = 1_000;

#[async_trait]
impl Origin for Core {
    async fn send(&self, _request: OriginRequest) -> Result<OriginAnswer, OriginError> {
        self.asked.send_modify(|asked| *asked += 1);
        let _pass = self.gate.acquire().await.map_err(|_| OriginError::Broken)?;
        // As whoever reads it off the wire gives it: in memory of its own.
        let body = Bytes::copy_from_slice(&self.bodies[self.release.load(Ordering::Relaxed)]);
        *self.answered.lock() = Some(Instant::now());
        Ok(OriginAnswer { status: StatusCode::OK, headers: self.headers.clone(), body })
    }
}
