//! One measurement at a time: a fresh subject, the load on it, and what both used up.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_core_sim::{CoreOptions, CoreSim, EndpointKind};
use weir_fleet::{Press, PressCounts, PressOptions, Uploads};
use weir_spool::inspect::{self, Content};

use super::arguments::RunArguments;
use super::config::{self, Transport, Variant, WINDOW};
use super::figures::{Bytes, Replay, Round};
use super::floor;
use crate::node::{self, Node, Usage};
use crate::place::Place;
use crate::status;

/// Before figures count.
const WARM_UP: Duration = Duration::from_secs(1);
/// The time that a node may take to deliver what it holds.
const SETTLE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Connections while bytes are measured: few, so that every agent comes to the end of its minute.
const BYTES_CONNECTIONS: u32 = 8;

/// What measurements share.
pub(super) struct Bench<'a> {
    pub(super) arguments: &'a RunArguments,
    /// The processor of the subject.
    pub(super) processor: Option<usize>,
}

/// A node that runs, and all around it.
struct Setup {
    place: Place,
    core: CoreSim,
    config: PathBuf,
    node: Node,
    /// What it took to start.
    start: Duration,
}

/// Counters at one moment.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    counts: PressCounts,
    subject: Usage,
    load: Usage,
    journal_bytes: u64,
}

impl Bench<'_> {
    /// The floor under load.
    pub(super) async fn floor(&self, transport: Transport) -> io::Result<Round> {
        let place = Place::new(None)?;
        let tls = (transport == Transport::Tls).then_some(place.path());
        let floor = floor::start(self.processor, tls).await?;
        let press = self.press(floor.address, transport, &place, self.arguments.connections, None)?;
        sleep(WARM_UP).await;
        let mark = || Some(Mark::new(&press, floor.usage()?, 0));
        let before = mark().ok_or_else(|| io::Error::other("the floor has ended"))?;
        sleep(self.arguments.time).await;
        let after = mark().ok_or_else(|| io::Error::other("the floor has ended"))?;
        press.stop().await;
        drop(floor);
        place.leave()?;
        Ok(after.since(&before))
    }

    /// A node under load; with `replay`, also a start on what it has taken.
    pub(super) async fn node(
        &self,
        variant: &Variant,
        transport: Transport,
        replay: bool,
    ) -> io::Result<(Round, Option<Replay>)> {
        let mut setup = self.set_up(variant, transport).await?;
        let press = self.press(setup.node.agents()?, transport, &setup.place, self.arguments.connections, None)?;
        sleep(WARM_UP).await;
        let before = setup.mark(&press).await?;
        sleep(self.arguments.time).await;
        let after = setup.mark(&press).await?;
        press.stop().await;
        setup.node.kill().await;
        let replay = if replay { Some(self.replay(&mut setup).await?) } else { None };
        setup.place.leave()?;
        Ok((after.since(&before), replay))
    }

    /// What a node makes of the standard mix's uploads at a moderate rate, everything delivered.
    pub(super) async fn bytes(&self, variant: &Variant) -> io::Result<Bytes> {
        let mut setup = self.set_up(variant, Transport::Plain).await?;
        let rate = Some(self.arguments.bytes_rate);
        let press = self.press(setup.node.agents()?, Transport::Plain, &setup.place, BYTES_CONNECTIONS, rate)?;
        sleep(2 * self.arguments.time).await;
        let counts = press.stop().await;
        // Another window closes all that are open: what a minute would bring comes at once.
        setup.place.write_config(&config::render(variant, Transport::Plain, setup.core.address(), "61s"))?;
        status::reload(setup.node.admin()?).await?;
        let deadline = Instant::now() + SETTLE;
        while status::status(setup.node.admin()?).await?.process().held > 0 {
            if Instant::now() >= deadline {
                return Err(setup.node.failure("the node does not deliver what it holds"));
            }
            sleep(LOOK_EVERY).await;
        }
        setup.node.kill().await;
        let to_core = setup.core.snapshot().endpoints.get(&EndpointKind::Batch).map_or(0, |batches| batches.bytes_wire);
        setup.place.leave()?;
        Ok(Bytes { subject: variant.name(), events: counts.records, from_agents: counts.bytes, to_core })
    }

    async fn set_up(&self, variant: &Variant, transport: Transport) -> io::Result<Setup> {
        let place = Place::new(None)?;
        let core = CoreSim::start(CoreOptions { read_rows: false, ..CoreOptions::default() }).await?;
        let config = place.write_config(&config::render(variant, transport, core.address(), WINDOW))?;
        let began = Instant::now();
        let node = Node::spawn(&config, self.processor).await?;
        node.ready().await?;
        Ok(Setup { place, core, config, node, start: began.elapsed() })
    }

    async fn replay(&self, setup: &mut Setup) -> io::Result<Replay> {
        let (events, bytes) = journal(&setup.place.path().join("data/spool/process/journal"))?;
        let began = Instant::now();
        setup.node = Node::spawn(&setup.config, self.processor).await?;
        setup.node.replayed().await?;
        let seconds = began.elapsed().saturating_sub(setup.start).as_secs_f64();
        setup.node.kill().await;
        Ok(Replay { events, bytes, seconds })
    }

    fn press(
        &self,
        target: SocketAddr,
        transport: Transport,
        place: &Place,
        connections: u32,
        uploads_per_second: Option<f64>,
    ) -> io::Result<Press> {
        let options = PressOptions {
            target,
            tls: (transport == Transport::Tls).then(|| place.tls()),
            path: "/v1/events/process".to_owned(),
            connections,
            uploads_per_second,
            uploads: Uploads {
                events: 24,
                repeats: 0.7,
                with_eid: false,
                file: self.arguments.events.clone(),
                compression: self.arguments.compress,
            },
            seed: 1,
        };
        Press::start(options).map_err(io::Error::other)
    }
}

impl Setup {
    async fn mark(&self, press: &Press) -> io::Result<Mark> {
        let journal_bytes = status::status(self.node.admin()?).await?.process().journal_bytes;
        let usage = self.node.usage().ok_or_else(|| self.node.failure("the node has ended"))?;
        Ok(Mark::new(press, usage, journal_bytes))
    }
}

impl Mark {
    fn new(press: &Press, subject: Usage, journal_bytes: u64) -> Self {
        let load = node::usage(std::process::id()).unwrap_or_default();
        Self { at: Instant::now(), counts: press.counts(), subject, load, journal_bytes }
    }

    fn since(&self, before: &Self) -> Round {
        let seconds = (self.at - before.at).as_secs_f64();
        let events = (self.counts.records - before.counts.records) as f64;
        let cpu = |after: Usage, before: Usage| after.cpu_seconds - before.cpu_seconds;
        let subject = cpu(self.subject, before.subject);
        let grown = self.journal_bytes.saturating_sub(before.journal_bytes) as f64;
        Round {
            events_per_second: events / seconds,
            cpu_seconds_per_million: subject / events.max(1.0) * 1e6,
            busy: subject / seconds,
            load_busy: cpu(self.load, before.load) / seconds,
            journal_bytes_per_second: grown / seconds,
            journal_bytes_per_event: grown / events.max(1.0),
            uploads_not_taken: self.counts.refused + self.counts.failed - before.counts.refused - before.counts.failed,
        }
    }
}

/// Events and bytes of a journal.
fn journal(dir: &Path) -> io::Result<(u64, u64)> {
    let (mut events, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += entry.metadata()?.len();
        if let Ok(Content::Segment(segment)) = inspect::inspect(&entry.path()) {
            events += segment.records;
        }
    }
    Ok((events, bytes))
}
