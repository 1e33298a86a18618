//! Many callers of one cold key: how often the core is asked, and how long after its last byte they have their answers. Beside each
//! round as many tasks are woken that do nothing: the floor, below which no cache can be on this runtime and machine.
//!
//! A caller is a task that goes on when it has its answer, as an agent's connection does: what it takes to end ten thousand tasks is no
//! part of a waking.

use std::collections::HashMap;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Builder;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::Failure;
use super::figures::{Spread, busy, median};
use super::scene::{Asker, Scene};

/// What was seen over some rounds, each with a key of its own.
#[derive(Debug, Serialize)]
pub(super) struct Crowd {
    pub(super) callers: usize,
    pub(super) rounds: u32,
    /// Whether the caller that started the fill was killed while the core worked.
    pub(super) first_dies: bool,
    /// Requests at the core in each round.
    pub(super) asked: Vec<usize>,
    /// Microseconds from the core's last byte to a caller's answer: the medians over the rounds.
    pub(super) wake: Spread,
    /// The greatest p99 of a round.
    pub(super) worst_p99: f64,
    /// Microseconds of processor time of the process for each caller, from when the core may answer until all have answers.
    pub(super) busy: f64,
    /// The part of the callers that the busiest thread has answered: a half where two share the work.
    pub(super) share: f64,
    /// The same for tasks that do nothing, woken by one `Notify`.
    pub(super) bare: Spread,
    pub(super) bare_busy: f64,
    pub(super) bare_share: f64,
}

/// What a round has shown.
struct Seen {
    wake: Spread,
    /// Microseconds for each caller.
    busy: f64,
    share: f64,
}

/// Has `callers` tasks ask for one key, round after round. They run on as many threads as there are processors.
pub(super) fn measure(callers: usize, rounds: u32, first_dies: bool) -> Result<Crowd, Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let scene = Arc::new(Scene::new(1 << 30, BODY)?);
    let (mut asked, mut rounds_seen, mut bare_seen) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let before = scene.core.asked();
        rounds_seen.push(runtime.block_on(one_round(&scene, callers, round, first_dies))?);
        asked.push(scene.core.asked() - before);
        bare_seen.push(runtime.block_on(bare_round(callers))?);
    }
    let worst_p99 = rounds_seen.iter().map(|seen| seen.wake.p99).fold(0.0, f64::max);
    let (wake, busy, share) = over_rounds(&rounds_seen);
    let (bare, bare_busy, bare_share) = over_rounds(&bare_seen);
    Ok(Crowd { callers, rounds, first_dies, asked, wake, worst_p99, busy, share, bare, bare_busy, bare_share })
}

/// The medians.
fn over_rounds(seen: &[Seen]) -> (Spread, f64, f64) {
    let of = |figure: fn(&Seen) -> f64| median(seen.iter().map(figure).collect());
    let wake = Spread {
        p50: of(|seen| seen.wake.p50),
        p99: of(|seen| seen.wake.p99),
        p999: of(|seen| seen.wake.p999),
        max: of(|seen| seen.wake.max),
    };
    (wake, of(|seen| seen.busy), of(|seen| seen.share))
}

/// A manifest's size.
const BODY: usize = 4096;

/// What the callers of a round share: their request too, so that what it takes to make and to drop one is not in the time.
struct Round {
    scene: Arc<Scene>,
    asker: Asker,
    waiting: watch::Sender<usize>,
    book: Book,
}

async fn one_round(scene: &Arc<Scene>, callers: usize, round: u32, first_dies: bool) -> Result<Seen, Failure> {
    scene.core.close().await?;
    let mut asker = Asker::new(1);
    asker.of(round);
    let answered = callers - usize::from(first_dies);
    let (waiting, book) = (watch::Sender::new(0), Book::new(callers, answered));
    let round = Arc::new(Round { scene: Arc::clone(scene), asker, waiting, book });
    let asked = scene.core.asked();
    let mut tasks = Vec::with_capacity(callers);
    tasks.push(join(&round, 0));
    scene.core.was_asked(asked + 1).await;
    tasks.extend((1..callers).map(|number| join(&round, number)));
    round.waiting.subscribe().wait_for(|waiting| *waiting >= callers).await?;
    if first_dies {
        tasks[0].abort();
    }
    let before = busy()?;
    scene.core.open();
    round.book.is_full().await?;
    let spent = busy()?.saturating_sub(before);
    end(tasks).await;
    let last_byte = scene.core.answered().ok_or("the core has not answered")?;
    round.book.seen(last_byte, spent)
}

/// As many tasks that wait for a word and note the time.
async fn bare_round(callers: usize) -> Result<Seen, Failure> {
    struct Bare {
        word: Notify,
        waiting: watch::Sender<usize>,
        book: Book,
    }
    let (word, waiting) = (Notify::new(), watch::Sender::new(0));
    let bare = Arc::new(Bare { word, waiting, book: Book::new(callers, callers) });
    let one = |number| {
        let bare = Arc::clone(&bare);
        tokio::spawn(async move {
            let mut told = pin!(bare.word.notified());
            told.as_mut().enable();
            bare.waiting.send_modify(|waiting: &mut usize| *waiting += 1);
            told.await;
            bare.book.note(number, 200);
            pending::<()>().await;
        })
    };
    let tasks: Vec<_> = (0..callers).map(one).collect();
    bare.waiting.subscribe().wait_for(|waiting| *waiting >= callers).await?;
    let before = busy()?;
    // From a worker, as a fill is one.
    let waking = Arc::clone(&bare);
    let woken = tokio::spawn(async move {
        let now = Instant::now();
        waking.word.notify_waiters();
        now
    });
    let woken = woken.await?;
    bare.book.is_full().await?;
    let spent = busy()?.saturating_sub(before);
    end(tasks).await;
    bare.book.seen(woken, spent)
}

/// One more caller; it counts as waiting when the cache has let it wait.
fn join(round: &Arc<Round>, number: usize) -> JoinHandle<()> {
    let round = Arc::clone(round);
    tokio::spawn(async move {
        let parameters = round.asker.parameters();
        let mut answer = pin!(round.scene.answer_to(&round.asker, &parameters));
        let mut counted = false;
        let answer = poll_fn(|context| {
            let polled = answer.as_mut().poll(context);
            if polled.is_pending() && !std::mem::replace(&mut counted, true) {
                round.waiting.send_modify(|waiting| *waiting += 1);
            }
            polled
        });
        round.book.note(number, answer.await.status);
        pending::<()>().await;
    })
}

/// Ends tasks that would go on for ever.
async fn end(tasks: Vec<JoinHandle<()>>) {
    tasks.iter().for_each(JoinHandle::abort);
    for task in tasks {
        task.await.ok();
    }
}

/// When each was answered. Threads that note something share little memory, so that they do not wait for each other.
struct Book {
    opened: Instant,
    lines: Vec<Line>,
    /// How many are not answered yet, of each lot and of all lots.
    missing: Vec<AtomicUsize>,
    lots: AtomicUsize,
    full: Notify,
}

#[derive(Default)]
struct Line {
    /// Nanoseconds since the book was opened, and one; zero as long as there is no answer.
    at: AtomicU64,
    status: AtomicU16,
    thread: AtomicUsize,
}

thread_local! {
    /// Its address tells threads apart.
    static SELF: u8 = const { 0 };
}

impl Book {
    /// For so many, of whom so many will be answered: all but the first ones.
    fn new(callers: usize, answered: usize) -> Self {
        let missing = |lot: usize| {
            let (first, end) = (lot * LOT, ((lot + 1) * LOT).min(callers));
            end.saturating_sub(first.max(callers - answered))
        };
        let missing: Vec<_> = (0..callers.div_ceil(LOT)).map(missing).collect();
        Self {
            opened: Instant::now(),
            lines: (0..callers).map(|_| Line::default()).collect(),
            lots: AtomicUsize::new(missing.iter().filter(|missing| **missing > 0).count()),
            missing: missing.into_iter().map(AtomicUsize::new).collect(),
            full: Notify::new(),
        }
    }

    fn note(&self, number: usize, status: u16) {
        let line = &self.lines[number];
        let at = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        line.status.store(status, Ordering::Relaxed);
        line.thread.store(SELF.with(|place| std::ptr::from_ref(place).addr()), Ordering::Relaxed);
        line.at.store(at, Ordering::Release);
        let lot = &self.missing[number / LOT];
        if lot.fetch_sub(1, Ordering::AcqRel) == 1 && self.lots.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.full.notify_one();
        }
    }

    async fn is_full(&self) -> Result<(), Failure> {
        timeout(PATIENCE, self.full.notified()).await.map_err(|_| "a caller has no answer".into())
    }

    /// What it says of a waking at `start` on which the process has spent so much processor time.
    fn seen(&self, start: Instant, spent: Duration) -> Result<Seen, Failure> {
        let start = start.saturating_duration_since(self.opened).as_secs_f64() * 1e6;
        let (mut times, mut threads) = (Vec::new(), HashMap::new());
        for line in &self.lines {
            let Some(at) = line.at.load(Ordering::Acquire).checked_sub(1) else { continue };
            let status = line.status.load(Ordering::Relaxed);
            if status != 200 {
                return Err(format!("a caller was answered {status}").into());
            }
            times.push((at as f64 / 1e3 - start).max(0.0));
            *threads.entry(line.thread.load(Ordering::Relaxed)).or_insert(0_usize) += 1;
        }
        let all = times.len().max(1) as f64;
        let most = threads.into_values().max().unwrap_or_default();
        Ok(Seen { wake: Spread::of(times), busy: micros(spent) / all, share: most as f64 / all })
    }
}

/// Callers that are counted together.
const LOT: usize = 64;

const PATIENCE: Duration = Duration::from_secs(30);

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
