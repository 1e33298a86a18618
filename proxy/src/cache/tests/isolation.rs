//! Nobody is given what the core would not have told them: whatever agents of several tenants say in headers, queries and bodies,
//! whoever asks at the same time, and whatever the core's answers vary by.
//!
//! Each answer of the core lists the facts that it was made from. Who is given it must have said the same.

use futures::future::join_all;
use proptest::prelude::*;
use serde_json::{Value, json};
use weir_config::{CacheRoute, KeyPart, Method};
use weir_logic::cache::purge::{Mark, Severity, Target};
use weir_logic::{Answer, Outcome};

use super::support::{Ask, Reply, World, manifest, reply, text};
use crate::upstream::{OriginError, OriginRequest};

fn route(shared: bool, obey_agents: bool) -> CacheRoute {
    let key = vec![KeyPart::Query("os".into()), KeyPart::Header("x-ring".into()), KeyPart::Body("/policy".into())];
    let vary = vec!["accept-language".to_owned(), "accept-encoding".to_owned()];
    CacheRoute { key, vary, max_variants: 3, shared, obey_agents, ..manifest() }
}

/// A core that looks at what it may look at: what the key declares, and by turns at the headers that it then names in `Vary`.
fn in_turns(request: &OriginRequest, number: usize) -> Reply {
    match number % 13 {
        3 => return reply(503, &[], "down"),
        7 => return Err(OriginError::Timeout),
        _ => {}
    }
    let vary = ["", "accept-language", "accept-encoding", "Accept-Encoding, accept-language", "*"][number / 6 % 5];
    let said = |name: &str| {
        let values = request.headers.iter().filter(|(known, _)| known == name);
        let values: Vec<_> = values.map(|(_, value)| value.to_str().unwrap()).collect();
        (!values.is_empty()).then(|| values.join("+"))
    };
    let names = ["accept-encoding", "accept-language"];
    let looked_at = names.iter().filter(|name| vary == "*" || vary.to_lowercase().contains(*name));
    let chosen: serde_json::Map<String, Value> =
        looked_at.map(|name| ((*name).to_owned(), json!(said(name)))).collect();
    let policy = serde_json::from_slice::<Value>(&request.body).ok().and_then(|body| body.pointer("/policy").cloned());
    let facts = json!({
        "method": request.method.as_str(),
        "target": request.target,
        "tenant": said("weir-tenant"),
        "ring": said("x-ring"),
        "policy": policy,
        "chosen": chosen,
    });
    let facts = facts.to_string();
    let tag = format!("\"{}\"", facts.replace('"', "'").replace(' ', "_"));
    let fields = [("content-type", "application/json"), ("vary", vary), ("etag", &tag), ("set-cookie", "session=1")];
    let fields = if number.is_multiple_of(5) { &fields[..] } else { &fields[..3] };
    if said("if-none-match").is_some_and(|tags| tags.contains(&tag)) {
        return reply(304, fields, "");
    }
    reply(200, fields, &facts)
}

/// Whether these are the facts of this request.
fn are_of(ask: &Ask, shared: bool, facts: &Value) -> bool {
    let post = ask.method == Method::Post;
    let values =
        ask.query.as_deref().unwrap_or_default().split('&').filter(|pair| pair.split('=').next() == Some("os"));
    let values: Vec<_> =
        values.map(|pair| format!("os={}", pair.split_once('=').map_or("", |(_, value)| value))).collect();
    let query = if values.is_empty() { String::new() } else { format!("?{}", values.join("&")) };
    let policy = serde_json::from_str::<Value>(&ask.body).ok().and_then(|body| body.pointer("/policy").cloned());
    let chosen = facts["chosen"].as_object().unwrap();
    facts["method"] == json!(if post { "POST" } else { "GET" })
        && facts["target"] == json!(format!("{}{query}", ask.path))
        && facts["tenant"] == json!((!shared).then_some(&ask.tenant))
        && facts["ring"] == json!(said(ask, "x-ring", str::to_owned))
        && facts["policy"] == json!(policy.filter(|_| post))
        && chosen.iter().all(|(name, value)| *value == json!(said(ask, name, str::to_lowercase)))
}

/// What a request says in a header. Those that are fuzzed here are said once.
fn said(ask: &Ask, name: &str, spelling: fn(&str) -> String) -> Option<String> {
    ask.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| spelling(value))
}

fn check(ask: &Ask, shared: bool, answer: &Answer) {
    if answer.headers.iter().any(|(name, _)| name == "weir-refusal") || answer.outcome == Outcome::Failed {
        return;
    }
    assert!(text(answer, "set-cookie").is_empty());
    let tag = text(answer, "etag").trim_matches('"').replace('\'', "\"");
    let told: Value = serde_json::from_str(&tag).unwrap();
    assert!(are_of(ask, shared, &told), "{ask:?} got {answer:?}");
    match answer.status {
        304 => assert!(answer.body.is_empty()),
        200 | 206 => assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap(), told, "{ask:?} got {answer:?}"),
        status => panic!("{ask:?} got {status}"),
    }
}

/// What the core was told of agents: of the tenant that it answers, or of nobody.
fn check_request(shared: bool, request: &OriginRequest) {
    let head = request.headers.iter().map(|(name, value)| format!("\n{name}: {}", value.to_str().unwrap()));
    let head = request.target.clone() + &head.collect::<String>();
    let whole = head.clone() + &String::from_utf8_lossy(&request.body);
    let tenant = head.split("\nweir-tenant: ").skip(1).map(|rest| rest.lines().next().unwrap()).collect::<Vec<_>>();
    if shared {
        assert!(tenant.is_empty() && !head.contains("mark-"), "{head}");
        return;
    }
    let [tenant] = tenant[..] else { panic!("{head}") };
    assert!(TENANTS.contains(&tenant), "{head}");
    let own = whole.matches(&format!("mark-{tenant}")).count();
    assert_eq!(whole.matches("mark-").count(), own, "{whole}");
}

const TENANTS: [&str; 3] = ["t-1", "t-2", "t-3"];

/// Headers that no answer here may depend on, some of which other caches have looked at.
const UNDECLARED: [&str; 36] = [
    "accept",
    "accept-charset",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding-x",
    "cookie",
    "dnt",
    "expect",
    "forwarded",
    "from",
    "if-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "origin",
    "pragma",
    "prefer",
    "proxy-authorization",
    "referer",
    "surrogate-capability",
    "te",
    "trailer",
    "upgrade",
    "user-agent",
    "via",
    "warning",
    "weir-agent",
    "weir-tenant",
    "x-agent-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-http-method-override",
    "x-original-url",
    "x-real-ip",
    "x-tenant-id",
];

fn ask() -> impl Strategy<Value = Ask> {
    let tenant = prop::sample::select(TENANTS.to_vec());
    let value = prop_oneof!["t-[123]", "[ab]", Just(String::new())];
    let declared = (
        prop::option::of(value),
        prop::option::of(prop::sample::select(vec!["de", "DE", "en", ""])),
        prop::option::of(prop::sample::select(vec!["br", "gzip", "GZIP"])),
    );
    let asks = (
        prop::option::of(prop::sample::select(vec!["no-cache", "no-store", "max-age=0", "only-if-cached"])),
        prop::option::of(prop::sample::select(vec!["*", "\"x\""])),
        prop::option::weighted(0.2, Just("bytes=0-")),
    );
    let noise = prop::collection::vec(prop::sample::select(UNDECLARED.to_vec()), 0..4);
    let query = prop::option::of("(os=[a&=%]{0,2})?(&(tenant|agent)=t-[123])?(&os=b)?");
    let body = prop_oneof![
        "[{}\"a:]{0,6}",
        "t-[123]".prop_map(|value| format!(r#"{{"policy":"{value}"}}"#)),
        "[12]".prop_map(|value| format!(r#"{{"tenant":"t-2","policy":{value},"mark":"MARK"}}"#)),
        Just(r#"{"policy":{"of":"t-3"},"weir-tenant":"t-3"}"#.to_owned()),
    ];
    (any::<bool>(), tenant, declared, asks, noise, query, body).prop_map(
        |(post, tenant, declared, asks, noise, query, body)| {
            let mark = format!("mark-{tenant}");
            let named = [
                ("x-ring", declared.0),
                ("accept-language", declared.1.map(str::to_owned)),
                ("accept-encoding", declared.2.map(str::to_owned)),
                ("cache-control", asks.0.map(str::to_owned)),
                ("if-none-match", asks.1.map(str::to_owned)),
                ("range", asks.2.map(str::to_owned)),
            ];
            let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
            Ask {
                method: if post { Method::Post } else { Method::Get },
                path: "/v1/manifest",
                query,
                headers: named.chain(noise.into_iter().map(|name| (name, mark.clone()))).collect(),
                body: body.replace("MARK", &mark),
                tenant: tenant.to_owned(),
                ..Ask::get()
            }
        },
    )
}

/// Requests that come at once, what passes then, and what is purged then.
fn step() -> impl Strategy<Value = (Vec<Ask>, u64, Option<&'static str>)> {
    let purged = prop::option::weighted(0.1, prop::sample::select(TENANTS.to_vec()));
    (prop::collection::vec(ask(), 1..8), prop::sample::select(vec![0, 0, 1, 20, 70, 400]), purged)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everyone_is_given_what_the_core_would_tell_them(
        shared in any::<bool>(),
        obey_agents in any::<bool>(),
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new(route(shared, obey_agents), in_turns);
            for (asks, seconds, purged) in steps {
                let answers = join_all(asks.iter().map(|ask| world.ask(ask))).await;
                asks.iter().zip(&answers).for_each(|(ask, answer)| check(ask, shared, answer));
                world.pass(seconds);
                if let Some(tenant) = purged {
                    let target = Target::Marked(Mark::tenant(tenant));
                    world.cache.shell.purging.purge(target, Severity::Soft, world.clock.now()).unwrap();
                }
            }
            world.settle().await;
            world.core.requests().iter().for_each(|request| check_request(shared, request));
        });
    }
}
