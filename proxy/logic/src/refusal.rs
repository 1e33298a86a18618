//! The one table from what went wrong to what the agent is told.
//!
//! A failure of the core is never shown as 401, 403 or 404: an agent that believes itself unknown or unwelcome does harm.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::answer::Wait;
use crate::{Answer, Outcome};

/// Why a request is not answered as it hoped to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The request breaks HTTP.
    Malformed,
    /// The body is not what the route takes.
    BadBody,
    /// The route needs an identity that the request does not carry.
    Unidentified,
    /// No route matches the path.
    UnknownRoute,
    /// Routes match the path, but none the method.
    WrongMethod,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body is longer than the route takes.
    BodyTooLarge,
    /// The target is longer than the node takes.
    TargetTooLong,
    /// The body's encoding is not known.
    UnsupportedEncoding,
    /// The tenant has as much under way as it may.
    OverShare,
    /// The agent asks more often than it may.
    TooOften,
    /// The headers are longer than the node takes.
    HeadersTooLarge,
    /// The agent wants what is stored and nothing else, and nothing that will do is.
    NotStored,
    /// The node is at a bound of its own.
    Overloaded,
    /// The spool is full or its disk fails.
    SpoolUnavailable,
    /// The node is about to stop.
    Stopping,
    /// The core is down, slow or has asked for rest.
    CoreUnavailable,
    /// The core's answer could not be used.
    CoreBroken,
    /// The core did not answer in time.
    CoreTimeout,
}

impl Refusal {
    /// All refusals, in order of status.
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::BadBody,
        Self::Unidentified,
        Self::UnknownRoute,
        Self::WrongMethod,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::TargetTooLong,
        Self::UnsupportedEncoding,
        Self::OverShare,
        Self::TooOften,
        Self::HeadersTooLarge,
        Self::Overloaded,
        Self::SpoolUnavailable,
        Self::Stopping,
        Self::CoreUnavailable,
        Self::CoreBroken,
        Self::CoreTimeout,
        Self::NotStored,
    ];

    /// The status sent.
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::BadBody => 400,
            Self::Unidentified => 401,
            Self::UnknownRoute => 404,
            Self::WrongMethod => 405,
            Self::BodyTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::UnsupportedEncoding => 415,
            Self::OverShare | Self::TooOften => 429,
            Self::HeadersTooLarge => 431,
            Self::CoreBroken => 502,
            Self::Overloaded | Self::SpoolUnavailable | Self::Stopping | Self::CoreUnavailable => 503,
            Self::CoreTimeout | Self::NotStored => 504,
        }
    }

    /// The label in metrics and logs, and the end of the problem's type.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadBody => "bad_body",
            Self::Unidentified => "unidentified",
            Self::UnknownRoute => "unknown_route",
            Self::WrongMethod => "wrong_method",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::OverShare => "over_share",
            Self::TooOften => "too_often",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Overloaded => "overloaded",
            Self::SpoolUnavailable => "spool_unavailable",
            Self::Stopping => "stopping",
            Self::CoreUnavailable => "core_unavailable",
            Self::CoreBroken => "core_broken",
            Self::CoreTimeout => "core_timeout",
            Self::NotStored => "not_stored",
        }
    }

    /// The outcome counted.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::OverShare | Self::TooOften | Self::Overloaded | Self::SpoolUnavailable | Self::Stopping => {
                Outcome::Shed
            }
            Self::CoreUnavailable | Self::CoreBroken | Self::CoreTimeout => Outcome::Failed,
            _ => Outcome::Refused,
        }
    }

    /// Whether the same request may succeed later: exactly these carry `Retry-After`.
    pub const fn is_retryable(self) -> bool {
        matches!(self.status(), 408 | 429 | 500..)
    }

    /// The answer: `application/problem+json` (RFC 9457) of under 200 bytes. `detail` is for people, shortened to 60 bytes, and
    /// must not carry what another agent sent. Where the refusal is retryable the answer says so, and that asking again makes no sense
    /// for `at_least` that long: whoever writes it makes a `Retry-After` of that.
    pub fn answer(self, detail: &str, at_least: Duration) -> Answer {
        let body = format!(
            "{{\"type\":\"urn:weir:{}\",\"status\":{},\"detail\":{}}}",
            self.label(),
            self.status(),
            serde_json::Value::from(shortened(detail, 60)),
        );
        let mut answer = Answer::empty(self.status(), self.outcome())
            .with(CONTENT_TYPE, PROBLEM_JSON)
            .with(REFUSAL, HeaderValue::from_static(self.label()));
        answer.body = Bytes::from(body);
        answer.wait = self.is_retryable().then_some(Wait::AtLeast(at_least));
        answer
    }
}

fn shortened(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The response header that names the refusal, so that logs and agents need not parse the body.
pub const REFUSAL: HeaderName = HeaderName::from_static("weir-refusal");

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_retryable_refusals_ask_for_patience() {
        for refusal in Refusal::ALL {
            let answer = refusal.answer("why", Duration::from_millis(1500));
            let wait = refusal.is_retryable().then_some(Wait::AtLeast(Duration::from_millis(1500)));
            assert_eq!(answer.wait, wait, "{refusal:?}");
        }
    }

    /// Each refusal stands in the table for agents' authors with its status, its label and whether it carries `Retry-After`.
    #[test]
    fn the_documented_table_is_the_code() {
        let rows: Vec<Vec<&str>> = include_str!("../../REFUSALS.md")
            .lines()
            .filter(|line| line.starts_with("| 4") || line.starts_with("| 5"))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        for refusal in Refusal::ALL {
            let label = format!("`{}`", refusal.label());
            let row = rows.iter().find(|row| row[1].split(", ").any(|known| known == label));
            let row = row.unwrap_or_else(|| panic!("{label} is not documented"));
            assert!(row[0].split(", ").any(|status| status == refusal.status().to_string()), "{row:?}");
            assert_eq!(row[3], if refusal.is_retryable() { "yes" } else { "no" }, "{row:?}");
        }
    }

    #[test]
    fn every_body_is_json_of_under_200_bytes() {
        for refusal in Refusal::ALL {
            let answer = refusal.answer(&"\u{00e9}\"".repeat(100), Duration::ZERO);
            assert!(answer.body.len() < 200, "{refusal:?}: {}", answer.body.len());
            serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap();
        }
    }

    #[test]
    fn a_core_failure_is_never_shown_as_an_agents_fault() {
        for refusal in [Refusal::CoreUnavailable, Refusal::CoreBroken, Refusal::CoreTimeout] {
            assert!(refusal.status() >= 500, "{refusal:?}");
        }
    }
}
