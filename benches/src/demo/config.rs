//! The node's configuration: the template `weir.toml` beside this file, filled in.

use std::net::SocketAddr;

use weir_config::duration_to_text;

use super::arguments::RunArguments;
use super::plan::{AGENTS_PER_TENANT, Plan};
use crate::books::SAME;
use crate::text::fill;

const TEMPLATE: &str = include_str!("weir.toml");

/// The configuration of a node before the core at `core`.
pub(super) fn render(run: &RunArguments, plan: &Plan, core: SocketAddr) -> String {
    let threads =
        run.threads.map_or("# threads: one for each processor".to_owned(), |count| format!("threads = {count}"));
    let values = [
        ("core", core.to_string()),
        ("threads", threads),
        ("max_connections", (run.agents + run.agents / 10 + 100).to_string()),
        ("max_requests_per_second", plan.max_requests_per_second.to_string()),
        ("ramp", duration_to_text(plan.ramp)),
        ("agents_per_tenant", AGENTS_PER_TENANT.to_string()),
        ("lookup_window", duration_to_text(plan.lookup_window)),
        ("rate", format!("{:.0}", run.rate)),
        ("same", SAME.map(|field| format!("{field:?}")).join(", ")),
        ("merge_window", duration_to_text(run.window)),
        ("batch_age", duration_to_text(plan.batch_age)),
    ];
    // The template's own first lines speak of what is no longer there.
    fill(TEMPLATE, &values).replacen(" `{{name}}` is filled in when the demo starts.", "", 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use weir_config::{MemoryEnvironment, parse};

    use super::super::arguments::Arguments;
    use super::*;

    #[test]
    fn the_template_is_a_right_configuration_at_every_size() {
        let sizes = ["demo", "demo --agents 20 --rate 40 --duration 6s --window 1s", "demo --rate 1000000 --threads 8"];
        for arguments in sizes {
            let run = Arguments::parse_from(arguments.split_whitespace()).run;
            let text = render(&run, &Plan::new(&run), ([127, 0, 0, 1], 9000).into());
            assert!(!text.contains("{{"), "{text}");
            let environment = MemoryEnvironment::new().file("weir.toml", &text);
            if let Err(problems) = parse(&environment, Path::new("weir.toml")) {
                panic!("{arguments}: {problems}");
            }
        }
    }
}
