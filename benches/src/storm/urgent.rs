//! Orders to one agent while a storm goes on: how long they take to reach it.

use std::io;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep_until};
use weir_core_sim::CoreSim;

use crate::verdict::{Line, line};

/// From one poll of the agent to its next.
const POLL: Duration = Duration::from_secs(1);

/// Where the agent polls, and its name.
pub(super) const TASKS: &str = "/v1/agents/agent-under-attack/tasks";
const AGENT: &str = "agent-under-attack";

/// Gives the agent one order after the other until the end, and has it `poll` once a second; gives the times from each order to its
/// arrival. `poll` gives the status and the body of an answer.
pub(super) async fn orders(
    core: &CoreSim,
    end: Instant,
    mut poll: impl AsyncFnMut() -> io::Result<(u16, Vec<u8>)>,
) -> io::Result<Vec<Duration>> {
    let (mut took, mut due) = (Vec::new(), Instant::now());
    while Instant::now() < end {
        // Just after a poll has found nothing, which is the worst moment.
        let given = Instant::now();
        core.set_task(AGENT, Some(json!({"order": "isolate"})));
        loop {
            due += POLL;
            sleep_until(due).await;
            let (status, body) = poll().await?;
            let arrived = status == 200 && String::from_utf8_lossy(&body).contains("isolate");
            if arrived || Instant::now() >= end {
                break;
            }
        }
        took.push(given.elapsed());
        core.set_task(AGENT, None);
    }
    Ok(took)
}

/// An order arrives within a poll and a second.
pub(super) fn judge(took: &[Duration]) -> Line {
    let slowest = took.iter().max().copied().unwrap_or(Duration::MAX);
    line(
        "the slowest order to reach its agent",
        format!("{:.2} s", slowest.as_secs_f64()),
        "at most a poll and 1 s: 2 s".to_owned(),
        slowest <= POLL + Duration::from_secs(1),
    )
}
