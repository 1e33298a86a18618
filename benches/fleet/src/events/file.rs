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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_recorded_event_keeps_its_fields_and_gets_its_own_ids() {
        let text = r#"{"ts":"2023","pid":"0xef0","cmdline":"a \"b\" \u00e9 C:\\x","user":"u"}"#;
        let events = RecordedEvents::read(file(&format!("{text}\n\n{text}\n")).path()).unwrap();
        assert_eq!(events.members.len(), 1, "the same thing twice is one thing");
        let sight = events.draw(&mut SmallRng::seed_from_u64(1));
        let mut out = Vec::new();
        events.render(&mut out, sight, &Occasion { eid: "e-1", agent: 0, unix_ms: 0, pid: 4, ppid: 8 });
        let event: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(event["cmdline"], "a \"b\" \u{e9} C:\\x");
        assert_eq!((&event["eid"], &event["pid"], &event["user"]), (&"e-1".into(), &4.into(), &"u".into()));
    }

    #[test]
    fn a_file_that_holds_no_events_is_refused_with_the_line() {
        let error = RecordedEvents::read(file("{\"a\":1}\nnot json\n").path()).unwrap_err().to_string();
        assert!(error.contains(": line 2: "), "{error}");
        let error = RecordedEvents::read(file("").path()).unwrap_err().to_string();
        assert!(error.ends_with(": it holds no event"), "{error}");
    }
}
