//! The judgement: which figures must hold, and whether they do. Pure; the same rules judge a fresh run and a file.

use serde_json::Value;

use super::figures::{FORMAT, Figures, Second};
use super::plan::Phases;
use crate::text::{bytes, grouped};
use crate::verdict::{self, Line, line, zero};

/// Agent requests over origin requests, at least.
const MIN_REDUCTION: f64 = 100.0;
/// What the core sees after its return over what it sees on a quiet day, at most.
const MAX_PEAK_OVER_STEADY: f64 = 1.2;
/// The mean over this many seconds in a row is a peak.
const PEAK_SECONDS: usize = 5;

/// The keys without which a file is no result.
const REQUIRED: [&str; 11] = [
    "agent_requests",
    "origin_requests",
    "origin_reduction",
    "origin_peak_over_steady",
    "agent_errors_by_route",
    "records_acknowledged",
    "records_at_core",
    "ledger_difference",
    "bytes_from_agents",
    "bytes_to_core",
    "latency_ms",
];

/// The routes that need no core in an outage, and the one that never needs it.
pub(super) const CACHEABLE: [&str; 3] = ["updates", "config", "tasks"];
pub(super) const UPLOADS: &str = "process-events";

/// Judges a run.
pub(super) fn judge(figures: &Figures) -> Vec<Line> {
    let count = |counts: &std::collections::BTreeMap<String, u64>, route: &str| counts.get(route).copied().unwrap_or(0);
    let errors = |route: &str| count(&figures.agent_errors_by_route, route);
    let during_outage: u64 =
        CACHEABLE.iter().map(|route| count(&figures.server_errors_during_outage_by_route, route)).sum();
    let missing = figures.records_acknowledged.saturating_sub(figures.records_at_core);
    let mut lines = vec![
        line(
            "requests of agents for one at the core",
            format!("{:.0}", figures.origin_reduction),
            format!("at least {MIN_REDUCTION:.0}"),
            figures.origin_reduction >= MIN_REDUCTION,
        ),
        peak_line(figures),
        zero("answers 5xx on cacheable routes in the outage", during_outage),
        zero("errors of update checks, whole run", errors("updates")),
        zero("errors of config fetches, whole run", errors("config")),
        zero("errors of tasking polls, whole run", errors("tasks")),
        zero("errors of uploads, whole run", errors(UPLOADS)),
        line(
            "records of the outage that the core lacks",
            format!("{missing} of {}", figures.records_acknowledged_during_outage),
            "0, and none held".to_owned(),
            missing == 0 && figures.records_held_at_end == 0,
        ),
        line(
            "records at the core minus acknowledged",
            format!("{:+}", figures.ledger_difference),
            "0".to_owned(),
            figures.ledger_difference == 0 && figures.records_acknowledged > 0,
        ),
    ];
    if let Some(balance) = figures.records_by_key {
        let measured = match balance.forgotten {
            0 => format!("{} of {}", balance.differing, balance.keys),
            forgotten => format!("{forgotten} sightings were not remembered"),
        };
        let passed = balance.differing == 0 && balance.forgotten == 0;
        lines.push(line("keys whose counts differ", measured, "0".to_owned(), passed));
    }
    let exit = figures.node.exit_code.map_or("killed".to_owned(), |code| code.to_string());
    lines.push(line("exit code of the node after SIGTERM", exit, "0".to_owned(), figures.node.exit_code == Some(0)));
    lines
}

/// The verdict as a table for the terminal.
pub(super) fn table(figures: &Figures) -> String {
    let summary = format!(
        "\n  {} requests of agents, {} at the core; {} from agents, {} to the core\n\n",
        grouped(figures.agent_requests),
        grouped(figures.origin_requests),
        bytes(figures.bytes_from_agents),
        bytes(figures.bytes_to_core)
    );
    verdict::table(&figures.verdict) + &summary
}

/// The gate promises two things: after an outage no stampede, and never more than the operator wrote that the core stands. Where the
/// steady load is a few requests a second, chance alone moves a mean of five seconds by more than a fifth; the second then decides.
fn peak_line(figures: &Figures) -> Line {
    let (steady, peak) = (figures.origin_steady_per_second, figures.origin_peak_per_second);
    let stands = figures.parameters.max_requests_per_second;
    let measured = if figures.origin_peak_over_steady > 0.0 {
        format!("{:.2} ({peak:.1}/s over {steady:.1}/s)", figures.origin_peak_over_steady)
    } else {
        "too short to tell".to_owned()
    };
    line(
        "the core's highest load in 5 s after its return, over its mean before the outage",
        measured,
        format!("at most {MAX_PEAK_OVER_STEADY}, or {stands}/s, which the core stands"),
        figures.origin_peak_over_steady <= MAX_PEAK_OVER_STEADY || peak.floor() <= f64::from(stands),
    )
}

/// The core's mean load in the steady phase and its peak after the recovery; `None` where either lasts less than five seconds.
pub(super) fn steady_and_peak(series: &[Second], phases: &Phases) -> Option<(f64, f64)> {
    let within = |from: f64, to: f64| -> Vec<f64> {
        let inside =
            series.iter().filter(|second| f64::from(second.second) >= from && f64::from(second.second) + 1.0 <= to);
        inside.map(|second| f64::from(second.origin_requests)).collect()
    };
    let mean = |loads: &[f64]| loads.iter().sum::<f64>() / loads.len() as f64;
    let steady = within(phases.steady, phases.outage);
    let recovery = within(phases.recovery, phases.end);
    if steady.len() < PEAK_SECONDS || recovery.len() < PEAK_SECONDS {
        return None;
    }
    let peak = recovery.windows(PEAK_SECONDS).map(mean).fold(0.0, f64::max);
    Some((mean(&steady), peak)).filter(|(steady, _)| *steady > 0.0)
}

/// Reads a file that a run wrote, and judges it again: what is wrong with it, line by line; nothing where all is well.
pub(super) fn examine(text: &str) -> Vec<String> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return vec![format!("not JSON: {error}")],
    };
    let missing: Vec<String> =
        REQUIRED.iter().filter(|key| value.get(**key).is_none()).map(|key| format!("`{key}` is missing")).collect();
    if !missing.is_empty() {
        return missing;
    }
    let figures: Figures = match serde_json::from_value(value) {
        Ok(figures) => figures,
        Err(error) => return vec![format!("not the figures of a run: {error}")],
    };
    if figures.format != FORMAT {
        return vec![format!("format {} is not known here", figures.format)];
    }
    let mut problems = contradictions(&figures);
    let failed = judge(&figures).into_iter().filter(|line| !line.passed);
    problems.extend(failed.map(|line| format!("{}: {}; must be {}", line.what, line.measured, line.threshold)));
    problems
}

/// Figures that do not follow from one another.
fn contradictions(figures: &Figures) -> Vec<String> {
    let mut problems = Vec::new();
    let mut hold = |holds: bool, problem: &str| {
        if !holds {
            problems.push(problem.to_owned());
        }
    };
    let reduction = figures.agent_requests as f64 / figures.origin_requests.max(1) as f64;
    hold(close(reduction, figures.origin_reduction), "`origin_reduction` is not agent_requests over origin_requests");
    let difference = i128::from(figures.records_at_core) - i128::from(figures.records_acknowledged);
    hold(
        difference == i128::from(figures.ledger_difference),
        "`ledger_difference` is not records_at_core minus records_acknowledged",
    );
    let ratio = steady_and_peak(&figures.series, &figures.phases).map_or(0.0, |(steady, peak)| peak / steady);
    hold(close(ratio, figures.origin_peak_over_steady), "`origin_peak_over_steady` does not follow from the series");
    for route in CACHEABLE.iter().chain([&UPLOADS]) {
        hold(figures.latency_ms.contains_key(*route), &format!("`latency_ms` lacks `{route}`"));
        hold(figures.agent_errors_by_route.contains_key(*route), &format!("`agent_errors_by_route` lacks `{route}`"));
    }
    let by_route: u64 = figures.routes.values().map(|route| route.agent_requests).sum();
    hold(by_route == figures.agent_requests, "the routes' agent requests do not add up to `agent_requests`");
    problems
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-6 * one.abs().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::super::canned;
    use super::*;

    fn failed(figures: &Figures) -> Vec<String> {
        judge(figures).into_iter().filter(|line| !line.passed).map(|line| line.what).collect()
    }

    #[test]
    fn a_run_as_it_should_be_passes_every_line() {
        let figures = canned::figures();
        assert_eq!(failed(&figures), Vec::<String>::new());
        assert_eq!(examine(&serde_json::to_string(&figures).unwrap()), Vec::<String>::new());
    }

    #[test]
    fn one_record_too_few_or_too_many_fails() {
        for difference in [-1, 1] {
            let mut figures = canned::figures();
            figures.records_at_core = figures.records_acknowledged.saturating_add_signed(difference);
            figures.ledger_difference = difference;
            assert!(failed(&figures).contains(&"records at the core minus acknowledged".to_owned()));
        }
    }

    #[test]
    fn a_ledger_that_is_level_because_nothing_happened_fails() {
        let figures = Figures { records_acknowledged: 0, records_at_core: 0, ..canned::figures() };
        assert!(!failed(&figures).is_empty());
    }

    #[test]
    fn a_server_error_on_a_cacheable_route_during_the_outage_fails() {
        let mut figures = canned::figures();
        figures.server_errors_during_outage_by_route.insert("config".to_owned(), 1);
        assert_eq!(failed(&figures), ["answers 5xx on cacheable routes in the outage"]);
    }

    #[test]
    fn a_stampede_on_recovery_fails() {
        let mut figures = canned::figures();
        for second in figures.series.iter_mut().filter(|second| (62..67).contains(&second.second)) {
            second.origin_requests *= 3;
        }
        let (steady, peak) = steady_and_peak(&figures.series, &figures.phases).unwrap();
        (figures.origin_peak_per_second, figures.origin_peak_over_steady) = (peak, peak / steady);
        assert!((figures.origin_peak_over_steady - 3.0).abs() < 0.1, "{peak} over {steady}");
        assert_eq!(failed(&figures).len(), 1);
        figures.parameters.max_requests_per_second = 100;
        assert_eq!(failed(&figures), Vec::<String>::new(), "the core was said to stand it");
    }

    #[test]
    fn a_file_that_was_touched_up_is_noticed() {
        let mut value = serde_json::to_value(canned::figures()).unwrap();
        value["origin_reduction"] = 1e6.into();
        let problems = examine(&value.to_string());
        assert_eq!(problems, ["`origin_reduction` is not agent_requests over origin_requests"]);
    }

    #[test]
    fn a_file_without_a_required_key_names_it() {
        let mut value = serde_json::to_value(canned::figures()).unwrap();
        value.as_object_mut().unwrap().remove("bytes_to_core");
        assert_eq!(examine(&value.to_string()), ["`bytes_to_core` is missing"]);
        assert!(examine("{").first().unwrap().starts_with("not JSON"));
    }

    #[test]
    fn phases_too_short_to_compare_have_no_peak() {
        let phases = Phases { steady: 1.0, outage: 3.0, recovery: 4.0, end: 6.0 };
        assert_eq!(steady_and_peak(&canned::figures().series, &phases), None);
    }
}
