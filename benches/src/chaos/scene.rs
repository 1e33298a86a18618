//! The scene: a core, a node that lives many times on one directory, and two fleets that upload to it.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};
use weir_batch::Batch;
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointKind};
use weir_fleet::{Fleet, FleetMemory, FleetOptions, Mix, Paths, Remember, Route};

use super::config::{self, Bound, STREAMS};
use super::damage::{self, Damage};
use super::fault::{Fault, Planned, Tuning};
use super::tally::Tally;
use crate::books::SAME;
use crate::node::Node;
use crate::place::Place;
use crate::status;

/// Everything that runs.
pub(super) struct Scene {
    pub(super) core: CoreSim,
    pub(super) node: Node,
    pub(super) fleets: Vec<Fleet>,
    pub(super) history: History,
    place: Place,
    config: PathBuf,
    tuning: Tuning,
    address: SocketAddr,
    /// Bound and never listening: nobody else gets the node's port while the node is dead.
    _reservation: TcpSocket,
}

/// What is gathered on the way.
#[derive(Default)]
pub(super) struct History {
    pub(super) lives: u32,
    pub(super) stuck_after: Vec<u32>,
    pub(super) unclean_stops: u32,
    pub(super) damage_reports: u64,
    pub(super) destroyed: Vec<Destroyed>,
}

/// Records destroyed on purpose.
pub(super) struct Destroyed {
    pub(super) stream: &'static str,
    /// Whether they were in a batch, which is read when it is sent, if ever; and not in the journal, which is read on start.
    pub(super) batch: bool,
    pub(super) tally: Tally,
}

/// Records and keys that are remembered, at most; on both sides.
const MAX_REMEMBERED: usize = 8_000_000;
/// The time that a node may take to accept an upload after a fault is over.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

impl Scene {
    /// Starts everything.
    pub(super) async fn start(place: Place, rate: f64) -> io::Result<Self> {
        let options = CoreOptions {
            track_field: Some("eid".to_owned()),
            key_fields: SAME.map(str::to_owned).to_vec(),
            max_tracked: MAX_REMEMBERED,
            read_format: Some(read_shapes),
            ..CoreOptions::default()
        };
        let core = CoreSim::start(options).await?;
        let reservation = TcpSocket::new_v4()?;
        reservation.set_reuseaddr(true)?;
        reservation.bind(([127, 0, 0, 1], 0).into())?;
        let address = reservation.local_addr()?;
        let tuning = Tuning::FIRST;
        let config = place.write_config(&config::render(address, core.address(), &tuning, Bound::Wide))?;
        let node = Node::start(&config).await?;
        let fleets = (1..).zip(STREAMS).map(|(seed, stream)| Fleet::start(fleet_options(address, stream, rate, seed)));
        let fleets = fleets.collect::<Result<_, _>>().map_err(io::Error::other)?;
        let history = History { lives: 1, ..History::default() };
        Ok(Self { core, node, fleets, history, place, config, tuning, address, _reservation: reservation })
    }

    /// What the agents remember, by stream.
    pub(super) fn memories(&self) -> Vec<FleetMemory> {
        self.fleets.iter().map(Fleet::memory).collect()
    }

    /// Where the spool of a stream lies.
    pub(super) fn spool(&self, stream: &str) -> PathBuf {
        self.place.path().join("data").join("spool").join(stream)
    }

    /// Ends with the directory, for the caller to remove or to keep.
    pub(super) fn into_place(self) -> Place {
        self.place
    }

    /// Brings a fault about and waits until it is over; gives what was done to a file, where that was chosen here.
    pub(super) async fn inflict(&mut self, planned: &Planned) -> io::Result<String> {
        sleep(Duration::from_millis(planned.pause_ms)).await;
        let batches = Some(EndpointKind::Batch);
        match planned.fault {
            Fault::Kill => self.kill_and(Duration::ZERO).await?,
            Fault::KillTwice { millis } => self.kill_and(Duration::from_millis(millis)).await?,
            Fault::Restart => {
                self.stop().await?;
                self.live().await?;
            }
            Fault::DiskFull { bytes, millis } => {
                self.node.limit_files(Some(bytes))?;
                sleep(Duration::from_millis(millis)).await;
                self.node.limit_files(None)?;
            }
            Fault::Bounds { millis } => {
                self.reload(Bound::Least).await?;
                sleep(Duration::from_millis(millis)).await;
                self.reload(Bound::Wide).await?;
            }
            Fault::Reload(tuning) => {
                self.tuning = tuning;
                self.reload(Bound::Wide).await?;
            }
            Fault::CoreStatus { code, retry_after, requests } => {
                self.core.fail_next(batches, requests, Behaviour::Status { code, retry_after });
            }
            Fault::CorePartial { one_in, requests } => {
                self.core.fail_next(batches, requests, Behaviour::Partial { one_in });
            }
            Fault::CoreGarbage { requests } => self.core.fail_next(batches, requests, Behaviour::Garbage),
            Fault::CoreLate { requests } => {
                self.core.fail_next(batches, requests, Behaviour::slow(Duration::from_millis(1_500)));
            }
            Fault::CoreCut { requests } => self.core.fail_next(batches, requests, Behaviour::Reset),
            Fault::CoreBadRows { one_in, millis } => self.misbehave(Behaviour::BadRows { one_in }, millis).await?,
            Fault::CoreTooLarge { max_rows, millis } => {
                self.misbehave(Behaviour::TooLarge { max_rows }, millis).await?;
            }
            Fault::CoreHang { millis } => self.misbehave(Behaviour::Hang, millis).await?,
            Fault::CoreDown { millis } => self.misbehave(Behaviour::Down, millis).await?,
            Fault::TornTail
            | Fault::HalfWrite { .. }
            | Fault::HalfNote { .. }
            | Fault::HalfBatch { .. }
            | Fault::FlippedUpload
            | Fault::FlippedBatch => return self.damage(planned).await,
        }
        Ok(String::new())
    }

    /// Waits until both streams have taken an upload, and starts the node anew when they do not.
    pub(super) async fn resume(&mut self, number: u32) -> io::Result<()> {
        let taken = |fleet: &Fleet| fleet.snapshot().records.acknowledged;
        let before: Vec<u64> = self.fleets.iter().map(taken).collect();
        let deadline = Instant::now() + PATIENCE;
        while self.fleets.iter().zip(&before).any(|(fleet, before)| taken(fleet) == *before) {
            if self.node.is_gone() || Instant::now() >= deadline {
                self.history.stuck_after.push(number);
                return self.kill_and(Duration::ZERO).await;
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Asks the node to stop and notes whether it did so in order.
    pub(super) async fn stop(&mut self) -> io::Result<()> {
        let clean = self.node.stop().await?.success();
        self.history.unclean_stops += u32::from(!clean);
        self.bury().await;
        Ok(())
    }

    async fn kill_and(&mut self, second_life: Duration) -> io::Result<()> {
        self.kill().await;
        if !second_life.is_zero() {
            self.node = Node::spawn(&self.config, None).await?;
            self.history.lives += 1;
            sleep(second_life).await;
            self.kill().await;
        }
        self.live().await
    }

    async fn kill(&mut self) {
        self.node.kill().await;
        self.bury().await;
    }

    /// Takes in what a life that is over has said.
    async fn bury(&mut self) {
        self.node.has_said_all().await;
        let complaints = self.node.complaints();
        let reports = complaints.iter().filter(|(message, _)| message.contains("damaged")).map(|(_, times)| times);
        self.history.damage_reports += reports.sum::<u64>();
    }

    async fn live(&mut self) -> io::Result<()> {
        self.node = Node::start(&self.config).await?;
        self.history.lives += 1;
        Ok(())
    }

    async fn reload(&self, bound: Bound) -> io::Result<()> {
        self.place.write_config(&config::render(self.address, self.core.address(), &self.tuning, bound))?;
        status::reload(self.node.admin()?).await
    }

    async fn misbehave(&self, behaviour: Behaviour, millis: u64) -> io::Result<()> {
        if behaviour == Behaviour::Down {
            self.core.script(behaviour)?;
        } else {
            self.core.script_for(EndpointKind::Batch, behaviour);
        }
        sleep(Duration::from_millis(millis)).await;
        self.core.script(Behaviour::Up)
    }

    /// Kills the node, damages the spool of one stream, and starts the node.
    async fn damage(&mut self, planned: &Planned) -> io::Result<String> {
        self.kill().await;
        let told = self.told().await;
        let mut rng = SmallRng::seed_from_u64(planned.seed);
        let first = rng.random_range(0..STREAMS.len());
        let mut done = Damage::default();
        for stream in [first, 1 - first] {
            let spool = self.spool(STREAMS[stream]);
            done = match planned.fault {
                Fault::HalfWrite { bytes, zeros } => damage::half_write(&spool, bytes, zeros, &mut rng)?,
                Fault::HalfNote { bytes } => damage::half_note(&spool, bytes, &mut rng)?,
                Fault::HalfBatch { named } => damage::half_batch(&spool, named, &mut rng)?,
                Fault::FlippedUpload => damage::flip_upload(&spool, &mut rng)?,
                Fault::FlippedBatch => damage::flip_batch(&spool, &mut rng)?,
                _ => damage::tear_tail(&spool, &told, &mut rng)?,
            };
            if !done.done.is_empty() {
                let tally = std::mem::take(&mut done.destroyed);
                if tally.records > 0 {
                    let batch = planned.fault == Fault::FlippedBatch;
                    self.history.destroyed.push(Destroyed { stream: STREAMS[stream], batch, tally });
                }
                break;
            }
        }
        self.live().await?;
        Ok(done.done)
    }

    /// The ids of what agents were told is safe, once none of them waits for an answer any more.
    async fn told(&self) -> HashSet<String> {
        let waits = |fleet: &Fleet| {
            let report = fleet.snapshot();
            let upload = report.routes.get(&Route::Upload).cloned().unwrap_or_default();
            upload.sent > upload.statuses.values().sum::<u64>() + upload.errors.total()
        };
        while self.fleets.iter().any(waits) {
            sleep(POLL).await;
        }
        self.memories().iter().flat_map(|memory| memory.acknowledged().eids).collect()
    }
}

/// Reads what the simulated core cannot, with the product's own reader.
fn read_shapes(_: &str, body: &[u8], max_bytes: usize) -> Result<Vec<u8>, String> {
    let rows = Batch::open(body).and_then(|batch| batch.rows(max_bytes));
    rows.map(std::borrow::Cow::into_owned).map_err(|error| error.to_string())
}

fn fleet_options(address: SocketAddr, stream: &str, rate: f64, seed: u64) -> FleetOptions {
    FleetOptions {
        targets: vec![address],
        agents: 20,
        requests_per_second: rate,
        // To its stop.
        duration: Duration::from_secs(86_400),
        mix: Mix { update: 0.0, config: 0.0, tasks: 0.0, upload: 1.0 },
        paths: Paths { upload: format!("/v1/events/{stream}"), ..Paths::default() },
        request_timeout: Duration::from_secs(5),
        max_backoff: Duration::from_millis(250),
        // Agents that wait would leave the node in peace.
        obey_retry_after: false,
        seed,
        remember: Some(Remember { key_fields: SAME.map(str::to_owned).to_vec(), max: MAX_REMEMBERED }),
        ..FleetOptions::default()
    }
}
