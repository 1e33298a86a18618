//! What is delivered here for good: batches, presence, and agents' own uploads.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};

use super::cacheable::tenant_header;
use super::{header, segment};
use crate::answer::{Answer, json as json_answer, refusal};
use crate::balance::{Batch, PRESENCE_STREAM, Reception};
use crate::inflate::{InflateError, inflate};
use crate::objections::{Division, Objection, bad_row};
use crate::rows::{Row, parse_rows, parse_upload};
use crate::script::EndpointKind;
use crate::server::State;

/// A refusal of what was delivered.
type Refused = (StatusCode, String);

/// Accepts a batch. The decision does not depend on the caller's staying for it.
pub(super) async fn batch(state: &Arc<State>, kind: EndpointKind, parts: Parts, body: Bytes) -> Answer {
    let shared = Arc::clone(state);
    let decided = off_the_loop(move || {
        let decided = receive(&shared, kind, &parts, &body);
        if decided.is_err() {
            shared.balance.lock().refuse_batch();
        }
        decided
    })
    .await;
    match decided {
        Ok((Reception::Accepted, rows)) => json_answer(StatusCode::OK, json!({"accepted": rows}).to_string()),
        Ok((Reception::Repeated, _)) => json_answer(StatusCode::OK, json!({"repeated": true}).to_string()),
        Ok((Reception::InPart(answer), _)) => json_answer(StatusCode::MULTI_STATUS, answer),
        Err((status, reason)) => refusal(status, &reason),
    }
}

/// Accepts an agent's own upload.
pub(super) async fn upload(state: &Arc<State>, parts: Parts, body: Bytes) -> Answer {
    let shared = Arc::clone(state);
    match off_the_loop(move || take_upload(&shared, &parts, &body)).await {
        Ok(answer) => answer,
        Err((status, reason)) => refusal(status, &reason),
    }
}

fn receive(state: &State, kind: EndpointKind, parts: &Parts, body: &[u8]) -> Result<(Reception, usize), Refused> {
    let bad = |reason: &str| (StatusCode::BAD_REQUEST, reason.to_owned());
    let id = header(parts, "idempotency-key").ok_or_else(|| bad("Idempotency-Key is missing"))?;
    let stream = if kind == EndpointKind::Presence { PRESENCE_STREAM } else { segment(parts, 2) };
    if !state.options.read_rows {
        let batch = Batch { id, stream, rows: &[], ndjson: body, bytes_wire: body.len(), division: None };
        return Ok((state.balance.lock().receive(&batch), 0));
    }
    if header(parts, "content-type") != Some("application/x-ndjson") {
        return Err(bad("Content-Type is not application/x-ndjson"));
    }
    let ndjson = inflated(state, kind, parts, body)?;
    let ndjson = match (header(parts, "weir-format").unwrap_or("rows/1"), state.options.read_format) {
        ("rows/1", _) => ndjson,
        (other, Some(read)) => read(other, &ndjson, state.options.max_inflated_bytes).map_err(|reason| bad(&reason))?,
        (_, None) => return Err(bad("only the format rows/1 is known here")),
    };
    let rows = parse_rows(&ndjson).map_err(|reason| (StatusCode::BAD_REQUEST, reason))?;
    check_count(parts, "weir-rows", rows.len() as u64)?;
    check_count(parts, "weir-records", rows.iter().map(Row::records).sum())?;
    let known = state.balance.lock().knows(id);
    let division = match parts.extensions.get().filter(|_| !known) {
        None => None,
        Some(objection) => object(*objection, id, &ndjson, rows.len() as u64)?,
    };
    let batch = Batch { id, stream, rows: &rows, ndjson: &ndjson, bytes_wire: body.len(), division };
    Ok((state.balance.lock().receive(&batch), rows.len()))
}

/// Refuses a batch, or says which rows of it are taken; all of them where it says nothing.
fn object(objection: Objection, id: &str, ndjson: &[u8], rows: u64) -> Result<Option<Division>, Refused> {
    match objection {
        Objection::Bad { one_in } => match bad_row(ndjson, one_in) {
            Some(row) => Err((StatusCode::BAD_REQUEST, format!("row {row} is bad, the script says"))),
            None => Ok(None),
        },
        Objection::TooMany { max_rows } if rows > max_rows => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, format!("{rows} rows are too many, the script says")))
        }
        Objection::TooMany { .. } => Ok(None),
        Objection::Partly { one_in } => {
            Ok(Some(Division::of(id, ndjson, one_in)).filter(|division| !division.is_whole()))
        }
    }
}

fn take_upload(state: &State, parts: &Parts, body: &[u8]) -> Result<Answer, Refused> {
    let inflated = inflated(state, EndpointKind::Events, parts, body)?;
    let mut records = parse_upload(&inflated).map_err(|reason| (StatusCode::BAD_REQUEST, reason))?;
    let refused: Vec<Value> = records
        .iter()
        .enumerate()
        .filter(|(_, record)| !record.is_object())
        .map(|(index, _)| json!({"index": index, "reason": "not an object"}))
        .collect();
    records.retain(Value::is_object);
    let agent = header(parts, "x-agent-id");
    state.balance.lock().upload(tenant_header(state, parts), agent, &records, refused.len());
    let all_refused = records.is_empty() && !refused.is_empty();
    let status = if all_refused { StatusCode::BAD_REQUEST } else { StatusCode::ACCEPTED };
    Ok(json_answer(status, json!({"accepted": records.len(), "refused": refused}).to_string()))
}

fn inflated(state: &State, kind: EndpointKind, parts: &Parts, body: &[u8]) -> Result<Vec<u8>, Refused> {
    let inflated = inflate(header(parts, "content-encoding"), body, state.options.max_inflated_bytes);
    match inflated {
        Ok(inflated) => {
            state.counters.lock().body(kind, 0, inflated.len());
            Ok(inflated)
        }
        Err(InflateError::UnknownEncoding) => {
            Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "lz4, zstd and gzip are known here".to_owned()))
        }
        Err(InflateError::TooLarge) => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, "inflated, it is longer than this core takes".to_owned()))
        }
        Err(InflateError::Damaged(reason)) => Err((StatusCode::BAD_REQUEST, reason)),
    }
}

/// Holds a header that announces a number to what came.
fn check_count(parts: &Parts, name: &str, found: u64) -> Result<(), Refused> {
    match header(parts, name) {
        Some(announced) if announced != found.to_string() => {
            Err((StatusCode::BAD_REQUEST, format!("{name} says {announced}, the body holds {found}")))
        }
        _ => Ok(()),
    }
}

/// Runs work that takes milliseconds of computing where it holds up no other request.
async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, "the core stopped".to_owned())),
    }
}
