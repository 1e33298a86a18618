//! `POST /trace`: records a trace and answers with its lines as they are written. Whoever stops reading ends it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderName, Method, StatusCode};
use serde::Deserialize;
use weir_logic::rehearse::MIN_SAMPLE;

use super::{Recorder, Recording, Wanted};
use crate::admin::{Feed, Pages, Question, Reply};
use crate::snapshot::SharedSnapshot;

/// The page.
pub struct TracePage {
    recorder: Arc<Recorder>,
    snapshot: SharedSnapshot,
}

/// An order as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    seconds: f64,
    sample: f64,
    headers: Vec<String>,
}

impl Default for Order {
    fn default() -> Self {
        Self { seconds: 60.0, sample: 0.1, headers: Vec::new() }
    }
}

impl TracePage {
    /// The page that has `recorder` record under the configuration in force.
    pub fn new(recorder: Arc<Recorder>, snapshot: SharedSnapshot) -> Self {
        Self { recorder, snapshot }
    }

    fn begin(&self, body: &[u8]) -> Result<Feed, Reply> {
        let order = if body.is_empty() { Ok(Order::default()) } else { serde_json::from_slice(body) };
        let Order { seconds, sample, headers } = order.map_err(|error| wrong(&error.to_string()))?;
        let snapshot = self.snapshot.load();
        let bounds = &snapshot.config.admin;
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        if time.is_zero() || time > bounds.max_trace_time {
            let longest = weir_config::duration_to_text(bounds.max_trace_time);
            return Err(wrong(&format!("`seconds` is over 0 and at most {longest}, which admin.max_trace_time says")));
        }
        if !(MIN_SAMPLE..=1.0).contains(&sample) {
            return Err(wrong(&format!("`sample` is from {MIN_SAMPLE} to 1")));
        }
        let names = headers.iter().map(|name| name.parse::<HeaderName>().map(|name| name.as_str().to_owned()));
        let headers = names.collect::<Result<_, _>>().map_err(|_| wrong("a header's name has forbidden characters"))?;
        let wanted = Wanted { sample, headers };
        let Some(recording) = self.recorder.begin(wanted, &snapshot.config.routes, bounds) else {
            return Err(Reply::refused(StatusCode::CONFLICT, "a trace is being recorded; there is one at a time"));
        };
        tracing::info!(seconds, sample, "recording a trace");
        let reading = Reading { recorder: Arc::clone(&self.recorder), recording };
        Ok(Feed { media_type: "application/x-ndjson", pieces: Box::pin(reading.pieces(time)), lasts: time })
    }
}

impl Pages for TracePage {
    fn answer(&self, question: &Question<'_>) -> Option<Reply> {
        (question.path == PATH).then(|| Reply::refused(StatusCode::METHOD_NOT_ALLOWED, "traces are posted"))
    }

    fn feed(&self, question: &Question<'_>) -> Option<Result<Feed, Reply>> {
        (question.path == PATH && *question.method == Method::POST).then(|| self.begin(question.body))
    }
}

/// Someone who reads a trace as it is written. Dropped, it ends the trace.
struct Reading {
    recorder: Arc<Recorder>,
    recording: Arc<Recording>,
}

impl Reading {
    fn pieces(self, time: Duration) -> impl stream::Stream<Item = Bytes> + Send + use<> {
        stream::unfold((self, None), move |(reading, mut until)| async move {
            // The runtime that reads is not the one that begins.
            let until = *until.get_or_insert_with(|| tokio::time::Instant::now() + time);
            loop {
                let piece = reading.recording.take()?;
                if !piece.is_empty() {
                    return Some((Bytes::from(piece), (reading, Some(until))));
                }
                let now = tokio::time::Instant::now();
                if now >= until {
                    reading.recording.end("time");
                } else {
                    tokio::time::sleep_until(until.min(now + PAUSE)).await;
                }
            }
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.recorder.forget();
        tracing::info!("the trace is over");
    }
}

fn wrong(problem: &str) -> Reply {
    Reply::refused(StatusCode::BAD_REQUEST, problem)
}

/// How often new lines are looked for.
const PAUSE: Duration = Duration::from_millis(50);
const PATH: &str = "/trace";
