//! `weir spool replay`: sends what a dead node has left, or puts the dead letters of a running one back.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use weir_config::Config;

use super::admin;
use super::arguments::ReplayArguments;
use crate::aggregate::REPLAY_PATH;
use crate::app::replaying::{self, ReplayOrder, Replayed};
use crate::exit::{Code, Failure};

/// Replays and gives what was done as lines for people, and whether all of it was.
///
/// # Errors
///
/// When nothing can be done: the directory is in use or cannot be read, the node does not run or refuses the order.
pub(super) fn replay(config: Config, arguments: &ReplayArguments) -> Result<(String, Result<(), Failure>), Failure> {
    match &arguments.data_dir {
        Some(data_dir) => replay_dead_node(config, arguments, data_dir),
        None if arguments.dead => Ok((ask_running_node(&config, arguments.stream.as_deref())?, Ok(()))),
        None => {
            let expected =
                "name the data directory of a node that does not run, or --dead for the dead letters of one that does";
            Err(Failure::new(Code::Usage, expected))
        }
    }
}

fn replay_dead_node(
    config: Config,
    arguments: &ReplayArguments,
    data_dir: &Path,
) -> Result<(String, Result<(), Failure>), Failure> {
    let order = ReplayOrder {
        data_dir,
        stream: arguments.stream.as_deref(),
        dead: arguments.dead,
        patience: Duration::from_secs(arguments.patience),
    };
    let replayed = replaying::replay(config, &order)?;
    let mut text = String::new();
    for Replayed { stream, delivered, revived, refused, left, unread, last_delivery } in &replayed {
        write!(text, "{stream}: {delivered} records delivered, {refused} refused, {left} left")
            .expect("a string takes all");
        if arguments.dead {
            write!(text, "; {revived} were put back from the dead letters").expect("a string takes all");
        }
        if *unread {
            text.push_str("; the journal was not read to its end");
        }
        if *left > 0 && !last_delivery.is_empty() {
            write!(text, "; the last attempt gave: {last_delivery}").expect("a string takes all");
        }
        text.push('\n');
    }
    let left: u64 = replayed.iter().map(|stream| stream.left).sum();
    let outcome = match left {
        0 if !replayed.iter().any(|stream| stream.unread) => Ok(()),
        left => Err(Failure::new(
            Code::Software,
            format!("{left} records are left: they go out under the same ids next time"),
        )),
    };
    Ok((text, outcome))
}

fn ask_running_node(config: &Config, stream: Option<&str>) -> Result<String, Failure> {
    let order = stream.map_or_else(|| json!({}), |stream| json!({ "stream": stream }));
    let answer = admin::ask(config.admin.address, "POST", REPLAY_PATH, &order.to_string(), PATIENCE)?;
    let said: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if answer.status != 200 {
        let code = if matches!(answer.status, 400 | 404) { Code::Usage } else { Code::Unavailable };
        return Err(Failure::new(code, said["error"].as_str().unwrap_or(answer.body.trim())));
    }
    let mut text = String::new();
    for (stream, revived) in said["streams"].as_object().into_iter().flatten() {
        let count = |field: &str| revived[field].as_u64().unwrap_or_default();
        let (records, batches) = (count("records"), count("batches"));
        write!(text, "{stream}: {records} records put back in {batches} batches").expect("a string takes all");
        for (field, why) in
            [("no_room", "stay: the outbox has no room now"), ("unreadable", "stay: they cannot be read")]
        {
            if count(field) > 0 {
                write!(text, "; {} dead letters {why}", count(field)).expect("a string takes all");
            }
        }
        text.push('\n');
    }
    Ok(text)
}

/// Each dead letter is read and written, durably.
const PATIENCE: Duration = Duration::from_secs(600);
