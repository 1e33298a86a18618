//! What a node has said on a connection, without what time and chance put into it.

use crate::corpus::Conversation;

/// The answers, one after the other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Transcript {
    answers: Vec<Answer>,
    /// What follows the last whole answer.
    rest: Vec<u8>,
    /// Answers that the agent waits for before it leaves.
    awaited: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    /// In order of their names; those of one name as they came.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Transcript {
    /// The answers to a conversation.
    pub(crate) fn of(mut said: &[u8], conversation: &Conversation) -> Self {
        let mut answers = Vec::new();
        let mut final_answers = 0;
        while let Some((answer, beyond)) = answer(said, conversation.is_head(final_answers)) {
            final_answers += usize::from(!answer.is_interim());
            answers.push(answer);
            said = beyond;
        }
        Self { answers, rest: said.to_vec(), awaited: conversation.awaited }
    }

    /// Whether every request has been answered.
    pub(crate) fn is_whole(&self) -> bool {
        self.answers.iter().filter(|answer| !answer.is_interim()).count() >= self.awaited
    }
}

impl Answer {
    fn is_interim(&self) -> bool {
        self.status.starts_with("HTTP/1.1 1")
    }
}

fn answer(said: &[u8], is_head: bool) -> Option<(Answer, &[u8])> {
    let end = said.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(said[..end].to_vec()).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().to_owned();
    let fields = lines.map(|line| line.split_once(": ").unwrap_or((line, "")));
    let mut headers: Vec<(String, String)> =
        fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    headers.sort_by(|(left, _), (right, _)| left.cmp(right));
    let value = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let (body, beyond) = match (value("content-length"), value("transfer-encoding")) {
        _ if is_head => (Vec::new(), &said[end..]),
        (Some(length), None) => {
            let body = said[end..].get(..length.parse().unwrap())?;
            (body.to_vec(), &said[end + body.len()..])
        }
        (None, Some("chunked")) => chunks(&said[end..])?,
        (None, None) => (Vec::new(), &said[end..]),
        other => panic!("framed in two ways: {other:?}"),
    };
    let headers = headers.into_iter().map(|(name, value)| (name.clone(), timeless(&name, value))).collect();
    Some((Answer { status, headers, body }, beyond))
}

fn chunks(mut said: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let line = said.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&said[..line]).unwrap(), 16).unwrap();
        let piece = said.get(line + 2..line + 2 + size)?;
        assert_eq!(said.get(line + 2 + size..line + 4 + size)?, b"\r\n");
        body.extend_from_slice(piece);
        said = &said[line + 4 + size..];
        if size == 0 {
            return Some((body, said));
        }
    }
}

/// The value without what depends on the moment.
pub(crate) fn timeless(name: &str, value: String) -> String {
    match name {
        "date" | "age" | "retry-after" | "last-modified" => "*".into(),
        "cache-status" => value.split(';').filter(|part| !part.trim().starts_with("ttl=")).collect(),
        _ => value,
    }
}
