//! What the core does wrong, and when. Plain state: who asks is told how the next request shall be treated.
//!
//! Not here: carrying a behaviour out (`server`), and closing the listener while the core is down (`listener`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::objections::Objection;

/// How the core treats requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Answers as the contracts say.
    #[default]
    Up,
    /// Not there. For all endpoints: connections are closed and new ones refused. For one endpoint: the connection is
    /// closed without an answer. Nothing is committed.
    Down,
    /// Does what was asked at once and answers this much later, so that a caller who gave up was heard all the same.
    Slow {
        /// The delay in milliseconds.
        millis: u64,
    },
    /// Answers with this status and does nothing else.
    Status {
        /// The status, 200 to 599.
        code: u16,
        /// Seconds for `Retry-After`, where it is wanted.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// Does what was asked and loses the connection in the middle of the answer.
    Reset,
    /// Reads the request and never answers, until the script changes; then the connection is closed.
    Hang,
    /// Does nothing and answers 200 with bytes that no contract allows. To batches it answers 207 with such bytes: there any
    /// other 2xx is a promise, whatever its body.
    Garbage,
    /// Refuses with 400 each batch that has a bad row in it and takes nothing of it. A row is bad by its text, about one in so
    /// many, and so in every batch it comes in. Like [`Self::TooLarge`] and [`Self::Partial`] it leaves batches alone whose id is
    /// known: they are answered as they were before.
    BadRows {
        /// Rows for one that is bad, about.
        one_in: u64,
    },
    /// Refuses with 413 each batch of more rows than this, and takes nothing of it.
    TooLarge {
        /// Rows of the largest batch taken.
        max_rows: u64,
    },
    /// Takes each batch in part and answers 207: of so many rows about one is refused for good and one is wanted again. A
    /// batch that comes a second time is given the same answer, as long as its id is remembered.
    Partial {
        /// Rows for one that is refused, and for one that is wanted again, about.
        one_in: u64,
    },
}

impl Behaviour {
    /// Answers late by `delay`, in whole milliseconds.
    pub fn slow(delay: Duration) -> Self {
        Self::Slow { millis: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Whether requests are worked on, however late, and whatever is said of single rows.
    pub(crate) fn works(&self) -> bool {
        matches!(self, Self::Up | Self::Slow { .. }) || self.objection().is_some()
    }

    /// What it holds against rows of batches.
    pub(crate) fn objection(&self) -> Option<Objection> {
        match *self {
            Self::BadRows { one_in } => Some(Objection::Bad { one_in }),
            Self::TooLarge { max_rows } => Some(Objection::TooMany { max_rows }),
            Self::Partial { one_in } => Some(Objection::Partly { one_in }),
            _ => None,
        }
    }

    /// Answers every request with `code`.
    pub fn status(code: u16) -> Self {
        Self::Status { code, retry_after: None }
    }
}

/// The kinds of request the core tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointKind {
    /// `GET /v1/updates/{channel}/manifest.json`
    Update,
    /// `GET /v1/config` and `GET /v1/tenants/{tenant}/config`
    Config,
    /// `GET /v1/agents/{agent}/tasks`
    Tasks,
    /// `POST` of any path that ends in `:lookup`
    Lookup,
    /// `POST /v1/batches/{stream}`
    Batch,
    /// `POST /v1/presence`
    Presence,
    /// `POST /v1/events/{stream}`: an agent's own upload
    Events,
    /// `/v1/echo` and below
    Echo,
    /// `GET /v1/stream`
    Stream,
    /// `GET /v1/packages/{name}`
    Package,
    /// `GET /v1/ws`
    WebSocket,
    /// `GET /healthz`
    Health,
    /// Everything else, answered 404
    Other,
}

impl EndpointKind {
    /// The kind that `path` (without its query) belongs to.
    pub fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            _ if path.ends_with(":lookup") => Self::Lookup,
            ["v1", "updates", _, "manifest.json"] => Self::Update,
            ["v1", "config"] | ["v1", "tenants", _, "config"] => Self::Config,
            ["v1", "agents", _, "tasks"] => Self::Tasks,
            ["v1", "batches", _] => Self::Batch,
            ["v1", "presence"] => Self::Presence,
            ["v1", "events", _] => Self::Events,
            ["v1", "echo", ..] => Self::Echo,
            ["v1", "stream"] => Self::Stream,
            ["v1", "packages", _] => Self::Package,
            ["v1", "ws"] => Self::WebSocket,
            ["healthz"] => Self::Health,
            _ => Self::Other,
        }
    }
}

/// The standing orders and the short ones that come before them.
#[derive(Debug)]
pub(crate) struct Script {
    everywhere: Behaviour,
    by_kind: BTreeMap<EndpointKind, Behaviour>,
    next: Vec<Fault>,
    /// Whether the core is down, told again at every change: hung requests and upgraded connections wait for it.
    changes: watch::Sender<bool>,
}

/// A behaviour for the next few requests only.
#[derive(Debug)]
struct Fault {
    kind: Option<EndpointKind>,
    remaining: u64,
    behaviour: Behaviour,
}

/// Faults that may be queued at a time. The oldest leaves when one more comes.
const MAX_QUEUED_FAULTS: usize = 1024;

impl Script {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let (changes, _) = watch::channel(behaviour == Behaviour::Down);
        Self { everywhere: behaviour, by_kind: BTreeMap::new(), next: Vec::new(), changes }
    }

    /// One behaviour everywhere; forgets all that was ordered before.
    pub(crate) fn set(&mut self, behaviour: Behaviour) {
        self.everywhere = behaviour;
        self.by_kind.clear();
        self.next.clear();
        self.changed();
    }

    /// One behaviour for one kind of endpoint.
    pub(crate) fn set_for(&mut self, kind: EndpointKind, behaviour: Behaviour) {
        self.by_kind.insert(kind, behaviour);
        self.changed();
    }

    /// One behaviour for the next `count` requests (of `kind`, where one is given), ahead of what stands.
    pub(crate) fn fail_next(&mut self, kind: Option<EndpointKind>, count: u64, behaviour: Behaviour) {
        if self.next.len() == MAX_QUEUED_FAULTS {
            self.next.remove(0);
        }
        self.next.push(Fault { kind, remaining: count, behaviour });
        self.next.retain(|fault| fault.remaining > 0);
    }

    /// How to treat one request of this kind; uses up one of the short orders.
    pub(crate) fn take(&mut self, kind: EndpointKind) -> Behaviour {
        if self.is_down() {
            return Behaviour::Down;
        }
        if let Some(at) = self.next.iter().position(|fault| fault.kind.is_none_or(|wanted| wanted == kind)) {
            let fault = &mut self.next[at];
            fault.remaining -= 1;
            let behaviour = fault.behaviour.clone();
            if fault.remaining == 0 {
                self.next.remove(at);
            }
            return behaviour;
        }
        self.by_kind.get(&kind).unwrap_or(&self.everywhere).clone()
    }

    pub(crate) fn is_down(&self) -> bool {
        self.everywhere == Behaviour::Down
    }

    /// Sees every change from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_replace(self.is_down());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_orders_come_first_and_run_out() {
        let mut script = Script::new(Behaviour::Up);
        script.fail_next(Some(EndpointKind::Batch), 2, Behaviour::status(500));
        assert_eq!(script.take(EndpointKind::Lookup), Behaviour::Up);
        assert_eq!(script.take(EndpointKind::Batch), Behaviour::status(500));
        assert_eq!(script.take(EndpointKind::Batch), Behaviour::status(500));
        assert_eq!(script.take(EndpointKind::Batch), Behaviour::Up);
    }

    #[test]
    fn an_order_for_all_forgets_those_for_one() {
        let mut script = Script::new(Behaviour::Up);
        script.set_for(EndpointKind::Config, Behaviour::Hang);
        assert_eq!(script.take(EndpointKind::Config), Behaviour::Hang);
        script.set(Behaviour::Garbage);
        assert_eq!(script.take(EndpointKind::Config), Behaviour::Garbage);
    }

    #[test]
    fn a_core_that_is_down_uses_up_no_short_order() {
        let mut script = Script::new(Behaviour::Down);
        script.fail_next(None, 1, Behaviour::Reset);
        assert_eq!(script.take(EndpointKind::Echo), Behaviour::Down);
        assert_eq!(script.next.len(), 1);
    }

    #[test]
    fn paths_are_sorted_into_kinds() {
        assert_eq!(EndpointKind::of("/v1/tasks:lookup"), EndpointKind::Lookup);
        assert_eq!(EndpointKind::of("/v1/updates/beta/manifest.json"), EndpointKind::Update);
        assert_eq!(EndpointKind::of("/v1/tenants/t-1/config"), EndpointKind::Config);
        assert_eq!(EndpointKind::of("/v1/echo/a/b"), EndpointKind::Echo);
        assert_eq!(EndpointKind::of("/v1/echoes"), EndpointKind::Other);
    }

    #[test]
    fn behaviours_are_written_in_json_as_the_admin_port_takes_them() {
        let parse = |text: &str| serde_json::from_str::<Behaviour>(text).unwrap();
        assert_eq!(parse(r#""up""#), Behaviour::Up);
        assert_eq!(parse(r#"{"slow":{"millis":20}}"#), Behaviour::slow(Duration::from_millis(20)));
        assert_eq!(
            parse(r#"{"status":{"code":429,"retry_after":7}}"#),
            Behaviour::Status { code: 429, retry_after: Some(7) }
        );
    }
}
