//! The operator's harmless answer, for when the core fails and nothing is kept.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use weir_config::Calm;

use crate::refusal::whole_seconds;
use crate::{Answer, Outcome};

/// The answer that `calm` says. Its `Retry-After` is the configured time and up to half of it more: `draw`, from 0 to 1, says
/// how much, so that agents turned away together do not come back together.
pub fn answer(calm: &Calm, draw: f64) -> Answer {
    let mut answer = Answer::empty(calm.status, Outcome::Calm);
    if calm.status != 204 && !calm.body.is_empty() {
        answer.body = Bytes::copy_from_slice(calm.body.as_bytes());
        if let Ok(media_type) = HeaderValue::from_str(&calm.content_type) {
            answer = answer.with(CONTENT_TYPE, media_type);
        }
    }
    match calm.retry_after {
        Some(after) => answer.with(RETRY_AFTER, whole_seconds(spread(after, draw))),
        None => answer,
    }
}

fn spread(after: Duration, draw: f64) -> Duration {
    after.saturating_add((after / 2).mul_f64(draw.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm(status: u16, body: &str) -> Calm {
        Calm {
            status,
            body: body.into(),
            content_type: "application/json".into(),
            retry_after: Some(Duration::from_secs(60)),
        }
    }

    #[test]
    fn the_operators_words_are_sent_as_written() {
        let answer = answer(&calm(200, "{}"), 0.0);
        assert_eq!((answer.status, &answer.body[..], answer.outcome), (200, &b"{}"[..], Outcome::Calm));
        assert_eq!(answer.header(&CONTENT_TYPE).unwrap(), "application/json");
    }

    #[test]
    fn retry_after_is_spread_over_half_of_itself() {
        let seconds = |draw| answer(&calm(204, ""), draw).header(&RETRY_AFTER).unwrap().to_str().unwrap().to_owned();
        assert_eq!((seconds(0.0).as_str(), seconds(0.5).as_str(), seconds(1.0).as_str()), ("60", "75", "90"));
    }

    #[test]
    fn no_content_has_neither_body_nor_media_type() {
        let answer = answer(&calm(204, "ignored"), 0.0);
        assert!(answer.body.is_empty() && answer.header(&CONTENT_TYPE).is_none());
    }
}
