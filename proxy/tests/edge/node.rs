//! The node's front in this process, over a free port.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::server::configuration::ServerConf;
use tokio::sync::Semaphore;
use weir::accept::{Acceptor, Certificates, Drain, Listener};
use weir::admission::Door;
use weir::answer::{Answer, Body, Cut, Stream};
use weir::budget::Budget;
use weir::clock::Clock;
use weir::gateway::{Action, Attendance, Gateway, Parts};
use weir::metrics::Metrics;
use weir::purging::PurgeOrders;
use weir::snapshot::ConfigSnapshot;
use weir::task;
use weir::trace::Recorder;
use weir::upstream::Upstream;
use weir_config::{Config, MemoryEnvironment};
use weir_core_sim::{CoreOptions, CoreSim};
use weir_logic::{Call, Identity, Millis, Outcome};

/// A node's front and the core behind it.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) drain: Arc<Drain>,
    pub(crate) certificates: Certificates,
    pub(crate) core: CoreSim,
    pub(crate) witness: Arc<Witness>,
    /// One permit lets one request to `/v1/hold/..` go on.
    pub(crate) held: Arc<Semaphore>,
    _stop: tokio::sync::watch::Sender<bool>,
}

/// Every agent seen, with its version.
#[derive(Default)]
pub(crate) struct Witness(pub(crate) Mutex<Vec<(Identity, Option<String>)>>);

impl Attendance for Witness {
    fn seen(&self, identity: &Identity, version: Option<&str>, _now: Millis) {
        self.0.lock().unwrap().push((identity.clone(), version.map(str::to_owned)));
    }
}

/// Says what it was asked, so that a test sees what an action sees.
struct Echo {
    held: Arc<Semaphore>,
}

#[async_trait]
impl Action for Echo {
    async fn answer(&self, call: &Call<'_>) -> Answer {
        if call.request.path.starts_with("/v1/hold/") {
            self.held.acquire().await.unwrap().forget();
        }
        let mut text = format!("{:?} {} {}", call.request.method, call.route.name, call.request.path);
        write!(text, " query={:?} host={}", call.request.query, call.request.host).unwrap();
        write!(text, " agent={:?} tenant={:?}", name(&call.identity.agent), name(&call.identity.tenant)).unwrap();
        write!(text, " body={}", String::from_utf8_lossy(call.request.body)).unwrap();
        let answer = weir_logic::Answer::empty(200, Outcome::Hit);
        let answer = answer.map_body(|_| Body::Whole(Bytes::from(text)));
        match call.request.query.and_then(|query| query.strip_prefix("stream=")) {
            Some(script) => answer.map_body(|_| Body::Stream(scripted(script))),
            None => answer,
        }
    }
}

/// A stream of three pieces of four bytes: of known length or not, broken off after two or not.
fn scripted(script: &str) -> Stream {
    let pieces = [Ok(Bytes::from("one-")), Ok(Bytes::from("two-")), Ok(Bytes::from("tri."))];
    let pieces = if script.ends_with("cut") { [pieces[0].clone(), pieces[1].clone(), Err(Cut)] } else { pieces };
    Stream::new(script.starts_with("known").then_some(12), futures::stream::iter(pieces))
}

fn name(part: &Option<impl ToString>) -> String {
    part.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// The configuration of every test: `listener` and `limits` are lines of their tables.
pub(crate) fn config(core: SocketAddr, listener: &str, limits: &str) -> String {
    format!(
        r#"
        [edge]
        region = "test"
        data_dir = "/nowhere"
        [[listener]]
        name = "agents"
        address = "127.0.0.1:0"
        {listener}
        [core]
        peers = ["{core}"]
        connect_timeout = "2s"
        request_timeout = "2s"
        breaker_failures = 1000
        [identity]
        agent = ["certificate.cn", "header.x-agent-id"]
        tenant = ["certificate.o", "header.x-tenant-id"]
        [limits]
        max_header_bytes = "4 KiB"
        max_target_bytes = "1 KiB"
        max_body_bytes = "64 KiB"
        {limits}
        [presence]
        path = "/v1/presence"
        {ROUTES}
        "#
    )
}

const ROUTES: &str = r#"
        [[stream]]
        name = "process"
        mode = "raw"
        [[route]]
        name = "things"
        match = { method = "GET", path = "/v1/things/{name}" }
        class = "config"
        action = "cache"
        key = ["path.name"]
        ttl = { ok = "60s" }
        [[route]]
        name = "hold"
        match = { method = "GET", path = "/v1/hold/{name}" }
        class = "tasking"
        action = "cache"
        key = ["path.name"]
        ttl = { ok = "60s" }
        [[route]]
        name = "uploads"
        match = { method = "POST", path = "/v1/uploads" }
        class = "telemetry"
        action = "aggregate"
        stream = "process"
        [[route]]
        name = "forward"
        match = { method = ["GET", "POST", "PUT"], path = "/v1/{rest*}" }
        class = "download"
        action = "forward"
        forward = { max_body_bytes = "1 MiB" }
        [[route]]
        name = "websocket"
        match = { method = "GET", path = "/v1/ws" }
        class = "tasking"
        action = "forward"
        forward = { websocket = true }
"#;

impl Node {
    /// A plaintext node whose listener trusts headers.
    pub(crate) async fn plain() -> Self {
        Self::start("trusted_headers = true", "").await
    }

    /// A node with these lines in its listener's table and its limits.
    pub(crate) async fn start(listener: &str, limits: &str) -> Self {
        let core = CoreSim::start(CoreOptions::default()).await.unwrap();
        let text = config(core.address(), listener, limits);
        Self::with(core, &text).await
    }

    async fn with(core: CoreSim, text: &str) -> Self {
        let environment = MemoryEnvironment::new().file("/weir.toml", text);
        let config = match weir_config::parse(&environment, Path::new("/weir.toml")) {
            Ok(parsed) => parsed.config,
            Err(problems) => panic!("{problems}"),
        };
        let (metrics, clock) = (Metrics::new(), Clock::start());
        let upstream = Arc::new(Upstream::new(&config, metrics.clone(), clock).unwrap());
        let snapshot = Arc::new(ArcSwap::from_pointee(ConfigSnapshot::new(config.clone(), 1)));
        let (witness, held) = (Arc::new(Witness::default()), Arc::new(Semaphore::new(0)));
        let echo = Arc::new(Echo { held: Arc::clone(&held) });
        let purges = PurgeOrders::new(Arc::default(), Vec::new(), Arc::clone(&snapshot), metrics.clone(), clock);
        let gateway = Gateway::new(Parts {
            snapshot: Arc::clone(&snapshot),
            cache: echo.clone(),
            lookup: echo.clone(),
            aggregate: echo,
            upstream,
            changes: purges.changes(),
            recorder: Arc::new(Recorder::new("edge-1", clock)),
            attendance: Some(witness.clone()),
            door: Arc::new(Door::new(config.limits.agents.max_agents, metrics.clone(), clock.now())),
            budget: Budget::new(metrics.clone()),
            metrics: Arc::new(metrics.clone()),
            clock,
        });
        let shortcut = gateway.shortcut();
        let app = gateway.into_app(&Arc::new(ServerConf { threads: 2, max_retries: 4, ..ServerConf::default() }));
        let listener = bind(&config, &metrics, clock);
        let address = listener.address();
        let drain = Arc::new(Drain::new());
        let mut acceptor =
            Acceptor::new(vec![listener], app, shortcut, snapshot, Arc::clone(&drain), metrics.clone(), clock);
        let certificates = acceptor.certificates();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        task::spawn("acceptor", async move { acceptor.serve(stopped).await });
        Self { address, metrics, drain, certificates, core, witness, held, _stop: stop }
    }

    /// Requests of that route that ended so.
    pub(crate) fn count(&self, route: &str, outcome: &str) -> u64 {
        self.metrics.requests.with_label_values(&[route, outcome]).get()
    }

    /// Waits until `condition` holds. What it waits for happens in another task, soon, and gives no other sign.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let holds = async {
            while !condition(self) {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(20), holds).await.is_err() {
            panic!("never: {what}\n{}", self.metrics.render());
        }
    }
}

fn bind(config: &Config, metrics: &Metrics, clock: Clock) -> Listener {
    Listener::bind(&config.listeners[0], metrics, clock.now()).unwrap()
}
