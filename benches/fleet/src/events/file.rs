//! Events of a file: recorded ones, replayed with other ids, times and process numbers.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use rand::Rng;
use serde_json::{Map, Value};

use super::timestamp::rfc3339;
use super::{Occasion, Sight};

/// The fields that differ between repeats; they are made anew for every event.
const OWN_FIELDS: [&str; 4] = ["eid", "ts", "pid", "ppid"];
/// Lines read from a file at most.
const MAX_EVENTS: usize = 1_000_000;

#[derive(Debug)]
pub(crate) struct RecordedEvents {
    /// The members of each object that repeats have in common, as JSON without the braces; never empty.
    members: Vec<String>,
}

impl RecordedEvents {
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let named =
            |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", path.display()));
        let file = File::open(path).map_err(|error| named(error.to_string()))?;
        let mut members = Vec::new();
        for (at, line) in BufReader::new(file).lines().take(MAX_EVENTS).enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let event: Map<String, Value> =
                serde_json::from_str(&line).map_err(|error| named(format!("line {}: {error}", at + 1)))?;
            members.extend(shared_members(event));
        }
        // Lines that differ in their own fields alone are one thing seen twice.
        members.sort_unstable();
        members.dedup();
        if members.is_empty() {
            return Err(named("it holds no event".into()));
        }
        Ok(Self { members })
    }

    pub(super) fn draw(&self, rng: &mut impl Rng) -> Sight {
        let entry = rng.random_range(0..self.members.len());
        Sight { entry: u32::try_from(entry).unwrap_or(0), variation: 0 }
    }

    pub(super) fn render(&self, out: &mut Vec<u8>, sight: Sight, occasion: &Occasion<'_>) {
        let members = &self.members[sight.entry as usize % self.members.len()];
        let eid = if occasion.eid.is_empty() { String::new() } else { format!(r#""eid":"{}","#, occasion.eid) };
        let ts = rfc3339(occasion.unix_ms);
        let own = format!(r#"{{{eid}"ts":"{ts}","pid":{},"ppid":{},{members}}}"#, occasion.pid, occasion.ppid);
        out.extend_from_slice(own.as_bytes());
    }
}

/// The members that repeats have in common; none where there are none.
fn shared_members(mut event: Map<String, Value>) -> Option<String> {
    for field in OWN_FIELDS {
        event.remove(field);
    }
    if event.is_empty() {
        return None;
    }
    let object = Value::Object(event).to_string();
    Some(object[1..object.len() - 1].to_owned())
}
