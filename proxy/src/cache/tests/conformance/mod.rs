//! The tables of `proxy/CACHING.md`, row by row: each row has a check that asks the cache itself, and no check is without its row.
//!
//! A new row: a line in the list of its table's file, with the row's first cell as it stands in the document, and a function.

mod directives;
mod fields;
mod payloads;
mod releases;
mod requests;
mod statuses;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use weir_config::{ByteSize, CacheRoute, FreshnessMode};
use weir_logic::Outcome;

use super::support::{Ask, World, manifest, reply};
use crate::upstream::OriginError;

/// A row's first cell, and what holds it to the code.
type Row = (&'static str, fn() -> BoxFuture<'static, ()>);

/// The tables by the first cell of their heads.
const TABLES: [(&str, &[Row]); 8] = [
    ("`freshness`", &directives::FRESHNESS),
    ("directive", &directives::DIRECTIVES),
    ("field", &fields::FIELDS),
    ("status", &statuses::STATUSES),
    ("request directive", &requests::DIRECTIVES),
    ("conditional and range fields", &requests::FIELDS),
    ("what happens to a release", &releases::RELEASES),
    ("what happens to a manifest", &payloads::PAYLOADS),
];

#[tokio::test]
async fn each_row_of_the_tables_is_what_the_cache_does() {
    let documented = tables(include_str!("../../../../CACHING.md"));
    let known: BTreeSet<&str> = TABLES.iter().map(|(head, _)| *head).collect();
    assert_eq!(documented.keys().copied().collect::<BTreeSet<_>>(), known, "tables");
    for (head, rows) in TABLES {
        let checked: Vec<&str> = rows.iter().map(|(row, _)| *row).collect();
        assert_eq!(documented[head], checked, "rows of the table {head:?}: in the document, and with a check");
        for (row, check) in rows {
            println!("{head}: {row}");
            check().await;
        }
    }
}

/// The first cells of each table of a document, by the first cell of its head.
fn tables(document: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut tables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut head = None;
    for line in document.lines() {
        let cell = line.strip_prefix("| ").and_then(|rest| rest.split(" | ").next());
        match (cell, head) {
            (None, _) => head = None,
            (Some(cell), None) => {
                head = Some(cell);
                let another = tables.insert(cell, Vec::new()).is_some();
                assert!(!another, "two tables begin with {cell:?}");
            }
            (Some(cell), Some(head)) if cell != "---" => tables.entry(head).or_default().push(cell),
            _ => {}
        }
    }
    tables
}

#[test]
fn tables_are_found_by_their_heads() {
    let found = tables("x\n| a | b |\n| --- | --- |\n| 1 | 2 |\n| `3`, 4 | 5 |\n\n| c | d |\n| --- | --- |\n");
    assert_eq!(found, BTreeMap::from([("a", vec!["1", "`3`, 4"]), ("c", vec![])]));
}

pub(super) use FreshnessMode::{Clamp, Honor, Override};

const MODES: [FreshnessMode; 3] = [Override, Clamp, Honor];

/// Whether the core answers the second request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Core {
    Well,
    Fails,
}

use Core::{Fails, Well};

type Fields = &'static [(&'static str, &'static str)];

/// Fresh for 60 s and served stale for 30 s and 300 s where the operator decides; `clamp` is from 10 s to 100 s.
fn route(freshness: FreshnessMode) -> CacheRoute {
    let bounds = std::time::Duration::from_secs;
    CacheRoute { freshness, min_ttl: bounds(10), max_ttl: bounds(100), max_body_bytes: ByteSize::kib(64), ..manifest() }
}

/// A cache whose core answers 200 with these fields.
fn world(freshness: FreshnessMode, fields: Fields) -> World {
    World::new(route(freshness), move |_, _| reply(200, fields, "one"))
}

/// How the second of two requests ends, so many seconds after the first, whose answer had these fields.
async fn then(freshness: FreshnessMode, fields: Fields, seconds: u64, core: Core) -> Outcome {
    let world = world(freshness, fields);
    drop(world.get().await);
    world.pass(seconds);
    if core == Fails {
        world.core.now_does(|_, _| Err(OriginError::Connect));
    }
    world.get().await.outcome
}

/// Checks how second requests end.
async fn ends(cases: &[(Fields, FreshnessMode, u64, Core, Outcome)]) {
    for (fields, freshness, seconds, core, outcome) in cases {
        let ended = then(*freshness, fields, *seconds, *core).await;
        assert_eq!(ended, *outcome, "{fields:?} under {freshness:?} after {seconds} s, the core {core:?}");
    }
}

/// Whether an answer of that status with these fields is stored.
async fn is_stored(route: CacheRoute, status: u16, fields: Fields) -> bool {
    let world = World::new(route, move |_, _| reply(status, fields, "one"));
    drop(world.ask(&Ask::get()).await);
    world.metrics.cache_entries.get() == 1
}
