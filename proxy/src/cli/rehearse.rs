//! `weir rehearse`: a trace played through a new and an old configuration, and what differs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use weir_config::{Action, Config, Route};
use weir_logic::Outcome;
use weir_logic::rehearse::{End, Fault, Head, Line, MAX_LINE_BYTES, Overheads, Play, Played, Reader, Rehearsal};

use super::written::{percent, time};
use crate::exit::{Code, Failure};

/// Plays the trace and gives the difference, as tables or as a document.
///
/// # Errors
///
/// When the trace cannot be read, or is none of this version: with the file, the line and what was expected.
pub(super) fn rehearse(new: &Config, old: &Config, trace: &Path, json: bool) -> Result<String, Failure> {
    let story = Story::read(new, old, trace)?;
    Ok(if json { format!("{:#}\n", story.document()) } else { story.tables() })
}

/// A trace that has been played through both configurations.
struct Story {
    head: Head,
    end: End,
    old: Play,
    new: Play,
    /// How the requests ended when they were recorded.
    recorded: Recorded,
    notes: Vec<String>,
}

/// How requests ended when they were recorded, by their route: all that are in the trace, and those answered without waiting.
type Recorded = std::collections::BTreeMap<String, (u64, u64)>;

impl Story {
    fn read(new: &Config, old: &Config, trace: &Path) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| Failure::new(Code::NoInput, format!("{}: {error}", trace.display()));
        let damaged = |fault: Fault| Failure::new(Code::DataError, format!("{}:{fault}", trace.display()));
        let mut file = BufReader::new(File::open(trace).map_err(unreadable)?);
        let (mut reader, mut text) = (Reader::default(), Vec::new());
        let mut plays: Option<[Rehearsal; 2]> = None;
        let mut recorded = Recorded::new();
        while next(&mut file, &mut text).map_err(unreadable)? {
            let line = reader.take(&text).map_err(damaged)?;
            let purge = reader.purged();
            let Some(head) = reader.head() else { continue };
            let plays = plays.get_or_insert_with(|| [old, new].map(|config| rehearsal(config, head)));
            plays.iter_mut().for_each(|play| purge.iter().for_each(|purge| play.purge(purge)));
            let Some(line) = line else { continue };
            plays.iter_mut().for_each(|play| play.take(&line));
            let (all, hits) = recorded.entry(line.route.clone()).or_default();
            *all += 1;
            *hits += u64::from(is_hit(&line));
        }
        let (head, end) = reader.finish().map_err(damaged)?;
        let plays = plays.unwrap_or_else(|| [old, new].map(|config| rehearsal(config, &head)));
        let [old_play, new_play] = plays.map(|play| play.play(&end));
        let notes = notes(&head, &end, [(old, &old_play), (new, &new_play)]);
        Ok(Self { head, end, old: old_play, new: new_play, recorded, notes })
    }

    fn routes(&self) -> BTreeSet<&str> {
        let names = self.old.routes.keys().chain(self.new.routes.keys()).chain(self.recorded.keys());
        names.map(String::as_str).collect()
    }

    fn tables(&self) -> String {
        let lines = self.end.lines;
        let covered = time(seconds(Duration::from_millis(self.end.covered)));
        let mut text = format!("{lines} requests of {} of the keys, in {covered}\n", percent(self.head.sample));
        for name in self.routes() {
            let recorded = self.recorded_hits(name).map(|hits| format!(", {} hits when recorded", percent(hits)));
            let played = self.new.routes.get(name).or_else(|| self.old.routes.get(name));
            let about = played.map(|played| format!(" ({}, {})", played.class, played.action));
            let _infallible = writeln!(text, "\n{name}{}{}", about.unwrap_or_default(), recorded.unwrap_or_default());
            let lookup = played.is_some_and(|played| played.action == "lookup");
            let (asked, bulk) = if lookup { ("keys asked/s", "bulk req/s") } else { ("core req/s", "") };
            let head =
                ["", "requests/s", asked, bulk, "hit ratio", "stale", "failed", "mean age", "p99 age", "core bytes/s"];
            put(&mut text, &head.map(str::to_owned));
            for (when, play) in [("old", &self.old), ("new", &self.new)] {
                put(&mut text, &row(when, play.routes.get(name)));
            }
        }
        for (when, play) in [("old", &self.old), ("new", &self.new)] {
            let list: Vec<_> = play.unmatched.iter().map(|(name, count)| format!("{count} of {name}")).collect();
            if !list.is_empty() {
                let _infallible =
                    writeln!(text, "\nRequests that no route of the {when} configuration takes: {}", list.join(", "));
            }
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        self.notes.iter().for_each(|note| text.push_str(&format!("Note: {note}\n")));
        text
    }

    fn document(&self) -> Value {
        let of = |play: &Play, name: &str| play.routes.get(name).map(figures);
        let routes = self.routes().into_iter().map(|name| {
            let (old, new) = (of(&self.old, name), of(&self.new, name));
            json!({ "route": name, "recorded_hit_ratio": self.recorded_hits(name), "old": old, "new": new })
        });
        json!({
            "sample": self.head.sample,
            "lines": self.end.lines,
            "covered_seconds": seconds(Duration::from_millis(self.end.covered)),
            "ended": self.end.weir_trace_end,
            "routes": routes.collect::<Vec<_>>(),
            "unmatched": { "old": self.old.unmatched, "new": self.new.unmatched },
            "notes": self.notes,
        })
    }

    /// The part of the requests in the trace that were answered without waiting for the core; `None` of routes that keep nothing.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    fn recorded_hits(&self, route: &str) -> Option<f64> {
        self.old.routes.get(route)?.hit_ratio()?;
        let (all, hits) = self.recorded.get(route)?;
        Some(*hits as f64 / *all as f64)
    }
}

/// A rehearsal within the configuration's bounds.
fn rehearsal(config: &Config, head: &Head) -> Rehearsal {
    let (looked_up, lookups_part) = (crate::lookup::OWN_BYTES, crate::lookup::PART);
    let overheads = Overheads { cached: crate::cache::OWN_BYTES, looked_up, lookups_part };
    Rehearsal::new(&config.routes, head).within(&config.limits, overheads)
}

fn is_hit(line: &Line) -> bool {
    [Outcome::Hit, Outcome::Stale].into_iter().any(|outcome| outcome.label() == line.outcome)
}

/// Reads the next line without its line feed: what is longer than a line may be is cut just past that, for the reader to refuse.
fn next(file: &mut impl BufRead, text: &mut Vec<u8>) -> std::io::Result<bool> {
    text.clear();
    if file.take(MAX_LINE_BYTES as u64 + 2).read_until(b'\n', text)? == 0 {
        return Ok(false);
    }
    if text.ends_with(b"\n") {
        text.pop();
    }
    Ok(true)
}

/// What makes figures less sure than they look.
fn notes(head: &Head, end: &End, plays: [(&Config, &Play); 2]) -> Vec<String> {
    let mut notes = Vec::new();
    let covered = Duration::from_millis(end.covered);
    if end.weir_trace_end != "time" {
        notes.push("the trace ended before its time; its last requests may be missing".to_owned());
    }
    let [(old, _), (new, _)] = plays;
    for route in &new.routes {
        let known = old.routes.iter().find(|known| known.name == route.name);
        if head.sample < 1.0 && known.is_some_and(|known| key(known) != key(route)) {
            notes.push(format!(
                "{}: the key is another, and the trace has a sample of the old one's; record with --sample 1",
                route.name
            ));
        }
    }
    for (when, (_, play)) in ["old", "new"].into_iter().zip(plays) {
        for played in play.routes.values().filter(|played| played.longest_ttl > covered) {
            let (name, ttl, once) = (&played.route, seconds(played.longest_ttl), played.asked_for_once());
            if once > A_PART {
                notes.push(format!(
                    "{name}: under the {when} configuration answers live for {}, longer than the trace is; of the {} of its requests whose \
                     key was asked for once it cannot be told whether they would be hits",
                    time(ttl),
                    percent(once)
                ));
            }
        }
        if !play.unmatched.is_empty() {
            notes.push(format!(
                "what the {when} configuration spells out in a path where the trace has a veiled value matches nothing"
            ));
        }
    }
    notes
}

fn key(route: &Route) -> Option<(&[weir_config::KeyPart], bool)> {
    match &route.action {
        Action::Cache(cache) => Some((&cache.key, cache.shared)),
        Action::Lookup(lookup) => Some((&lookup.key, lookup.shared)),
        Action::Aggregate(_) | Action::Forward(_) => None,
    }
}

fn figures(played: &Played) -> Value {
    let covered = seconds(played.covered);
    json!({
        "class": played.class,
        "action": played.action,
        "requests": played.requests,
        "requests_per_second": played.requests / covered,
        "core_requests": played.core_requests(),
        "core_requests_per_second": played.core_requests() / covered,
        "bulk_requests_per_second": played.bulk_requests().map(|requests| requests / covered),
        "core_bytes_per_second": played.core_bytes() / covered,
        "hit_ratio": played.hit_ratio(),
        "stale_ratio": played.stale(),
        "failed_ratio": played.failed(),
        "refused_ratio": played.refused(),
        "mean_age_seconds": seconds(played.mean_age()),
        "p99_age_seconds": seconds(played.p99_age()),
    })
}

fn row(when: &str, played: Option<&Played>) -> [String; 10] {
    let Some(played) = played else {
        let nothing = [when, "-", "-", "", "-", "-", "-", "-", "-", "-"];
        return nothing.map(str::to_owned);
    };
    let covered = seconds(played.covered);
    let rate = |count: f64| format!("{:.3}", count / covered);
    [
        when.to_owned(),
        rate(played.requests),
        rate(played.core_requests()),
        played.bulk_requests().map(rate).unwrap_or_default(),
        played.hit_ratio().map_or("-".to_owned(), percent),
        percent(played.stale()),
        percent(played.failed()),
        time(seconds(played.mean_age())),
        time(seconds(played.p99_age())),
        format!("{:.0}", played.core_bytes() / covered),
    ]
}

fn put(text: &mut String, [when, requests, asked, bulk, hits, stale, failed, mean, p99, bytes]: &[String; 10]) {
    let row = format!(
        "  {when:<4} {requests:>11} {asked:>12} {bulk:>10} {hits:>9} {stale:>7} {failed:>7} {mean:>9} {p99:>9} {bytes:>13}"
    );
    text.push_str(row.trim_end());
    text.push('\n');
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Of so few requests nothing needs to be said.
const A_PART: f64 = 0.005;
