//! The node's configuration: the template `weir.toml` beside this file, filled in.

use std::net::SocketAddr;
use std::time::Duration;

use weir_config::duration_to_text;

use super::fault::Tuning;
use crate::books::SAME;
use crate::text::fill;

/// The streams of the template.
pub(super) const STREAMS: [&str; 2] = ["process", "audit"];

/// How much the spool may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// More than a run makes.
    Wide,
    /// The least that can be configured.
    Least,
}

const TEMPLATE: &str = include_str!("weir.toml");

/// The configuration of a node at `agents` before the core at `core`.
pub(super) fn render(agents: SocketAddr, core: SocketAddr, tuning: &Tuning, bound: Bound) -> String {
    let millis = |millis: u64| duration_to_text(Duration::from_millis(millis));
    let bound = match bound {
        Bound::Wide => "4 GiB",
        Bound::Least => "1 MiB",
    };
    let values = [
        ("agents", agents.to_string()),
        ("core", core.to_string()),
        ("same", SAME.map(|field| format!("{field:?}")).join(", ")),
        ("window", millis(tuning.window_ms)),
        ("max_in_flight", tuning.max_in_flight.to_string()),
        ("max_age", millis(tuning.max_age_ms)),
        ("max_records", tuning.max_records.to_string()),
        ("compression", tuning.compression.name().to_owned()),
        ("encoding", if tuning.shapes { "shapes" } else { "rows" }.to_owned()),
        ("bound", bound.to_owned()),
    ];
    fill(TEMPLATE, &values)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_config::{MemoryEnvironment, parse};

    use super::super::fault::{Fault, plan};
    use super::*;

    #[test]
    fn every_reload_is_a_right_configuration() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9000));
        let reloads = plan(1, 200).into_iter().filter_map(|planned| match planned.fault {
            Fault::Reload(tuning) => Some(tuning),
            _ => None,
        });
        for (tuning, bound) in reloads.map(|tuning| (tuning, Bound::Wide)).chain([(Tuning::FIRST, Bound::Least)]) {
            let text = render(address, address, &tuning, bound);
            assert!(!text.contains("{{"), "{text}");
            let environment = MemoryEnvironment::new().file("weir.toml", &text);
            if let Err(problems) = parse(&environment, Path::new("weir.toml")) {
                panic!("{tuning:?}: {problems}");
            }
        }
    }
}
