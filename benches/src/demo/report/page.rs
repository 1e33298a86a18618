//! The page: what is said, in which order.

use super::super::figures::{Figures, Second};
use super::super::verdict::{CACHEABLE, UPLOADS};
use super::bars::{bars, ranges};
use super::escaped;
use super::lines::{Chart, Level, Line, Scale};
use crate::text::{bytes, grouped};

const STYLE: &str = include_str!("style.css");

/// The whole report.
pub(in super::super) fn render(figures: &Figures) -> String {
    let sections = [
        verdict(figures),
        section("Requests", REQUESTS, &requests(figures)),
        section("The core's load", LOAD, &load(figures)),
        section("Reduction by route", REDUCTION, &reduction(figures)),
        section("Latency by route", LATENCY, &latency(figures)),
        section("Latency over time", LATENCY_OVER_TIME, &latency_over_time(figures)),
        section("The ledger", LEDGER, &ledger(figures)),
        section("Records that the node held", HELD, &held(figures)),
        section("The node", NODE, &node(figures)),
        section("Parameters", "", &parameters(figures)),
        format!(
            "<section><details><summary>The node's configuration</summary><pre>{}</pre></details></section>",
            escaped(&figures.config)
        ),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Weir demo</title>\
         <style>{STYLE}</style></head>\n<body><main>{}{}\n{}\n</main></body></html>\n",
        heading(figures),
        tiles(figures),
        sections.join("\n")
    )
}

const REQUESTS: &str = "What agents asked and what the core was asked, each second, on a logarithmic scale. The two lines would be one \
    without the node between them.";
const LOAD: &str = "The same for the core alone. Dashed: its mean before the outage, and the rate that the node is told the core \
    stands, which the gate holds it to. A core that is down sees nothing.";
const REDUCTION: &str = "Requests of agents for one that the core answered, on a logarithmic scale. Lookups cost the core one request a \
    window at most, however many agents ask.";
const LATENCY: &str = "From the time a request was due, not from when it was sent, to the last byte of its answer; the outage is part of \
    it. Config and tasking wait for their window; an upload waits for the disk.";
const LATENCY_OVER_TIME: &str = "All routes together. Core, node and agents share this machine's processors.";
const LEDGER: &str = "Every record that an agent was told is safe, and where it is now.";
const HELD: &str =
    "Journal and outbox together: what waits for its merge window to close, for its batch, or for the core.";
const NODE: &str = "How it answered, and what that took.";

fn section(title: &str, words: &str, content: &str) -> String {
    let words = if words.is_empty() { String::new() } else { format!("<p>{words}</p>") };
    format!("<section><h2>{title}</h2>{words}{content}</section>")
}

fn heading(figures: &Figures) -> String {
    let failed = figures.verdict.iter().filter(|line| !line.passed).count();
    let badge = match failed {
        0 => "<span class=\"badge\">every line passed</span>".to_owned(),
        failed => format!("<span class=\"badge bad\">{failed} failed</span>"),
    };
    let parameters = &figures.parameters;
    format!(
        "<header><h1>Weir demo</h1>{badge}</header><p>{} agents over TLS, {} requests a second for {:.0} seconds; the core was down from \
         second {:.0} to second {:.0}.</p>",
        grouped(parameters.agents.into()),
        rounded(parameters.rate),
        parameters.duration_seconds,
        figures.phases.outage,
        figures.phases.recovery
    )
}

fn tiles(figures: &Figures) -> String {
    let errors: u64 = figures.agent_errors_by_route.values().sum();
    let tiles = [
        (format!("{} : 1", rounded(figures.origin_reduction)), "requests of agents for one at the core"),
        (grouped(figures.agent_requests), "requests of agents"),
        (grouped(figures.origin_requests), "requests at the core"),
        (grouped(figures.records_acknowledged), "records acknowledged"),
        (format!("{:+}", figures.ledger_difference), "records at the core minus acknowledged"),
        (grouped(errors), "errors that agents met"),
    ];
    let tiles = tiles.map(|(value, name)| format!("<div class=\"tile\"><b>{value}</b><span>{name}</span></div>"));
    format!("<div class=\"tiles\">{}</div>", tiles.concat())
}

fn verdict(figures: &Figures) -> String {
    let rows = figures.verdict.iter().map(|line| {
        let (class, word) = if line.passed { ("pass", "pass") } else { ("fail", "FAIL") };
        format!(
            "<tr><td class=\"{class}\">{word}</td><td>{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
            escaped(&line.what),
            escaped(&line.measured),
            escaped(&line.threshold)
        )
    });
    let head = "<tr><th></th><th>what</th><th class=\"number\">measured</th><th>must be</th></tr>";
    section("Verdict", "", &format!("<table>{head}{}</table>", rows.collect::<String>()))
}

fn over_time<'a>(
    figures: &Figures,
    y_label: &'a str,
    scale: Scale,
    lines: Vec<Line<'a>>,
    levels: Vec<Level>,
) -> String {
    let phases = &figures.phases;
    let outage = (phases.recovery > phases.outage).then_some((phases.outage, phases.recovery));
    Chart { y_label, scale, seconds: phases.end, outage, lines, levels }.svg()
}

fn line<'a>(figures: &Figures, colour: char, name: &'a str, value: impl Fn(&Second) -> f64) -> Line<'a> {
    // A second's figure stands in its middle.
    let points = figures.series.iter().map(|second| (f64::from(second.second) + 0.5, value(second)));
    Line { colour, name, points: points.collect() }
}

fn requests(figures: &Figures) -> String {
    let lines = vec![
        line(figures, 'a', "agents", |second| second.agent_requests.into()),
        line(figures, 'b', "core", |second| second.origin_requests.into()),
    ];
    over_time(figures, "requests/s", Scale::Log, lines, Vec::new())
}

fn load(figures: &Figures) -> String {
    let steady = figures.origin_steady_per_second;
    let levels = if steady > 0.0 {
        let level = |name: &str, y: f64| Level { name: format!("{name} {y:.1}/s"), y };
        let stands = f64::from(figures.parameters.max_requests_per_second);
        vec![level("mean before the outage", steady), level("what the core stands", stands)]
    } else {
        Vec::new()
    };
    let lines = vec![line(figures, 'b', "core", |second| second.origin_requests.into())];
    over_time(figures, "requests/s", Scale::Linear, lines, levels)
}

fn routes() -> impl Iterator<Item = &'static str> {
    CACHEABLE.into_iter().chain([UPLOADS])
}

fn reduction(figures: &Figures) -> String {
    let values: Vec<_> = routes().filter_map(|route| Some((route, figures.routes.get(route)?.reduction))).collect();
    let rows = routes().filter_map(|route| {
        let both = figures.routes.get(route)?;
        Some(vec![
            route.to_owned(),
            grouped(both.agent_requests),
            grouped(both.origin_requests),
            rounded(both.reduction),
        ])
    });
    bars("requests of agents for one at the core", &values)
        + &table(&["route", "requests of agents", "requests at the core", "reduction"], rows)
}

fn latency(figures: &Figures) -> String {
    let values: Vec<_> = routes().filter_map(|route| Some((route, *figures.latency_ms.get(route)?))).collect();
    let rows = values.iter().map(|(route, latency)| {
        let percentiles = [latency.p50, latency.p90, latency.p99, latency.p999, latency.max];
        std::iter::once((*route).to_owned()).chain(percentiles.map(|value| format!("{value:.1}"))).collect()
    });
    let key = "<p class=\"key\"><i class=\"a\"></i>p50 <i class=\"b\"></i>p90 <i class=\"c\"></i>p99 <i class=\"d\"></i>p99.9</p>";
    let heads = ["route", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"];
    format!("{key}{}{}", ranges("milliseconds, logarithmic", &values), table(&heads, rows))
}

fn latency_over_time(figures: &Figures) -> String {
    let lines =
        vec![line(figures, 'a', "p50", |second| second.p50_ms), line(figures, 'c', "p99", |second| second.p99_ms)];
    over_time(figures, "milliseconds, logarithmic", Scale::Log, lines, Vec::new())
}

fn ledger(figures: &Figures) -> String {
    let stream = &figures.stream;
    let lost = figures.records_acknowledged.saturating_sub(figures.records_at_core + figures.records_held_at_end);
    let parts = [
        ("a", "at the core as rows of their own", stream.event_rows),
        ("b", "at the core in the count of a repeat's row", stream.merged),
        ("c", "still held by the node", figures.records_held_at_end),
        ("d", "nowhere", lost),
    ];
    let whole = parts.iter().map(|(_, _, count)| count).sum::<u64>().max(1) as f64;
    let stack = parts.map(|(class, name, count)| {
        format!("<div class=\"{class}\" style=\"width:{:.3}%\" title=\"{name}\"></div>", count as f64 / whole * 100.0)
    });
    let mut rows = vec![("acknowledged to agents", grouped(figures.records_acknowledged))];
    rows.extend(parts.iter().map(|(_, name, count)| (*name, grouped(*count))));
    rows.extend([
        ("acknowledged while the core was down", grouped(figures.records_acknowledged_during_outage)),
        ("waiting when the core came back", grouped(figures.records_waiting_at_recovery)),
        ("in uploads without an answer", grouped(figures.records_in_doubt)),
        ("rows of repeats", grouped(stream.repeat_rows)),
        ("batches", format!("{} and {} repeated", grouped(stream.batches), grouped(stream.batches_repeated))),
        ("bytes of uploads", bytes(stream.bytes_uploaded)),
        ("bytes of batches, inflated", bytes(stream.bytes_inflated)),
        ("bytes of batches, as sent", bytes(stream.bytes_sent)),
    ]);
    if let Some(keys) = figures.records_by_key {
        rows.push(("keys compared, and differing", format!("{} and {}", grouped(keys.keys), grouped(keys.differing))));
    }
    format!("<div class=\"stack\">{}</div>{}", stack.concat(), pairs(rows))
}

fn held(figures: &Figures) -> String {
    let lines = vec![line(figures, 'd', "records held", |second| second.held as f64)];
    over_time(figures, "records", Scale::Linear, lines, Vec::new())
}

fn node(figures: &Figures) -> String {
    let node = &figures.node;
    let mut rows: Vec<(&str, String)> =
        node.outcomes.iter().map(|(outcome, count)| (outcome.as_str(), grouped(*count))).collect();
    let ratio = node.hit_ratio.map_or("-".to_owned(), |ratio| format!("{:.2} %", ratio * 100.0));
    rows.extend([
        ("without a request of their own to the core", ratio),
        ("turns that agents held back because they were told to", grouped(figures.agent_turns_held)),
        ("turns that came too late to be taken", grouped(figures.agent_turns_unsent)),
        ("processor time, user and system", format!("{:.1} s", node.cpu_seconds)),
        ("most memory", bytes(node.peak_rss_bytes)),
        ("bytes from agents, heads included", bytes(figures.bytes_from_agents)),
        ("bytes to the core, bodies", bytes(figures.bytes_to_core)),
        (
            "connections opened, of them again",
            format!("{} and {}", grouped(figures.connections.opened), grouped(figures.connections.reconnects)),
        ),
    ]);
    pairs(rows)
}

fn parameters(figures: &Figures) -> String {
    let parameters = &figures.parameters;
    pairs(vec![
        ("agents", grouped(parameters.agents.into())),
        ("requests a second", rounded(parameters.rate)),
        ("duration", format!("{:.0} s", parameters.duration_seconds)),
        ("outage", format!("{:.0} %", parameters.outage * 100.0)),
        ("window of lookups, chosen by the rate", format!("{} ms", parameters.lookup_window_ms)),
        (
            "requests a second that the core stands, chosen by the rate",
            grouped(parameters.max_requests_per_second.into()),
        ),
        ("window of repeats", format!("{:.0} s", parameters.merge_window_seconds)),
        ("events", parameters.events.clone()),
        ("seed", parameters.seed.to_string()),
        ("processors", parameters.processors.to_string()),
        ("version", parameters.version.clone()),
    ])
}

fn pairs(rows: Vec<(&str, String)>) -> String {
    let rows = rows.into_iter().map(|(name, value)| {
        format!("<tr><td>{}</td><td class=\"number\">{}</td></tr>", escaped(name), escaped(&value))
    });
    format!("<table>{}</table>", rows.collect::<String>())
}

fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cell = |tag: &str, at: usize, text: &str| {
        let class = if at == 0 { "" } else { " class=\"number\"" };
        format!("<{tag}{class}>{}</{tag}>", escaped(text))
    };
    let head: String = heads.iter().enumerate().map(|(at, text)| cell("th", at, text)).collect();
    let rows = rows.map(|row| {
        let cells: String = row.iter().enumerate().map(|(at, text)| cell("td", at, text)).collect();
        format!("<tr>{cells}</tr>")
    });
    format!("<table><tr>{head}</tr>{}</table>", rows.collect::<String>())
}

fn rounded(value: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and the values are positive"
    )]
    let whole = value.round() as u64;
    grouped(whole)
}

#[cfg(test)]
mod tests {
    use super::super::super::canned;
    use super::*;

    /// Every opening tag is closed in order; void elements have none.
    fn check_nesting(html: &str) {
        let mut open = Vec::new();
        for tag in html.split('<').skip(1).filter(|tag| !tag.starts_with('!')) {
            let inside = tag.split('>').next().unwrap();
            let name = inside.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if inside.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "</{name}>");
            } else if !inside.ends_with('/') && name != "meta" {
                open.push(name);
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_from_elsewhere() {
        let html = render(&canned::figures());
        check_nesting(&html);
        for foreign in ["http://", "https://", "src=", "href=", "@import", "url(", "<script"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        assert!(html.contains("name = &quot;&lt;&amp;&gt;&quot;"), "the configuration is escaped");
    }

    #[test]
    fn every_figure_of_the_issue_is_on_the_page() {
        let html = render(&canned::figures());
        for text in
            ["core down", "requests/s", "Reduction by route", "p99.9 ms", "2,160,000", "300 : 1", "every line passed"]
        {
            assert!(html.contains(text), "{text}");
        }
        assert!(!html.contains("NaN") && !html.contains(">inf"));
    }

    #[test]
    fn a_run_without_a_second_of_traffic_still_has_a_page() {
        let html = render(&Figures::default());
        check_nesting(&html);
        assert!(!html.contains("NaN") && !html.contains(">inf"));
    }
}
