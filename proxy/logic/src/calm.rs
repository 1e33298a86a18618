//! The operator's harmless answer, for when the core fails and nothing is kept.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use weir_config::Calm;

use crate::answer::Wait;
use crate::{Answer, Outcome};

/// The answer that `calm` says. Where it names a time to come back, each agent is told that time and up to half of it more.
pub fn answer(calm: &Calm) -> Answer {
    let mut answer = Answer::empty(calm.status, Outcome::Calm);
    if calm.status != 204 && !calm.body.is_empty() {
        answer.body = Bytes::copy_from_slice(calm.body.as_bytes());
        if let Ok(media_type) = HeaderValue::from_str(&calm.content_type) {
            answer = answer.with(CONTENT_TYPE, media_type);
        }
    }
    answer.wait = calm.retry_after.map(Wait::Calm);
    answer
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let answer = answer(&calm(200, "{}"));
        assert_eq!((answer.status, &answer.body[..], answer.outcome), (200, &b"{}"[..], Outcome::Calm));
        assert_eq!(answer.header(&CONTENT_TYPE).unwrap(), "application/json");
    }

    #[test]
    fn it_asks_for_patience_where_the_operator_says_so() {
        assert_eq!(answer(&calm(204, "")).wait, Some(Wait::Calm(Duration::from_secs(60))));
        assert_eq!(answer(&Calm { retry_after: None, ..calm(204, "") }).wait, None);
    }

    #[test]
    fn no_content_has_neither_body_nor_media_type() {
        let answer = answer(&calm(204, "ignored"));
        assert!(answer.body.is_empty() && answer.header(&CONTENT_TYPE).is_none());
    }
}
