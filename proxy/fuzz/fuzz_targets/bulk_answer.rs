//! A core's answer to a bulk lookup: one byte for the number of keys, then the answer. Every key gets the first answer
//! that names it, or what `others` says, and bodies travel as the bytes that came.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use weir_logic::lookup::{KeyAnswer, answers};

fuzz_target!(|input: &[u8]| {
    let Some((count, body)) = input.split_first() else { return };
    let (count, body) = (usize::from(count % 8), Bytes::copy_from_slice(body));
    let Ok(list) = answers(&body, count) else { return };
    assert_eq!(list.len(), count);
    // What the parser passes over is not checked to be UTF-8, nor held to a depth.
    let is_json = serde_json::from_slice::<&RawValue>(&body).is_ok();
    assert!(is_json || std::str::from_utf8(&body).is_err(), "an answer that is no JSON is read");
    let Ok(said) = serde_json::from_slice::<Value>(&body) else { return };
    let items = said["answers"].as_array().expect("a list of answers");
    if !items.iter().chain(said.get("others")).all(|item| item.is_object() || item.is_null()) {
        // An item may also be a list of its members in order; nobody sends one.
        return;
    }
    for (id, answer) in list.iter().enumerate() {
        let named = items.iter().find(|item| item["id"] == id);
        let item = named.or_else(|| said.get("others").filter(|others| !others.is_null()));
        assert_eq!(answer.is_some(), item.is_some(), "key {id}");
        if let (Some(answer), Some(item)) = (answer, item) {
            says(answer, item, &body);
        }
    }
});

/// The answer means what a plain JSON reader finds.
fn says(answer: &KeyAnswer, item: &Value, whole: &[u8]) {
    assert_eq!(item["status"], answer.status);
    if let Some(etag) = &answer.etag {
        assert_eq!(item["etag"].as_str().map(str::as_bytes), Some(etag.as_bytes()));
    }
    for (wait, name) in [(answer.ttl, "ttl"), (answer.retry_after, "retry_after")] {
        let seconds = item[name].as_f64();
        assert_eq!(wait.is_some(), seconds.is_some());
        if let (Some(wait), Some(seconds)) = (wait, seconds) {
            assert!((wait.as_secs_f64() - seconds.clamp(0.0, 31_536_000.0)).abs() < 1e-6);
        }
    }
    if matches!(answer.status, 204 | 205 | 304) {
        assert!(answer.body.is_empty());
    } else if let Some(text) = item["text"].as_str() {
        assert_eq!(answer.body, text.as_bytes());
    } else if let Some(body) = item.get("body") {
        assert_eq!(serde_json::from_slice::<Value>(&answer.body).ok().as_ref(), Some(body));
        assert!(whole.windows(answer.body.len()).any(|part| part == answer.body), "a body that nobody sent");
    } else {
        assert!(answer.body.is_empty());
    }
    assert!(!answer.body.is_empty() <= answer.content_type.is_some(), "a body without a type");
}
