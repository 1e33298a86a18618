//! Writing the answer to a plain request: its head and a small body in one piece, a large body from where it lies.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::SERVER;
use weir_logic::Millis;

use super::super::exchange::Unwritten;
use super::super::framing::{Framing, is_the_writers};
use crate::accept::Plain;
use crate::answer::{Answer, Body, Hit, Stream};

/// Writes the whole answer, or as much of it as there is; without its body where the request was `HEAD`.
pub(super) async fn answer(
    request: &mut Plain<'_>,
    is_head: bool,
    now: Millis,
    answer: Answer,
    written: &mut u64,
) -> Result<(), Unwritten> {
    let framing = Framing::of(&answer);
    let mut head = head(&answer, framing, request.is_kept(), now);
    match answer.body {
        _ if is_head || framing == Framing::None => request.write(&head, b"").await?,
        Body::Whole(body) if body.len() <= SMALL => {
            head.extend_from_slice(&body);
            request.write(&head, b"").await?;
            *written += body.len() as u64;
        }
        Body::Whole(body) => request.write_counted(&head, &body, written).await?,
        Body::Stream(pieces) => {
            request.write(&head, b"").await?;
            stream(request, framing, pieces, written).await?;
        }
    }
    Ok(())
}

/// Writes the pieces one by one: the next is asked for when the agent has taken the last.
async fn stream(
    request: &mut Plain<'_>,
    framing: Framing,
    mut stream: Stream,
    written: &mut u64,
) -> Result<(), Unwritten> {
    let before = *written;
    while let Some(piece) = stream.next().await {
        let Ok(piece) = piece else {
            request.close_after();
            return Err(Unwritten::Cut);
        };
        if framing == Framing::Open {
            let size = format!("{:x}\r\n", piece.len());
            request.write(size.as_bytes(), &piece).await?;
            request.write(b"\r\n", b"").await?;
        } else {
            request.write(&piece, b"").await?;
        }
        *written += piece.len() as u64;
    }
    match framing {
        Framing::Open => request.write(b"0\r\n\r\n", b"").await?,
        Framing::Length(length) if *written - before != length => {
            request.close_after();
            return Err(Unwritten::Cut);
        }
        _ => {}
    }
    Ok(())
}

/// The head of a hit: what [`head`] would write of the same answer.
pub(super) fn hit(head: &mut Vec<u8>, hit: &Hit, keeps: bool, now: Millis) {
    let fields = hit.lender.fields();
    let fields = fields.get(..hit.fields).unwrap_or(fields);
    status_line(head, hit.status);
    let mut names_server = false;
    for (name, value) in fields {
        names_server |= name == SERVER;
        field(head, name.as_str(), value.as_bytes());
    }
    head.extend_from_slice(b"Age: ");
    number(head, hit.age.as_secs());
    head.extend_from_slice(b"\r\nCache-Status: weir; hit; ttl=");
    if hit.ttl < 0 {
        head.push(b'-');
    }
    number(head, hit.ttl.unsigned_abs());
    head.extend_from_slice(b"\r\n");
    if !names_server {
        head.extend_from_slice(b"Server: weir\r\n");
    }
    framed(head, Framing::of_hit(hit));
    end(head, keeps, now);
}

fn status_line(head: &mut Vec<u8>, status: u16) {
    if status == 200 {
        return head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = status.canonical_reason().unwrap_or_default();
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
}

/// The field that says where the body ends.
fn framed(head: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::None => {}
        Framing::Length(length) => {
            head.extend_from_slice(b"Content-Length: ");
            number(head, length);
            head.extend_from_slice(b"\r\n");
        }
        Framing::Open => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// The fields that say when, and whether another request may follow, and the empty line.
fn end(head: &mut Vec<u8>, keeps: bool, now: Millis) {
    head.extend_from_slice(b"Date: ");
    head.extend_from_slice(&date(now));
    let last: &[u8] = if keeps { b"\r\nConnection: keep-alive\r\n\r\n" } else { b"\r\nConnection: close\r\n\r\n" };
    head.extend_from_slice(last);
}

/// Digits without a formatter, which costs more than all else that is written beside them.
fn number(head: &mut Vec<u8>, mut number: u64) {
    let (mut digits, mut at) = ([0; MAX_DIGITS], MAX_DIGITS);
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            return head.extend_from_slice(&digits[at..]);
        }
    }
}

/// Those of `u64::MAX`.
const MAX_DIGITS: usize = 20;

/// The status line and the header fields, with those that are the writer's.
fn head(answer: &Answer, framing: Framing, keeps: bool, now: Millis) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD + if framing == Framing::None { 0 } else { SMALL });
    status_line(&mut head, answer.status);
    let mut names_server = false;
    for (name, value) in &answer.headers {
        if is_the_writers(name) {
            continue;
        }
        names_server |= name == SERVER;
        field(&mut head, name.as_str(), value.as_bytes());
    }
    if !names_server {
        field(&mut head, "server", b"weir");
    }
    framed(&mut head, framing);
    end(&mut head, keeps, now);
    head
}

/// One field. Its name is written as people know it, since some agents compare names as they stand.
fn field(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.reserve(name.len() + value.len() + 4);
    let begin = head.len();
    head.extend_from_slice(name.as_bytes());
    let mut begins = true;
    for byte in &mut head[begin..] {
        if begins {
            byte.make_ascii_uppercase();
        }
        begins = *byte == b'-';
    }
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// `Date`, written anew once a second on each thread.
fn date(now: Millis) -> [u8; DATE_LENGTH] {
    thread_local! {
        static WRITTEN: Cell<(u64, [u8; DATE_LENGTH])> = const { Cell::new((u64::MAX, [b' '; DATE_LENGTH])) };
    }
    let second = now.0 / 1000;
    let (known, date) = WRITTEN.get();
    if known == second {
        return date;
    }
    let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    let date = text.as_bytes().try_into().unwrap_or([b' '; DATE_LENGTH]);
    WRITTEN.set((second, date));
    date
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
const DATE_LENGTH: usize = 29;

/// Most heads fit.
const HEAD: usize = 512;

/// A body up to here is copied behind its head: that costs less than handing two pieces to the kernel.
pub(super) const SMALL: usize = 2048;

impl From<std::io::Error> for Unwritten {
    fn from(error: std::io::Error) -> Self {
        Self::Gone(error.into())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
    use weir_logic::Outcome;

    use super::*;

    fn written(answer: weir_logic::Answer, keeps: bool) -> String {
        let answer = answer.map_body(Body::from);
        String::from_utf8(head(&answer, Framing::of(&answer), keeps, Millis(784_111_777_123))).unwrap()
    }

    #[test]
    fn the_writer_says_what_is_its_own_to_say() {
        let mut answer = weir_logic::Answer::empty(200, Outcome::Hit)
            .with(CONTENT_TYPE, HeaderValue::from_static("text/plain"))
            .with(CONTENT_LENGTH, HeaderValue::from_static("7"));
        answer.body = Bytes::from_static(b"abc");
        assert_eq!(
            written(answer, true),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: weir\r\nContent-Length: 3\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn an_answer_without_a_body_says_nothing_of_one() {
        let head = written(weir_logic::Answer::empty(304, Outcome::Hit), false);
        assert!(head.starts_with("HTTP/1.1 304 Not Modified\r\n") && !head.contains("Length"), "{head}");
        assert!(head.ends_with("Connection: close\r\n\r\n"));
    }

    #[test]
    fn the_date_goes_with_the_time() {
        assert_eq!(date(Millis(0)), *b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(Millis(1_999)), *b"Thu, 01 Jan 1970 00:00:01 GMT");
        assert_eq!(date(Millis(1_000)), *b"Thu, 01 Jan 1970 00:00:01 GMT");
    }
}
