//! Reading a request's body, within bounds of size, time and memory.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};
use weir_logic::Refusal;

use super::exchange::Exchange;
use crate::budget::{Hold, NoRoom};

/// What a body may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes on the wire, at most.
    pub(super) bytes: usize,
    /// The time to its last byte.
    pub(super) time: Duration,
}

/// A whole body, held in the budget while it is in memory.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    _hold: Hold,
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// The agent is told why.
    Refused(Refusal),
    /// There is no memory for it.
    NoRoom(NoRoom),
    /// The agent has left.
    Gone,
}

/// Reads the whole body. An agent that waits to be told so is told to go on. Where the end of the body is not certain
/// any more, the connection ends with the answer. The memory is taken through `hold`: for a body whose length is stated,
/// all of it before the first byte.
pub(super) async fn read<E: Exchange>(exchange: &mut E, bounds: Bounds, hold: Hold) -> Result<Body, BodyError> {
    let body = gather(exchange, bounds, hold).await;
    if matches!(body, Err(BodyError::Gone | BodyError::Refused(Refusal::BadBody | Refusal::BodyTimeout))) {
        exchange.close_after();
    }
    body
}

async fn gather<E: Exchange>(exchange: &mut E, bounds: Bounds, mut hold: Hold) -> Result<Body, BodyError> {
    const TOO_LARGE: BodyError = BodyError::Refused(Refusal::BodyTooLarge);
    let declared = exchange.declared_length();
    if declared.is_some_and(|length| length > bounds.bytes as u64) {
        return Err(TOO_LARGE);
    }
    let ahead = declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    hold.take(ahead).map_err(BodyError::NoRoom)?;
    let deadline = Instant::now() + bounds.time;
    if exchange.waits_for_continue() {
        exchange.tell_to_continue().await?;
    }
    let mut whole = Gathered { first: Bytes::new(), all: Vec::new(), ahead, hold };
    while let Some(piece) = next(exchange, deadline).await? {
        if whole.len() + piece.len() > bounds.bytes {
            return Err(TOO_LARGE);
        }
        whole.push(piece, bounds.bytes).map_err(BodyError::NoRoom)?;
    }
    Ok(whole.finish())
}

/// Bytes of a body as they came; one that came in one piece is not copied.
struct Gathered {
    first: Bytes,
    all: Vec<u8>,
    /// The length that was stated and is held already.
    ahead: usize,
    hold: Hold,
}

impl Gathered {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, piece: Bytes, max_bytes: usize) -> Result<(), NoRoom> {
        if self.len() == 0 {
            self.hold.cover(piece.len())?;
            self.first = piece;
            return Ok(());
        }
        let needed = self.len() + piece.len();
        let first = std::mem::take(&mut self.first);
        let had = self.all.capacity();
        if needed > had {
            let capacity = needed.max(self.ahead).max((2 * had).min(max_bytes));
            // While a vector moves, both its places count.
            self.hold.cover(had + capacity)?;
            self.all.reserve_exact(capacity - self.all.len());
            self.hold.keep(capacity);
        }
        self.all.extend_from_slice(&first);
        self.all.extend_from_slice(&piece);
        Ok(())
    }

    fn finish(self) -> Body {
        let bytes = if self.first.is_empty() { Bytes::from(self.all) } else { self.first };
        Body { bytes, _hold: self.hold }
    }
}

async fn next<E: Exchange>(exchange: &mut E, deadline: Instant) -> Result<Option<Bytes>, BodyError> {
    timeout_at(deadline, exchange.next_piece()).await.unwrap_or(Err(BodyError::Refused(Refusal::BodyTimeout)))
}

/// Reads a body nobody wants and throws it away, so that the connection can be used again. Says whether it has come to
/// its end; one that is too long or too slow is not waited for. An agent that waits to be told so is told to send a small one: what
/// it does with its body otherwise is not certain, and so neither is where its next request begins.
pub(super) async fn discard<E: Exchange>(exchange: &mut E) -> bool {
    if exchange.is_body_done() {
        return true;
    }
    let declared = exchange.declared_length();
    if declared.is_some_and(|length| length > DISCARD_BYTES) {
        return false;
    }
    if exchange.waits_for_continue() {
        let small = declared.is_some_and(|length| length <= EXPECTED_BYTES);
        if !small || exchange.tell_to_continue().await.is_err() {
            return false;
        }
    }
    let reading = async {
        let mut left = DISCARD_BYTES;
        while let Ok(piece) = exchange.next_piece().await {
            let Some(piece) = piece else { return true };
            left = left.saturating_sub(piece.len() as u64);
            if left == 0 {
                return false;
            }
        }
        false
    };
    timeout(DISCARD_TIME, reading).await.unwrap_or(false)
}

/// A new TLS connection costs the node more than reading this much.
const DISCARD_BYTES: u64 = 1024 * 1024;
/// And then being sent this much that would not have been sent.
const EXPECTED_BYTES: u64 = 64 * 1024;
/// The time that the rest of a body may take.
pub(super) const DISCARD_TIME: Duration = Duration::from_secs(2);
