//! `POST /purge`: what an operator wants taken out of use, and what was done about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method as HttpMethod, StatusCode};
use serde::Deserialize;
use serde_json::json;
use weir_config::{Action, Method};
use weir_logic::cache::purge::{Mark, Severity, Target};
use weir_logic::cache::tags::is_tag;
use weir_logic::key::Scope;
use weir_logic::rehearse::Asked;
use weir_logic::route::Found;
use weir_logic::strict::target::Target as RequestTarget;
use weir_logic::{AgentId, CacheKey, Call, Identity, RequestView, TenantId};

use super::{Changes, Purging};
use crate::admin::{Pages, Question, Reply};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::snapshot::{ConfigSnapshot, SharedSnapshot};
use crate::trace::Recorder;

/// What keeps answers that can be purged.
pub trait Keeper: Send + Sync {
    /// How many answers are kept with this mark; all of them without one.
    fn count(&self, mark: Option<Mark>) -> usize;

    /// Gives back the memory of what has been purged; says how many answers that were. May take long.
    fn sweep(&self) -> usize;
}

/// The page that takes purges.
pub struct PurgeOrders {
    shared: Arc<Shared>,
    snapshot: SharedSnapshot,
    recorder: Option<Arc<Recorder>>,
    clock: Clock,
}

/// What purges and changes share.
pub(super) struct Shared {
    pub(super) purging: Arc<Purging>,
    keepers: Vec<Arc<dyn Keeper>>,
    pub(super) metrics: Metrics,
    /// Whether a sweep is under way.
    sweeping: AtomicBool,
}

/// An order as it is written: one of the targets, and whether it is soft.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    all: bool,
    tag: Option<String>,
    tenant: Option<String>,
    route: Option<String>,
    prefix: Option<String>,
    request: Option<Request>,
    soft: bool,
}

/// A request whose answer is meant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Request {
    method: Option<String>,
    url: String,
    tenant: Option<String>,
    agent: Option<String>,
    headers: BTreeMap<String, String>,
    body: String,
}

/// What is to be purged.
struct Meant {
    kind: &'static str,
    target: Target,
    /// The mark by which the answers are counted; `None` where counting would mean looking at each.
    counted: Counted,
    /// The request whose answer is meant, for a trace that is being recorded.
    asked: Option<Asked>,
}

enum Counted {
    All,
    By(Mark),
    One,
    Unknown,
}

impl PurgeOrders {
    /// The page for these keepers.
    pub fn new(
        purging: Arc<Purging>,
        keepers: Vec<Arc<dyn Keeper>>,
        snapshot: SharedSnapshot,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        let shared = Shared { purging, keepers, metrics, sweeping: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), snapshot, recorder: None, clock }
    }

    /// The same, which has its purges written into traces.
    #[must_use]
    pub fn recorded_by(self, recorder: Arc<Recorder>) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// Where the gateway tells of changes; answers leave the same keepers.
    pub fn changes(&self) -> Changes {
        Changes::new(Arc::clone(&self.shared), Arc::clone(&self.snapshot), self.recorder.clone(), self.clock)
    }

    fn carry_out(&self, order: &Order) -> Result<Reply, Reply> {
        let Meant { kind, target, counted, asked } = self.meant(order)?;
        let severity = if order.soft { Severity::Soft } else { Severity::Hard };
        let count = |mark| self.shared.keepers.iter().map(|keeper| keeper.count(mark)).sum::<usize>();
        // Before: what is filled from now on is not meant.
        let answers = match counted {
            Counted::All => Some(count(None)),
            Counted::By(mark) => Some(count(Some(mark))),
            Counted::One | Counted::Unknown => None,
        };
        let Some(number) = self.shared.purging.purge(target, severity, self.clock.now()) else {
            let problem = "too many purges since the last sweep of the cache; try again in a moment";
            return Err(Reply::refused(StatusCode::SERVICE_UNAVAILABLE, problem));
        };
        if let Some(recorder) = &self.recorder {
            let named = [&order.tenant, &order.route, &order.prefix, &order.tag];
            let of = named.into_iter().find_map(|name| name.as_deref());
            recorder.purged(kind, of, asked, order.soft, &self.snapshot.load().config.routes);
        }
        self.shared.metrics.cache_purges.with_label_values(&[kind]).inc();
        tracing::info!(kind, soft = order.soft, number = number.0, ?answers, "purged");
        Shared::sweep_soon(&self.shared);
        Ok(Reply::ok(json!({ "purge": number.0, "kind": kind, "soft": order.soft, "answers": answers })))
    }

    fn meant(&self, order: &Order) -> Result<Meant, Reply> {
        let named = [
            order.all,
            order.tag.is_some(),
            order.tenant.is_some(),
            order.route.is_some(),
            order.prefix.is_some(),
            order.request.is_some(),
        ];
        if named.iter().filter(|named| **named).count() != 1 {
            return Err(wrong("name one of `all`, `tag`, `tenant`, `route`, `prefix`, `request`"));
        }
        let meant = |kind, target, counted| Meant { kind, target, counted, asked: None };
        let marked = |kind, mark| meant(kind, Target::Marked(mark), Counted::By(mark));
        if let Some(tag) = &order.tag {
            return if is_tag(tag) { Ok(marked("tag", Mark::tag(tag))) } else { Err(wrong("that can be no tag")) };
        }
        if let Some(tenant) = &order.tenant {
            return Ok(marked("tenant", Mark::tenant(tenant)));
        }
        if let Some(route) = &order.route {
            self.known_route(route)?;
            return Ok(marked("route", Mark::route(route)));
        }
        if let Some(prefix) = &order.prefix {
            if !prefix.starts_with('/') || prefix.len() > MAX_PREFIX_BYTES {
                return Err(wrong("a prefix begins with `/` and is at most 4096 bytes long"));
            }
            return Ok(meant("prefix", Target::Prefix(prefix.clone()), Counted::Unknown));
        }
        if let Some(request) = &order.request {
            let (key, asked) = key_of(request, &self.snapshot.load(), self.recorder.as_deref())?;
            return Ok(Meant { asked, ..meant("request", Target::Marked(Mark::key(&key)), Counted::One) });
        }
        Ok(meant("all", Target::All, Counted::All))
    }

    fn known_route(&self, name: &str) -> Result<(), Reply> {
        let snapshot = self.snapshot.load();
        let kept = |action: &Action| matches!(action, Action::Cache(_) | Action::Lookup(_));
        let mut names = snapshot.config.routes.iter().filter(|route| kept(&route.action)).map(|route| &*route.name);
        if names.clone().any(|known| known == name) {
            return Ok(());
        }
        let known = names.by_ref().collect::<Vec<_>>().join(", ");
        Err(wrong(&format!("no route of that name keeps answers; there are: {known}")))
    }
}

impl Pages for PurgeOrders {
    fn answer(&self, question: &Question<'_>) -> Option<Reply> {
        if question.path != "/purge" {
            return None;
        }
        if *question.method != HttpMethod::POST {
            return Some(Reply::refused(StatusCode::METHOD_NOT_ALLOWED, "purges are posted"));
        }
        let order = serde_json::from_slice::<Order>(question.body).map_err(|error| wrong(&error.to_string()));
        Some(order.and_then(|order| self.carry_out(&order)).unwrap_or_else(|refused| refused))
    }
}

impl Shared {
    /// Sweeps on a thread of its own until no purge has come in meanwhile.
    pub(super) fn sweep_soon(shared: &Arc<Self>) {
        if shared.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let sweeper = Arc::clone(shared);
        let started = std::thread::Builder::new().name("cache-sweep".to_owned()).spawn(move || sweeper.sweep());
        if let Err(error) = started {
            // The answers are out of use all the same; their memory is given back as others need it.
            tracing::warn!(%error, "no thread for sweeping the cache");
            shared.sweeping.store(false, Ordering::Release);
        }
    }

    fn sweep(&self) {
        loop {
            let latest = self.purging.latest();
            let swept: usize = self.keepers.iter().map(|keeper| keeper.sweep()).sum();
            self.purging.forget(latest);
            self.metrics.cache_purged.inc_by(swept as u64);
            tracing::debug!(swept, "the cache was swept");
            self.sweeping.store(false, Ordering::Release);
            // A purge since has found a sweep under way and started none.
            if self.purging.latest() == latest || self.sweeping.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

/// The key of a request that somebody describes, and what the request asks for as a trace has it.
fn key_of(
    request: &Request,
    snapshot: &ConfigSnapshot,
    recorder: Option<&Recorder>,
) -> Result<(CacheKey, Option<Asked>), Reply> {
    let headers = headers_of(request)?;
    let host = headers.get(http::header::HOST).map_or(&b"localhost"[..], HeaderValue::as_bytes);
    let target = RequestTarget::parse(request.url.as_bytes(), host).map_err(|fault| wrong(fault.detail))?;
    let method = match request.method.as_deref() {
        None | Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        Some(_) => return Err(wrong("only answers to GET and POST are kept")),
    };
    let Found::Route { route, parameters, .. } = snapshot.table.find(method, target.host, target.path) else {
        return Err(wrong("no route takes this request"));
    };
    let (parts, shared) = match &route.action {
        Action::Cache(cached) => (&cached.key, cached.shared),
        Action::Lookup(lookup) => (&lookup.key, lookup.shared),
        Action::Aggregate(_) | Action::Forward(_) => return Err(wrong("the request's route keeps no answers")),
    };
    let identity = Identity {
        agent: request.agent.as_deref().and_then(AgentId::new),
        tenant: request.tenant.as_deref().and_then(TenantId::new),
    };
    let view = RequestView {
        method,
        path: target.path,
        query: target.query,
        host: target.host,
        headers: &headers,
        body: request.body.as_bytes(),
    };
    let call = Call { request: view, route, parameters: &parameters, identity: &identity, now: Default::default() };
    let key = CacheKey::of(parts, Scope::of(shared), &call).map_err(|error| wrong(error.detail()))?;
    Ok((key, recorder.and_then(|recorder| recorder.asked(&call))))
}

fn headers_of(request: &Request) -> Result<HeaderMap, Reply> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) else {
            return Err(wrong(&format!("header `{name}`: forbidden characters")));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

fn wrong(problem: &str) -> Reply {
    Reply::refused(StatusCode::BAD_REQUEST, problem)
}

const MAX_PREFIX_BYTES: usize = 4096;
