//! No byte of one tenant's answer reaches another.

use proptest::prelude::*;
use weir_config::{CacheRoute, KeyPart, Method};
use weir_logic::Outcome;

use super::support::{Ask, World, manifest, ok, reply};
use crate::upstream::OriginRequest;

fn per_tenant() -> CacheRoute {
    let key = vec![KeyPart::Query("os".into()), KeyPart::Header("x-ring".into()), KeyPart::Body("/policy".into())];
    CacheRoute { shared: false, key, ..manifest() }
}

fn tenant_of(request: &OriginRequest) -> String {
    let named = request.headers.iter().filter(|(name, _)| name == "weir-tenant");
    named.map(|(_, value)| value.to_str().unwrap()).collect::<Vec<_>>().join("+")
}

#[tokio::test]
async fn two_tenants_fill_twice_and_the_core_is_told_for_whom() {
    let world = World::new(per_tenant(), |request, _| ok(&tenant_of(request)));
    for tenant in ["t-1", "t-2"] {
        let answer = world.ask(&Ask { tenant: tenant.into(), ..Ask::get() }).await;
        assert_eq!((&answer.body[..], answer.outcome), (tenant.as_bytes(), Outcome::Miss));
    }
}

#[tokio::test]
async fn a_request_without_a_tenant_is_refused_where_answers_are_not_shared() {
    let world = World::new(per_tenant(), |_, _| ok("one"));
    let answer = world.ask(&Ask { tenant: String::new(), ..Ask::get() }).await;
    assert_eq!((answer.status, answer.outcome), (401, Outcome::Refused));
    assert_eq!(world.core.count(), 0);
}

#[tokio::test]
async fn a_shared_route_tells_the_core_nothing_of_who_asks() {
    let world = World::new(manifest(), |_, _| ok("one"));
    let ask = Ask::get().with("authorization", "Bearer secret").with("cookie", "c=1").with("weir-tenant", "t-9");
    let _filled = world.ask(&ask).await;
    assert!(world.core.requests()[0].headers.is_empty(), "{:?}", world.core.requests()[0].headers);
    assert_eq!(world.ask(&Ask { tenant: "t-2".into(), ..Ask::get() }).await.outcome, Outcome::Hit);
}

#[tokio::test]
async fn the_contract_shows_what_a_fill_sends() {
    let world = World::new(per_tenant(), |_, _| reply(200, &[("etag", "\"v7\"")], "one"));
    let ask = Ask::get().query("x=1&os=win").with("authorization", "Bearer secret").with("x-ring", "beta");
    let ask = Ask { path: "/v1/config", ..ask };
    let _filled = world.ask(&ask).await;
    world.pass(100);
    let _confirmed = world.ask(&ask).await;
    let request = &world.core.requests()[1];
    let mut text = format!("```http\n{} {} HTTP/1.1\n", request.method, request.target);
    for (name, value) in &request.headers {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    let contract = include_str!("../../../CONTRACTS.md");
    assert!(contract.contains(&(text.clone() + "```\n")), "{text}");
}

#[derive(Clone, Debug)]
struct Step {
    ask: Ask,
    seconds: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let header = prop_oneof![Just("x-ring"), Just("weir-tenant"), Just("authorization"), Just("if-none-match")];
    let headers = prop::collection::vec((header, "(t-[123]|\"v[12]\"|\\*|[ab]?)"), 0..3);
    let body = prop_oneof![
        "[{}\"a:]{0,6}",
        "t-[123]".prop_map(|value| format!(r#"{{"policy":"{value}"}}"#)),
        Just(r#"{"tenant":"t-2","policy":1}"#.to_owned()),
    ];
    let parts = (any::<bool>(), "(os=[a&=%]{0,3})?(&tenant=t-[123])?", headers, body, "t-[123]", 0_u64..120);
    parts.prop_map(|(post, query, headers, body, tenant, seconds)| {
        let method = if post { Method::Post } else { Method::Get };
        let ask = Ask { method, path: "/v1/manifest", query: Some(query), headers, body, tenant, agent: "a-1".into() };
        Step { ask, seconds }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The core answers with the name of the tenant it was asked for, sometimes with an error; whatever else the requests say,
    /// every body an agent gets is its own tenant's or the node's.
    #[test]
    fn every_answer_is_the_tenants_own(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new(per_tenant(), |request, number| {
                if number % 5 == 0 { reply(503, &[], "down") } else { ok(&tenant_of(request)) }
            });
            for Step { ask, seconds } in steps {
                let answer = world.ask(&ask).await;
                world.pass(seconds);
                let own = answer.status == 304 || answer.body == ask.tenant.as_bytes();
                let nodes_word = answer.headers.iter().any(|(name, _)| name == "weir-refusal");
                assert!(own || nodes_word, "{ask:?} got {answer:?}");
            }
            world.settle().await;
            for request in world.core.requests() {
                let tenant = tenant_of(&request);
                assert!(["t-1", "t-2", "t-3"].contains(&tenant.as_str()), "{tenant}");
            }
        });
    }
}
