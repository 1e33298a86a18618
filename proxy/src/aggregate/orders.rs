//! `POST /spool/replay`: dead letters that an operator wants to be sent once more.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::Aggregate;
use crate::admin::{Pages, Question, Reply};

/// The page that puts dead letters back.
pub struct ReplayOrders {
    aggregate: Arc<Aggregate>,
}

/// An order as it is written: one stream, or all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    stream: Option<String>,
}

/// The page's path.
pub(crate) const PATH: &str = "/spool/replay";

impl ReplayOrders {
    /// The page for these streams.
    pub fn new(aggregate: Arc<Aggregate>) -> Self {
        Self { aggregate }
    }

    fn carry_out(&self, body: &[u8]) -> Result<Reply, Reply> {
        let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
        let order: Order = serde_json::from_slice(body)
            .map_err(|error| Reply::refused(StatusCode::BAD_REQUEST, &format!("the order cannot be read: {error}")))?;
        let revived = self.aggregate.revive(order.stream.as_deref()).map_err(|error| {
            tracing::error!(%error, "dead letters cannot be put back");
            Reply::refused(StatusCode::SERVICE_UNAVAILABLE, &format!("the spool cannot be read or written: {error}"))
        })?;
        let unknown = || Reply::refused(StatusCode::NOT_FOUND, "no such stream");
        let revived = revived.ok_or_else(unknown)?;
        for (stream, revived) in revived.iter().filter(|(_, revived)| revived.batches > 0) {
            tracing::info!(stream, batches = revived.batches, records = revived.records, "dead letters were put back");
        }
        Ok(Reply::ok(json!({ "streams": revived })))
    }
}

impl Pages for ReplayOrders {
    fn answer(&self, question: &Question<'_>) -> Option<Reply> {
        if question.path != PATH {
            return None;
        }
        if *question.method != Method::POST {
            return Some(Reply::refused(StatusCode::METHOD_NOT_ALLOWED, "POST {} or {\"stream\": NAME}"));
        }
        Some(self.carry_out(question.body).unwrap_or_else(|refusal| refusal))
    }
}
