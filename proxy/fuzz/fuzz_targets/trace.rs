//! A trace: what is read is written as it was and read again the same, and what is played adds up.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use weir_config::{MemoryEnvironment, Route, parse};
use weir_logic::rehearse::{Head, Line, Purge, Reader, Rehearsal};

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let environment = MemoryEnvironment::new().file("weir.toml", CONFIG);
    parse(&environment, Path::new("weir.toml")).expect("the configuration is right").config.routes
});

const CONFIG: &str = r#"
[edge]
data_dir = "d"
[[listener]]
address = "127.0.0.1:0"
trusted_headers = true
[core]
peers = ["c:1"]
[identity]
tenant = "header.x-tenant-id"
agent = "path.agent"
[[route]]
name = "updates"
match = { method = "GET", path = "/v1/updates/{channel}" }
class = "update"
action = "cache"
key = ["path.channel", "query.os", "header.x-os"]
vary = ["accept-language"]
shared = true
freshness = "honor"
[[route]]
name = "config"
match = { method = "POST", path = "/v1/config" }
class = "config"
action = "cache"
key = ["body./a/b~1c"]
[[route]]
name = "tasks"
match = { method = "GET", path = "/v1/agents/{agent}/tasks" }
class = "tasking"
action = "lookup"
lookup = { path = "/v1/tasks:lookup", key = ["identity.agent"], ttl = "1m", refresh_ahead = 0.2 }
[[route]]
name = "rest"
match = { method = ["PUT", "DELETE"], path = "/v1/{rest*}" }
class = "config"
action = "forward"
"#;

fuzz_target!(|input: &[u8]| {
    let mut reader = Reader::default();
    let (mut lines, mut purges): (Vec<Line>, Vec<Purge>) = Default::default();
    for text in input.split(|byte| *byte == b'\n') {
        match reader.take(text) {
            Ok(line) => {
                lines.extend(line);
                purges.extend(reader.purged());
            }
            Err(fault) => {
                assert!(fault.line > 0 && !fault.problem.is_empty());
                play(reader.head().cloned().unwrap_or_default(), &lines, &purges);
                return;
            }
        }
    }
    for line in &lines {
        let written = serde_json::to_string(line).expect("a line can be written");
        assert_eq!(serde_json::from_str::<Line>(&written).expect("what is written can be read"), *line);
    }
    for purge in &purges {
        let written = serde_json::to_string(purge).expect("a purge can be written");
        assert_eq!(serde_json::from_str::<Purge>(&written).expect("what is written can be read"), *purge);
    }
    let Ok((head, end)) = reader.finish() else { return };
    let mut rehearsal = Rehearsal::new(&ROUTES, &head);
    lines.iter().for_each(|line| rehearsal.take(line));
    purges.iter().for_each(|purge| rehearsal.purge(purge));
    adds_up(&rehearsal.play(&end), lines.len());
});

/// Of a trace that is damaged what is whole can still be played.
fn play(head: Head, lines: &[Line], purges: &[Purge]) {
    let head = Head { sample: 1.0, ..head };
    let mut rehearsal = Rehearsal::new(&ROUTES, &head);
    lines.iter().for_each(|line| rehearsal.take(line));
    purges.iter().for_each(|purge| rehearsal.purge(purge));
    adds_up(&rehearsal.play(&Default::default()), lines.len());
}

fn adds_up(play: &weir_logic::rehearse::Play, lines: usize) {
    let unmatched: u64 = play.unmatched.values().sum();
    let matched: f64 = play.routes.values().map(|played| played.requests).sum();
    assert!(matched + unmatched as f64 >= lines as f64 - 0.5, "{matched} {unmatched} {lines}");
    for played in play.routes.values() {
        let ratios = [played.hit_ratio().unwrap_or_default(), played.stale(), played.failed(), played.refused()];
        assert!(ratios.iter().all(|ratio| (0.0..=1.0).contains(ratio)), "{played:?}");
        assert!(played.core_requests() >= 0.0 && played.core_bytes() >= 0.0, "{played:?}");
    }
}
