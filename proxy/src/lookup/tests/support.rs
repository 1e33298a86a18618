//! A core under the test's control, and requests as the gateway would make them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use weir_config::{
    Action, ByteSize, CacheLimits, Class, CoreId, KeyPart, LookupRoute, Method, PathPattern, Ratio, Route,
};
use weir_logic::answer::Wait;
use weir_logic::{AgentId, Answer, Call, Identity, Millis, RequestView, TenantId};

use super::super::LookupAction;
use crate::clock::{Clock, Hand};
use crate::metrics::Metrics;
use crate::purging::Purging;
use crate::upstream::{Origin, OriginAnswer, OriginError, OriginRequest};

/// A core that answers as told and remembers what it was asked.
pub(super) struct TestCore {
    pub(super) script: Mutex<Box<Script>>,
    pub(super) asked: Mutex<Vec<Value>>,
    /// Requests that may be answered.
    pub(super) open: Semaphore,
    /// Whether its gate has a line.
    pub(super) crowded: AtomicBool,
}

pub(super) type Script = dyn FnMut(&Value) -> Result<OriginAnswer, OriginError> + Send;

#[async_trait]
impl Origin for TestCore {
    async fn send(&self, request: OriginRequest) -> Result<OriginAnswer, OriginError> {
        let question: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!((request.target.as_str(), &question["version"]), ("/v1/tasks:lookup", &json!(1)));
        self.asked.lock().push(question.clone());
        self.open.acquire().await.unwrap().forget();
        (self.script.lock())(&question)
    }

    fn is_crowded(&self, _core: CoreId, class: Class) -> bool {
        assert_eq!(class, Class::Tasking);
        self.crowded.load(Ordering::Relaxed)
    }
}

pub(super) struct Bench {
    pub(super) action: Arc<LookupAction>,
    pub(super) core: Arc<TestCore>,
    pub(super) metrics: Metrics,
    pub(super) purging: Arc<Purging>,
    pub(super) clock: Clock,
    pub(super) hand: Hand,
    pub(super) route: Arc<Route>,
}

impl Bench {
    pub(super) fn new(change: impl FnOnce(&mut LookupRoute)) -> Self {
        let core = Arc::new(TestCore {
            script: Mutex::new(Box::new(|_| bulk(json!([]), Some(json!({"status": 204}))))),
            asked: Mutex::new(Vec::new()),
            open: Semaphore::new(1_000_000),
            crowded: AtomicBool::new(false),
        });
        let limits = CacheLimits {
            max_bytes: ByteSize::mib(64),
            max_object_bytes: ByteSize::mib(1),
            max_waiters: 10,
            max_keys: 100_000,
            what_if_keys: 0,
        };
        let (metrics, purging, (clock, hand)) = (Metrics::new(), Arc::default(), Clock::manual(Millis(1_000_000)));
        let action = LookupAction::new(
            core.clone(),
            Arc::clone(&purging),
            Arc::default(),
            metrics.clone(),
            clock,
            "edge-1",
            &limits,
        );
        let route = route(change);
        action.adopt(&[Route::clone(&route)]);
        Self { action: Arc::new(action), core, metrics, purging, clock, hand, route }
    }

    pub(super) fn script(&self, script: impl FnMut(&Value) -> Result<OriginAnswer, OriginError> + Send + 'static) {
        *self.core.script.lock() = Box::new(script);
    }

    pub(super) async fn ask(&self, agent: &str) -> Answer {
        self.ask_with(agent, &HeaderMap::new(), Duration::ZERO).await
    }

    /// Asks as if it were `later`.
    pub(super) async fn ask_later(&self, agent: &str, later: Duration) -> Answer {
        self.ask_with(agent, &HeaderMap::new(), later).await
    }

    pub(super) async fn ask_with(&self, agent: &str, headers: &HeaderMap, later: Duration) -> Answer {
        let identity = Identity { agent: AgentId::new(agent), tenant: TenantId::new("t-1") };
        self.ask_as(&identity, None, headers, later).await
    }

    pub(super) async fn ask_as(
        &self,
        identity: &Identity,
        query: Option<&str>,
        headers: &HeaderMap,
        later: Duration,
    ) -> Answer {
        let request = RequestView { method: Method::Get, path: "/", query, host: "h", headers, body: b"" };
        let now = self.clock.now().after(later);
        self.action.answer(&Call { request, route: &self.route, parameters: &Vec::new(), identity, now }).await
    }

    pub(super) fn asked(&self) -> usize {
        self.core.asked.lock().len()
    }

    pub(super) fn waiting(&self) -> i64 {
        self.metrics.lookup_waiters.with_label_values(&["tasks"]).get()
    }

    /// Until every key that the core was asked for is answered.
    pub(super) async fn until_landed(&self) {
        let landed = || {
            let of = |result| self.metrics.lookup_keys.with_label_values(&["tasks", result]).get();
            usize::try_from(["answered", "unchanged", "failed"].map(of).iter().sum::<u64>()).unwrap()
        };
        let keys = |question: &Value| question["keys"].as_array().map_or(0, Vec::len);
        while landed() < self.core.asked.lock().iter().map(keys).sum() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn until_asked(&self, times: usize) {
        while self.asked() < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub(super) fn route(change: impl FnOnce(&mut LookupRoute)) -> Arc<Route> {
    let mut lookup = LookupRoute {
        path: "/v1/tasks:lookup".into(),
        key: vec![KeyPart::Agent],
        shared: false,
        window: Duration::from_millis(20),
        max_keys: 1_000,
        max_waiters: 20_000,
        ttl: Duration::ZERO,
        max_ttl: Duration::from_secs(3_600),
        jitter: Ratio::new(0.0).unwrap(),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        refresh_ahead: Ratio::new(0.1).unwrap(),
        refresh_window: Duration::from_millis(20),
        calm: None,
    };
    change(&mut lookup);
    Arc::new(Route {
        name: "tasks".into(),
        methods: vec![Method::Get],
        path: PathPattern { text: "/".into(), segments: Vec::new() },
        host: None,
        class: Class::Tasking,
        core: CoreId(0),
        agent_limit: None,
        action: Action::Lookup(lookup),
    })
}

#[expect(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "scripts read better")]
pub(super) fn bulk(answers: Value, others: Option<Value>) -> Result<OriginAnswer, OriginError> {
    let body = Bytes::from(json!({"answers": answers, "others": others}).to_string());
    Ok(OriginAnswer { status: StatusCode::OK, headers: HeaderMap::new(), body })
}

/// Answers every key with the agent's name.
pub(super) fn names(question: &Value) -> Result<OriginAnswer, OriginError> {
    let keys = question["keys"].as_array().unwrap();
    let answer = |key: &Value| json!({"id": key["id"], "status": 200, "etag": "\"v1\"", "ttl": 60, "body": key["key"]["identity.agent"]});
    bulk(keys.iter().map(answer).collect(), None)
}

pub(super) fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

/// The seconds for which asking again makes no sense, as the answer says.
pub(super) fn rest(answer: &Answer) -> u64 {
    match answer.wait {
        Some(Wait::AtLeast(rest)) => rest.as_secs(),
        other => panic!("{other:?}"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "names are constants")]
pub(super) fn header(answer: &Answer, name: http::HeaderName) -> &str {
    answer.header(&name).map_or("", |value| value.to_str().unwrap())
}
