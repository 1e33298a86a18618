//! An unpacked body, cut into records in place.
//!
//! Each byte is looked at once, and once more for being UTF-8. Records move to the front of the body, each followed by a
//! line feed. They never need more room than they had: before each but the first of a body without brackets stands a
//! byte that goes, an opening bracket, a comma or a line feed.

use memchr::{memchr, memchr2};

use crate::json::{Scanned, scan_value, skip_space};
use crate::upload::{Framing, Reason, Refusal, Upload, UploadError, UploadLimits};

/// Cuts `body` into its records.
pub(crate) fn cut(body: Vec<u8>, framing: Framing, limits: &UploadLimits) -> Result<Upload, UploadError> {
    let is_utf8 = std::str::from_utf8(&body).is_ok();
    let mut cutter = Cutter { limits, body, is_utf8, kept: 0, seen: 0, upload: Upload::default() };
    match framing {
        Framing::Lines => cutter.cut_lines()?,
        Framing::Json => cutter.cut_json()?,
    }
    let Cutter { mut body, kept, mut upload, .. } = cutter;
    body.truncate(kept);
    upload.lines = body;
    Ok(upload)
}

struct Cutter<'l> {
    limits: &'l UploadLimits,
    body: Vec<u8>,
    /// Whether the whole body is: then each record is.
    is_utf8: bool,
    /// The end of the records kept so far; never past what has been read.
    kept: usize,
    seen: usize,
    upload: Upload,
}

/// Where a record stands.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    /// Whether line breaks stand between its tokens.
    broken: bool,
}

impl Cutter<'_> {
    fn cut_lines(&mut self) -> Result<(), UploadError> {
        let mut at = 0;
        while at < self.body.len() {
            let end = memchr(b'\n', &self.body[at..]).map_or(self.body.len(), |length| at + length);
            let start = skip_space(&self.body[..end], at);
            at = end + 1;
            if start < end {
                let verdict = self.check_line(start, end);
                self.take(verdict)?;
            }
        }
        Ok(())
    }

    fn check_line(&self, start: usize, end: usize) -> Result<Span, Reason> {
        let line = &self.body[..end];
        if line[start..].trim_ascii_end().len() > self.limits.max_record_bytes {
            return Err(Reason::TooLong);
        }
        let scanned = scan_value(line, start).map_err(|_| Reason::NotJson)?;
        if skip_space(line, scanned.end) != end {
            return Err(Reason::NotJson);
        }
        self.check(start, scanned)
    }

    fn cut_json(&mut self) -> Result<(), UploadError> {
        let start = skip_space(&self.body, 0);
        match self.body.get(start) {
            Some(b'[') => {
                let end = self.cut_array(start + 1)?;
                self.ends_at(end)
            }
            Some(b'{') => {
                let (verdict, end) = self.scan(start)?;
                self.ends_at(end)?;
                self.take(verdict)
            }
            _ => {
                // The difference matters to whoever reads the answer: "17" is JSON, "hello" is not.
                scan_value(&self.body, start).map_err(|error| UploadError::NotJson { at: error.at })?;
                Err(UploadError::NotRecords)
            }
        }
    }

    /// Cuts the elements that follow an opening bracket and gives the offset past the closing one.
    fn cut_array(&mut self, at: usize) -> Result<usize, UploadError> {
        let mut at = skip_space(&self.body, at);
        if self.body.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        loop {
            let (verdict, end) = self.scan(at)?;
            self.take(verdict)?;
            at = skip_space(&self.body, end);
            match self.body.get(at) {
                Some(b',') => at = skip_space(&self.body, at + 1),
                Some(b']') => return Ok(at + 1),
                _ => return Err(UploadError::NotJson { at }),
            }
        }
    }

    /// The verdict on the value that begins at `start`, and where it ends.
    fn scan(&self, start: usize) -> Result<(Result<Span, Reason>, usize), UploadError> {
        let scanned = scan_value(&self.body, start).map_err(|error| UploadError::NotJson { at: error.at })?;
        Ok((self.check(start, scanned), scanned.end))
    }

    fn ends_at(&self, end: usize) -> Result<(), UploadError> {
        let end = skip_space(&self.body, end);
        if end == self.body.len() { Ok(()) } else { Err(UploadError::NotJson { at: end }) }
    }

    fn check(&self, start: usize, scanned: Scanned) -> Result<Span, Reason> {
        let Scanned { end, depth, longest, broken } = scanned;
        if self.body[start] != b'{' {
            return Err(Reason::NotAnObject);
        }
        if end - start > self.limits.max_record_bytes {
            return Err(Reason::TooLong);
        }
        if depth > self.limits.max_depth {
            return Err(Reason::TooDeep);
        }
        if longest > self.limits.max_string_bytes {
            return Err(Reason::StringTooLong);
        }
        if !self.is_utf8 && std::str::from_utf8(&self.body[start..end]).is_err() {
            return Err(Reason::NotUtf8);
        }
        Ok(Span { start, end, broken })
    }

    fn take(&mut self, verdict: Result<Span, Reason>) -> Result<(), UploadError> {
        let index = self.seen;
        self.seen += 1;
        if self.seen > self.limits.max_records {
            return Err(UploadError::TooManyRecords { max_records: self.limits.max_records });
        }
        match verdict {
            Ok(record) => {
                self.keep(record);
                self.upload.accepted += 1;
            }
            Err(reason) => {
                self.upload.refusals[reason as usize] += 1;
                if self.upload.refused.len() < Upload::LISTED {
                    self.upload.refused.push(Refusal { index, reason });
                }
            }
        }
        Ok(())
    }

    /// Moves a valid record to the others as one line. A line break in valid JSON stands between tokens, and no two tokens
    /// of JSON need space between them, so leaving it out changes nothing but the layout.
    fn keep(&mut self, record: Span) {
        let Span { start, end, broken } = record;
        let mut from = start;
        if broken {
            while let Some(length) = memchr2(b'\n', b'\r', &self.body[from..end]) {
                self.shift(from, from + length);
                from += length + 1;
            }
        }
        self.shift(from, end);
        match self.body.get_mut(self.kept) {
            Some(byte) => *byte = b'\n',
            None => self.body.push(b'\n'),
        }
        self.kept += 1;
    }

    fn shift(&mut self, from: usize, to: usize) {
        self.body.copy_within(from..to, self.kept);
        self.kept += to - from;
    }
}
