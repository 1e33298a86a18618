//! Plain requests for what is stored and fresh, from the header section to the written answer without waiting once.
//!
//! The steps are those of every other request, in their order, by the same code: the door, the action, the count at the end. Left out is
//! only what such a request has no use for: a context that outlives a wait, and an answer whose headers somebody could still change.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_logic::strict::section::Section;
use weir_logic::{Millis, Outcome};

use super::super::context::RequestContext;
use super::super::walk::{self, Knocked, Routed};
use super::super::{Parts, at_hand};
use super::write;
use crate::accept::{Connection, Plain};
use crate::answer::Hit;
use crate::snapshot::ConfigSnapshot;

/// A request that is looked at.
pub(super) struct Arrived<'a> {
    pub(super) parts: &'a Parts,
    pub(super) snapshot: &'a ConfigSnapshot,
    pub(super) connection: &'a Connection,
    pub(super) section: Section<'a>,
    /// When it came, by the clock.
    pub(super) started: Duration,
}

/// What has become of it.
pub(super) enum Tried {
    /// It has been answered.
    Answered,
    /// The agent's side of the kernel has not taken all of its answer, or none of it: the agent may have left.
    Begun(Unfinished),
    /// Its answer has to be waited for. This is what was said at the door.
    Not(Knocked),
}

impl Arrived<'_> {
    /// Lets the request in and answers it, if its answer is at hand.
    pub(super) fn answer(&self, routed: &Routed<'_>, request: &mut Plain<'_>) -> Tried {
        let Self { parts, snapshot, connection, section, started } = self;
        let now = parts.clock.at(*started);
        let (knocked, hit) = at_hand::look(parts, snapshot, connection, routed, section, now);
        let Some(hit) = hit else { return Tried::Not(knocked) };
        if connection.ends_with_answer() {
            request.close_after();
        }
        match written(request, &hit, now) {
            None => {
                at_hand::count(parts, snapshot, &knocked, routed.number, hit.body.len(), *started);
                Tried::Answered
            }
            Some(rest) => Tried::Begun(Unfinished { rest, number: routed.number, knocked }),
        }
    }
}

/// The part of an answer that has not been written: of its head, and of its body.
struct Rest {
    head: Vec<u8>,
    body: Bytes,
    /// Bytes of the body that have been.
    written: usize,
}

/// Writes the answer; the rest where some of it is left.
fn written(request: &mut Plain<'_>, hit: &Hit, now: Millis) -> Option<Rest> {
    thread_local! {
        static SPACE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut head = SPACE.take();
    head.clear();
    write::hit(&mut head, hit, request.is_kept(), now);
    let length = head.len();
    let apart = if hit.body.len() <= write::SMALL {
        head.extend_from_slice(&hit.body);
        &[][..]
    } else {
        &hit.body[..]
    };
    // Whoever writes the rest will hear of an error.
    let (count, whole) = request.write_now(&head, apart).unwrap_or_default();
    let rest = (!whole).then(|| {
        let written = count.saturating_sub(length);
        Rest { head: head[count.min(length)..length].to_vec(), body: hit.body.slice(written..), written }
    });
    SPACE.set(head);
    rest
}

/// An answer that is written to its end while others are served.
pub(super) struct Unfinished {
    rest: Rest,
    number: usize,
    knocked: Knocked,
}

impl Unfinished {
    /// Writes the rest and counts the request, in the context of which nothing is known yet.
    pub(super) async fn write<'r>(self, parts: &Parts, mut ctx: RequestContext, mut request: Plain<'r>) -> Plain<'r> {
        let Self { rest, number, knocked } = self;
        let snapshot = Arc::clone(&ctx.snapshot);
        ctx.tally.routed(snapshot.meters(number));
        (ctx.asked, ctx.admitted) = (Some(knocked.asked), knocked.entered.ok());
        ctx.tally.answer_bytes = rest.written as u64;
        match request.write_counted(&rest.head, &rest.body, &mut ctx.tally.answer_bytes).await {
            Ok(()) => ctx.tally.outcome = Some(Outcome::Hit),
            Err(error) => {
                tracing::debug!(%error, "the agent left before its answer");
                request.close_after();
            }
        }
        walk::ended(parts, &mut ctx, 0);
        request
    }
}
