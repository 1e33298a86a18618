//! Active health checks: each machine of a core is asked at an interval, past the gate, and any 2xx is healthy.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::Method;
use weir_config::{Class, CoreId, HealthCheck};

use super::cores::Core;
use super::peers::{PeerState, Target};
use super::{OriginRequest, Patience, Rank, Sending};
use crate::clock::Clock;

/// Checks one core's machines for ever; returns at once when the operator has switched checks off.
pub(super) async fn check_for_ever(core: Arc<Core>, clock: Clock) {
    loop {
        let settings = core.settings();
        let Some(check) = settings.core.health_check.clone() else { return };
        let peers = core.peers.all();
        join_all(peers.iter().map(|state| check_peer(&core, state, &check, clock))).await;
        tokio::time::sleep(jittered(check.interval)).await;
    }
}

async fn check_peer(core: &Core, state: &Arc<PeerState>, check: &HealthCheck, clock: Clock) {
    let settings = core.settings();
    let timeout = settings.core.connect_timeout;
    let Some(&address) = state.addresses(clock, timeout).await.first() else {
        core.peers.note(state, false, check);
        return;
    };
    let target = Target { state: Arc::clone(state), address };
    let deadline = timeout + settings.core.request_timeout.min(check.interval);
    let asked = tokio::time::timeout(deadline, core.ask(&target, &question(check))).await;
    let good = matches!(asked, Ok(Ok(exchanged)) if exchanged.answer.status.is_success());
    if core.peers.note(state, good, check) && good {
        core.hasten_probe();
    }
}

fn question(check: &HealthCheck) -> OriginRequest {
    OriginRequest {
        core: CoreId::default(),
        label: Arc::from("health"),
        rank: Rank::Class(Class::Probe),
        method: Method::GET,
        target: check.path.clone(),
        headers: Vec::new(),
        body: Bytes::new(),
        max_answer_bytes: MAX_HEALTH_ANSWER_BYTES,
        patience: Patience::Whole,
        repeatable: true,
        sending: Sending::First,
    }
}

const MAX_HEALTH_ANSWER_BYTES: usize = 64 * 1024;

/// The interval, give or take a tenth, so that nodes do not check in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * rand::random::<f64>())
}
