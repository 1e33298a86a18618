//! Reads a trace line by line. What comes may be anyone's file: each line is bounded and checked, and what is refused is told with
//! its place and what was expected.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use weir_config::Method;

use super::{Asked, End, Head, Line, Purge, VERSION};
use crate::Outcome;
use crate::cache::purge::Marks;

/// Reads one trace. Memory: that of one line.
#[derive(Debug, Default)]
pub struct Reader {
    number: u64,
    head: Option<Head>,
    lines: u64,
    purge: Option<Purge>,
    end: Option<End>,
}

/// What is wrong with a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: u64,
    /// The byte in the line, counted from 1; `None` where the line as a whole is wrong.
    pub column: Option<usize>,
    /// What is wrong, and what was expected.
    pub problem: String,
}

/// Bytes of a line, at most; the node writes none that is longer.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// The smallest sample of keys.
pub const MIN_SAMPLE: f64 = 1e-6;

impl Reader {
    /// Takes the next line, without its line feed. Gives the request that it is of, `None` for the first and the last line and for that of
    /// a purge, which [`Reader::purged`] then gives.
    ///
    /// # Errors
    ///
    /// When the line is not what a trace of this version has there.
    pub fn take(&mut self, text: &[u8]) -> Result<Option<Line>, Fault> {
        self.number += 1;
        if text.len() > MAX_LINE_BYTES {
            return Err(self.fault(format!("longer than {MAX_LINE_BYTES} bytes")));
        }
        if self.end.is_some() {
            return Err(self.fault("expected nothing after the trace's end".to_owned()));
        }
        if self.head.is_none() {
            self.head = Some(self.first(text)?);
            return Ok(None);
        }
        if text.starts_with(END_MARK) {
            let end: End = self.parsed(text, "the trace's end")?;
            if end.lines != self.lines {
                let problem = format!("the end tells of {} lines, but there are {}", end.lines, self.lines);
                return Err(self.fault(problem));
            }
            if end.covered > MAX_TIME {
                return Err(self.fault(format!("`covered` is more than {MAX_TIME}")));
            }
            self.end = Some(end);
            return Ok(None);
        }
        if text.starts_with(PURGE_MARK) {
            let purge: Purge = self.parsed(text, "a purge")?;
            check_purge(&purge).map_err(|problem| self.fault(problem))?;
            self.purge = Some(purge);
            self.lines += 1;
            return Ok(None);
        }
        let line: Line = self.parsed(text, "a request or the trace's end")?;
        check(&line).map_err(|problem| self.fault(problem))?;
        self.lines += 1;
        Ok(Some(line))
    }

    /// The purge that the line was of which was taken last.
    pub fn purged(&mut self) -> Option<Purge> {
        self.purge.take()
    }

    /// What the first line says, once it has been taken.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Nothing follows: the first and the last line.
    ///
    /// # Errors
    ///
    /// When the trace is not whole.
    pub fn finish(mut self) -> Result<(Head, End), Fault> {
        self.number += 1;
        let breaks_off = "the trace breaks off: expected a request or the trace's end";
        match (self.head.take(), self.end.take()) {
            (Some(head), Some(end)) => Ok((head, end)),
            (Some(_), None) => Err(self.fault(breaks_off.to_owned())),
            (None, _) => Err(self.fault(NO_TRACE.to_owned())),
        }
    }

    fn first(&self, text: &[u8]) -> Result<Head, Fault> {
        let version = serde_json::from_slice::<Version>(text).map_err(|_| self.fault(NO_TRACE.to_owned()))?;
        if version.weir_trace != VERSION {
            let problem = format!(
                "a trace of version {}: this program reads version {VERSION}, the one that recorded the trace reads it",
                version.weir_trace
            );
            return Err(self.fault(problem));
        }
        let head: Head = self.parsed(text, "the head of a trace")?;
        if !(MIN_SAMPLE..=1.0).contains(&head.sample) {
            return Err(self.fault(format!("`sample` is not from {MIN_SAMPLE} to 1")));
        }
        Ok(head)
    }

    fn parsed<T: DeserializeOwned>(&self, text: &[u8], expected: &str) -> Result<T, Fault> {
        serde_json::from_slice(text).map_err(|error| {
            let told = error.to_string();
            // It tells a line and a column within the text, of which the line is always the first.
            let told = told.rsplit_once(" at line ").map_or(&*told, |(cause, _)| cause);
            let column = Some(error.column()).filter(|column| *column > 0);
            Fault { line: self.number, column, problem: format!("expected {expected}: {told}") }
        })
    }

    fn fault(&self, problem: String) -> Fault {
        Fault { line: self.number, column: None, problem }
    }
}

impl fmt::Display for Fault {
    /// `LINE: PROBLEM` or `LINE:COLUMN: PROBLEM`, to follow a file's name and a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "{}:{column}: {}", self.line, self.problem),
            None => write!(f, "{}: {}", self.line, self.problem),
        }
    }
}

impl std::error::Error for Fault {}

fn check(line: &Line) -> Result<(), String> {
    check_request(&line.method, &line.path, &line.body)?;
    if !Outcome::ALL.iter().any(|outcome| outcome.label() == line.outcome) {
        return Err(format!("`{}` is no outcome", line.outcome));
    }
    if line.tags.len() > Marks::MAX_TAGS {
        return Err(format!("more than {} tags", Marks::MAX_TAGS));
    }
    check_time(line.at.max(line.core.unwrap_or_default()))
}

fn check_purge(Purge { purge: kind, at, of, request, .. }: &Purge) -> Result<(), String> {
    let wanted = match kind.as_str() {
        "all" | "prefix" => None,
        "route" | "tenant" | "tag" => (of.len() != 1).then_some("one name in `of`"),
        "request" | "change" => request.is_none().then_some("a `request`"),
        _ => return Err(format!("`{kind}` is no kind of purge")),
    };
    if let Some(wanted) = wanted {
        return Err(format!("a purge of kind `{kind}` has {wanted}"));
    }
    if let Some(Asked { method, path, body, .. }) = request {
        check_request(method, path, body)?;
    }
    check_time(*at)
}

fn check_request(name: &str, path: &str, body: &BTreeMap<String, String>) -> Result<(), String> {
    if method(name).is_none() {
        return Err(format!("`{name}` is no method that a route can name"));
    }
    if !path.starts_with('/') {
        return Err("`path` does not begin with `/`".to_owned());
    }
    if body.keys().any(|pointer| pointer.split('/').count() > MAX_DEPTH) {
        return Err(format!("a pointer of more than {MAX_DEPTH} steps"));
    }
    Ok(())
}

fn check_time(at: u64) -> Result<(), String> {
    if at > MAX_TIME { Err(format!("a time of more than {MAX_TIME} ms")) } else { Ok(()) }
}

/// The method of that name.
pub(super) fn method(name: &str) -> Option<Method> {
    METHODS.into_iter().find(|method| method.as_str() == name)
}

/// What tells the version of a head whatever else is in it.
#[derive(Deserialize)]
struct Version {
    weir_trace: u32,
}

const METHODS: [Method; 7] =
    [Method::Get, Method::Head, Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Options];

const END_MARK: &[u8] = b"{\"weir_trace_end\"";
const PURGE_MARK: &[u8] = b"{\"purge\"";
const NO_TRACE: &str = "no trace: expected a line that begins with {\"weir_trace\":1";

/// No deeper can a body be that a key is taken from.
const MAX_DEPTH: usize = 129;

/// Ten years, in milliseconds.
const MAX_TIME: u64 = 3_650 * 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"weir_trace":1,"edge":"e","began":1700000000000,"sample":0.5,"salt":"s"}"#;
    const LINE: &str =
        r#"{"at":5,"route":"r","class":"update","method":"GET","path":"/a/~1","bytes":3,"outcome":"hit","status":200}"#;
    const END: &str = r#"{"weir_trace_end":"time","covered":60000,"lines":1,"too_long":0,"requests":{"r":2}}"#;

    fn read(lines: &[&str]) -> Result<(Vec<Line>, End), String> {
        let mut reader = Reader::default();
        let mut requests = Vec::new();
        for line in lines {
            requests.extend(reader.take(line.as_bytes()).map_err(|fault| fault.to_string())?);
        }
        reader.finish().map(|(_, end)| (requests, end)).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        let (lines, end) = read(&[HEAD, LINE, END]).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&serde_json::to_string(&lines[0]).unwrap()).unwrap(), lines[0]);
        assert_eq!((lines[0].at, end.requests["r"], end.weir_trace_end.as_str()), (5, 2, "time"));
    }

    #[test]
    fn a_purge_is_a_line_of_its_own() {
        let asked = Asked { method: "PUT".into(), path: "/a/~1".into(), tenant: Some("~t".into()), ..Asked::default() };
        let purges = [
            Purge { purge: "route".into(), at: 7, of: vec!["r".into()], soft: true, request: None },
            Purge { purge: "change".into(), of: vec!["/a/~1".into()], request: Some(asked), ..Purge::default() },
        ];
        for purge in purges {
            let written = serde_json::to_string(&purge).unwrap();
            let mut reader = Reader::default();
            for (line, expected) in [(HEAD, None), (&*written, Some(purge)), (END, None)] {
                assert_eq!(reader.take(line.as_bytes()).unwrap(), None);
                assert_eq!(reader.purged(), expected);
            }
            assert!(reader.finish().is_ok());
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_was_expected() {
        let newer = r#"{"weir_trace":2,"streams":[]}"#;
        let longer = format!("{LINE}{}", " ".repeat(MAX_LINE_BYTES));
        let cases: &[(&[&str], &str)] = &[
            (&[], "1: no trace: expected a line that begins with {\"weir_trace\":1"),
            (&["at,route"], "1: no trace: expected"),
            (&[newer], "1: a trace of version 2: this program reads version 1"),
            (&[&HEAD.replace("0.5", "0")], "1: `sample` is not from 0.000001 to 1"),
            (&[HEAD], "2: the trace breaks off: expected a request or the trace's end"),
            (&[HEAD, LINE, &LINE[..40]], "3:40: expected a request or the trace's end: EOF while parsing"),
            (
                &[HEAD, &LINE.replace("\"at\"", "\"et\"")],
                "2:5: expected a request or the trace's end: unknown field `et`",
            ),
            (&[HEAD, &LINE.replace("GET", "BREW")], "2: `BREW` is no method that a route can name"),
            (&[HEAD, &LINE.replace("\"hit\"", "\"hat\"")], "2: `hat` is no outcome"),
            (&[HEAD, &LINE.replace("/a", "a")], "2: `path` does not begin with `/`"),
            (&[HEAD, &longer], "2: longer than 65536 bytes"),
            (&[HEAD, r#"{"purge":"hat","at":1}"#], "2: `hat` is no kind of purge"),
            (&[HEAD, r#"{"purge":"tag","at":1}"#], "2: a purge of kind `tag` has one name in `of`"),
            (&[HEAD, r#"{"purge":"change","at":1,"of":["/a"]}"#], "2: a purge of kind `change` has a `request`"),
            (
                &[HEAD, r#"{"purge":"request","at":1,"request":{"method":"GET","path":"a"}}"#],
                "2: `path` does not begin with `/`",
            ),
            (&[HEAD, END], "2: the end tells of 1 lines, but there are 0"),
            (&[HEAD, LINE, END, LINE], "4: expected nothing after the trace's end"),
        ];
        for (lines, expected) in cases {
            let told = read(lines).unwrap_err();
            assert!(told.starts_with(expected), "{told}\n{expected}");
        }
    }
}
