//! One of two cores takes requests and never answers. What has to do with the other core must not notice.

use std::time::Duration;

use weir_core_sim::{Behaviour, CoreOptions, CoreSim};
use weir_fleet::{Fleet, FleetOptions, FleetReport, Mix};

use super::config::NodeConfig;
use super::protection::Protection;
use super::report::{Curve, Panel, Report};
use super::stage::{Stage, on_sockets};
use super::{Failure, Order};
use crate::verdict::line;

/// Everything but uploads, which do not wait for the core.
const MIX: Mix = Mix { update: 0.25, config: 0.25, tasks: 0.5, upload: 0.0 };
/// What goes to the second core is sent as update checks of another path.
const SIDE: Mix = Mix { update: 1.0, config: 0.0, tasks: 0.0, upload: 0.0 };

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

async fn run(order: &Order) -> Result<Report, Failure> {
    let (agents, rate, seconds) = if order.small { (100, 100.0, 6) } else { (1_000, 500.0, 20) };
    let time = Duration::from_secs(seconds);
    let side = CoreSim::start(CoreOptions::default()).await?;
    let apart = order.switches.is_on(Protection::Bulkhead);
    let mut config = NodeConfig {
        core_more: "request_timeout = \"2s\"".to_owned(),
        more: route(if apart { "side" } else { "core" }),
        ttl: Duration::from_secs(2),
        ..NodeConfig::default()
    };
    if apart {
        config.more +=
            &format!("[[core]]\nname = \"side\"\npeers = [\"{}\"]\nrequest_timeout = \"2s\"\n", side.address());
    } else {
        // Without a gate of its own, its machine is one of the same core's.
        config.peers = vec![side.address()];
    }
    let stage = Stage::set(config, order.switches).await?;
    let main = || -> Result<FleetOptions, Failure> {
        Ok(FleetOptions { mix: MIX, obey_retry_after: false, ..stage.fleet(agents, rate, time)? })
    };
    let aside = || -> Result<Fleet, Failure> {
        let mut options = stage.fleet(agents / 10, rate / 10.0, time)?;
        (options.mix, options.obey_retry_after, options.request_timeout) = (SIDE, false, Duration::from_secs(5));
        options.paths.update = "/v1/echo".to_owned();
        Ok(Fleet::start(options)?)
    };
    let (before_side, before) = (aside()?, Fleet::start(main()?)?.finish().await);
    let before_side = before_side.finish().await;
    side.script(Behaviour::Hang)?;
    let (hole_side, hole) = (aside()?, Fleet::start(main()?)?.finish().await);
    let hole_side = hole_side.finish().await;
    stage.clear().await?;
    Ok(judge(order, &[before, hole], &[before_side, hole_side]))
}

fn route(core: &str) -> String {
    format!(
        "\n[[route]]\nname = \"side\"\nmatch = {{ method = \"GET\", path = \"/v1/echo\" }}\nclass = \"config\"\n\
         action = \"forward\"\ncore = \"{core}\"\n\n"
    )
}

fn judge(order: &Order, main: &[FleetReport; 2], side: &[FleetReport; 2]) -> Report {
    let good = |fleet: &FleetReport| fleet.routes.values().map(|route| route.ok).sum::<u64>() as f64;
    let p99 = |fleet: &FleetReport| fleet.routes.values().map(|route| route.latency_ms.p99).fold(0.0, f64::max);
    let [before, hole] = main;
    // Hundredths of a few tens of milliseconds are the machine's, not the node's.
    let margin = if order.small { 1_000.0 } else { 5.0 };
    let most = (p99(before) * 1.05).max(p99(before) + margin);
    let sides = side.each_ref().map(|fleet| {
        let sent: u64 = fleet.routes.values().map(|route| route.sent).sum();
        format!("{:.0} of {sent}", good(fleet))
    });
    let series = |fleet: &FleetReport| fleet.series.iter().map(|second| f64::from(second.ok)).collect::<Vec<_>>();
    let joined = |fleets: &[FleetReport; 2]| fleets.iter().flat_map(series).collect::<Vec<_>>();
    Report {
        lines: vec![
            line(
                "good answers by the other core's routes, over those before",
                format!("{:.3}", good(hole) / good(before)),
                "at least 0.95".to_owned(),
                good(hole) >= 0.95 * good(before) && good(before) > 0.0,
            ),
            line(
                "p99 of their slowest route",
                format!("{:.1} ms", p99(hole)),
                format!("at most {most:.1} ms"),
                p99(hole) <= most,
            ),
        ],
        notes: vec![
            format!("p99 of the slowest route before: {:.1} ms", p99(before)),
            format!("answered by the second core: {} before, {} when it hangs", sides[0], sides[1]),
        ],
        panels: vec![Panel {
            title: "good answers/s".to_owned(),
            curves: vec![Curve::new("first core", joined(main)), Curve::new("second core", joined(side))],
        }],
        moments: vec![(u32::try_from(main[0].series.len()).unwrap_or(0), "second core hangs".to_owned())],
        ..Report::default()
    }
}
