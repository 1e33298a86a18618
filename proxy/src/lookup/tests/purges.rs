//! What purges take out of use.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use weir_config::KeyPart;
use weir_logic::cache::purge::{Mark, Severity, Target};
use weir_logic::key::Scope;
use weir_logic::{AgentId, CacheKey, Call, Cause, Identity, Outcome, RequestView, TenantId};

use super::support::{Bench, bulk, names, text};
use crate::purging::Keeper;

fn purge(bench: &Bench, target: Target, severity: Severity) {
    bench.purging.purge(target, severity, bench.clock.now()).unwrap();
}

#[tokio::test]
async fn answers_are_purged_by_route_tenant_tag_path_and_all_together() {
    let targets = [
        Target::All,
        Target::Marked(Mark::route("tasks")),
        Target::Marked(Mark::tenant("t-1")),
        Target::Marked(Mark::tag("r-7")),
        Target::Prefix("/".to_owned()),
    ];
    for target in targets {
        let bench = Bench::new(|_| {});
        bench.script(|_| bulk(json!([]), Some(json!({"status": 200, "ttl": 60, "tags": ["r-7"], "body": 1}))));
        let _kept = bench.ask("a").await;
        purge(&bench, Target::Marked(Mark::tag("r-8")), Severity::Hard);
        purge(&bench, Target::Marked(Mark::tenant("t-2")), Severity::Hard);
        assert_eq!(bench.ask("a").await.outcome, Outcome::Hit);
        purge(&bench, target.clone(), Severity::Hard);
        assert_eq!((bench.ask("a").await.outcome, bench.asked()), (Outcome::Miss, 2), "{target:?}");
        assert_eq!(bench.core.asked.lock()[1]["keys"][0].get("etag"), None);
        assert_eq!(bench.ask("a").await.outcome, Outcome::Hit);
    }
}

#[tokio::test]
async fn one_answer_is_purged_by_its_request() {
    let bench = Bench::new(|_| {});
    bench.script(names);
    let _kept = bench.ask("a").await;
    let _kept = bench.ask("b").await;
    let headers = http::HeaderMap::new();
    let method = weir_config::Method::Get;
    let request = RequestView { method, path: "/", query: None, host: "h", headers: &headers, body: b"" };
    let identity = Identity { agent: AgentId::new("a"), tenant: TenantId::new("t-1") };
    let call =
        Call { request, route: &bench.route, parameters: &Vec::new(), identity: &identity, now: bench.clock.now() };
    let key = CacheKey::of(&[KeyPart::Agent], Scope::Tenant, &call).unwrap();
    purge(&bench, Target::Marked(Mark::key(&key)), Severity::Hard);
    assert_eq!((bench.ask("b").await.outcome, bench.ask("a").await.outcome), (Outcome::Hit, Outcome::Miss));
}

#[tokio::test]
async fn a_soft_purge_leaves_what_may_be_served_while_it_is_fetched_anew() {
    let bench = Bench::new(|route| route.stale_while_revalidate = Duration::from_secs(10));
    bench.script(names);
    let _kept = bench.ask("a").await;
    purge(&bench, Target::All, Severity::Soft);
    let stale = bench.ask("a").await;
    assert_eq!((stale.outcome, stale.cause), (Outcome::Stale, Some(Cause::Revalidating)));
    bench.until_asked(2).await;
    bench.until_landed().await;
    assert_eq!(bench.ask("a").await.outcome, Outcome::Hit);
}

#[tokio::test]
async fn an_answer_under_way_while_a_purge_happens_is_not_for_those_who_come_later() {
    let bench = Arc::new(Bench::new(|route| route.ttl = Duration::from_secs(60)));
    bench.core.open.forget_permits(1_000_000);
    let mut version = 0;
    bench.script(move |_| {
        version += 1;
        bulk(json!([{"id": 0, "status": 200, "text": format!("v{version}")}]), None)
    });
    let ask = || {
        let bench = Arc::clone(&bench);
        crate::task::spawn("asks", async move { bench.ask("a").await })
    };
    let before = ask();
    bench.until_asked(1).await;
    purge(&bench, Target::All, Severity::Hard);
    let after = ask();
    while bench.waiting() < 2 {
        tokio::task::yield_now().await;
    }
    bench.core.open.add_permits(2);
    assert_eq!(text(&after.await.unwrap().unwrap()), "v2");
    drop(before.await.unwrap().unwrap());
    assert_eq!((text(&bench.ask("a").await), bench.asked()), ("v2", 2));
}

#[tokio::test]
async fn purged_answers_are_counted_before_and_swept_after() {
    let bench = Bench::new(|_| {});
    bench.script(names);
    for agent in ["a", "b", "c"] {
        let _kept = bench.ask(agent).await;
    }
    let count = |mark| bench.action.count(mark);
    assert_eq!((count(None), count(Some(Mark::tenant("t-1"))), count(Some(Mark::tenant("t-2")))), (3, 3, 0));
    assert_eq!(bench.action.sweep(), 0);
    purge(&bench, Target::Marked(Mark::tenant("t-1")), Severity::Hard);
    assert_eq!((bench.action.sweep(), count(None)), (3, 0));
}
