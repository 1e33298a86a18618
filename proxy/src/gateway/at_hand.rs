//! What is stored and fresh: looked for before anything is made that could outlive a wait, whichever way the request came in.

use std::time::Duration;

use weir_config::{Action, Method};
use weir_logic::{Call, Headers, Millis, Outcome, RequestView};

use super::Parts;
use super::walk::{self, Knocked, Routed};
use crate::accept::Connection;
use crate::answer::Hit;
use crate::meters::End;
use crate::snapshot::ConfigSnapshot;

/// Whether it makes sense to look, for a request without a body: its route keeps answers, and nobody writes requests down.
pub(super) fn may_be(parts: &Parts, routed: &Routed<'_>) -> bool {
    matches!(routed.route.action, Action::Cache(_)) && routed.method != Method::Post && !parts.recorder.is_on()
}

/// Asks the door, and then the action: what was said at the door, and the answer as the agent is given it, if it is at hand.
pub(super) fn look(
    parts: &Parts,
    snapshot: &ConfigSnapshot,
    connection: &Connection,
    routed: &Routed<'_>,
    headers: &dyn Headers,
    now: Millis,
) -> (Knocked, Option<Hit>) {
    let knocked = walk::knock(parts, snapshot, routed, headers, connection, now);
    if knocked.entered.is_err() {
        return (knocked, None);
    }
    let Routed { method, target, route, parameters, .. } = routed;
    let (path, query, host) = (target.path, target.query, target.host);
    let request = RequestView { method: *method, path, query, host, headers, body: &[] };
    let call = Call { request, route, parameters, identity: &knocked.identity, now };
    let mut hit = parts.cache.at_once(&call);
    if let (Method::Head, Some(hit)) = (method, &mut hit) {
        hit.withhold_body();
    }
    (knocked, hit)
}

/// Counts a request that has been given its answer, with so many bytes of body. It came at `started` by the clock.
pub(super) fn count(
    parts: &Parts,
    snapshot: &ConfigSnapshot,
    knocked: &Knocked,
    route: usize,
    body: usize,
    started: Duration,
) {
    let took = parts.clock.elapsed().saturating_sub(started);
    let end = End { outcome: Outcome::Hit, answer_bytes: body as u64, request_bytes: 0, took };
    snapshot.meters(route).count(&parts.metrics, &end);
    parts.door.answered(&knocked.asked, knocked.now);
}
