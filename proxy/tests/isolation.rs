//! Over the wire: agents of three tenants ask at once, with whatever in their headers, and each is given what the core has said to its
//! own tenant. `src/cache/tests/isolation.rs` has the same for all that an answer may depend on.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use weir_core_sim::{CoreOptions, CoreSim};
use weir_testkit::http::Connection;
use weir_testkit::{Node, ground};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

const ROUTES: &str = r#"
[[route]]
name = "own"
match = { method = ["GET", "HEAD"], path = "/v1/echo/own/{name}" }
class = "config"
action = "cache"
key = ["path.name", "query.os"]
vary = ["accept-language"]
ttl = "1s"

[[route]]
name = "all"
match = { path = "/v1/echo/all/{name}" }
class = "config"
action = "cache"
shared = true
key = ["path.name", "header.x-ring"]
ttl = "1s"
"#;

const TENANTS: [&str; 3] = ["t-1", "t-2", "t-3"];

/// What agents say besides; none of it is declared.
const NOISE: [&str; 16] = [
    "accept",
    "authorization",
    "cookie",
    "forwarded",
    "origin",
    "prefer",
    "proxy-authorization",
    "referer",
    "te",
    "user-agent",
    "via",
    "weir-agent",
    "weir-tenant",
    "x-forwarded-for",
    "x-http-method-override",
    "x-original-url",
];

/// One agent's connection: requests one after the other, each with the tenant's mark in what is not declared.
async fn agent(node: &Node, seed: u64) -> usize {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut connection = Connection::plain(node.listener("agents")).await.unwrap();
    let mut checked = 0;
    for _ in 0..60 {
        let tenant = *TENANTS.choose(&mut dice).unwrap();
        let mark = format!("mark-{tenant}");
        let route = *["own", "all"].choose(&mut dice).unwrap();
        let name = ["a", "b"].choose(&mut dice).unwrap();
        let ring = ["t-1", "t-2"].choose(&mut dice).unwrap();
        let target = format!("/v1/echo/{route}/{name}?os={ring}&tenant={mark}");
        let name = format!("{mark}-{seed}");
        let mut headers = vec![("x-tenant-id", tenant), ("x-agent-id", name.as_str()), ("x-ring", ring)];
        for _ in 0..dice.random_range(0..4) {
            headers.push((NOISE.choose(&mut dice).unwrap(), mark.as_str()));
        }
        let answer = connection.get(&target, &headers).await.unwrap();
        assert_eq!(answer.status, 200, "{target} {headers:?}");
        let all = format!("{:?} {}", answer.headers, answer.text());
        assert!(!all.contains("mark-"), "{target} {headers:?} got {all}");
        let told = &answer.json()["headers"]["weir-tenant"];
        let own = serde_json::json!([tenant]);
        assert!(if route == "own" { *told == own } else { told.is_null() }, "{target} {headers:?} got {all}");
        checked += 1;
    }
    checked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_answer_reaches_no_other_tenant_over_the_wire() {
    let directory = tempfile::tempdir().unwrap();
    let core = CoreSim::start(CoreOptions::default()).await.unwrap();
    let node = Node::start(Path::new(WEIR), directory.path(), &(ground(core.address()) + ROUTES)).await;
    let agents = (0..16).map(|seed| agent(&node, seed));
    let checked: usize = futures::future::join_all(agents).await.into_iter().sum();
    assert_eq!(checked, 16 * 60);
}
