mod divided;
mod isolation;
mod kept;
mod purges;
mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::header::{AGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use weir_config::{Calm, Method};
use weir_logic::cache::CACHE_STATUS;
use weir_logic::{AgentId, Call, Identity, Outcome, RequestView};

use self::support::{Bench, bulk, header, names, rest, text};
use super::LookupAction;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::upstream::{OriginAnswer, OriginError};

#[tokio::test]
async fn a_thousand_polls_of_one_window_are_one_request() {
    let bench = Bench::new(|route| (route.window, route.max_keys) = (Duration::from_secs(3_600), 999));
    bench.script(names);
    let agents: Vec<String> = (0..999).map(|number| format!("a-{number}")).collect();
    let answers = join_all(agents.iter().map(|agent| bench.ask(agent))).await;
    for (agent, answer) in agents.iter().zip(&answers) {
        assert_eq!((answer.status, answer.outcome), (200, Outcome::Miss));
        assert_eq!(text(answer), format!("{agent:?}"));
        assert_eq!(header(answer, CONTENT_TYPE), "application/json");
    }
    assert_eq!(bench.asked(), 1);
    assert_eq!(bench.waiting(), 0);
    assert_eq!(bench.metrics.lookup_keys.with_label_values(&["tasks", "answered"]).get(), 999);
    let question = bench.core.asked.lock()[0].clone();
    assert_eq!((&question["edge"], &question["route"]), (&json!("edge-1"), &json!("tasks")));
    assert_eq!(question["keys"][7]["key"], json!({"identity.tenant": "t-1", "identity.agent": "a-7"}));
}

#[tokio::test]
async fn identical_keys_are_asked_once_and_answered_to_all() {
    let bench = Bench::new(|_| {});
    bench.script(names);
    let answers = join_all((0..10).map(|_| bench.ask("a-1"))).await;
    let outcomes: Vec<_> = answers.iter().map(|answer| answer.outcome).collect();
    assert_eq!(outcomes[0], Outcome::Miss);
    assert_eq!(outcomes[1..], [Outcome::Coalesced; 9]);
    assert_eq!(bench.core.asked.lock()[0]["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_window_leaves_before_its_time() {
    let bench = Bench::new(|route| (route.window, route.max_keys) = (Duration::from_secs(3_600), 3));
    join_all(["a", "b", "c", "d", "e", "f"].map(|agent| bench.ask(agent))).await;
    assert_eq!(bench.asked(), 2);
}

#[tokio::test]
async fn one_keys_failure_does_not_fail_the_others() {
    let bench = Bench::new(|_| {});
    bench.script(|_| {
        bulk(json!([{"id": 1, "status": 503, "retry_after": 40}, {"id": 0, "status": 200, "body": {"do": 1}}]), None)
    });
    let answers = join_all(["a", "b", "c"].map(|agent| bench.ask(agent))).await;
    let statuses: Vec<_> = answers.iter().map(|answer| (answer.status, answer.outcome)).collect();
    assert_eq!(statuses, [(200, Outcome::Miss), (503, Outcome::Failed), (503, Outcome::Failed)]);
    assert_eq!([1, 2].map(|one: usize| rest(&answers[one])), [40, 0], "of one the core has named a time");
}

#[tokio::test]
async fn a_core_that_fails_is_calm_where_the_operator_says_so() {
    let calm = Calm { status: 204, body: String::new(), content_type: String::new(), retry_after: None };
    let bench = Bench::new(|route| route.calm = Some(calm));
    for failure in [OriginError::Timeout, OriginError::Connect, OriginError::Resting(Duration::from_secs(9))] {
        bench.script(move |_| Err(failure));
        let answer = bench.ask(failure.label()).await;
        assert_eq!((answer.status, answer.outcome), (204, Outcome::Calm));
    }
}

#[tokio::test]
async fn a_core_that_fails_is_never_the_agents_fault() {
    let bench = Bench::new(|_| {});
    for status in [400, 401, 403, 404, 410, 500, 503] {
        bench.script(move |_| {
            let body = Bytes::from_static(b"{\"answers\":[]}");
            Ok(OriginAnswer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body })
        });
        assert!(bench.ask(&format!("whole-{status}")).await.status >= 500, "{status}");
        bench.script(move |_| bulk(json!([{"id": 0, "status": status}]), None));
        let answer = bench.ask(&format!("key-{status}")).await.status;
        assert!(answer >= 500 || [404, 410].contains(&status), "{status} became {answer}");
    }
}

#[tokio::test]
async fn garbage_fails_every_key_and_nothing_else() {
    let bench = Bench::new(|_| {});
    bench.script(|_| {
        Ok(OriginAnswer { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::from_static(b"\0") })
    });
    let answer = bench.ask("a").await;
    assert_eq!((answer.status, answer.outcome), (502, Outcome::Failed));
    bench.script(names);
    assert_eq!(bench.ask("b").await.status, 200);
}

#[tokio::test]
async fn a_waiter_who_leaves_neither_cancels_the_request_nor_keeps_its_place() {
    let bench = Bench::new(|route| route.max_waiters = 2);
    bench.core.open.forget_permits(1_000_000);
    bench.script(names);
    {
        let mut leaving = std::pin::pin!(bench.ask("a"));
        let mut staying = std::pin::pin!(bench.ask("b"));
        tokio::select! {
            biased;
            _ = &mut leaving => panic!("the core is closed"),
            _ = &mut staying => panic!("the core is closed"),
            () = bench.until_asked(1) => {}
        }
        let turned_away = bench.ask("c").await;
        assert_eq!((turned_away.status, turned_away.outcome), (503, Outcome::Shed));
        drop(bench.ask("never polled"));
        assert_eq!(bench.waiting(), 2);
        bench.core.open.add_permits(1);
        assert_eq!(text(&staying.await), "\"b\"");
    }
    assert_eq!(bench.waiting(), 0);
    assert_eq!(bench.asked(), 1);
}

#[tokio::test]
async fn answers_are_kept_for_their_ttl_and_given_as_304_to_who_has_them() {
    let bench = Bench::new(|route| route.max_ttl = Duration::from_secs(30));
    bench.script(names);
    assert_eq!(bench.ask("a").await.outcome, Outcome::Miss);
    let hit = bench.ask_later("a", Duration::from_secs(10)).await;
    assert_eq!((hit.status, hit.outcome, text(&hit)), (200, Outcome::Hit, "\"a\""));
    assert_eq!(header(&hit, ETAG), "\"v1\"");
    assert_eq!(header(&hit, AGE), "10");
    assert!(header(&hit, CACHE_STATUS).starts_with("weir; hit; ttl="));

    let mut headers = HeaderMap::new();
    headers.insert(IF_NONE_MATCH, HeaderValue::from_static("W/\"v1\""));
    let current = bench.ask_with("a", &headers, Duration::from_secs(10)).await;
    assert_eq!((current.status, current.outcome, text(&current)), (304, Outcome::Hit, ""));
    let first = bench.ask_with("b", &headers, Duration::ZERO).await;
    assert_eq!((first.status, first.outcome), (304, Outcome::Miss));
    assert_eq!(bench.asked(), 2);
    assert_eq!(bench.ask_later("a", Duration::from_secs(31)).await.status, 200);
    assert_eq!(bench.asked(), 3, "the operator's max_ttl is over");
}

#[tokio::test]
async fn what_is_kept_is_revalidated_in_bulk() {
    let bench = Bench::new(|_| {});
    bench.script(names);
    let _stored = join_all(["a", "b"].map(|agent| bench.ask(agent))).await;
    bench.script(|question| {
        assert_eq!(question["keys"][0]["etag"], "\"v1\"");
        bulk(json!([{"id": 0, "status": 304, "ttl": 100_000}, {"id": 1, "status": 200, "etag": "\"v2\"", "ttl": 60, "body": "new"}]), None)
    });
    let later = Duration::from_secs(61);
    let (a, b) = tokio::join!(bench.ask_later("a", later), bench.ask_later("b", later));
    assert_eq!((a.outcome, text(&a)), (Outcome::Revalidated, "\"a\""));
    assert_eq!((b.outcome, text(&b)), (Outcome::Miss, "\"new\""));
    assert_eq!(header(&a, CACHE_STATUS), "weir; fwd=stale; fwd-status=304; stored");
    assert_eq!(bench.asked(), 2);
    let again = bench.ask_later("a", Duration::from_secs(3_000)).await;
    assert_eq!(again.outcome, Outcome::Hit, "confirmed for another TTL");
    assert_eq!(bench.metrics.lookup_keys.with_label_values(&["tasks", "unchanged"]).get(), 1);
}

#[tokio::test]
async fn an_unasked_304_is_a_failure() {
    let bench = Bench::new(|_| {});
    bench.script(|_| bulk(json!([{"id": 0, "status": 304}]), None));
    assert_eq!(bench.ask("a").await.status, 502);
}

#[tokio::test]
async fn tasking_is_never_kept() {
    let bench = Bench::new(|_| {});
    for round in 1..=3 {
        assert_eq!((bench.ask("a").await.status, bench.asked()), (204, round));
    }
}

#[tokio::test]
async fn a_request_without_a_tenant_is_refused() {
    let bench = Bench::new(|_| {});
    let headers = HeaderMap::new();
    let request = RequestView { method: Method::Get, path: "/", query: None, host: "h", headers: &headers, body: b"" };
    let identity = Identity { agent: AgentId::new("a"), tenant: None };
    let call =
        Call { request, route: &bench.route, parameters: &Vec::new(), identity: &identity, now: bench.clock.now() };
    assert_eq!(bench.action.answer(&call).await.status, 401);
    assert_eq!(bench.asked(), 0);
}

/// Against a core that speaks the contract, through the real upstream side.
#[tokio::test]
async fn the_simulated_core_answers_tasks_and_configs() {
    let sim = weir_core_sim::CoreSim::start(weir_core_sim::CoreOptions::default()).await.unwrap();
    sim.set_task("a-7", Some(json!({"isolate": true})));
    let text = format!(
        "[edge]\nregion = \"test\"\ndata_dir = \"/d\"\n[[listener]]\naddress = \"127.0.0.1:8080\"\n[core]\npeers = [\"{}\"]\n\
         [identity]\ntenant = \"header.x-tenant-id\"\nagent = \"path.agent\"\n\
         [[route]]\nname = \"tasks\"\nmatch = {{ method = \"GET\", path = \"/v1/agents/{{agent}}/tasks\" }}\nclass = \"tasking\"\n\
         action = \"lookup\"\nlookup = {{ path = \"/v1/tasks:lookup\", key = [\"path.agent\"], window = \"1s\" }}\nshared = true\n",
        sim.address()
    );
    let environment = weir_config::MemoryEnvironment::new().file("/weir.toml", text);
    let config =
        weir_config::parse(&environment, std::path::Path::new("/weir.toml")).map_err(|e| e.to_string()).unwrap().config;
    let (metrics, clock) = (Metrics::new(), Clock::start());
    let upstream = crate::upstream::Upstream::new(&config, metrics.clone(), clock).unwrap();
    let action = LookupAction::new(
        Arc::new(upstream),
        Arc::default(),
        Arc::default(),
        metrics,
        clock,
        "edge-1",
        &config.limits.cache,
    );
    let route = Arc::new(config.routes[0].clone());
    let agents: Vec<String> = (0..1_000).map(|number| format!("a-{number}")).collect();
    let answers = join_all(agents.iter().map(|agent| {
        let (action, route) = (&action, &route);
        async move {
            let headers = HeaderMap::new();
            let request =
                RequestView { method: Method::Get, path: "/", query: None, host: "h", headers: &headers, body: b"" };
            let parameters = vec![("agent", agent.as_str())];
            let call =
                Call { request, route, parameters: &parameters, identity: &Identity::default(), now: clock.now() };
            action.answer(&call).await
        }
    }))
    .await;
    assert_eq!((answers[7].status, answers[7].body.is_empty()), (200, false));
    assert!(answers.iter().all(|answer| [200, 204].contains(&answer.status)));
    let lookups = sim.snapshot().lookups;
    assert_eq!((lookups.bulk_requests, lookups.keys), (1, 1_000));
}
