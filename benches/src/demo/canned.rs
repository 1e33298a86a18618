//! The figures of a run as it should be, for tests.

use std::collections::BTreeMap;

use weir_fleet::Latency;

use super::figures::{FORMAT, Figures, KeyBalance, NodeFigures, Parameters, RouteFigures, Second, StreamFigures};
use super::plan::Phases;
use super::verdict::{CACHEABLE, UPLOADS, judge, steady_and_peak};

/// 90 seconds at 4,000 requests a second, of which the core sees 20, and none from second 30 to 60.
pub(super) fn figures() -> Figures {
    let phases = Phases { steady: 10.0, outage: 30.0, recovery: 60.0, end: 90.0 };
    let series: Vec<Second> = (0..90).map(second).collect();
    let (steady, peak) = steady_and_peak(&series, &phases).unwrap();
    let routes = CACHEABLE.iter().chain([&UPLOADS]);
    let by_route = |count: u64| routes.clone().map(|route| ((*route).to_owned(), count)).collect::<BTreeMap<_, _>>();
    let latency = Latency { p50: 1.5, p90: 4.0, p99: 12.0, p999: 40.0, max: 95.0 };
    let route = RouteFigures { agent_requests: 90_000, origin_requests: 300, reduction: 300.0 };
    let mut figures = Figures {
        format: FORMAT,
        parameters: Parameters {
            agents: 10_000,
            rate: 4_000.0,
            duration_seconds: 90.0,
            max_requests_per_second: 24,
            ..Parameters::default()
        },
        phases,
        agent_requests: 360_000,
        origin_requests: 1_200,
        origin_reduction: 300.0,
        origin_steady_per_second: steady,
        origin_peak_per_second: peak,
        origin_peak_over_steady: peak / steady,
        agent_errors_by_route: by_route(0),
        server_errors_during_outage_by_route: by_route(0),
        records_acknowledged: 2_160_000,
        records_at_core: 2_160_000,
        records_acknowledged_during_outage: 720_000,
        records_waiting_at_recovery: 720_000,
        records_by_key: Some(KeyBalance { keys: 600_000, differing: 0, forgotten: 0 }),
        bytes_from_agents: 900_000_000,
        bytes_to_core: 60_000_000,
        latency_ms: by_route(0).into_keys().map(|name| (name, latency)).collect(),
        routes: by_route(0).into_keys().map(|name| (name, route)).collect(),
        stream: StreamFigures {
            event_rows: 700_000,
            repeat_rows: 300_000,
            merged: 1_460_000,
            ..StreamFigures::default()
        },
        node: NodeFigures { exit_code: Some(0), ..NodeFigures::default() },
        series,
        config: "[edge]\nname = \"<&>\"\n".to_owned(),
        ..Figures::default()
    };
    figures.verdict = judge(&figures);
    figures
}

fn second(second: u32) -> Second {
    let down = (30..60).contains(&second);
    let origin_requests = if down { 0 } else { 20 + second % 3 };
    Second {
        second,
        agent_requests: 4_000,
        origin_requests,
        records: 24_000,
        held: if down { u64::from(second - 29) * 24_000 } else { 24_000 },
        outbox_batches: if down { u64::from(second - 29) } else { 1 },
        p50_ms: 1.5,
        p99_ms: 12.0,
        ..Second::default()
    }
}
