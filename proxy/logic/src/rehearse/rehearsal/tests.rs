use weir_config::{Class, CoreId, Method, PathPattern};

use super::super::tests::config;
use super::*;
use crate::rehearse::{Asked, Veil};
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

/// What a play of the hour asks the core for when these purges happen. Fills take two seconds.
fn asked_with(purges: &[Purge], routes: &[Route]) -> f64 {
    let mut lines = hour();
    for line in &mut lines {
        (line.core, line.tenant) = (Some(2_000), Some("~t".into()));
        line.tags = vec![if line.at % 2_000 == 0 { "~even" } else { "~odd" }.into()];
    }
    let mut rehearsal = Rehearsal::new(routes, &head(1.0));
    lines.iter().for_each(|line| rehearsal.take(line));
    purges.iter().for_each(|purge| rehearsal.purge(purge));
    let mut play = rehearsal.play(&End { covered: 3_600_000, lines: lines.len() as u64, ..End::default() });
    play.routes.remove("updates").unwrap().core_requests()
}

fn purge(kind: &str, minute: u64, of: &[&str]) -> Purge {
    let of = of.iter().map(|name| (*name).to_owned()).collect();
    Purge { purge: kind.into(), at: minute * 60_000 + 500, of, ..Purge::default() }
}

#[test]
fn what_was_purged_is_asked_for_again_and_nothing_else_is() {
    // Two keys, each asked for every other second and kept for ever; each purge has the core asked once for each key that it means.
    let own = updates("key = [\"path.channel\"]\nttl = { ok = \"20h\" }").swap_remove(0);
    let shared = |shared| {
        let Action::Cache(cache) = own.action.clone() else { unreachable!() };
        Route { action: Action::Cache(weir_config::CacheRoute { shared, ..cache }), ..own.clone() }
    };
    let asks = |kind: &str, of: &[&str], is_shared: bool| {
        let purges: Vec<_> = (1..50).map(|minute| purge(kind, minute, of)).collect();
        let routes = [shared(is_shared)];
        (asked_with(&purges, &routes) - asked_with(&[], &routes)) / 49.0
    };
    let path = hour()[0].path.clone();
    let cases: &[(&str, &[&str], bool, f64)] = &[
        ("all", &[], true, 2.0),
        ("route", &["updates"], true, 2.0),
        ("route", &["other"], true, 0.0),
        ("tag", &["~even"], true, 1.0),
        ("tag", &["~none"], true, 0.0),
        ("tenant", &["~t"], true, 0.0),
        ("tenant", &["~t"], false, 2.0),
        ("tenant", &["~u"], false, 0.0),
        ("prefix", &["/v1/up", "/v2"], true, 2.0),
        ("prefix", &[&path], true, 1.0),
        ("prefix", &[], true, 0.0),
    ];
    for (kind, of, is_shared, expected) in cases {
        close(asks(kind, of, *is_shared), *expected, 0.05);
    }
}

#[test]
fn a_purge_of_a_request_takes_every_variant_of_its_key() {
    let routes = updates("key = [\"path.channel\"]\nttl = { ok = \"20h\" }\nvary = [\"x-os\"]");
    let mut lines = hour();
    for (number, line) in lines.iter_mut().enumerate() {
        line.headers.insert("x-os".into(), if number % 4 < 2 { "~win" } else { "~mac" }.into());
        line.vary = vec!["x-os".into()];
    }
    let of = |request: &str, count: u64| {
        let mut rehearsal = Rehearsal::new(&routes, &head(1.0));
        lines.iter().for_each(|line| rehearsal.take(line));
        let request = Some(Asked { method: "GET".into(), path: request.into(), ..Asked::default() });
        (0..count)
            .for_each(|minute| rehearsal.purge(&Purge { request: request.clone(), ..purge("request", minute, &[]) }));
        let end = End { covered: 3_600_000, lines: lines.len() as u64, ..End::default() };
        rehearsal.play(&end).routes["updates"].core_requests()
    };
    close(of(&lines[0].path, 50) - of(&lines[0].path, 0), 100.0, 0.5);
    close(of("/v1/updates/~other", 50), of(&lines[0].path, 0), 0.5);
    close(of("/elsewhere", 50), of(&lines[0].path, 0), 0.5);
}

#[test]
fn a_change_counts_where_the_configuration_passes_it_through_and_for_the_tenant_who_makes_it() {
    let update = updates("key = [\"path.channel\"]\nttl = { ok = \"20h\" }").swap_remove(0);
    let rest = |action: &str| {
        let text = format!(
            "[[route]]\nname = \"rest\"\nmatch = {{ method = \"POST\", path = \"/v1/{{rest*}}\" }}\nclass = \"config\"\n{action}"
        );
        config(&text).routes.swap_remove(0)
    };
    let forwards = rest("action = \"forward\"");
    let asks = rest("action = \"cache\"\nkey = [\"path.rest\"]");
    let own = || {
        let Action::Cache(cache) = update.action.clone() else { unreachable!() };
        Route { action: Action::Cache(weir_config::CacheRoute { shared: false, ..cache }), ..update.clone() }
    };
    let path = hour()[0].path.clone();
    let changes = |tenant: Option<&str>| -> Vec<_> {
        let request =
            Asked { method: "POST".into(), path: path.clone(), tenant: tenant.map(Into::into), ..Asked::default() };
        let change = |minute| Purge { request: Some(request.clone()), ..purge("change", minute, &[&path]) };
        (1..50).map(change).collect()
    };
    let count = |routes: &[Route], tenant: Option<&str>| {
        (asked_with(&changes(tenant), routes) - asked_with(&[], routes)) / 49.0
    };
    close(count(&[update.clone(), forwards.clone()], None), 1.0, 0.05);
    close(count(&[update.clone(), forwards.clone()], Some("~t")), 1.0, 0.05);
    close(count(&[update.clone(), asks], Some("~t")), 0.0, 0.0);
    close(count(std::slice::from_ref(&update), Some("~t")), 0.0, 0.0);
    close(count(&[own(), forwards.clone()], Some("~t")), 1.0, 0.05);
    close(count(&[own(), forwards.clone()], Some("~u")), 0.0, 0.0);
    close(count(&[own(), forwards], None), 0.0, 0.0);
}

#[test]
fn what_is_on_its_way_while_it_is_purged_is_not_kept() {
    // The odd key is asked for every other second, its fill takes two: a purge in between has to hit it.
    let routes = updates("key = [\"path.channel\"]\nttl = { ok = \"20h\" }");
    let twice = |soft: bool, gap: u64| {
        let purge = |at: u64| Purge { at, soft, ..purge("all", 0, &[]) };
        asked_with(&[purge(600_500), purge(600_500 + gap)], &routes) - asked_with(&[], &routes)
    };
    for soft in [false, true] {
        // Both keys are being fetched when the second purge comes, or are there again.
        close(twice(soft, 1_900), 4.0, 0.1);
        close(twice(soft, 60_000), 4.0, 0.1);
        close(twice(soft, 0), 2.0, 0.1);
    }
}

#[test]
fn more_changes_than_can_be_noted_are_played_all_the_same() {
    let routes = updates("key = [\"path.channel\"]\nttl = { ok = \"20h\" }");
    let prefixes: Vec<String> = (0..1_000).map(|number| format!("/v{number}")).collect();
    let mut purges = vec![Purge { of: prefixes, ..purge("prefix", 10, &[]) }];
    purges.extend((0..6_000).map(|number| purge("tag", 20, &[&format!("~{number}")])));
    // `/v1` is one of the prefixes.
    close(asked_with(&purges, &routes) - asked_with(&[], &routes), 2.0, 0.1);
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
