//! The run itself: the faults in their order, then everything delivered, then the books.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_fleet::{Acknowledged, FleetReport};

use super::arguments::RunArguments;
use super::config::STREAMS;
use super::damage;
use super::fault::Planned;
use super::figures::{FORMAT, Figures, IdFigures, Inflicted, RecordFigures, StreamFigures};
use super::scene::Scene;
use super::tally::Tally;
use super::verdict::judge;
use crate::books::{self, Books};
use crate::place::Place;
use crate::signals::Signals;
use crate::status::{self, NodeStatus, StreamStatus};
use crate::text::print;

/// How a run ended.
pub(super) enum Ending {
    /// With a verdict; and the directory, for whoever wants to look into it.
    Judged(Box<Figures>, Place),
    /// By SIGINT or SIGTERM.
    Interrupted,
}

/// The time for which the node may go on delivering when the faults are over.
const SETTLE: Duration = Duration::from_secs(120);
/// All windows of every configuration have ended after it.
const LONGEST_WINDOW: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs the scenario to its end, or to a signal.
///
/// # Errors
/// When something cannot be started any more, the node among it.
pub(super) async fn run(arguments: &RunArguments, seed: u64, faults: &[Planned]) -> io::Result<Ending> {
    let mut signals = Signals::new()?;
    let place = Place::new(arguments.keep.as_deref())?;
    let mut scene = Scene::start(place, arguments.rate).await?;
    tokio::select! {
        figures = play(&mut scene, seed, faults) => {
            scene.node.kill().await;
            let place = scene.into_place();
            match figures {
                Ok(figures) => Ok(Ending::Judged(Box::new(figures), place)),
                Err(error) => Err(io::Error::other(format!("{error}; the node's files are in {}", place.keep().display()))),
            }
        }
        () = signals.next() => {
            scene.node.kill().await;
            scene.into_place().leave()?;
            Ok(Ending::Interrupted)
        }
    }
}

async fn play(scene: &mut Scene, seed: u64, faults: &[Planned]) -> io::Result<Figures> {
    let began = Instant::now();
    let at_ms = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    scene.resume(0).await?;
    let mut inflicted = Vec::with_capacity(faults.len());
    for (number, planned) in (1..).zip(faults) {
        let at_ms = at_ms();
        let done = scene.inflict(planned).await?;
        let fault = Inflicted { at_ms, fault: planned.fault.clone(), done };
        print(&line(number, faults.len(), &fault));
        inflicted.push(fault);
        scene.resume(number).await?;
    }
    let memories = scene.memories();
    let mut reports = Vec::new();
    for fleet in std::mem::take(&mut scene.fleets) {
        reports.push(fleet.stop().await);
    }
    print(&format!(
        "{:>8.1} s  the agents have stopped; the node delivers what it holds\n",
        began.elapsed().as_secs_f64()
    ));
    let status = settle(scene).await?;
    scene.stop().await?;
    let told: Vec<Acknowledged> = memories.iter().map(weir_fleet::FleetMemory::acknowledged).collect();
    let mut figures = close_books(scene, &reports, told, &status)?;
    (figures.format, figures.seed) = (FORMAT, seed);
    figures.wanted = u32::try_from(faults.len()).unwrap_or(u32::MAX);
    figures.faults = inflicted;
    figures.verdict = judge(&figures);
    Ok(figures)
}

/// A fault as people read it.
pub(super) fn line(number: u32, count: usize, fault: &Inflicted) -> String {
    let name = serde_json::to_string(&fault.fault).unwrap_or_default();
    let seconds = Duration::from_millis(fault.at_ms).as_secs_f64();
    format!("{seconds:>8.1} s  {number:>4} of {count}  {name}  {}", fault.done).trim_end().to_owned() + "\n"
}

/// Waits until the node holds no record any more, or its time is up: which of the two, the ledger shows.
async fn settle(scene: &Scene) -> io::Result<NodeStatus> {
    let (earliest, deadline) = (Instant::now() + LONGEST_WINDOW, Instant::now() + SETTLE);
    // What was destroyed in the journal, the node may hold for waiting in it.
    let destroyed: u64 = scene.history.destroyed.iter().map(|lost| lost.tally.records).sum();
    let is_empty = |stream: &StreamStatus| stream.held <= destroyed && stream.outbox_batches == 0;
    loop {
        let status = status::status(scene.node.admin()?).await;
        let is_late = Instant::now() >= deadline || scene.node.is_gone();
        let is_settled = destroyed == 0 || Instant::now() >= earliest;
        match status {
            Ok(status) if is_late || (is_settled && status.streams.values().all(is_empty)) => return Ok(status),
            Err(error) if is_late => return Err(error),
            _ => sleep(LOOK_EVERY).await,
        }
    }
}

fn close_books(
    scene: &Scene,
    reports: &[FleetReport],
    told: Vec<Acknowledged>,
    status: &NodeStatus,
) -> io::Result<Figures> {
    let (core, history) = (scene.core.snapshot(), &scene.history);
    let mut streams = BTreeMap::new();
    let (mut dead, mut destroyed) = (Tally::default(), Tally::default());
    for stream in STREAMS {
        let letters = damage::dead_letters(&scene.spool(stream))?;
        let said = status.streams.get(stream).copied().unwrap_or_default();
        let mut lost = Tally::default();
        history.destroyed.iter().filter(|lost| lost.stream == stream).for_each(|more| lost.add(more.tally.clone()));
        let figures = StreamFigures {
            accepted: said.accepted,
            discarded: said.discarded,
            held: said.held,
            difference: said.difference,
            at_core: core.streams.get(stream).map_or(0, |counts| counts.records),
            dead: letters.records,
            destroyed: lost.records,
        };
        streams.insert(stream.to_owned(), figures);
        dead.add(letters);
        destroyed.add(lost);
    }
    let at_core = scene.core.tracked_ids();
    let ids = ids(&told, &at_core, &dead, &destroyed);
    let is_missed = |id: &String| !at_core.contains_key(id) && !dead.ids.contains_key(id);
    let noticed = history.destroyed.iter().filter(|lost| !lost.batch || lost.tally.ids.keys().any(is_missed));
    let damages = noticed.count() as u64;
    let mut books = Books { destroyed: destroyed.keys, arrived: scene.core.tracked_keys(), ..Books::default() };
    books::add(&mut books.arrived, dead.keys);
    for fleet in told {
        books::add(&mut books.acknowledged, fleet.keys);
        books::add(&mut books.in_doubt, fleet.keys_in_doubt);
    }
    let balance = books.balance();
    let sum = |of: fn(&FleetReport) -> u64| reports.iter().map(of).sum::<u64>();
    Ok(Figures {
        lives: history.lives,
        stuck_after: history.stuck_after.clone(),
        unclean_stops: history.unclean_stops,
        damages,
        damage_reports: history.damage_reports,
        records: RecordFigures {
            acknowledged: sum(|fleet| fleet.records.acknowledged),
            in_doubt: sum(|fleet| fleet.records.in_doubt),
            at_core: streams.values().map(|stream: &StreamFigures| stream.at_core).sum(),
            dead: dead.records,
            destroyed: destroyed.records,
            missing: balance.missing,
            surplus: balance.surplus,
            differing_keys: balance.differing,
            examples: balance.examples,
            forgotten: core.tracked.overflow + sum(|fleet| fleet.records.forgotten),
        },
        ids,
        batches: core.batches,
        streams,
        ..Figures::default()
    })
}

/// Compares ids: each of the stream whose records leave as they came must be somewhere, and none of any stream twice.
fn ids(told: &[Acknowledged], at_core: &HashMap<String, u64>, dead: &Tally, destroyed: &Tally) -> IdFigures {
    let times = |id: &String| at_core.get(id).copied().unwrap_or(0) + dead.ids.get(id).copied().unwrap_or(0);
    // The second stream is the one that leaves its records alone.
    let whole = told.last().map(|told| told.eids.as_slice()).unwrap_or_default();
    let missing = whole.iter().filter(|id| times(id) == 0 && !destroyed.ids.contains_key(*id)).count();
    let dead_only = dead.ids.keys().filter(|id| !at_core.contains_key(*id));
    let repeated = at_core.keys().chain(dead_only).filter(|id| times(id) > 1).count();
    IdFigures { acknowledged: whole.len() as u64, missing: missing as u64, repeated: repeated as u64 }
}
