//! The run itself: everything started in order, led through its phases, and stopped in order.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::time::Instant;
use weir_core_sim::{Behaviour, CoreOptions, CoreSim};
use weir_fleet::{Fleet, FleetError, FleetMemory, FleetOptions, FleetReport, Remember, Uploads};

use super::arguments::RunArguments;
use super::config;
use super::figures::{Figures, KeyBalance, Parameters};
use super::measure::{Counted, Mark, records_at_core};
use super::plan::{AGENTS_PER_TENANT, EVENTS_PER_UPLOAD, Phase, Plan};
use super::screen::{Sample, Screen};
use crate::books::{Books, SAME};
use crate::node::Node;
use crate::place::Place;
use crate::signals::Signals;
use crate::status::{self, NodeStatus, StreamStatus};
use crate::text::{self, print};

/// How a run ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// With a verdict.
    Judged(Box<Figures>),
    /// By SIGINT or SIGTERM.
    Interrupted,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Something of the system's, or the node's own words.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The fleet's options are out of bounds.
    #[error("{0}")]
    Fleet(#[from] FleetError),
    /// There cannot be that many connections.
    #[error(
        "{agents} agents need {agents} open files and some; this system allows {allowed}: take fewer agents or raise `ulimit -n`"
    )]
    Files { agents: u32, allowed: u64 },
}

/// Runs the demo to its end, or to a signal.
pub(super) async fn run(arguments: &RunArguments) -> Result<Ending, Failure> {
    let mut signals = Signals::new()?;
    allow_files(arguments.agents)?;
    let plan = Plan::new(arguments);
    let place = Place::new(arguments.keep.as_deref())?;
    let core = CoreSim::start(core_options(arguments, &plan)).await?;
    let config = config::render(arguments, &plan, core.address());
    let mut node = Node::start(&place.write_config(&config)?).await?;
    print(&introduction(arguments, &plan));
    let stage = Stage { arguments, plan: &plan, core: &core, config };
    let ended = tokio::select! {
        ended = stage.play(&mut node, &place) => ended.map(|figures| Ending::Judged(Box::new(figures))),
        () = signals.next() => Ok(Ending::Interrupted),
    };
    // After a verdict it has ended already.
    node.kill().await;
    place.leave()?;
    ended
}

/// What the parts of a run share.
struct Stage<'a> {
    arguments: &'a RunArguments,
    plan: &'a Plan,
    core: &'a CoreSim,
    config: String,
}

/// What is gathered on the way.
#[derive(Default)]
struct Notes {
    down: Option<Mark>,
    outage: Option<(Mark, Mark)>,
    held: BTreeMap<u32, StreamStatus>,
}

const TICK: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The time for which the node may go on delivering once its windows have closed.
const SETTLE: Duration = Duration::from_secs(60);

impl Stage<'_> {
    async fn play(&self, node: &mut Node, place: &Place) -> Result<Figures, Failure> {
        let began_unix_ms = self.core.snapshot().started_unix_ms;
        let fleet = Fleet::start(fleet_options(self.arguments, self.plan, node, place)?)?;
        let memory = fleet.memory();
        let mut screen = Screen::new(self.arguments.plain);
        let (fleet, notes) = self.lead(fleet, node, &mut screen).await?;
        let status = self.settle(node, &fleet, &mut screen).await?;
        let answered_by_core = status::answered_by_core(node.admin()?).await?;
        let usage = node.usage().unwrap_or_default();
        let exit_code = node.stop().await?.code();
        let counted = Counted {
            parameters: self.parameters(began_unix_ms),
            phases: self.plan.phases,
            fleet,
            core: self.core.snapshot(),
            status,
            answered_by_core,
            outage: notes.outage,
            keys: self.by_key().then(|| self.compare_keys(&memory)),
            usage,
            exit_code,
            held: notes.held,
            config: self.config.clone(),
        };
        Ok(counted.figures())
    }

    /// Lets the agents go through all phases.
    async fn lead(&self, fleet: Fleet, node: &Node, screen: &mut Screen) -> Result<(FleetReport, Notes), Failure> {
        let mut notes = Notes::default();
        let mut ticks = tokio::time::interval(TICK);
        let mut looked: Option<Instant> = None;
        while !fleet.is_over() {
            ticks.tick().await;
            if node.is_gone() {
                return Err(node.failure("the node has ended").into());
            }
            let report = fleet.snapshot();
            let elapsed = report.elapsed_ms as f64 / 1_000.0;
            let phase = if report.started_unix_ms == 0 { Phase::Connecting } else { self.plan.phases.at(elapsed) };
            self.turn(phase, &report, &mut notes)?;
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
                looked = Some(Instant::now());
                let status = self.look(node, (phase, elapsed), &report, screen).await;
                if let Some(status) = status.filter(|_| phase > Phase::Connecting) {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a schedule of an hour at most"
                    )]
                    notes.held.insert(elapsed as u32, status.process());
                }
            }
        }
        // A run whose last phase was missed by a tick must not leave the core down.
        let report = fleet.finish().await;
        self.turn(Phase::Recovery, &report, &mut notes)?;
        Ok((report, notes))
    }

    /// Takes the core down or brings it back where the phase wants it.
    fn turn(&self, phase: Phase, report: &FleetReport, notes: &mut Notes) -> io::Result<()> {
        let wanted = self.plan.phases.recovery > self.plan.phases.outage;
        let mark = || Mark { fleet: report.clone(), records_at_core: records_at_core(&self.core.snapshot()) };
        if phase == Phase::Outage && wanted && notes.down.is_none() {
            self.core.script(Behaviour::Down)?;
            notes.down = Some(mark());
        }
        if phase > Phase::Outage
            && notes.outage.is_none()
            && let Some(down) = notes.down.clone()
        {
            notes.outage = Some((down, mark()));
            self.core.script(Behaviour::Up)?;
        }
        Ok(())
    }

    /// Asks the node how it is and shows everything. A node too busy to answer is asked again later.
    async fn look(
        &self,
        node: &Node,
        (phase, elapsed): (Phase, f64),
        fleet: &FleetReport,
        screen: &mut Screen,
    ) -> Option<NodeStatus> {
        let status = status::status(node.admin().ok()?).await.ok()?;
        screen.show(&Sample {
            phase,
            elapsed,
            end: self.plan.phases.end,
            fleet,
            core: &self.core.snapshot(),
            status: &status,
        });
        Some(status)
    }

    /// Waits until the node holds no record any more, or its time is up: which of the two, the ledger shows.
    async fn settle(&self, node: &Node, fleet: &FleetReport, screen: &mut Screen) -> Result<NodeStatus, Failure> {
        let began = Instant::now();
        let deadline = began + self.arguments.window + SETTLE;
        loop {
            if node.is_gone() {
                return Err(node.failure("the node has ended").into());
            }
            let elapsed = self.plan.phases.end + began.elapsed().as_secs_f64();
            let status = self.look(node, (Phase::Settling, elapsed), fleet, screen).await;
            let late = Instant::now() >= deadline;
            match status {
                Some(status) if late || status.process().held == 0 => return Ok(status),
                None if late => return Err(node.failure("the node does not answer").into()),
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    fn by_key(&self) -> bool {
        by_key(self.arguments, self.plan)
    }

    /// Holds the core's sum of every key to what agents were told.
    fn compare_keys(&self, memory: &FleetMemory) -> KeyBalance {
        let told = memory.acknowledged();
        let books = Books { acknowledged: told.keys, arrived: self.core.tracked_keys(), ..Books::default() };
        let balance = books.balance();
        let forgotten = self.core.snapshot().tracked.overflow;
        KeyBalance { keys: books.acknowledged.len() as u64, differing: balance.differing, forgotten }
    }

    fn parameters(&self, began_unix_ms: u64) -> Parameters {
        let (run, plan) = (self.arguments, self.plan);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Parameters {
            agents: run.agents,
            rate: run.rate,
            duration_seconds: run.duration.as_secs_f64(),
            outage: run.outage,
            merge_window_seconds: run.window.as_secs_f64(),
            lookup_window_ms: millis(plan.lookup_window),
            max_requests_per_second: plan.max_requests_per_second,
            seed: run.seed,
            events: run.events.as_ref().map_or("synthetic".to_owned(), |_| "recorded".to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began_unix_ms,
        }
    }
}

/// Records and keys that are remembered for a comparison key by key, at most. Several hundred bytes each, on both sides.
const MAX_REMEMBERED: usize = 4_000_000;

fn by_key(run: &RunArguments, plan: &Plan) -> bool {
    run.by_key || plan.records_expected < 500_000
}

fn same() -> Vec<String> {
    SAME.map(str::to_owned).to_vec()
}

fn core_options(run: &RunArguments, plan: &Plan) -> CoreOptions {
    let key_fields = if by_key(run, plan) { same() } else { Vec::new() };
    CoreOptions { key_fields, max_tracked: MAX_REMEMBERED, ..CoreOptions::default() }
}

pub(super) fn fleet_options(run: &RunArguments, plan: &Plan, node: &Node, place: &Place) -> io::Result<FleetOptions> {
    Ok(FleetOptions {
        targets: vec![node.agents()?],
        tls: Some(place.tls()),
        agents: run.agents,
        requests_per_second: run.rate,
        duration: run.duration,
        handshakes_per_second: run.handshakes,
        agents_per_tenant: AGENTS_PER_TENANT,
        uploads: Uploads {
            events: EVENTS_PER_UPLOAD,
            repeats: 0.7,
            with_eid: false,
            file: run.events.clone(),
            compression: None,
        },
        seed: run.seed,
        remember: by_key(run, plan).then(|| Remember { key_fields: same(), max: MAX_REMEMBERED }),
        ..FleetOptions::default()
    })
}

/// Each agent's connection takes one file here and one in the node, which has a table of its own.
fn allow_files(agents: u32) -> Result<(), Failure> {
    /// For everything else.
    const SOME: u64 = 500;
    let allowed = rlimit::increase_nofile_limit(u64::MAX)?;
    if allowed < u64::from(agents) + SOME {
        return Err(Failure::Files { agents, allowed });
    }
    Ok(())
}

fn introduction(run: &RunArguments, plan: &Plan) -> String {
    let phases = plan.phases;
    format!(
        "{} agents over TLS, {:.0} requests/s for {:.0} s (seed {}); the core is down from {:.0} s to {:.0} s\n\
         chosen for that rate: lookups wait {} ms, the core stands {} requests/s; repeats are counted over {:.0} s\n\n",
        text::grouped(run.agents.into()),
        run.rate,
        phases.end,
        run.seed,
        phases.outage,
        phases.recovery,
        plan.lookup_window.as_millis(),
        plan.max_requests_per_second,
        run.window.as_secs_f64()
    )
}
