//! Many callers of one cold key: how often the core is asked, and how long after its last byte they have their answers.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Failure;
use super::figures::{Spread, median};
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
}

/// Has `callers` tasks ask for one key, round after round. They run on as many threads as there are processors.
pub(super) fn measure(callers: usize, rounds: u32, first_dies: bool) -> Result<Crowd, Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let scene = Arc::new(Scene::new(1 << 30, BODY)?);
    let (mut asked, mut spreads) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let before = scene.core.asked();
        let wakes = runtime.block_on(one_round(&scene, callers, round, first_dies))?;
        asked.push(scene.core.asked() - before);
        spreads.push(Spread::of(wakes));
    }
    let over_rounds = |of: fn(&Spread) -> f64| median(spreads.iter().map(of).collect());
    let wake = Spread {
        p50: over_rounds(|spread| spread.p50),
        p99: over_rounds(|spread| spread.p99),
        p999: over_rounds(|spread| spread.p999),
        max: over_rounds(|spread| spread.max),
    };
    let worst_p99 = spreads.iter().map(|spread| spread.p99).fold(0.0, f64::max);
    Ok(Crowd { callers, rounds, first_dies, asked, wake, worst_p99 })
}

/// A manifest's size.
const BODY: usize = 4096;

/// What the callers of a round share: their request too, so that what it takes to make and to drop one is not in the time.
struct Round {
    scene: Arc<Scene>,
    asker: Asker,
    waiting: watch::Sender<usize>,
}

async fn one_round(scene: &Arc<Scene>, callers: usize, round: u32, first_dies: bool) -> Result<Vec<f64>, Failure> {
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
    let last_byte = scene.core.answered().ok_or("the core has not answered")?;
    Ok(answered.into_iter().map(|at| micros(at.saturating_duration_since(last_byte))).collect())
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
