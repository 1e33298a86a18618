//! `weir rollout`: shows and steers the releases that are on their way to the agents of a running node.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::admin;
use super::arguments::{RolloutArguments, RolloutMeant, RolloutOrder};
use crate::exit::{Code, Failure};

/// Sends the order and gives what the node says, as lines for people.
///
/// # Errors
///
/// When the node does not run, or refuses the order.
pub(super) fn rollout(address: SocketAddr, arguments: &RolloutArguments) -> Result<String, Failure> {
    let (action, meant, share) = match &arguments.order {
        RolloutOrder::List { route } => {
            let said = asked(address, "GET", "")?;
            return Ok(listed(&said, route.as_deref()));
        }
        RolloutOrder::Pause(meant) => ("pause", meant, None),
        RolloutOrder::Resume(meant) => ("resume", meant, None),
        RolloutOrder::Share { meant, share } => ("share", meant, Some(share)),
        RolloutOrder::Finish(meant) => ("finish", meant, None),
        RolloutOrder::Abort(meant) => ("abort", meant, None),
    };
    let RolloutMeant { route, key } = meant;
    let order = json!({ "route": route, "key": key, "action": action, "share": share });
    let said = asked(address, "POST", &order.to_string())?;
    let keys = said["keys"].as_u64().unwrap_or_default();
    let plural = if keys == 1 { "" } else { "s" };
    let kept = if said["saved"] == true { "" } else { "; it is not on disk yet, where a restart would look" };
    Ok(format!("{action}: {keys} key{plural} of {route}{kept}\n"))
}

fn asked(address: SocketAddr, method: &str, body: &str) -> Result<Value, Failure> {
    let answer = admin::ask(address, method, "/rollouts", body, PATIENCE)?;
    let said: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if answer.status == 200 {
        return Ok(said);
    }
    let code = if answer.status == 400 { Code::Usage } else { Code::Unavailable };
    Err(Failure::new(code, said["error"].as_str().unwrap_or(answer.body.trim())))
}

fn listed(said: &Value, route: Option<&str>) -> String {
    let all = said["rollouts"].as_array().into_iter().flatten();
    let mut text = String::new();
    for about in all.filter(|about| route.is_none_or(|name| about["route"] == name)) {
        let of = |name: &str| about[name].as_str().unwrap_or_default();
        let number = |name: &str| about[name].as_f64().unwrap_or_default();
        text.push_str(&format!(
            "{} {}: {:.1}% of the agents, {}; at most {:.1}%, over {}, begun {} ago\n  from {}\n  to   {}\n  key  {}\n",
            of("route"),
            of("path"),
            number("fraction") * 100.0,
            of("stage"),
            number("share") * 100.0,
            time(number("over_seconds")),
            time(number("begun_seconds_ago")),
            of("previous"),
            of("current"),
            of("key"),
        ));
    }
    if text.is_empty() { "no release is on its way\n".to_owned() } else { text }
}

/// Whole seconds as people write times.
fn time(seconds: f64) -> String {
    weir_config::duration_to_text(Duration::from_secs(
        Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs(),
    ))
}

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_how_far_each_release_is() {
        let said = json!({ "keys_known": 2, "rollouts": [{
            "route": "updates", "path": "/v1/m", "key": "0f", "previous": "aa", "current": "bb", "stage": "paused",
            "fraction": 0.1234, "share": 0.5, "over_seconds": 14400.0, "begun_seconds_ago": 5400.4
        }] });
        let expected = "updates /v1/m: 12.3% of the agents, paused; at most 50.0%, over 4h, begun 1h30m ago\n  from aa\n  to   bb\n  key  0f\n";
        assert_eq!(listed(&said, None), expected);
        assert_eq!(listed(&said, Some("others")), "no release is on its way\n");
    }
}
