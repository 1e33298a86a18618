//! A core's machines: their names, the addresses behind the names, and which of them are healthy.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::join_all;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use weir_logic::Millis;
use weir_logic::gate::Ejection;

use crate::clock::Clock;

/// The machines of one core, taken in turn.
pub(super) struct Peers {
    list: ArcSwap<Vec<Arc<PeerState>>>,
    next: AtomicUsize,
    series: Series,
    clock: Clock,
}

/// What is counted of a core's machines.
pub(super) struct Series {
    pub(super) healthy: IntGauge,
    pub(super) ejections: IntCounter,
}

/// One machine.
pub(super) struct PeerState {
    pub(super) peer: weir_config::Peer,
    healthy: AtomicBool,
    /// Checks in a row that contradict `healthy`.
    against: AtomicUsize,
    /// What requests have told.
    ejection: Mutex<Ejection>,
    addresses: Mutex<Addresses>,
    /// One resolution at a time.
    resolving: tokio::sync::Mutex<()>,
    /// One at a time takes a stream of an HTTP/2 connection, see [`PeerState::turn`].
    taking: tokio::sync::Mutex<()>,
    speaks_http2: AtomicBool,
}

/// One try at a connection: to which machine, at which of its addresses.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) state: Arc<PeerState>,
    pub(super) address: SocketAddr,
}

#[derive(Clone, Debug, Default)]
struct Addresses {
    list: Vec<SocketAddr>,
    resolved: Option<Duration>,
}

/// Connections tried for one request, at most.
const MAX_TARGETS: usize = 3;

/// Addresses are asked for anew after this time. A failed resolution keeps the old ones.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

impl Peers {
    pub(super) fn new(peers: &[weir_config::Peer], series: Series, clock: Clock) -> Self {
        let peers = Self {
            list: ArcSwap::from_pointee(peers.iter().map(PeerState::new).collect()),
            next: AtomicUsize::new(0),
            series,
            clock,
        };
        peers.count_healthy();
        peers
    }

    /// Takes over a new list; machines that stay keep their health and addresses.
    pub(super) fn reconfigure(&self, peers: &[weir_config::Peer]) {
        let old = self.list.load_full();
        let keep = |peer: &weir_config::Peer| old.iter().find(|state| state.peer == *peer).cloned();
        self.list
            .store(Arc::new(peers.iter().map(|peer| keep(peer).unwrap_or_else(|| PeerState::new(peer))).collect()));
        self.count_healthy();
    }

    pub(super) fn all(&self) -> Arc<Vec<Arc<PeerState>>> {
        self.list.load_full()
    }

    /// Where to try, in order: healthy machines that are not left out in turn, then, when there is room, the same machines' other
    /// addresses. When there is none all of them are tried: the checks may be wrong, and the breaker knows better.
    pub(super) async fn targets(&self, timeout: Duration) -> Vec<Target> {
        let all = self.list.load_full();
        let now = self.clock.now();
        let mut peers: Vec<_> = all.iter().filter(|state| state.is_healthy() && !state.is_out(now)).collect();
        if peers.is_empty() {
            peers = all.iter().collect();
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let first = turn % peers.len().max(1);
        peers.rotate_left(first);
        let mut targets = Vec::with_capacity(MAX_TARGETS);
        // Names that cannot be resolved hold up one another only, not in a row.
        let known = join_all(peers.into_iter().take(MAX_TARGETS).map(|state| async move {
            let addresses = state.addresses(self.clock, timeout).await;
            (state, addresses)
        }))
        .await;
        let rounds = known.iter().map(|(_, addresses)| addresses.len()).max().unwrap_or(0);
        for round in 0..rounds.min(MAX_TARGETS) {
            for (state, addresses) in known.iter().filter(|(_, addresses)| round < addresses.len()) {
                let address = addresses[(turn + round) % addresses.len()];
                targets.push(Target { state: Arc::clone(state), address });
            }
        }
        targets.truncate(MAX_TARGETS);
        targets
    }

    /// Notes the result of a check; so many in a row that say the opposite turn a machine's health. `true` when they have.
    pub(super) fn note(&self, state: &PeerState, good: bool, check: &weir_config::HealthCheck) -> bool {
        let needed = if good { check.successes } else { check.failures };
        let turned = state.note(good, needed);
        if turned {
            tracing::warn!(peer = %state.peer_name(), healthy = good, "a peer's health has changed");
            self.count_healthy();
        }
        turned
    }

    /// Notes what became of a request that a machine was given. One that fails again and again while another one works is left
    /// out for a time.
    pub(super) fn note_request(&self, state: &PeerState, good: bool, failures_to_eject: u32) {
        if good {
            return state.ejection.lock().on_success();
        }
        let now = self.clock.now();
        let others_work = self.list.load().iter().any(|other| {
            !std::ptr::eq(&raw const **other, state) && other.is_healthy() && other.ejection.lock().is_well(now)
        });
        if state.ejection.lock().on_failure(failures_to_eject, others_work, now, rand::random()) {
            tracing::warn!(peer = %state.peer_name(), "a peer fails while others work: it is left out for some seconds");
            self.series.ejections.inc();
        }
    }

    fn count_healthy(&self) {
        let count = self.list.load().iter().filter(|state| state.is_healthy()).count();
        self.series.healthy.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

impl PeerState {
    fn new(peer: &weir_config::Peer) -> Arc<Self> {
        Arc::new(Self {
            peer: peer.clone(),
            healthy: AtomicBool::new(true),
            against: AtomicUsize::new(0),
            ejection: Mutex::default(),
            addresses: Mutex::default(),
            resolving: tokio::sync::Mutex::new(()),
            taking: tokio::sync::Mutex::new(()),
            speaks_http2: AtomicBool::new(true),
        })
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Whether requests have shown that it fails.
    pub(super) fn is_out(&self, now: Millis) -> bool {
        self.ejection.lock().is_out(now)
    }

    /// The turn to take an HTTP/2 stream. pingora takes a connection out of its pool for the moment in which it opens a stream; who
    /// comes in that moment finds none and makes one more, so that a burst would make dozens where one carries them all. A turn
    /// is waited for during a handshake, but not so long that a machine which is gone holds everybody up.
    pub(super) async fn turn(&self, patience: Duration) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if !self.speaks_http2.load(Ordering::Relaxed) {
            return None;
        }
        tokio::time::timeout(patience, self.taking.lock()).await.ok()
    }

    /// Notes what was agreed on, for the next turn.
    pub(super) fn note_protocol(&self, is_http2: bool) {
        self.speaks_http2.store(is_http2, Ordering::Relaxed);
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub(super) fn peer_name(&self) -> String {
        authority(&self.peer.host, self.peer.port)
    }

    /// The addresses behind the name, the last known ones when they cannot be found out anew.
    pub(super) async fn addresses(&self, clock: Clock, timeout: Duration) -> Vec<SocketAddr> {
        if let Ok(address) = self.peer.host.parse::<IpAddr>() {
            return vec![SocketAddr::new(address, self.peer.port)];
        }
        if let Some(known) = self.known_addresses(clock) {
            return known;
        }
        let _one_at_a_time = self.resolving.lock().await;
        if let Some(known) = self.known_addresses(clock) {
            return known;
        }
        let lookup = tokio::net::lookup_host((self.peer.host.as_str(), self.peer.port));
        let found = match tokio::time::timeout(timeout, lookup).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let mut addresses = self.addresses.lock();
        if found.is_empty() {
            tracing::warn!(peer = %self.peer_name(), "the peer's name cannot be resolved");
        } else {
            addresses.list = found;
        }
        // Old addresses are good for another round; without any, the next request asks again.
        addresses.resolved = (!addresses.list.is_empty()).then(|| clock.elapsed());
        addresses.list.clone()
    }

    fn known_addresses(&self, clock: Clock) -> Option<Vec<SocketAddr>> {
        let addresses = self.addresses.lock();
        let age = clock.elapsed().saturating_sub(addresses.resolved?);
        (age < RESOLVE_EVERY).then(|| addresses.list.clone())
    }

    /// Counts a check; `true` when the health has turned.
    fn note(&self, good: bool, needed: u32) -> bool {
        if good == self.is_healthy() {
            self.against.store(0, Ordering::Relaxed);
            return false;
        }
        let against = self.against.fetch_add(1, Ordering::Relaxed) + 1;
        let turned = against >= needed.max(1) as usize;
        if turned {
            self.against.store(0, Ordering::Relaxed);
            self.healthy.store(good, Ordering::Relaxed);
        }
        turned
    }
}

/// `host:port` as a `Host` header has it.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
