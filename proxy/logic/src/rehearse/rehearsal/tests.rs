use weir_config::{Class, CoreId, Method, PathPattern};

use super::super::tests::config;
use super::*;
use crate::rehearse::Veil;
use crate::whatif::proof::{Mix, START, Stream, UPDATES, met};

/// The end of the trace.
const TRACED: Millis = Millis(START.0 + 1_200_000);

fn head(sample: f64) -> Head {
    Head { weir_trace: 1, sample, salt: "salt".into(), began: START.0, ..Head::default() }
}

fn updates(more: &str) -> Vec<Route> {
    let text = format!(
        "[[route]]\nname = \"updates\"\nmatch = {{ method = \"GET\", path = \"/v1/updates/{{channel}}\" }}\nclass = \"update\"\n\
         action = \"cache\"\nshared = true\njitter = 0.0\nstale_while_revalidate = \"0s\"\n{more}\n"
    );
    config(&text).routes
}

/// A request a second for an hour, for two channels by two platforms in turn.
fn hour() -> Vec<Line> {
    let routes = updates("key = [\"path.channel\"]");
    let veil = Veil::new([7; 32], "salt".into(), &routes);
    let line = |second: u64| Line {
        at: second * 1000,
        route: "updates".into(),
        method: "GET".into(),
        path: format!("/v1/updates/{}", veil.over(if second.is_multiple_of(2) { "stable" } else { "beta" })),
        query: Some(veil.query(if second % 4 < 2 { "os=win" } else { "os=mac" })),
        status: Some(200),
        bytes: 1_000,
        outcome: "hit".into(),
        ..Line::default()
    };
    (0..3600).map(line).collect()
}

fn play(routes: &[Route], lines: &[Line], sample: f64) -> Play {
    let mut rehearsal = Rehearsal::new(routes, &head(sample));
    lines.iter().for_each(|line| rehearsal.take(line));
    rehearsal.play(&End { covered: 3_600_000, lines: lines.len() as u64, ..End::default() })
}

fn played(routes: &[Route], lines: &[Line]) -> Played {
    let mut play = play(routes, lines, 1.0);
    assert!(play.unmatched.is_empty());
    play.routes.remove("updates").unwrap()
}

fn close(told: f64, expected: f64, by: f64) {
    assert!((told - expected).abs() <= by, "{told} instead of {expected}");
}

#[test]
fn another_ttl_and_another_key_are_rehearsed() {
    let lines = hour();
    let of = |key: &str, ttl: &str| played(&updates(&format!("key = [{key}]\nttl = {{ ok = \"{ttl}\" }}")), &lines);
    let old = of("\"path.channel\", \"query.os\"", "60s");
    let longer = of("\"path.channel\", \"query.os\"", "10m");
    let coarser = of("\"path.channel\"", "60s");
    // The trace begins in the midst of answers' lives: one fill more or less for each key.
    close(old.core_requests(), 240.0, 4.0);
    close(longer.core_requests(), 24.0, 4.0);
    close(coarser.core_requests(), 120.0, 2.0);
    close(old.hit_ratio().unwrap(), 14.0 / 15.0, 0.002);
    close(old.mean_age().as_secs_f64(), 28.0, 1.0);
    close(old.core_bytes(), 240_000.0, 4_000.0);
    assert_eq!((old.requests, old.longest_ttl), (3600.0, Duration::from_secs(60)));
}

#[test]
fn a_core_that_fails_fails_again() {
    let mut lines = hour();
    for line in &mut lines[600..1800] {
        (line.cause, line.outcome) = (Some("core-failing".into()), "stale".into());
    }
    lines[1800].core = Some(0);
    let of = |stale: &str| {
        let more =
            format!("key = [\"path.channel\", \"query.os\"]\nttl = {{ ok = \"60s\" }}\nstale_if_error = \"{stale}\"");
        played(&updates(&more), &lines)
    };
    let (long, short) = (of("1h"), of("5m"));
    close(long.failed(), 0.0, 0.0);
    assert!(long.stale() > 0.3, "{long:?}");
    close(short.failed(), 850.0 / 3600.0, 0.02);
}

#[test]
fn the_terms_of_the_core_count_where_the_operator_says_so() {
    let mut lines = hour();
    lines.iter_mut().for_each(|line| line.said = Some("max-age=600".into()));
    let of = |mode: &str, lines: &[Line]| {
        let more = format!("key = [\"path.channel\"]\nttl = {{ ok = \"60s\" }}\nfreshness = \"{mode}\"");
        played(&updates(&more), lines).core_requests()
    };
    close(of("override", &lines), 120.0, 2.0);
    close(of("honor", &lines), 12.0, 2.0);
    lines.iter_mut().for_each(|line| line.said = Some("no-store".into()));
    close(of("override", &lines), 3600.0, 0.0);
}

#[test]
fn what_the_core_would_confirm_costs_no_bytes() {
    let mut lines = hour();
    lines.iter_mut().for_each(|line| line.tag = Some("~1".into()));
    let routes = updates("key = [\"path.channel\"]\nttl = { ok = \"60s\" }");
    assert!(played(&routes, &lines).core_bytes() <= 2_000.0);
    lines[1800..].iter_mut().for_each(|line| line.tag = Some("~2".into()));
    close(played(&routes, &lines).core_bytes(), 2_000.0, 2_000.0);
}

#[test]
fn what_the_core_chose_by_a_header_is_kept_for_each_value_of_it() {
    let mut lines = hour();
    for (number, line) in lines.iter_mut().enumerate() {
        let os = if number % 4 < 2 { "~win" } else { "~mac" };
        line.headers.insert("x-os".into(), os.into());
        line.vary = vec!["x-os".into()];
    }
    let of =
        |more: &str| played(&updates(&format!("key = [\"path.channel\"]\nttl = {{ ok = \"60s\" }}\n{more}")), &lines);
    close(of("").core_requests(), 120.0, 2.0);
    close(of("vary = [\"x-os\"]").core_requests(), 240.0, 4.0);
}

#[test]
fn requests_that_no_route_takes_are_counted_by_the_route_that_took_them() {
    let line = |path: &str| Line { method: "GET".into(), path: path.into(), route: "old".into(), ..Line::default() };
    let lines = [line("/v1/other"), line("/v1/updates/~1"), line("/v1/updates/~1/~2")];
    let play = play(&updates("key = [\"path.channel\"]"), &lines, 1.0);
    assert_eq!((play.unmatched["old"], play.routes["updates"].requests), (2, 1.0));
}

#[test]
fn requests_that_were_not_recorded_count_with_those_that_were() {
    let lines = hour();
    let mut rehearsal = Rehearsal::new(&updates("key = [\"path.channel\"]\nttl = { ok = \"60s\" }"), &head(0.5));
    lines.iter().for_each(|line| rehearsal.take(line));
    let requests = BTreeMap::from([("updates".to_owned(), 7200)]);
    let play = rehearsal.play(&End { covered: 3_600_000, lines: 3600, requests, ..End::default() });
    let played = &play.routes["updates"];
    close(played.requests, 7200.0, 0.0);
    close(played.core_requests(), 240.0, 4.0);
    close(played.hit_ratio().unwrap(), 1.0 - 120.0 / 3600.0, 0.002);
}

#[test]
fn lookups_travel_together() {
    let text = "[[route]]\nname = \"tasks\"\nmatch = { method = \"GET\", path = \"/v1/agents/{agent}/tasks\" }\nclass = \"tasking\"\n\
                action = \"lookup\"\nlookup = { path = \"/v1/tasks:lookup\", key = [\"path.agent\"], window = \"25ms\", max_keys = 1000 }\n";
    let line = |number: u64| Line {
        at: number,
        method: "GET".into(),
        path: format!("/v1/agents/~{number}/tasks"),
        route: "tasks".into(),
        status: Some(200),
        tenant: Some("~t".into()),
        outcome: "miss".into(),
        ..Line::default()
    };
    let lines: Vec<_> = (0..10_000).map(line).collect();
    let play = play(&config(text).routes, &lines, 1.0);
    let tasks = &play.routes["tasks"];
    close(tasks.core_requests(), 10_000.0, 0.0);
    // A thousand keys a second in windows of 25 ms, each of which the next key opens.
    close(tasks.bulk_requests().unwrap(), 10.0 * 1000.0 / 26.0, 1.0);
}

/// A recorded stream of a kind of traffic, rehearsed at other TTLs, held against what another stream of the kind meets in a cache that
/// really has them and is no longer empty.
#[test]
fn the_hit_ratio_of_another_configuration_is_told_within_two_points() {
    let mixes = [
        ("updates", UPDATES, 1.0),
        ("updates, slow core", Mix { fill_millis: 5_000.0, ..UPDATES }, 1.0),
        ("updates, stale served", Mix { while_revalidate: 120, ttl: 10, ..UPDATES }, 1.0),
        ("jitter", Mix { jitter: 1.0, requests_per_second: 5.0, ..UPDATES }, 1.0),
        ("tenants", Mix { keys: 8_000, skew: 0.0, ttl: 120, ..UPDATES }, 1.0),
        ("tenants, sampled", Mix { keys: 8_000, skew: 0.0, ttl: 120, ..UPDATES }, 0.2),
        ("packages", Mix { keys: 8_000, skew: 0.8, ttl: 120, ..UPDATES }, 1.0),
        ("packages, sampled", Mix { keys: 8_000, skew: 0.8, ttl: 120, ..UPDATES }, 0.3),
    ];
    for (name, mix, sample) in mixes {
        let (lines, end) = recorded(&mix, sample);
        for multiplier in [0.25, 1.0, 4.0] {
            let mut rehearsal = Rehearsal::new(&[route(&mix, multiplier)], &head(sample));
            lines.iter().for_each(|line| rehearsal.take(line));
            let told = rehearsal.play(&end).routes.remove("r").unwrap();
            let met = met(&mix, multiplier, TRACED);
            let ratio = told.hit_ratio().unwrap();
            let off = (ratio - met.hit_ratio).abs();
            assert!(off <= 0.02, "{name} at {multiplier}: told {ratio:.4}, met {:.4}", met.hit_ratio);
            let off = (told.mean_age().as_secs_f64() - met.mean_age).abs() / met.mean_age;
            assert!(off <= 0.15, "{name} at {multiplier}: told {:?}, met {}", told.mean_age(), met.mean_age);
        }
    }
}

fn route(mix: &Mix, multiplier: f64) -> Route {
    Route {
        name: "r".into(),
        methods: vec![Method::Get],
        path: "/{key}".parse::<PathPattern>().unwrap(),
        host: None,
        class: Class::Update,
        core: CoreId(0),
        agent_limit: None,
        action: Action::Cache(weir_config::CacheRoute {
            key: vec![weir_config::KeyPart::Path("key".into())],
            ..mix.route(multiplier)
        }),
    }
}

/// What a node would have written down of a third of an hour of the stream.
fn recorded(mix: &Mix, sample: f64) -> (Vec<Line>, End) {
    let mut stream = Stream::new(mix, 1);
    let mut lines = Vec::new();
    let mut requests = 0;
    while let Some((now, key)) = stream.next_until(TRACED) {
        requests += 1;
        let core = Duration::from_secs_f64(stream.chance.fill(mix.fill_millis) / 1000.0);
        if crate::whatif::mixed(key as u64 ^ 0x5eed) as f64 > sample * u64::MAX as f64 {
            continue;
        }
        lines.push(Line {
            at: now.0 - START.0,
            route: "r".into(),
            method: "GET".into(),
            path: format!("/~{key}"),
            status: Some(200),
            outcome: "miss".into(),
            core: Some(Millis::default().after(core).0),
            ..Line::default()
        });
    }
    let requests = BTreeMap::from([("r".to_owned(), requests)]);
    let end = End { covered: TRACED.0 - START.0, lines: lines.len() as u64, requests, ..End::default() };
    (lines, end)
}
