//! An agent's upload: read, kept, answered.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use weir_batch::{Encoding, Framing, Reason, Upload, UploadError};
use weir_config::Action;
use weir_logic::{Answer, Call, Headers, Outcome, Refusal};

use super::pipeline::{Pipeline, Unkept};
use super::unpacking::{Unpacked, Unread};
use super::{Aggregate, Streams};

impl Aggregate {
    /// Answers an upload on a route whose action is `aggregate`: 202 once its records are kept, with those refused by
    /// index; 400, 413 or 415 when there is nothing to keep; 429 when the tenant has its share of memory in use; 503 when they
    /// cannot be kept.
    pub async fn handle(&self, call: &Call<'_>) -> Answer {
        let streams = self.streams.load_full();
        let Action::Aggregate(route) = &call.route.action else {
            return refuse(Refusal::UnknownRoute, "not an upload route");
        };
        let Some(pipeline) = streams.by_name.get(&route.stream) else {
            return refuse(Refusal::SpoolUnavailable, "no such stream");
        };
        let answer = self.take(pipeline, call, &streams).await;
        let result = match answer.outcome {
            Outcome::Accepted => "accepted",
            Outcome::Shed => "unavailable",
            _ => "refused",
        };
        self.context.metrics.uploads.with_label_values(&[pipeline.name(), result]).inc();
        answer
    }

    async fn take(&self, pipeline: &Pipeline, call: &Call<'_>, streams: &Streams) -> Answer {
        // Before the work of unpacking: a node that can keep nothing says so cheaply.
        if let Err(unkept) = pipeline.has_room() {
            return unavailable(unkept);
        }
        let Unpacked { upload, hold } = match self.unpack(pipeline, call, streams).await {
            Ok(unpacked) => unpacked,
            Err(refusal) => return refusal,
        };
        count_refused(pipeline, &upload);
        let report = Bytes::from(upload.report());
        if upload.accepted == 0 {
            let nothing = upload.refused.is_empty();
            let (status, outcome) = if nothing { (202, Outcome::Accepted) } else { (400, Outcome::Refused) };
            return answer(status, report, outcome);
        }
        match pipeline.keep(call.identity, upload.accepted, upload.lines, Some(hold)).await {
            Ok(()) => answer(202, report, Outcome::Accepted),
            Err(unkept) => unavailable(unkept),
        }
    }

    async fn unpack(&self, pipeline: &Pipeline, call: &Call<'_>, streams: &Streams) -> Result<Unpacked, Answer> {
        let refused = |reason| pipeline.metrics().uploads_refused.with_label_values(&[pipeline.name(), reason]).inc();
        let headers = call.request.headers;
        let Some(encoding) = encoding(headers) else {
            refused("encoding");
            return Err(refuse(Refusal::UnsupportedEncoding, "the encoding is none of gzip, zstd, lz4"));
        };
        let framing = Framing::from_content_type(headers.text("content-type"));
        let hold = self.budget.hold(call.identity, streams.bounds);
        let unpacked = self.unpacker.unpack(call.request.body, encoding, framing, streams.limits, hold).await;
        unpacked.map_err(|unread| match unread {
            Unread::Upload(error) => {
                refused(error.label());
                refuse(refusal(&error), &error.to_string())
            }
            Unread::NoRoom(cause) => refuse(cause.refusal(), cause.detail()),
            Unread::Lost => refuse(Refusal::Overloaded, "the upload could not be read"),
        })
    }
}

/// The one encoding that the headers name; `None` when it is not known or there are several.
fn encoding(headers: &dyn Headers) -> Option<Encoding> {
    let mut encodings = headers.values("content-encoding");
    let first = encodings.next().map(|value| std::str::from_utf8(value).unwrap_or("?"));
    if encodings.next().is_some() { None } else { Encoding::from_header(first).ok() }
}

fn refusal(error: &UploadError) -> Refusal {
    if error.status() == Some(413) { Refusal::BodyTooLarge } else { Refusal::BadBody }
}

fn count_refused(pipeline: &Pipeline, upload: &Upload) {
    for (reason, count) in Reason::ALL.iter().zip(upload.refusals) {
        if count > 0 {
            let label = [pipeline.name(), reason.label()];
            pipeline.metrics().records_refused.with_label_values(&label).inc_by(count as u64);
        }
    }
}

fn unavailable(unkept: Unkept) -> Answer {
    let refusal = if unkept == Unkept::Stopping { Refusal::Stopping } else { Refusal::SpoolUnavailable };
    refuse(refusal, unkept.detail())
}

fn refuse(refusal: Refusal, detail: &str) -> Answer {
    refusal.answer(detail, Duration::ZERO)
}

fn answer(status: u16, report: Bytes, outcome: Outcome) -> Answer {
    let mut answer = Answer::empty(status, outcome).with(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.body = report;
    answer
}
