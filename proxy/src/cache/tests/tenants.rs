//! One tenant's answers are not another's. Whatever they say: `isolation`.

use weir_config::{CacheRoute, KeyPart};
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
