//! When agents that are refused are told to come back: evenly spread over them, in whole seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_core_sim::Behaviour;

use super::config::NodeConfig;
use super::report::Report;
use super::stage::{Stage, on_sockets};
use super::{Failure, Order};
use crate::text::grouped;
use crate::verdict::line;
use crate::wire::{self, Connection};

/// A request that is passed through to a core that is down. With no longer times allowed all agents share one window, of 5 to 10
/// seconds; else it would be the wider the more of them there are, and only the waits of one window are even.
const ROUTE: &str = r#"
[[route]]
name = "echo"
match = { method = "GET", path = "/v1/echo" }
class = "config"
action = "forward"
[limits.retry_after]
config = "10s"
"#;

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

async fn run(order: &Order) -> Result<Report, Failure> {
    let agents = if order.small { 2_000 } else { 10_000 };
    // The core is asked again soon, so that its rest is shorter than any wait.
    let config =
        NodeConfig { breaker_cooldown: Duration::from_millis(100), more: ROUTE.to_owned(), ..NodeConfig::default() };
    let stage = Stage::set(config, order.switches).await?;
    stage.core.script(Behaviour::Down)?;
    let mut connection = Connection::open(stage.node.agents()?).await?;
    let (mut seconds, mut without) = (BTreeMap::<u64, u64>::new(), 0);
    for number in 0..agents {
        let names = format!("x-agent-id: agent-{number:06}\r\nx-tenant-id: tenant-1\r\n");
        let (head, _) = connection.get("/v1/echo", &names).await?;
        match wire::field(&head, "retry-after").and_then(|wait| wait.parse().ok()) {
            Some(wait) if matches!(wire::status(&head), 429 | 503) => *seconds.entry(wait).or_default() += 1,
            _ => without += 1,
        }
    }
    stage.clear().await?;
    let slots = slots(&seconds);
    let (statistic, bound) = uniformity(&slots);
    let told: Vec<String> = seconds.iter().map(|(wait, count)| format!("{wait} s: {count}")).collect();
    Ok(Report {
        lines: vec![
            line("refusals without whole seconds in Retry-After", without.to_string(), "0".to_owned(), without == 0),
            line("different waits", slots.len().to_string(), "at least 4".to_owned(), slots.len() >= 4),
            line(
                "chi-square of the waits against even ones",
                format!("{statistic:.1}"),
                format!("at most {bound:.1}"),
                statistic <= bound && slots.len() >= 4,
            ),
        ],
        notes: vec![format!("{} agents refused: {}", grouped(agents), told.join(", "))],
        ..Report::default()
    })
}

/// The counts of every second from the least to the greatest. A second at an end may be one of which only a part was drawn: where
/// there are enough others it is left out.
fn slots(seconds: &BTreeMap<u64, u64>) -> Vec<u64> {
    let (Some((first, _)), Some((last, _))) = (seconds.first_key_value(), seconds.last_key_value()) else {
        return Vec::new();
    };
    let all: Vec<u64> = (*first..=*last).map(|wait| seconds.get(&wait).copied().unwrap_or(0)).collect();
    if all.len() >= 6 { all[1..all.len() - 1].to_vec() } else { all }
}

/// Pearson's statistic against equal counts, and the bound that one in a thousand even draws exceeds (after Wilson and Hilferty).
fn uniformity(slots: &[u64]) -> (f64, f64) {
    let expected = slots.iter().sum::<u64>() as f64 / slots.len().max(1) as f64;
    let statistic = slots.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    let freedom = slots.len().saturating_sub(1).max(1) as f64;
    let part = 2.0 / (9.0 * freedom);
    (statistic, freedom * (1.0 - part + 3.0902 * part.sqrt()).powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_waits_pass_and_bunched_ones_do_not() {
        let (statistic, bound) = uniformity(&[2_010, 1_980, 2_040, 1_990, 1_980]);
        assert!(statistic < bound && (18.0..19.5).contains(&bound), "{statistic} {bound}");
        let (statistic, bound) = uniformity(&[2_500, 2_000, 2_000, 2_000, 1_500]);
        assert!(statistic > bound);
    }

    #[test]
    fn a_second_that_nobody_was_told_counts_as_one() {
        assert_eq!(slots(&BTreeMap::from([(6, 5), (9, 4)])), [5, 0, 0, 4]);
        assert!(slots(&BTreeMap::new()).is_empty());
    }
}
