//! `/rollouts`: which releases are on their way, how far they have come, and the operator's word on them.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_config::{Action, Ratio};
use weir_logic::Millis;
use weir_logic::cache::rollout::{Candidate, Step};

use super::{Held, Rollouts, Slot};
use crate::admin::{Pages, Question, Reply};
use crate::cache::entry::Entry;
use crate::cache::{CacheAction, Shell};
use crate::snapshot::SharedSnapshot;

/// The page.
pub struct RolloutPage {
    shell: Arc<Shell>,
    snapshot: SharedSnapshot,
}

/// An order as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    route: String,
    key: Option<String>,
    action: Word,
    share: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Pause,
    Resume,
    Share,
    Finish,
    Abort,
}

impl RolloutPage {
    /// The page about this cache's releases.
    pub fn new(cache: &CacheAction, snapshot: SharedSnapshot) -> Self {
        Self { shell: Arc::clone(&cache.shell), snapshot }
    }

    fn carry_out(&self, order: &Order) -> Result<Reply, Reply> {
        self.known_route(&order.route)?;
        let key = order.key.as_deref().map(|text| u128::from_str_radix(text, 16)).transpose();
        let key = key.map_err(|_| wrong("a key is written as /rollouts shows it, in hexadecimal"))?;
        let step = step(order)?;
        let now = self.shell.clock.now();
        let rollouts = &self.shell.rollouts;
        let keys = rollouts.step(&order.route, key, step, now);
        if keys == 0 {
            return Err(wrong("no release is on its way there"));
        }
        tracing::info!(route = order.route, ?step, keys, "rollout");
        rollouts.tend(now);
        rollouts.save();
        Ok(Reply::ok(json!({ "keys": keys, "saved": !rollouts.is_unsaved() })))
    }

    fn known_route(&self, name: &str) -> Result<(), Reply> {
        let snapshot = self.snapshot.load();
        let paced = |action: &Action| matches!(action, Action::Cache(route) if route.rollout.is_some());
        let names: Vec<_> =
            snapshot.config.routes.iter().filter(|route| paced(&route.action)).map(|route| &*route.name).collect();
        match names.contains(&name) {
            true => Ok(()),
            false if names.is_empty() => Err(wrong("no route has a `rollout`")),
            false => Err(wrong(&format!("no route of that name has a `rollout`; there are: {}", names.join(", ")))),
        }
    }
}

impl Pages for RolloutPage {
    fn answer(&self, question: &Question<'_>) -> Option<Reply> {
        if question.path != "/rollouts" {
            return None;
        }
        Some(match *question.method {
            Method::GET | Method::HEAD => Reply::ok(self.shell.rollouts.told(self.shell.clock.now())),
            Method::POST => {
                let order = serde_json::from_slice::<Order>(question.body).map_err(|error| wrong(&error.to_string()));
                order.and_then(|order| self.carry_out(&order)).unwrap_or_else(|refused| refused)
            }
            _ => Reply::refused(StatusCode::METHOD_NOT_ALLOWED, "GET tells, POST orders"),
        })
    }
}

impl Rollouts {
    /// What is on its way, by route and path.
    fn told(&self, now: Millis) -> Value {
        let on_their_way = |slot: Held<'_>| {
            let candidate = slot.releases.candidate()?;
            Some((Arc::clone(&slot.route), told(&slot, slot.key().digest(), candidate, now)))
        };
        let mut list: Vec<_> = self.slots.iter().filter_map(on_their_way).collect();
        list.sort_by(|(one, about), (other, also)| {
            one.cmp(other).then_with(|| about["path"].as_str().cmp(&also["path"].as_str()))
        });
        let list: Vec<_> = list.into_iter().map(|(_, about)| about).collect();
        json!({ "keys_known": self.slots.len(), "rollouts": list })
    }
}

fn told(slot: &Slot, key: u128, candidate: &Candidate<Arc<Entry>>, now: Millis) -> Value {
    let previous = slot.releases.previous();
    let rollout = &candidate.rollout;
    json!({
        "route": *slot.route,
        "key": format!("{key:032x}"),
        "path": previous.answer.stamp().marks().path(),
        "previous": previous.digest.to_string(),
        "current": candidate.digest.to_string(),
        "stage": rollout.stage(),
        "fraction": rollout.fraction(now),
        "share": rollout.share(),
        "over_seconds": rollout.over().as_secs_f64(),
        "begun_seconds_ago": now.since(rollout.begun()).as_secs_f64(),
    })
}

fn step(order: &Order) -> Result<Step, Reply> {
    match (order.action, order.share.as_deref()) {
        (Word::Share, Some(share)) => match share.parse::<Ratio>() {
            Ok(share) => Ok(Step::Share(share)),
            Err(_) => Err(wrong("`share` is a number from 0 to 1, or a percentage such as \"10 %\"")),
        },
        (Word::Share, None) => Err(wrong("name the `share`")),
        (_, Some(_)) => Err(wrong("only the action `share` has a `share`")),
        (Word::Pause, None) => Ok(Step::Pause),
        (Word::Resume, None) => Ok(Step::Resume),
        (Word::Finish, None) => Ok(Step::Finish),
        (Word::Abort, None) => Ok(Step::Abort),
    }
}

fn wrong(problem: &str) -> Reply {
    Reply::refused(StatusCode::BAD_REQUEST, problem)
}
