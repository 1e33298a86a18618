//! Many callers of one cold key: how often the core is asked, and how long after its last byte they have their answers. Beside each
//! round as many tasks are woken that do nothing: the floor, below which no cache can be on this runtime and machine.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Builder;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

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
    /// The same for tasks that do nothing, woken by one `Notify`.
    pub(super) bare: Spread,
    pub(super) bare_busy: f64,
}

/// What a round has shown.
struct Seen {
    wake: Spread,
    /// Microseconds for each caller.
    busy: f64,
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
    let (wake, busy) = over_rounds(&rounds_seen);
    let (bare, bare_busy) = over_rounds(&bare_seen);
    Ok(Crowd { callers, rounds, first_dies, asked, wake, worst_p99, busy, bare, bare_busy })
}

/// The medians.
fn over_rounds(seen: &[Seen]) -> (Spread, f64) {
    let of = |figure: fn(&Seen) -> f64| median(seen.iter().map(figure).collect());
    let wake = Spread {
        p50: of(|seen| seen.wake.p50),
        p99: of(|seen| seen.wake.p99),
        p999: of(|seen| seen.wake.p999),
        max: of(|seen| seen.wake.max),
    };
    (wake, of(|seen| seen.busy))
}

/// A manifest's size.
const BODY: usize = 4096;

/// What the callers of a round share: their request too, so that what it takes to make and to drop one is not in the time.
struct Round {
    scene: Arc<Scene>,
    asker: Asker,
    waiting: watch::Sender<usize>,
}

async fn one_round(scene: &Arc<Scene>, callers: usize, round: u32, first_dies: bool) -> Result<Seen, Failure> {
    scene.core.close().await?;
    let mut asker = Asker::new(1);
    asker.of(round);
    let round = Arc::new(Round { scene: Arc::clone(scene), asker, waiting: watch::Sender::new(0) });
    let asked = scene.core.asked();
    let mut tasks = Vec::with_capacity(callers);
    tasks.push(join(&round));
    scene.core.was_asked(asked + 1).await;
    tasks.extend((1..callers).map(|_| join(&round)));
    round.waiting.subscribe().wait_for(|waiting| *waiting >= callers).await?;
    if first_dies {
        tasks[0].abort();
    }
    let before = busy()?;
    scene.core.open();
    let mut answered = Vec::with_capacity(callers);
    // The last to come is woken last: so this task sleeps until all but a few have their answers, and takes no time from them.
    for caller in tasks.into_iter().rev() {
        match caller.await {
            Ok((200, at)) => answered.push(at),
            Ok((status, _)) => return Err(format!("a caller was answered {status}").into()),
            Err(error) if error.is_cancelled() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if answered.len() != callers - usize::from(first_dies) {
        return Err("a caller has no answer".into());
    }
    let busy = micros(busy()?.saturating_sub(before)) / callers as f64;
    let last_byte = scene.core.answered().ok_or("the core has not answered")?;
    Ok(Seen { wake: since(last_byte, answered), busy })
}

/// As many tasks that wait for a word and note the time.
async fn bare_round(callers: usize) -> Result<Seen, Failure> {
    let (word, waiting) = (Arc::new(Notify::new()), Arc::new(watch::Sender::new(0)));
    let one = || {
        let (word, waiting) = (Arc::clone(&word), Arc::clone(&waiting));
        tokio::spawn(async move {
            let mut told = pin!(word.notified());
            told.as_mut().enable();
            waiting.send_modify(|waiting: &mut usize| *waiting += 1);
            told.await;
            Instant::now()
        })
    };
    let tasks: Vec<_> = (0..callers).map(|_| one()).collect();
    waiting.subscribe().wait_for(|waiting| *waiting >= callers).await?;
    let before = busy()?;
    // From a worker, as a fill is one.
    let woken = tokio::spawn(async move {
        let now = Instant::now();
        word.notify_waiters();
        now
    });
    let woken = woken.await?;
    let mut times = Vec::with_capacity(callers);
    for task in tasks.into_iter().rev() {
        times.push(task.await?);
    }
    let busy = micros(busy()?.saturating_sub(before)) / callers as f64;
    Ok(Seen { wake: since(woken, times), busy })
}

fn since(start: Instant, times: Vec<Instant>) -> Spread {
    Spread::of(times.into_iter().map(|at| micros(at.saturating_duration_since(start))).collect())
}

/// One more caller; it counts as waiting when the cache has let it wait.
fn join(round: &Arc<Round>) -> JoinHandle<(u16, Instant)> {
    let round = Arc::clone(round);
    tokio::spawn(async move {
        let mut answer = pin!(round.scene.answer(&round.asker));
        let mut counted = false;
        let answer = std::future::poll_fn(|context| {
            let polled = answer.as_mut().poll(context);
            if polled.is_pending() && !std::mem::replace(&mut counted, true) {
                round.waiting.send_modify(|waiting| *waiting += 1);
            }
            polled
        });
        let answer = answer.await;
        (answer.status, Instant::now())
    })
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
