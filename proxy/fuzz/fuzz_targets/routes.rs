//! Path patterns and the table of routes: lines of `METHOD host pattern`, then a section with `METHOD host path` lines
//! to be found. What is found matches by a naive reading, takes what stands there, and nothing more specific matches.

#![no_main]

use std::cmp::Ordering;

use libfuzzer_sys::fuzz_target;
use weir_config::{Action, ByteSize, Class, CoreId, ForwardRoute, Method, Route, Segment};
use weir_fuzz::sections;
use weir_logic::{Found, RouteTable};

fuzz_target!(|input: &str| {
    let mut input = sections(input);
    let mut next = || input.next().unwrap_or_default();
    let routes: Vec<Route> = next().split('\n').take(64).filter_map(read).collect();
    let table = RouteTable::new(&routes);
    for line in next().split('\n').take(64) {
        let Some((method, host, path)) = words(line) else { continue };
        if path.starts_with('/') {
            agrees(&table, &routes, method, &host, path);
        }
    }
});

fn agrees(table: &RouteTable, routes: &[Route], method: Method, host: &str, path: &str) {
    let matching: Vec<(&Route, Vec<&str>)> = routes
        .iter()
        .filter(|route| route.host.as_deref().is_none_or(|known| known == host))
        .filter_map(|route| Some((route, take(&route.path.segments, path)?)))
        .collect();
    let right: Vec<&(&Route, Vec<&str>)> = matching.iter().filter(|(route, _)| takes(route, method)).collect();
    match table.find(method, &host.to_ascii_uppercase(), path) {
        Found::Route { route, parameters, .. } => {
            let same = |known: &&&(&Route, Vec<&str>)| known.0.path == route.path && known.0.host == route.host;
            let (known, values) = right.iter().find(same).expect("the pattern that was found does not match");
            let named: Vec<(&str, &str)> = known.path.parameters().zip(values.iter().copied()).collect();
            assert_eq!(parameters, named);
            for (other, _) in right {
                assert_ne!(compare(other, route), Ordering::Greater, "{} beats {}", other.path, route.path);
            }
        }
        Found::WrongMethod { allowed } => {
            assert!(right.is_empty(), "a route takes the method");
            let mut methods: Vec<Method> = matching.iter().flat_map(|(route, _)| route.methods.clone()).collect();
            methods.sort_unstable();
            methods.dedup();
            assert_eq!(allowed, methods);
        }
        Found::Unknown => assert!(matching.is_empty(), "{} matches {path}", matching[0].0.path),
    }
}

/// What the parameters take, when the pattern matches. Written another way than the table: segment by segment.
fn take<'p>(pattern: &[Segment], path: &'p str) -> Option<Vec<&'p str>> {
    let parts: Vec<&str> = path[1..].split('/').collect();
    let mut values = Vec::new();
    for (index, segment) in pattern.iter().enumerate() {
        match segment {
            Segment::Rest(_) => {
                let before: usize = parts.get(..index)?.iter().map(|part| part.len() + 1).sum();
                let rest = path.get(1 + before..).filter(|rest| !rest.is_empty())?;
                values.push(rest);
                return Some(values);
            }
            Segment::Literal(text) => (parts.get(index)? == text).then_some(())?,
            Segment::Parameter(_) => values.push(parts.get(index).filter(|part| !part.is_empty())?),
        }
    }
    (parts.len() == pattern.len()).then_some(values)
}

fn takes(route: &Route, method: Method) -> bool {
    route.methods.contains(&method) || method == Method::Head && route.methods.contains(&Method::Get)
}

/// Which of two matching routes is the more specific: a named host, then from the left literal, parameter, rest.
fn compare(left: &Route, right: &Route) -> Ordering {
    let rank = |segment: &Segment| match segment {
        Segment::Literal(_) => 2,
        Segment::Parameter(_) => 1,
        Segment::Rest(_) => 0,
    };
    let ranks = |route: &Route| route.path.segments.iter().map(rank).collect::<Vec<_>>();
    left.host.is_some().cmp(&right.host.is_some()).then_with(|| ranks(left).cmp(&ranks(right)))
}

fn read(line: &str) -> Option<Route> {
    let (method, host, pattern) = words(line)?;
    let action = Action::Forward(ForwardRoute { websocket: false, max_body_bytes: ByteSize::mib(1) });
    Some(Route {
        name: line.to_owned(),
        methods: vec![method],
        path: pattern.parse().ok()?,
        host: Some(host).filter(|host| host != "-"),
        class: Class::Config,
        core: CoreId(0),
        agent_limit: None,
        action,
    })
}

fn words(line: &str) -> Option<(Method, String, &str)> {
    let mut words = line.split(' ');
    let method = match words.next()? {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        _ => return None,
    };
    Some((method, words.next()?.to_ascii_lowercase(), words.next()?))
}
