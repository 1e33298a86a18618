//! Process events: what an agent sees on its machine, new things and repeats of what it saw within the last minute.
//!
//! A [`Sight`] names what was seen in eight bytes; rendering it gives the same text each time but for the fields that
//! differ between repeats (`eid`, `ts`, `pid`, `ppid`). So an agent remembers a minute of its past in little memory.

mod file;
mod synthetic;
mod timestamp;
mod vocabulary;

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use rand::Rng;

use self::file::RecordedEvents;
use self::synthetic::SyntheticEvents;
use crate::options::Uploads;

/// Where events come from.
#[derive(Debug)]
pub(crate) enum Events {
    Synthetic(SyntheticEvents),
    Recorded(RecordedEvents),
}

/// Something that was seen: all that repeats of it have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sight {
    entry: u32,
    /// Fills the parts of a command line that differ from run to run; 0 where the entry has none.
    variation: u32,
}

/// Where and when one event happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occasion<'a> {
    /// Names the event uniquely; left out where empty.
    pub(crate) eid: &'a str,
    pub(crate) agent: u64,
    pub(crate) unix_ms: u64,
    pub(crate) pid: u32,
    pub(crate) ppid: u32,
}

/// How long something may have been seen ago to be repeated.
const REPEAT_WINDOW_MS: u64 = 60_000;
/// Sights an agent remembers at most; a minute of the standard mix has about 45.
const MAX_REMEMBERED: usize = 512;
/// Draws before an agent gives up finding something it has not just seen.
const MAX_DRAWS: usize = 16;

impl Events {
    pub(crate) fn synthetic() -> Self {
        Self::Synthetic(SyntheticEvents::new())
    }

    /// Events of a file of JSON objects, one a line.
    pub(crate) fn recorded(path: &Path) -> io::Result<Self> {
        RecordedEvents::read(path).map(Self::Recorded)
    }

    /// Writes an upload as a JSON array of events, each ten milliseconds after the one before and the last of them now. `name` writes
    /// the id of the event of that number into an empty text. Gives the body and how many of its events are repeats.
    pub(crate) fn upload(
        &self,
        uploads: &Uploads,
        past: &mut Past,
        agent: u64,
        now_ms: u64,
        name: impl Fn(&mut String, u32),
        rng: &mut impl Rng,
    ) -> (Vec<u8>, u64) {
        let mut body = Vec::with_capacity(uploads.events as usize * 480);
        let (mut eid, mut repeats) = (String::new(), 0);
        for at in 0..uploads.events {
            let seen = past.next(self, uploads.repeats, now_ms, rng);
            repeats += u64::from(seen.repeat);
            eid.clear();
            name(&mut eid, at);
            let occasion = Occasion {
                eid: &eid,
                agent,
                unix_ms: now_ms.saturating_sub(u64::from(uploads.events - at) * 10),
                pid: rng.random_range(1..16_000) * 4,
                ppid: rng.random_range(1..16_000) * 4,
            };
            body.push(if at == 0 { b'[' } else { b',' });
            self.render(&mut body, seen.sight, &occasion);
        }
        body.push(b']');
        (body, repeats)
    }

    fn draw(&self, rng: &mut impl Rng) -> Sight {
        match self {
            Self::Synthetic(events) => events.draw(rng),
            Self::Recorded(events) => events.draw(rng),
        }
    }

    /// Writes one event as a JSON object.
    pub(crate) fn render(&self, out: &mut Vec<u8>, sight: Sight, occasion: &Occasion<'_>) {
        match self {
            Self::Synthetic(events) => events.render(out, sight, occasion),
            Self::Recorded(events) => events.render(out, sight, occasion),
        }
    }
}

/// What one agent has seen in the last minute.
#[derive(Debug, Default)]
pub(crate) struct Past {
    sights: VecDeque<(Sight, u64)>,
}

/// What an agent sees next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) sight: Sight,
    pub(crate) repeat: bool,
}

impl Past {
    /// Draws the next event: with probability `repeats` one of the last minute, otherwise one that is not among them.
    pub(crate) fn next(&mut self, events: &Events, repeats: f64, now_ms: u64, rng: &mut impl Rng) -> Seen {
        while self.sights.front().is_some_and(|(_, seen)| seen + REPEAT_WINDOW_MS <= now_ms) {
            self.sights.pop_front();
        }
        if !self.sights.is_empty() && rng.random_bool(repeats.clamp(0.0, 1.0)) {
            let (sight, _) = self.sights[rng.random_range(0..self.sights.len())];
            return Seen { sight, repeat: true };
        }
        let mut sight = events.draw(rng);
        for _ in 0..MAX_DRAWS {
            if !self.contains(sight) {
                break;
            }
            sight = events.draw(rng);
        }
        let repeat = self.contains(sight);
        if !repeat {
            if self.sights.len() == MAX_REMEMBERED {
                self.sights.pop_front();
            }
            self.sights.push_back((sight, now_ms));
        }
        Seen { sight, repeat }
    }

    fn contains(&self, sight: Sight) -> bool {
        self.sights.iter().any(|(known, _)| *known == sight)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use serde_json::Value;

    use super::*;

    fn render(events: &Events, sight: Sight, eid: &str) -> Value {
        let occasion = Occasion { eid, agent: 7, unix_ms: 1_700_000_000_123, pid: 4, ppid: 5 };
        let mut out = Vec::new();
        events.render(&mut out, sight, &occasion);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn seven_in_ten_are_repeats_of_the_last_minute() {
        let events = Events::synthetic();
        let (mut past, mut rng) = (Past::default(), SmallRng::seed_from_u64(3));
        // An upload of 24 events every ten seconds, for an hour.
        let seen: Vec<Seen> = (0..8640).map(|at| past.next(&events, 0.7, at / 24 * 10_000, &mut rng)).collect();
        let repeats = seen.iter().filter(|seen| seen.repeat).count() as f64 / seen.len() as f64;
        assert!((0.68..0.72).contains(&repeats), "{repeats}");
        assert!(past.sights.len() < 100, "{}", past.sights.len());
    }

    #[test]
    fn what_is_new_was_not_seen_within_the_minute() {
        let events = Events::synthetic();
        let (mut past, mut rng) = (Past::default(), SmallRng::seed_from_u64(3));
        let mut sights = Vec::new();
        for _ in 0..200 {
            sights.push(past.next(&events, 0.0, 1, &mut rng));
        }
        let fresh: std::collections::HashSet<Sight> =
            sights.iter().filter(|seen| !seen.repeat).map(|seen| seen.sight).collect();
        assert_eq!(fresh.len(), sights.iter().filter(|seen| !seen.repeat).count());
        assert!(fresh.len() > 195, "{}", fresh.len());
    }

    #[test]
    fn an_event_is_about_450_bytes_and_repeats_but_for_four_fields() {
        let events = Events::synthetic();
        let mut rng = SmallRng::seed_from_u64(9);
        let mut bytes = 0;
        for _ in 0..1000 {
            let sight = events.draw(&mut rng);
            let one = render(&events, sight, "f-1-1");
            let mut other = render(&events, sight, "f-1-2");
            assert_ne!(one, other);
            other["eid"] = "f-1-1".into();
            assert_eq!(one, other);
            for field in
                ["image_path", "cmdline", "sha256", "user", "parent_image", "parent_cmdline", "cwd", "integrity"]
            {
                assert!(one[field].as_str().is_some_and(|text| !text.is_empty() && !text.contains("{u")), "{one}");
            }
            bytes += one.to_string().len();
        }
        assert!((420_000..480_000).contains(&bytes), "{} bytes an event", bytes / 1000);
    }
}
