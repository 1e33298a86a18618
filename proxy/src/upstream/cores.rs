//! One origin over all cores: enter the gate, pick a machine, exchange, tell the gate what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures::future::join_all;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use serde::Serialize;
use tokio::sync::watch;
use weir_config::{Class, Config, CoreId, Protocol};
use weir_logic::gate::BreakerState;

use super::dial::{DialError, Dialer, host};
use super::exchange::head;
use super::flows::flows;
use super::judge::{is_well, judge, status_label};
use super::opened::{Exchanged, Opened, Transfer};
use super::peers::{PeerState, Peers, Series, Target};
use super::permit::ForwardPermit;
use super::turnstile::{CLASSES, Turnstile};
use super::{Origin, OriginAnswer, OriginError, OriginRequest, OriginStream, Patience, Rank, Sending, health};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// The cores of the configuration. Memory: for each request in flight its body and at most `max_answer_bytes` of its answer; for
/// each request in line a few hundred bytes; idle connections up to `max_in_flight` a core.
pub struct Upstream {
    cores: ArcSwap<Vec<Arc<Core>>>,
    metrics: Metrics,
    clock: Clock,
    generation: watch::Sender<u64>,
}

/// One core: its gate, its machines, and how to reach them.
pub(super) struct Core {
    name: String,
    settings: ArcSwap<Settings>,
    pub(super) peers: Peers,
    turnstile: Arc<Turnstile>,
    clock: Clock,
    /// Tells connections that must be new from those in the pool.
    fresh: AtomicU64,
}

/// The machine that a forwarded request was given to.
pub struct Machine {
    core: Arc<Core>,
    state: Arc<PeerState>,
}

impl Machine {
    pub(super) fn note_request(&self, good: bool) {
        self.core.note_request(&self.state, good);
    }
}

/// What a reload replaces.
pub(super) struct Settings {
    pub(super) core: weir_config::Core,
    pub(super) dialer: Arc<Dialer>,
}

/// A core as operators see it, in `/status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CoreStatus {
    /// The core's name.
    pub name: String,
    /// `closed`, `half_open` or `open`.
    pub breaker: &'static str,
    /// Requests in flight.
    pub in_flight: usize,
    /// Requests that may be in flight.
    pub limit: usize,
    /// Requests waiting at the gate.
    pub waiting: usize,
    /// The same by class; classes of which nobody waits are left out.
    pub waiting_by_class: BTreeMap<&'static str, usize>,
    /// Times that the limit was cut, by cause.
    pub cuts: BTreeMap<&'static str, u64>,
    /// Requests a second that the gate admits now.
    pub admitted_per_second: f64,
    /// Its machines.
    pub peers: Vec<PeerStatus>,
}

/// A core's machine as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// `host:port`.
    pub peer: String,
    /// What the health checks say; true where there are none.
    pub healthy: bool,
    /// Whether it is left out for a time, because requests to it have failed.
    pub left_out: bool,
}

impl Upstream {
    /// All cores of `config`, gates open. Reads the TLS files; opens no connection.
    pub fn new(config: &Config, metrics: Metrics, clock: Clock) -> Result<Self, DialError> {
        let cores = config.cores.iter().zip(flows(config));
        let cores = cores.map(|(core, flows)| Core::new(core, &flows, &metrics, clock)).collect::<Result<_, _>>()?;
        let cores = ArcSwap::from_pointee(cores);
        Ok(Self { cores, metrics, clock, generation: watch::Sender::new(0) })
    }

    /// Takes over new limits, peers, timeouts and TLS files, whole or not at all. Gates keep what they know and pools their
    /// connections, unless TLS has changed. Cores may be added or taken away at the end of the list; a core that has changed its
    /// place or name is refused, since requests under way know cores by their place.
    pub fn reconfigure(&self, config: &Config) -> Result<(), DialError> {
        let old = self.cores.load_full();
        for (core, new) in old.iter().zip(&config.cores) {
            if core.name != new.name {
                let problem = format!(
                    "{:?} stands in the place of {:?}: renamed or moved, which needs a restart",
                    new.name, core.name
                );
                return Err(DialError { core: new.name.clone(), problem });
            }
        }
        let prepared: Vec<_> =
            config.cores.iter().zip(&**old).map(|(new, core)| core.prepare(new)).collect::<Result<_, _>>()?;
        let flows = flows(config);
        let added = config.cores.iter().zip(&flows).skip(old.len());
        let added = added.map(|(core, flows)| Core::new(core, flows, &self.metrics, self.clock));
        let added: Vec<_> = added.collect::<Result<_, _>>()?;
        let mut cores: Vec<_> = old.iter().take(prepared.len()).cloned().collect();
        for ((core, settings), flows) in cores.iter().zip(prepared).zip(&flows) {
            core.apply(settings, flows);
        }
        cores.extend(added);
        self.cores.store(Arc::new(cores));
        self.generation.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Checks the health of all cores' machines, each core on its own, until the future is dropped. Follows reloads.
    pub async fn check_health(&self) {
        let mut generation = self.generation.subscribe();
        loop {
            let cores = self.cores.load_full();
            let checks = join_all(cores.iter().map(|core| health::check_for_ever(Arc::clone(core), self.clock)));
            let changed = async {
                checks.await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = changed => {}
                result = generation.changed() => if result.is_err() { return },
            }
        }
    }

    /// How each core does.
    pub fn status(&self) -> Vec<CoreStatus> {
        self.cores.load().iter().map(|core| core.status()).collect()
    }

    /// The time until a request of `class` that comes now is let through to a core, by how many wait, the pace and its ramp, and
    /// how soon the core answers: the least that is worth telling somebody to stay away. For a breaker that is not closed, see
    /// [`CoreStatus::breaker`].
    pub fn time_through(&self, core: CoreId, class: Class) -> Option<Duration> {
        self.core(core).ok().map(|core| core.turnstile.time_through(class))
    }

    /// Passes the gate for a request that is forwarded, waiting in line for at most the core's `max_wait`.
    pub async fn forward_permit(
        &self,
        core: CoreId,
        class: Class,
        label: &Arc<str>,
    ) -> Result<ForwardPermit, OriginError> {
        let core = self.core(core)?;
        self.permit(&core, Rank::Class(class), label, (Patience::Whole, Sending::First)).await
    }

    async fn permit(
        &self,
        core: &Core,
        rank: Rank,
        label: &Arc<str>,
        (patience, sending): (Patience, Sending),
    ) -> Result<ForwardPermit, OriginError> {
        let permit = core.turnstile.enter(rank, label, patience, sending).await?;
        Ok(ForwardPermit::new(permit, core.name.clone(), Arc::clone(label), self.metrics.clone(), self.clock))
    }

    /// A machine for a request that is forwarded, with timeouts, protocol and TLS set, and the `Host` that it wants to
    /// see: the healthy ones in turn. `None` when no address is known for any of them. Waits for the name's resolution
    /// where it is not known yet.
    pub async fn peer(&self, core: CoreId) -> Option<(HttpPeer, String, Machine)> {
        let core = self.core(core).ok()?;
        let settings = core.settings();
        let target = core.peers.targets(settings.core.connect_timeout).await.into_iter().next()?;
        let (peer, host) = (settings.dialer.forward_peer(&settings.core, &target), host(&settings.core, &target));
        Some((peer, host, Machine { core, state: target.state }))
    }

    fn core(&self, id: CoreId) -> Result<Arc<Core>, OriginError> {
        self.cores.load().get(id.0).cloned().ok_or(OriginError::Connect)
    }

    fn count(&self, core: &Core, label: &str, result: &'static str, latency: Duration) {
        self.metrics.core_requests.with_label_values(&[core.name.as_str(), label, result]).inc();
        self.metrics.core_duration.with_label_values(&[core.name.as_str()]).observe(latency.as_secs_f64());
    }
}

#[async_trait]
impl Origin for Upstream {
    async fn send(&self, request: OriginRequest) -> Result<OriginAnswer, OriginError> {
        let core = self.core(request.core)?;
        let permit = core.turnstile.enter(request.rank, &request.label, request.patience, request.sending).await?;
        let started = self.clock.elapsed();
        let result = core.fetch(&request).await;
        let latency = self.clock.elapsed().saturating_sub(started);
        permit.finish(judge(&result, self.clock));
        let label = match &result {
            Ok(exchanged) => status_label(exchanged.answer.status),
            Err(error) => error.label(),
        };
        self.count(&core, &request.label, label, latency);
        result.map(|exchanged| exchanged.answer)
    }

    async fn open(&self, request: OriginRequest) -> Result<OriginStream, OriginError> {
        let core = self.core(request.core)?;
        let permit = self.permit(&core, request.rank, &request.label, (request.patience, request.sending)).await?;
        let patience = core.settings().core.request_timeout;
        match core.open(&request).await {
            Ok(opened) => Ok(Transfer::new(opened, permit, patience, request.max_answer_bytes).into_stream()),
            Err(error) => {
                permit.failed(error);
                Err(error)
            }
        }
    }

    fn is_crowded(&self, core: CoreId, class: Class) -> bool {
        self.core(core).is_ok_and(|core| core.turnstile.is_crowded(class))
    }
}

impl Core {
    fn new(core: &weir_config::Core, flows: &[&str], metrics: &Metrics, clock: Clock) -> Result<Arc<Self>, DialError> {
        let series = Series {
            healthy: metrics.core_peers_healthy.with_label_values(&[core.name.as_str()]),
            ejections: metrics.core_ejections.with_label_values(&[core.name.as_str()]),
        };
        Ok(Arc::new(Self {
            name: core.name.clone(),
            settings: ArcSwap::from_pointee(Settings { core: core.clone(), dialer: Arc::new(Dialer::new(core)?) }),
            peers: Peers::new(&core.peers, series, clock),
            turnstile: Turnstile::new(core, flows, metrics, clock),
            clock,
            fresh: AtomicU64::new(0),
        }))
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    fn prepare(&self, new: &weir_config::Core) -> Result<Settings, DialError> {
        let settings = self.settings();
        let dialer =
            if settings.dialer.serves(new) { Arc::clone(&settings.dialer) } else { Arc::new(Dialer::new(new)?) };
        Ok(Settings { core: new.clone(), dialer })
    }

    fn apply(&self, settings: Settings, flows: &[&str]) {
        self.peers.reconfigure(&settings.core.peers);
        self.turnstile.reconfigure(&settings.core, flows);
        self.settings.store(Arc::new(settings));
    }

    /// Asks for a whole answer.
    async fn fetch(&self, request: &OriginRequest) -> Result<Exchanged, OriginError> {
        let deadline = self.clock.elapsed() + self.settings.load().core.request_timeout;
        let opened = self.open(request).await?;
        let left = deadline.saturating_sub(self.clock.elapsed());
        let whole = tokio::time::timeout(left, opened.whole(request.max_answer_bytes));
        whole.await.unwrap_or(Err(OriginError::Timeout))
    }

    /// Tries one machine after the other until one takes the connection, or the time or the retry budget is used up, and reads
    /// the answer's head.
    async fn open(&self, request: &OriginRequest) -> Result<Opened, OriginError> {
        let settings = self.settings();
        let deadline = self.clock.elapsed() + settings.core.request_timeout;
        for (tried, target) in self.peers.targets(settings.core.connect_timeout).await.iter().enumerate() {
            if tried > 0 && !self.turnstile.try_retry() {
                break;
            }
            let left = deadline.saturating_sub(self.clock.elapsed());
            let result = tokio::time::timeout(left, self.open_at(target, request)).await;
            let result = result.unwrap_or(Err(OriginError::Timeout));
            self.note_request(&target.state, is_well(result.as_ref().map(|opened| opened.status)));
            match result {
                Err(OriginError::Connect) => {}
                result => return result,
            }
        }
        Err(OriginError::Connect)
    }

    /// Notes what became of a request that a machine was given.
    pub(super) fn note_request(&self, state: &PeerState, good: bool) {
        self.peers.note_request(state, good, self.settings.load().core.eject_after);
    }

    /// A machine is well again.
    pub(super) fn hasten_probe(&self) {
        self.turnstile.hasten_probe();
    }

    /// Asks one machine for its whole answer.
    pub(super) async fn ask(&self, target: &Target, request: &OriginRequest) -> Result<Exchanged, OriginError> {
        self.open_at(target, request).await?.whole(request.max_answer_bytes).await
    }

    /// Asks one machine. A pooled connection that turns out to be dead is replaced by a new one, once, where the request may be
    /// sent twice and the retry budget allows it: when nothing was heard, most likely the core had closed it meanwhile.
    async fn open_at(&self, target: &Target, request: &OriginRequest) -> Result<Opened, OriginError> {
        let settings = self.settings();
        let peer = settings.dialer.peer(&settings.core, target);
        let (session, reused) = connect(&settings, &peer, target).await?;
        let head = || head(request, &host(&settings.core, target));
        match Opened::over(session, &settings, &peer, (head()?, &request.body), self.clock).await {
            Err(_) if reused && request.repeatable && self.turnstile.try_retry() => {
                let mut fresh = peer.clone();
                fresh.group_key = 1 + self.fresh.fetch_add(1, Ordering::Relaxed);
                let (session, _) = connect(&settings, &fresh, target).await?;
                // An HTTP/1.1 connection joins the pool that others take from; an HTTP/2 one is known by the peer it was made for.
                let pool = if matches!(session, HttpSession::H2(_)) { &fresh } else { &peer };
                Opened::over(session, &settings, pool, (head()?, &request.body), self.clock).await
            }
            result => result,
        }
    }

    fn status(&self) -> CoreStatus {
        let gate = self.turnstile.status();
        let peers = self.peers.all();
        CoreStatus {
            name: self.name.clone(),
            breaker: match gate.breaker {
                BreakerState::Closed => "closed",
                BreakerState::HalfOpen => "half_open",
                BreakerState::Open => "open",
            },
            in_flight: gate.in_flight,
            limit: gate.limit,
            waiting: gate.waiting,
            waiting_by_class: CLASSES
                .iter()
                .zip(gate.waiting_of)
                .filter(|(_, waiting)| *waiting > 0)
                .map(|(class, waiting)| (class.as_str(), waiting))
                .collect(),
            cuts: [("latency", gate.cuts.latency), ("overload", gate.cuts.overload), ("timeout", gate.cuts.timeout)]
                .into(),
            admitted_per_second: gate.admitted_rate,
            peers: peers
                .iter()
                .map(|state| PeerStatus {
                    peer: state.peer_name(),
                    healthy: state.is_healthy(),
                    left_out: state.is_out(self.clock.now()),
                })
                .collect(),
        }
    }
}

async fn connect(settings: &Settings, peer: &HttpPeer, target: &Target) -> Result<(HttpSession, bool), OriginError> {
    let core = &settings.core;
    let _turn = match core.protocol {
        Protocol::Http1 => None,
        Protocol::Auto | Protocol::Http2 => target.state.turn(core.connect_timeout / 4).await,
    };
    let (session, reused) = settings.dialer.connector.get_http_session(peer).await.map_err(|error| {
        tracing::debug!(peer = %target.state.peer_name(), %error, "no connection to a peer");
        OriginError::Connect
    })?;
    target.state.note_protocol(matches!(session, HttpSession::H2(_)));
    Ok((session, reused))
}
