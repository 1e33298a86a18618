//! A core of many moods: what it says is a value, which the cache reads off the wire and the model reads as it stands.

use weir_config::{CacheRoute, FreshnessMode};

use super::super::support::{Reply, manifest, reply};
use crate::upstream::{OriginError, OriginRequest};

/// What a core does with each request of one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mood {
    pub(super) kind: Kind,
    /// Its `Cache-Control`, by its place in [`CONTROLS`]; the first is none.
    pub(super) control: usize,
    /// Its `Age`; zero is none.
    pub(super) age: u64,
    pub(super) vary: Option<&'static str>,
    pub(super) tag: Tag,
    pub(super) encoded: bool,
    pub(super) surrogate: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Good(u16),
    /// 304 to everyone, without a field.
    Unchanged,
    Fault(u16),
    /// A page that breaks off.
    Half,
    Timeout,
    Broken,
}

/// What entity tags it gives. Equal tags mean equal bodies, whatever else it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    None,
    Strong,
    Weak,
}

/// What the core says of caching, and what it means, written out.
pub(super) struct Control {
    pub(super) text: &'static str,
    pub(super) lifetime: Option<u64>,
    pub(super) shared_lifetime: bool,
    pub(super) never_stale: bool,
    pub(super) while_revalidate: Option<u64>,
    pub(super) if_error: Option<u64>,
    pub(super) forbidden: bool,
}

const NOTHING: Control = Control {
    text: "",
    lifetime: None,
    shared_lifetime: false,
    never_stale: false,
    while_revalidate: None,
    if_error: None,
    forbidden: false,
};

pub(super) const CONTROLS: [Control; 12] = [
    NOTHING,
    Control { text: "max-age=10", lifetime: Some(10), ..NOTHING },
    Control { text: "max-age=100", lifetime: Some(100), ..NOTHING },
    Control { text: "max-age=0", lifetime: Some(0), ..NOTHING },
    Control { text: "S-MaxAge=\"10\", max-age=90", lifetime: Some(10), shared_lifetime: true, ..NOTHING },
    Control { text: "no-cache, max-age=10", lifetime: Some(0), never_stale: true, ..NOTHING },
    Control { text: "max-age=10, must-revalidate", lifetime: Some(10), never_stale: true, ..NOTHING },
    Control {
        text: "max-age=10, stale-while-revalidate=5, stale-if-error=20",
        lifetime: Some(10),
        while_revalidate: Some(5),
        if_error: Some(20),
        ..NOTHING
    },
    Control {
        text: "s-maxage=3, stale-while-revalidate=9000, stale-if-error=9000",
        lifetime: Some(3),
        shared_lifetime: true,
        while_revalidate: Some(9_000),
        if_error: Some(9_000),
        ..NOTHING
    },
    Control {
        text: "max-age=2, stale-while-revalidate=20, stale-if-error=0",
        lifetime: Some(2),
        while_revalidate: Some(20),
        if_error: Some(0),
        ..NOTHING
    },
    Control { text: "max-age=10, no-store", lifetime: Some(10), forbidden: true, ..NOTHING },
    Control { text: "private, max-age=10", lifetime: Some(10), forbidden: true, ..NOTHING },
];

/// A request as the core sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) os: String,
    pub(super) language: Option<String>,
    pub(super) encoding: Option<String>,
    /// The entity tags of `If-None-Match`.
    pub(super) tags: Vec<String>,
}

/// What the core says to it.
#[derive(Clone, Debug)]
pub(super) enum Word {
    Answer(Answered),
    Nothing(OriginError),
}

#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) control: usize,
    pub(super) age: u64,
    pub(super) vary: Option<&'static str>,
    pub(super) etag: Option<String>,
    pub(super) encoded: bool,
    pub(super) surrogate: Option<&'static str>,
    pub(super) intact: bool,
}

impl Mood {
    /// What it says while its content is of that version. It has German for all who speak it.
    pub(super) fn says(&self, version: usize, question: &Question) -> Word {
        let language = question.language.as_deref().unwrap_or("-").split('-').next().unwrap_or_default();
        let content = format!("{}.{version}.{language}.{}", question.os, question.encoding.as_deref().unwrap_or("-"));
        let content = content.replace(", ", "+");
        let etag = match self.tag {
            Tag::None => None,
            Tag::Strong => Some(format!("\"{content}\"")),
            Tag::Weak => Some(format!("W/\"{content}\"")),
        };
        let status = match self.kind {
            Kind::Timeout => return Word::Nothing(OriginError::Timeout),
            Kind::Broken => return Word::Nothing(OriginError::Broken),
            Kind::Unchanged => 304,
            Kind::Half => 200,
            Kind::Fault(status) => status,
            Kind::Good(200) if etag.as_ref().is_some_and(|tag| question.tags.iter().any(|known| same(known, tag))) => {
                304
            }
            Kind::Good(status) => status,
        };
        let bare = self.kind == Kind::Unchanged;
        Word::Answer(Answered {
            status,
            body: if status == 304 { String::new() } else { format!("{status}:{content}") },
            control: if bare { 0 } else { self.control },
            age: if bare { 0 } else { self.age },
            vary: self.vary.filter(|_| !bare),
            etag: etag.filter(|_| !bare),
            // What is encoded cannot be told to be half of something.
            encoded: self.encoded && status != 304 && self.kind != Kind::Half,
            surrogate: self.surrogate.filter(|_| !bare),
            intact: self.kind != Kind::Half,
        })
    }
}

/// Whether two tags are equal by weak comparison.
pub(super) fn same(left: &str, right: &str) -> bool {
    left.trim_start_matches("W/") == right.trim_start_matches("W/")
}

impl Word {
    /// The same on the wire.
    pub(super) fn reply(&self) -> Reply {
        let answered = match self {
            Self::Nothing(error) => return Err(*error),
            Self::Answer(answered) => answered,
        };
        let age = answered.age.to_string();
        let mut fields = Vec::new();
        fields.extend(Some(("cache-control", CONTROLS[answered.control].text)).filter(|(_, text)| !text.is_empty()));
        fields.extend((answered.age > 0).then_some(("age", age.as_str())));
        fields.extend(answered.vary.map(|names| ("vary", names)));
        fields.extend(answered.etag.as_deref().map(|tag| ("etag", tag)));
        fields.extend(answered.encoded.then_some(("content-encoding", "br")));
        fields.extend(answered.surrogate.map(|tag| ("surrogate-key", tag)));
        fields.extend((!answered.intact).then_some(("content-type", "application/json")));
        reply(answered.status, &fields, &answered.body)
    }
}

impl Question {
    /// What a fill has asked.
    pub(super) fn of(request: &OriginRequest) -> Self {
        let said = |name: &str| {
            let value = request.headers.iter().find(|(known, _)| known == name);
            value.map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        Self {
            os: request.target.split_once("os=").map(|(_, os)| os.to_owned()).unwrap_or_default(),
            language: said("accept-language"),
            encoding: said("accept-encoding"),
            tags: said("if-none-match").map_or_else(Vec::new, |list| list.split(", ").map(str::to_owned).collect()),
        }
    }
}

/// The route in one of its modes.
pub(super) fn route(freshness: FreshnessMode, obey_agents: bool) -> CacheRoute {
    CacheRoute {
        freshness,
        obey_agents,
        vary: vec!["accept-language".to_owned(), "accept-encoding".to_owned()],
        max_variants: 2,
        min_ttl: std::time::Duration::from_secs(5),
        max_ttl: std::time::Duration::from_secs(40),
        ..manifest()
    }
}
