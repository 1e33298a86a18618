//! `weir trace`: has the running node record a trace, and writes its lines as they come.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use weir_logic::rehearse::End;

use super::admin;
use super::arguments::TraceArguments;
use crate::exit::{Code, Failure};

/// Records, and writes the trace to `output`. Gives what is to be said of a trace that is whole.
///
/// # Errors
///
/// When the node does not run or refuses the order, when the trace breaks off, or when it ended before its time; what there is of
/// it has been written then.
pub(super) fn trace(
    address: SocketAddr,
    arguments: &TraceArguments,
    output: &mut impl Write,
) -> Result<String, Failure> {
    let TraceArguments { seconds, sample, headers, .. } = arguments;
    let order = json!({ "seconds": seconds, "sample": sample, "headers": headers }).to_string();
    let patience = PATIENCE.saturating_add(Duration::try_from_secs_f64(*seconds).unwrap_or_default());
    let mut last = LastLine::default();
    let status = admin::follow(address, "/trace", &order, patience, |piece| {
        last.see(piece);
        output.write_all(piece)
    })?;
    output.flush().map_err(super::output_failed)?;
    if status.code != 200 {
        let said: Value = serde_json::from_str(&status.refusal).unwrap_or_default();
        let code = if status.code == 400 { Code::Usage } else { Code::Unavailable };
        return Err(Failure::new(code, said["error"].as_str().unwrap_or(status.refusal.trim())));
    }
    let Ok(end) = serde_json::from_slice::<End>(&last.text) else {
        return Err(Failure::new(
            Code::Unavailable,
            "the trace breaks off: the node has stopped, or the connection is lost",
        ));
    };
    told(&end)
}

fn told(end: &End) -> Result<String, Failure> {
    let (lines, all) = (end.lines, end.requests.values().sum::<u64>());
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    let seconds = end.covered as f64 / 1000.0;
    let left_out =
        if end.too_long > 0 { format!(", {} too long for it left out", end.too_long) } else { String::new() };
    let text = format!("{lines} of {all} requests in {seconds:.1} s{left_out}");
    let ended = |why| Err(Failure::new(Code::Software, format!("{text}; it ended before its time: {why}")));
    match end.weir_trace_end.as_str() {
        "bytes" => ended("admin.max_trace_bytes is reached; record for a shorter time or a smaller sample"),
        "reader" => ended("what it is written to is too slow for it; record a smaller sample, or to a faster disk"),
        _ => Ok(text),
    }
}

/// The last line that ended with a line feed.
#[derive(Default)]
struct LastLine {
    text: Vec<u8>,
    begun: Vec<u8>,
}

impl LastLine {
    fn see(&mut self, piece: &[u8]) {
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(line);
            if line.ends_with(b"\n") {
                self.text = std::mem::take(&mut self.begun);
            }
        }
    }
}

/// For an answer beyond the time that the trace takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_known_however_the_pieces_fall() {
        let mut last = LastLine::default();
        for piece in [&b"one\ntw"[..], b"o\nthr", b"ee", b"\n"] {
            last.see(piece);
        }
        assert_eq!(last.text, b"three\n");
    }

    #[test]
    fn a_trace_that_ended_before_its_time_says_why() {
        let end = |why: &str| End { weir_trace_end: why.to_owned(), covered: 1500, lines: 2, ..End::default() };
        assert_eq!(told(&end("time")).unwrap(), "2 of 0 requests in 1.5 s");
        assert!(told(&end("bytes")).unwrap_err().to_string().contains("max_trace_bytes"));
        assert!(told(&end("reader")).unwrap_err().to_string().contains("too slow"));
    }
}
