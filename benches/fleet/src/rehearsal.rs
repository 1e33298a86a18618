//! What a fleet would upload, without a connection: the same agents, events and repeats, at times the caller chooses.

use std::fmt::Write as _;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::events::{Events, Past};
use crate::options::{FleetError, Uploads};

/// The uploads of a fleet. The same seed and calls give the same bytes.
#[derive(Debug)]
pub struct Rehearsal {
    uploads: Uploads,
    events: Events,
    agents_per_tenant: u32,
    agents: Vec<Agent>,
}

#[derive(Debug)]
struct Agent {
    past: Past,
    sent: u64,
    rng: SmallRng,
}

impl Rehearsal {
    /// A fleet of so many agents.
    ///
    /// # Errors
    /// When the file of events cannot be read.
    pub fn new(uploads: Uploads, agents: u32, agents_per_tenant: u32, seed: u64) -> Result<Self, FleetError> {
        let events = match &uploads.file {
            Some(path) => Events::recorded(path).map_err(FleetError::Events)?,
            None => Events::synthetic(),
        };
        let rng = |agent: u32| SmallRng::seed_from_u64(seed ^ (u64::from(agent) << 20));
        let agents = (0..agents).map(|agent| Agent { past: Past::default(), sent: 0, rng: rng(agent) }).collect();
        Ok(Self { uploads, events, agents_per_tenant: agents_per_tenant.max(1), agents })
    }

    /// The names of an agent's tenant and of the agent.
    pub fn names(&self, agent: u32) -> (String, String) {
        (format!("tenant-{:05}", agent / self.agents_per_tenant), format!("agent-{agent:06}"))
    }

    /// The body of an agent's next upload; empty for an agent that there is not.
    pub fn upload(&mut self, agent: u32, unix_ms: u64) -> Vec<u8> {
        let Self { uploads, events, agents, .. } = self;
        let Some(Agent { past, sent, rng }) = agents.get_mut(agent as usize) else { return Vec::new() };
        let first = *sent;
        *sent += u64::from(uploads.events);
        let with_eid = uploads.with_eid;
        let name = |eid: &mut String, at: u32| {
            if with_eid {
                // Writing to a string cannot fail.
                write!(eid, "1-{agent:x}-{:x}", first + u64::from(at)).ok();
            }
        };
        events.upload(uploads, past, agent.into(), unix_ms, name, rng).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_uploads() {
        let uploads = Uploads { events: 24, repeats: 0.7, with_eid: true, file: None, compression: None };
        let mut fleets = [(); 2].map(|()| Rehearsal::new(uploads.clone(), 3, 2, 7).unwrap());
        let bodies = fleets.each_mut().map(|fleet| fleet.upload(2, 1_700_000_000_000));
        assert_eq!(bodies[0], bodies[1]);
        let events: Vec<serde_json::Value> = serde_json::from_slice(&bodies[0]).unwrap();
        assert_eq!(events.len(), 24);
        assert_eq!(fleets[0].names(2), ("tenant-00001".to_owned(), "agent-000002".to_owned()));
        assert_eq!(fleets[0].upload(3, 0), b"");
    }
}
