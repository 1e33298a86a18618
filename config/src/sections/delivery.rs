//! `[stream.delivery]`: statuses of the core and what they ask for.

use crate::diagnostic::At;
use crate::key::{Choice, Key, Kind};
use crate::section::{Context, Names, Reader, Setting, section, table_settings, wrong_type};
use crate::setting::chosen;
use crate::tree::{Node, Value};
use crate::{DeliveryPlan, StatusPattern};

section! { DeliveryPlan, "stream.delivery",
    "What becomes of a batch by the status that the core answers.", statuses_agree, {
    live_for: std::time::Duration = Key::default("5s",
        "The age up to which a batch counts as live. What an outage has made older is backlog: it is sent oldest \
         first with the room that live batches leave.").between("100ms", "1h");
    retry: Vec<StatusPattern> = Key::default("[408, 425, 429, \"5xx\"]",
        "The core may take it later. A list says here what a class in another one would cover.").between("400", "599");
    split: Vec<StatusPattern> = Key::default("[413]",
        "It is too large: its halves are sent.").between("400", "599");
    bisect: Vec<StatusPattern> = Key::default("[400, 422]",
        "A row in it is at fault: it is looked for and put aside, and the others are delivered.").between("400", "599");
    dead_letter: Vec<StatusPattern> = Key::default("[406, 415]",
        "All of it is at fault: it is put aside for people to look at.").between("400", "599");
    pause: Vec<StatusPattern> = Key::default("[401, 403, 404, 405]",
        "The configuration or the credentials are at fault: the stream's deliveries rest at the longest delay, with \
         one attempt at a time, and an alarm says so. Nothing is given up.").between("400", "599");
}}

table_settings!(DeliveryPlan);

/// The lists' names, in the order of [`lists`].
const LISTS: [&str; 5] = ["retry", "split", "bisect", "dead_letter", "pause"];

/// The lists that act on the batch itself.
const FINAL: [&str; 3] = ["split", "bisect", "dead_letter"];

fn lists(plan: &mut DeliveryPlan) -> [&mut Vec<StatusPattern>; 5] {
    [&mut plan.retry, &mut plan.split, &mut plan.bisect, &mut plan.dead_letter, &mut plan.pause]
}

/// A status stands in one list. One that is written in a list leaves the default of another that is not written.
fn statuses_agree(plan: &mut DeliveryPlan, reader: &mut Reader<'_, '_>) {
    let mut written: Vec<(&str, StatusPattern, At)> = Vec::new();
    for (name, list) in LISTS.into_iter().zip(lists(plan)) {
        let nodes = reader.node(name).map_or(&[][..], Node::elements);
        for (pattern, node) in list.iter().zip(nodes) {
            let known = written.iter().find(|(other, known, _)| known == pattern && *other != name);
            if let Some((other, _, first)) = known.copied() {
                let message = format!("{} stands in `{other}` and in `{name}`", shown(*pattern));
                reader.context.findings.error(node.at, message).label("named again here").related(first, "named here");
            }
            written.push((name, *pattern, node.at));
        }
    }
    for (name, list) in LISTS.into_iter().zip(lists(plan)) {
        if !reader.has(name) {
            list.retain(|pattern| !written.iter().any(|(_, known, _)| known == pattern));
        }
    }
    for (name, pattern, at) in written {
        if FINAL.contains(&name) && is_of_the_moment(pattern) {
            reader
                .context
                .findings
                .warning(at, format!("{} says nothing of the batch, but is in `{name}`", shown(pattern)))
                .note("an outage of the core would put every batch aside or cut it");
        }
    }
}

/// Whether a status speaks of the core's state and leaves open whether it has taken the batch.
fn is_of_the_moment(pattern: StatusPattern) -> bool {
    matches!(pattern, StatusPattern::Exact(408 | 425 | 429 | 500..=599) | StatusPattern::ServerErrors)
}

fn shown(pattern: StatusPattern) -> String {
    match pattern {
        StatusPattern::Exact(status) => status.to_string(),
        StatusPattern::ClientErrors => "\"4xx\"".to_owned(),
        StatusPattern::ServerErrors => "\"5xx\"".to_owned(),
    }
}

impl Setting for StatusPattern {
    const KIND: Kind = Kind::Either(
        &Kind::Integer,
        &Kind::Choice(&[
            Choice { name: "4xx", doc: "all of 400 to 499 that are not named" },
            Choice { name: "5xx", doc: "all of 500 to 599 that are not named" },
        ]),
    );

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        match node.value {
            Value::Integer(_) => u16::read(node, key, context).map(Self::Exact),
            Value::Text(_) => chosen(node, key, &[("4xx", Self::ClientErrors), ("5xx", Self::ServerErrors)], context),
            _ => {
                wrong_type(node, key, context);
                None
            }
        }
    }

    fn write(&self, _: &Names) -> Option<toml::Value> {
        Some(match self {
            Self::Exact(status) => toml::Value::Integer(i64::from(*status)),
            Self::ClientErrors => toml::Value::String("4xx".to_owned()),
            Self::ServerErrors => toml::Value::String("5xx".to_owned()),
        })
    }
}
