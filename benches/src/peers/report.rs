//! The figures as people read them, and the goals beside them.

use super::figures::{Figures, Round, Series, find};
use super::subject::{Protocol, Subject};
use crate::ingest::Transport;

/// One round of one subject, while it is measured.
pub(super) fn line(number: u32, part: &str, subject: Subject, way: (Transport, Protocol), round: &Round) -> String {
    format!(
        "round {number}, {part}, {}, {}: {:.0}/s, {:.2} us of processor time each, busy {:.2}\n",
        name(way),
        subject.name(),
        round.per_second,
        round.cpu_micros,
        round.busy
    )
}

/// The medians.
pub(super) fn table(figures: &Figures) -> String {
    let mut text = String::new();
    if !figures.hits.is_empty() {
        text += "\nan object of 1 KiB out of the cache, one processor; ratios to nginx in the same round\n";
        text += &series(&figures.hits, Subject::Nginx);
    }
    if !figures.latencies.is_empty() {
        text += "\nthe same at half the load of the slower one of weir and nginx, microseconds\n";
        for latency in &figures.latencies {
            let [p50, p99, p999] = latency.micros;
            text += &format!(
                "  {:<10}  {:<9}  {:>7.0}/s  p50 {p50:>6.0}  p99 {p99:>6.0}  p99.9 {p999:>6.0}\n",
                name((latency.transport, latency.protocol)),
                latency.subject.name(),
                latency.rate
            );
        }
    }
    if !figures.uploads.is_empty() {
        text +=
            "\nuploads of 5 events, 2 KB: the node answers when they are durable, hyper drops them; ratios to hyper\n";
        text += &series(&figures.uploads, Subject::Hyper);
    }
    let goals = goals(figures);
    if !goals.is_empty() {
        text += "\ngoals\n";
        text += &goals;
    }
    text
}

fn series(all: &[Series], base: Subject) -> String {
    let mut text = String::from("  way         subject      per second  ratio  CPU us  ratio  busy\n");
    for one in all {
        let way = (one.transport, one.protocol);
        let median = one.median();
        let ratio = |figure: fn(&Round) -> f64| {
            find(all, base, way).map_or("-".to_owned(), |base| format!("{:.2}", one.over(base, figure)))
        };
        text += &format!(
            "  {:<10}  {:<11}  {:>10.0}  {:>5}  {:>6.2}  {:>5}  {:>4.2}\n",
            name(way),
            one.subject.name(),
            median.per_second,
            ratio(|round| round.per_second),
            median.cpu_micros,
            ratio(|round| round.cpu_micros),
            median.busy
        );
    }
    text
}

/// A goal: what over what, which figure, and what it shall be at least (or, of processor time, at most).
struct Goal {
    what: &'static str,
    way: (Transport, Protocol),
    base: Subject,
    figure: fn(&Round) -> f64,
    least: Option<f64>,
    most: Option<f64>,
}

const fn least(what: &'static str, way: (Transport, Protocol), base: Subject, least: f64) -> Goal {
    Goal { what, way, base, figure: |round| round.per_second, least: Some(least), most: None }
}

const HITS: [Goal; 5] = [
    least("hits a second over nginx, HTTP/1.1", (Transport::Plain, Protocol::H1), Subject::Nginx, 1.8),
    least("hits a second over nginx, HTTP/1.1 in TLS", (Transport::Tls, Protocol::H1), Subject::Nginx, 1.6),
    least("hits a second over the bare loop, HTTP/1.1", (Transport::Plain, Protocol::H1), Subject::Loop, 0.92),
    most("processor time of a hit over nginx, HTTP/2", (Transport::Plain, Protocol::H2), 0.7),
    most("processor time of a hit over nginx, HTTP/2 in TLS", (Transport::Tls, Protocol::H2), 0.7),
];

const UPLOADS: [Goal; 2] = [
    least("durable uploads a second over hyper, HTTP/1.1", (Transport::Plain, Protocol::H1), Subject::Hyper, 0.8),
    least("durable uploads a second over hyper, HTTP/1.1 in TLS", (Transport::Tls, Protocol::H1), Subject::Hyper, 0.8),
];

const fn most(what: &'static str, way: (Transport, Protocol), most: f64) -> Goal {
    Goal { what, way, base: Subject::Nginx, figure: |round| round.cpu_micros, least: None, most: Some(most) }
}

fn goals(figures: &Figures) -> String {
    let mut text = String::new();
    for (all, goals) in [(&figures.hits, HITS.as_slice()), (&figures.uploads, UPLOADS.as_slice())] {
        for goal in goals {
            let pair = find(all, Subject::Weir, goal.way).zip(find(all, goal.base, goal.way));
            let Some((weir, base)) = pair else { continue };
            let ratio = weir.over(base, goal.figure);
            let reached = goal.least.is_none_or(|least| ratio >= least) && goal.most.is_none_or(|most| ratio <= most);
            let bound = match (goal.least, goal.most) {
                (Some(least), _) => format!("at least {least}"),
                (_, most) => format!("at most {}", most.unwrap_or_default()),
            };
            let verdict = if reached { "reached" } else { "missed " };
            text += &format!("  {verdict}  {:<55}  {ratio:.2}, {bound}\n", goal.what);
        }
    }
    text
}

fn name((transport, protocol): (Transport, Protocol)) -> String {
    let protocol = if protocol == Protocol::H1 { "h1" } else { "h2" };
    let transport = if transport == Transport::Tls { " TLS 1.3" } else { "" };
    format!("{protocol}{transport}")
}

#[cfg(test)]
mod tests {
    use super::super::figures::add;
    use super::*;

    #[test]
    fn a_goal_is_judged_by_the_ratio_of_its_own_figure() {
        let mut figures = Figures::default();
        for (subject, per_second, cpu_micros) in [(Subject::Weir, 20.0, 6.0), (Subject::Nginx, 10.0, 10.0)] {
            for way in [(Transport::Plain, Protocol::H1), (Transport::Plain, Protocol::H2)] {
                add(&mut figures.hits, subject, way, Round { per_second, cpu_micros, busy: 1.0 });
            }
        }
        let text = goals(&figures);
        assert_eq!(text.lines().filter(|line| line.contains("reached")).count(), 2, "{text}");
        figures.hits[0].rounds[0].per_second = 17.0;
        assert!(goals(&figures).contains("missed   hits a second over nginx, HTTP/1.1 "));
    }
}
