//! What an answer, or the want of one, says of the core that gave it.

use std::time::Duration;

use http::StatusCode;
use http::header::RETRY_AFTER;
use weir_logic::gate::Attempt;
use weir_logic::retry::asked_wait;

use super::OriginError;
use super::opened::Exchanged;
use crate::clock::Clock;

pub(super) fn judge(result: &Result<Exchanged, OriginError>, clock: Clock) -> Attempt {
    match result {
        Ok(Exchanged { answer, waited }) => {
            let retry_after = answer.headers.get(RETRY_AFTER).map(http::HeaderValue::as_bytes);
            judge_status(answer.status, retry_after, Some(*waited), clock)
        }
        Err(error) => judge_error(*error),
    }
}

/// What an answer's status says of the core: 429 and 503 with `Retry-After` ask for rest, without they are an overload; other 5xx
/// are failures, and anything else shows that the core works.
pub(super) fn judge_status(
    status: StatusCode,
    retry_after: Option<&[u8]>,
    waited: Option<Duration>,
    clock: Clock,
) -> Attempt {
    let overloaded = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let rest = retry_after.filter(|_| overloaded).and_then(|header| asked_wait(header, clock.now()));
    match rest {
        Some(rest) if !rest.is_zero() => Attempt::RestAsked(rest),
        _ if overloaded => Attempt::Overloaded,
        _ if status.is_server_error() => Attempt::Failed,
        _ => waited.map_or(Attempt::Works, Attempt::Succeeded),
    }
}

/// An answer that was too long came from a core that works.
pub(super) fn judge_error(error: OriginError) -> Attempt {
    match error {
        OriginError::TooLarge(_) => Attempt::Works,
        OriginError::Timeout => Attempt::TimedOut,
        OriginError::Connect | OriginError::Broken => Attempt::Failed,
        OriginError::Resting(_) | OriginError::Full => Attempt::Abandoned,
    }
}

pub(super) fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// Whether this end of a request says nothing against the machine that it was sent to.
pub(super) fn is_well(result: Result<StatusCode, &OriginError>) -> bool {
    result.map_or_else(|error| matches!(error, OriginError::TooLarge(_)), |status| !status.is_server_error())
}
