//! What is written of a prepared answer besides what its maker has said, whichever way the request came in.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, TRANSFER_ENCODING};

use crate::answer::{Answer, Hit};

/// How the agent learns where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none, and no word of one.
    None,
    Length(u64),
    /// Its length will be known at its end.
    Open,
}

impl Framing {
    /// How the body of the answer is framed.
    pub(super) fn of(answer: &Answer) -> Self {
        if is_empty_by_status(answer.status) {
            return Self::None;
        }
        answer.body.length().map_or(Self::Open, Self::Length)
    }

    /// How that of a hit is.
    pub(super) fn of_hit(hit: &Hit) -> Self {
        if is_empty_by_status(hit.status) { Self::None } else { Self::Length(hit.length) }
    }
}

/// Whether answers of the status have no body (RFC 9110, section 6.4.1).
fn is_empty_by_status(status: u16) -> bool {
    matches!(status, 204 | 304)
}

/// Whether the header is the writer's own: an action that states one is not believed.
pub(super) fn is_the_writers(name: &HeaderName) -> bool {
    [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, DATE].contains(name)
}
