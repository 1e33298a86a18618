//! Bulk lookups: many agents' single questions in one request.

use std::collections::{BTreeMap, HashSet};

use http::StatusCode;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::answer::{Answer, json as json_answer, refusal};
use crate::content::{Content, Document, KeyFault};
use crate::server::State;

#[derive(Debug, Deserialize)]
struct Question {
    version: u32,
    #[serde(rename = "edge")]
    _edge: String,
    #[serde(rename = "route")]
    _route: String,
    keys: Vec<Key>,
}

#[derive(Debug, Deserialize)]
struct Key {
    id: u64,
    key: BTreeMap<String, Option<String>>,
    #[serde(default)]
    etag: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Reply {
    answers: Vec<KeyAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    others: Option<Value>,
}

#[derive(Debug, Default, Serialize)]
struct KeyAnswer {
    id: u64,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
}

/// What the path asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Tasks,
    Config,
    Anything,
}

pub(super) fn lookup(state: &State, parts: &Parts, body: &[u8]) -> Answer {
    let question: Question = match serde_json::from_slice(body) {
        Ok(question) => question,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if question.version != 1 {
        return refusal(StatusCode::BAD_REQUEST, "only version 1 is known here");
    }
    let mut ids = HashSet::new();
    if !question.keys.iter().all(|key| ids.insert(key.id)) {
        return refusal(StatusCode::BAD_REQUEST, "an id stands twice");
    }
    let reply = reply(state, subject(parts.uri.path()), &question.keys);
    let not_modified = reply.answers.iter().filter(|answer| answer.status == 304).count();
    state.counters.lock().lookup(question.keys.len() as u64, not_modified as u64);
    match serde_json::to_vec(&reply) {
        Ok(bytes) => json_answer(StatusCode::OK, bytes),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn subject(path: &str) -> Subject {
    match path.rsplit('/').next() {
        Some("tasks:lookup") => Subject::Tasks,
        Some("config:lookup") => Subject::Config,
        _ => Subject::Anything,
    }
}

fn reply(state: &State, subject: Subject, keys: &[Key]) -> Reply {
    let content = state.content.lock();
    let ttl = state.options.config_ttl.filter(|_| subject == Subject::Config);
    let mut reply = Reply::default();
    let mut missing = HashSet::new();
    for key in keys {
        match content.fault_of(key.key.values().flatten().map(String::as_str)) {
            Some(KeyFault::Missing) => {
                missing.insert(key.id);
            }
            Some(fault) => reply.answers.push(faulty(key.id, fault)),
            None => reply.answers.extend(answer(&content, subject, key, ttl)),
        }
    }
    if subject == Subject::Tasks {
        if missing.is_empty() {
            reply.others = Some(json!({"status": 204}));
        } else {
            let answered: HashSet<u64> = reply.answers.iter().map(|answer| answer.id).collect();
            let idle = keys.iter().map(|key| key.id).filter(|id| !answered.contains(id) && !missing.contains(id));
            reply.answers.extend(idle.map(|id| KeyAnswer { id, status: 204, ..KeyAnswer::default() }));
        }
    }
    reply
}

/// The answer to one key; none where `others` is to answer it.
fn answer(content: &Content, subject: Subject, key: &Key, ttl: Option<u64>) -> Option<KeyAnswer> {
    let document = match subject {
        Subject::Tasks => match part(key, "agent") {
            Some(agent) => content.task(agent)?,
            None => return Some(KeyAnswer { id: key.id, status: 400, ..KeyAnswer::default() }),
        },
        Subject::Config => match part(key, "tenant") {
            Some(tenant) => content.config(tenant),
            None => return Some(KeyAnswer { id: key.id, status: 400, ..KeyAnswer::default() }),
        },
        Subject::Anything => anything(key),
    };
    if key.etag.as_ref() == Some(&document.etag) {
        return Some(KeyAnswer { id: key.id, status: 304, ttl, ..KeyAnswer::default() });
    }
    let body = RawValue::from_string(document.body).ok();
    Some(KeyAnswer {
        id: key.id,
        status: 200,
        etag: Some(document.etag),
        ttl,
        content_type: Some("application/json"),
        body,
        ..KeyAnswer::default()
    })
}

/// A path the core knows nothing about is answered with the key itself.
fn anything(key: &Key) -> Document {
    let body = json!({"key": key.key}).to_string();
    Document { etag: format!("\"k{:016x}\"", xxhash_rust::xxh3::xxh3_64(body.as_bytes())), body }
}

fn faulty(id: u64, fault: KeyFault) -> KeyAnswer {
    let (status, retry_after) = match fault {
        KeyFault::Status(status) => (status, None),
        KeyFault::RetryAfter(seconds) => (503, Some(seconds)),
        KeyFault::Missing => (500, None),
    };
    KeyAnswer { id, status, retry_after, ..KeyAnswer::default() }
}

/// The part of a key whose name ends in `.name`, whatever it was taken from.
fn part<'a>(key: &'a Key, name: &str) -> Option<&'a str> {
    let ends = |part: &str| part.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    key.key.iter().filter(|(part, _)| ends(part)).find_map(|(_, value)| value.as_deref())
}
