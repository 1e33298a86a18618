//! The in-body dialect of conditional requests: an agent that fetches its configuration by `POST` names the entity tag that it
//! holds inside the JSON body, and is told in a few bytes that nothing has changed.
//!
//! The tag never reaches the core, see [`super::FillRequest`]: an answer cannot depend on what an agent holds. The other dialect,
//! `If-None-Match`, is in [`super::conditional`]; a route may be asked in both.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use weir_config::BodyEtag;

use crate::key::{self, Pointed};
use crate::{Answer, RequestView};

/// `answer`, or the operator's word that nothing has changed, when it is a success that the agent's body says it holds. Age, outcome
/// and `Cache-Status` are those of `answer`.
///
/// A tag in the body matches the answer's `ETag`, with or without quotes and by weak comparison, or the text at `dialect.answer` in the
/// answer's body. An empty one matches nothing. Time: that of reading the request's body once, and the answer's where
/// `dialect.answer` is set and the `ETag` does not match.
pub fn answered(dialect: &BodyEtag, request: &RequestView<'_>, answer: Answer) -> Answer {
    let successful = (200..300).contains(&answer.status);
    // A body that can be read in two ways has been refused with its key.
    let held = if successful { key::pointed(request, &dialect.request.0).ok().flatten() } else { None };
    match held {
        Some(Pointed::Text(held)) if names(&held, dialect, &answer) => unchanged(dialect, answer),
        _ => answer,
    }
}

/// Whether `held` names this answer.
fn names(held: &str, dialect: &BodyEtag, answer: &Answer) -> bool {
    let tag = answer.header(&ETAG).is_some_and(|tag| opaque(tag.as_bytes()) == opaque(held.as_bytes()));
    let in_answer = || {
        let pointer = dialect.answer.as_ref()?;
        key::pointed_in(&answer.body, &pointer.0).ok().flatten()
    };
    let is_something = !opaque(held.as_bytes()).is_empty();
    is_something && (tag || matches!(in_answer(), Some(Pointed::Text(known)) if known == held))
}

/// What is between a tag's quotes; all of it where it has none.
fn opaque(tag: &[u8]) -> &[u8] {
    let tag = tag.strip_prefix(b"W/").filter(|rest| rest.starts_with(b"\"")).unwrap_or(tag);
    tag.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(tag)
}

/// The answer without what described its body, and with the operator's instead.
fn unchanged(dialect: &BodyEtag, mut answer: Answer) -> Answer {
    let words = &dialect.unchanged;
    answer.headers.retain(|(name, _)| !describes_the_body(name));
    answer.status = words.status;
    answer.body = Bytes::copy_from_slice(words.body.as_bytes());
    match HeaderValue::from_str(&words.content_type) {
        Ok(media_type) if !words.body.is_empty() => answer.with(CONTENT_TYPE, media_type),
        _ => answer,
    }
}

fn describes_the_body(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("content-") || matches!(name, "accept-ranges" | "repr-digest" | "digest")
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use weir_config::{BodyPointer, Method, Unchanged};

    use super::*;
    use crate::Outcome;

    fn dialect() -> BodyEtag {
        let words = Unchanged {
            status: 200,
            body: "{\"unchanged\":true}".to_owned(),
            content_type: "application/json".to_owned(),
        };
        BodyEtag {
            request: BodyPointer("/etag".to_owned()),
            answer: Some(BodyPointer("/version".to_owned())),
            unchanged: words,
        }
    }

    fn ask(dialect: &BodyEtag, body: &str, answer: Answer) -> Answer {
        let headers = HeaderMap::new();
        let request = RequestView {
            method: Method::Post,
            path: "/",
            query: None,
            host: "h",
            headers: &headers,
            body: body.as_bytes(),
        };
        answered(dialect, &request, answer)
    }

    fn config() -> Answer {
        let mut answer = Answer::empty(200, Outcome::Hit)
            .with(ETAG, HeaderValue::from_static("W/\"v7\""))
            .with(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.body = Bytes::from_static(b"{\"version\":\"seven\",\"policy\":{}}");
        answer
    }

    #[test]
    fn an_agent_that_names_what_it_would_be_given_gets_the_operators_word() {
        for held in [r#""v7""#, r#""\"v7\"""#, r#""W/\"v7\"""#, r#""seven""#] {
            let answer = ask(&dialect(), &format!("{{\"etag\":{held}}}"), config());
            assert_eq!((answer.status, &answer.body[..]), (200, &b"{\"unchanged\":true}"[..]), "{held}");
            assert_eq!(answer.header(&ETAG).unwrap(), "W/\"v7\"");
            assert_eq!(answer.headers.iter().filter(|(name, _)| *name == CONTENT_TYPE).count(), 1);
            assert_eq!(answer.outcome, Outcome::Hit);
        }
    }

    #[test]
    fn any_other_agent_gets_the_answer() {
        for body in [
            r#"{"etag":"v8"}"#,
            r#"{"etag":""}"#,
            r#"{"etag":"\"\""}"#,
            r#"{"etag":null}"#,
            r#"{"etag":7}"#,
            "{}",
            "[]",
        ] {
            assert_eq!(ask(&dialect(), body, config()).body, config().body, "{body}");
        }
        let nothing = ask(&dialect(), r#"{"etag":"v7"}"#, Answer::empty(503, Outcome::Failed));
        assert_eq!(nothing.status, 503);
        let calm = ask(&dialect(), r#"{"etag":""}"#, Answer::empty(204, Outcome::Calm));
        assert_eq!(calm.status, 204);
    }

    #[test]
    fn the_word_may_be_304() {
        let words = Unchanged { status: 304, body: String::new(), content_type: String::new() };
        let answer = ask(&BodyEtag { unchanged: words, ..dialect() }, r#"{"etag":"v7"}"#, config());
        assert_eq!((answer.status, answer.body.len(), answer.header(&CONTENT_TYPE)), (304, 0, None));
    }
}
