//! The figures as people read them, and the goals beside them.

use super::dialer::Opening;
use super::figures::{Breadth, Figures, Round, Series, find};
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
    text += &opened(figures);
    text += &breadth(figures);
    text += &idle(figures);
    let goals = goals(figures);
    if !goals.is_empty() {
        text += "\ngoals\n";
        text += &goals;
    }
    text
}

fn opened(figures: &Figures) -> String {
    if figures.opened.is_empty() {
        return String::new();
    }
    let mut text = "\nnew connections with one request each; ratios to nginx in the same round\n".to_owned();
    text += "  opened                  subject      CPU us  ratio\n";
    for one in &figures.opened {
        let base = figures.opened.iter().find(|base| (base.subject, base.opening) == (Subject::Nginx, one.opening));
        let ratio = base.map_or("-".to_owned(), |base| format!("{:.2}", one.over(base)));
        let (way, subject) = (one.opening.name(), one.subject.name());
        text += &format!("  {way:<22}  {subject:<11}  {:>6.0}  {ratio:>5}\n", one.median());
    }
    text
}

fn breadth(figures: &Figures) -> String {
    if figures.breadth.is_empty() {
        return String::new();
    }
    let mut text =
        "\nhits at one rate over few connections and over many, TLS 1.3; latencies in microseconds\n".to_owned();
    text += "  connections  subject      CPU us     p50     p99   p99.9\n";
    for one in &figures.breadth {
        let Breadth { cpu_micros, micros: [p50, p99, p999] } = one.median();
        let (connections, subject) = (one.connections, one.subject.name());
        text +=
            &format!("  {connections:>11}  {subject:<11}  {cpu_micros:>6.1}  {p50:>6.0}  {p99:>6.0}  {p999:>6.0}\n");
    }
    text
}

fn idle(figures: &Figures) -> String {
    if figures.idle.is_empty() {
        return String::new();
    }
    let mut text =
        "\nmemory of an idle connection\n  opened                  subject      connections    KiB\n".to_owned();
    for one in &figures.idle {
        let (way, subject, connections) = (one.opening.name(), one.subject.name(), one.connections);
        text += &format!("  {way:<22}  {subject:<11}  {connections:>11}  {:>5.1}\n", one.bytes / 1024.0);
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

/// Goals of new connections: processor time over nginx's, at most.
const OPENED: [(&str, Opening, f64); 2] = [
    ("processor time of a full handshake over nginx", Opening::Full, 0.5),
    ("the same with certificates both ways", Opening::MutualFull, 0.3),
];

/// The goal of an idle connection in TLS, KiB.
const IDLE_KIB: f64 = 12.0;

fn goals(figures: &Figures) -> String {
    let mut text = String::new();
    for (all, goals) in [(&figures.hits, HITS.as_slice()), (&figures.uploads, UPLOADS.as_slice())] {
        for goal in goals {
            let pair = find(all, Subject::Weir, goal.way).zip(find(all, goal.base, goal.way));
            let Some((weir, base)) = pair else { continue };
            let ratio = weir.over(base, goal.figure);
            text += &match (goal.least, goal.most) {
                (Some(bound), _) => judged(goal.what, ratio, ratio >= bound, &format!("at least {bound}")),
                (_, bound) => {
                    let bound = bound.unwrap_or_default();
                    judged(goal.what, ratio, ratio <= bound, &format!("at most {bound}"))
                }
            };
        }
    }
    for (what, opening, most) in OPENED {
        let of = |subject| figures.opened.iter().find(|one| (one.subject, one.opening) == (subject, opening));
        let Some((weir, nginx)) = of(Subject::Weir).zip(of(Subject::Nginx)) else { continue };
        let ratio = weir.over(nginx);
        text += &judged(what, ratio, ratio <= most, &format!("at most {most}"));
    }
    for one in figures.idle.iter().filter(|one| (one.subject, one.opening) == (Subject::Weir, Opening::Full)) {
        let kib = one.bytes / 1024.0;
        text += &judged("KiB of an idle connection in TLS", kib, kib <= IDLE_KIB, &format!("at most {IDLE_KIB}"));
    }
    text
}

fn judged(what: &str, figure: f64, reached: bool, bound: &str) -> String {
    let verdict = if reached { "reached" } else { "missed " };
    format!("  {verdict}  {what:<55}  {figure:.2}, {bound}\n")
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
