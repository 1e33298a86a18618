use std::path::Path;
use std::sync::Arc;

use weir_config::{Config, MemoryEnvironment, parse};
use weir_logic::{AgentId, TenantId};

use super::*;

/// A door and the configuration in front of it.
struct Bench {
    door: Door,
    config: Config,
    rules: Rules,
    metrics: Metrics,
    now: Millis,
}

const ROUTES: &str = r#"
[core]
peers = ["127.0.0.1:1"]
[[listener]]
address = "127.0.0.1:0"
trusted_headers = true
[identity]
agent = "header.x-agent-id"
tenant = "header.x-tenant-id"
[[route]]
name = "tasks"
match = { path = "/tasks" }
class = "tasking"
action = "forward"
[[route]]
name = "updates"
match = { path = "/updates" }
class = "update"
action = "forward"
agent_limit = { requests_per_minute = 60, burst = 2 }
"#;

impl Bench {
    fn new(limits: &str) -> Self {
        let text = format!("[edge]\ndata_dir = \"/nowhere\"\n{ROUTES}\n{limits}");
        let environment = MemoryEnvironment::new().file("/weir.toml", text);
        let parsed = parse(&environment, Path::new("/weir.toml"));
        let config = parsed.unwrap_or_else(|problems| panic!("{problems}")).config;
        let (metrics, now) = (Metrics::new(), Millis(1_700_000_000_000));
        let door = Door::new(1000, metrics.clone(), now);
        Self { door, rules: Rules::new(&config.limits), config, metrics, now }
    }

    fn route(&self, name: &str) -> Arc<Route> {
        Arc::new(self.config.routes.iter().find(|route| route.name == name).unwrap().clone())
    }

    fn knock(&self, route: &str, agent: &str, tenant: &str) -> (Asked, Result<Admitted, TurnedAway>) {
        let identity = Identity { agent: AgentId::new(agent), tenant: TenantId::new(tenant) };
        let route = self.route(route);
        let knock = Knock { identity: &identity, connection: 1, route: &route, version: Some("agent/1.0") };
        let mut asked = self.door.asked(&knock);
        let entered = self.door.enter(&knock, &mut asked, &self.rules, self.now);
        (asked, entered)
    }

    fn limit(&self, route: &str, agent: &str, tenant: &str) -> Option<Limit> {
        self.knock(route, agent, tenant).1.err().map(|turned| turned.limit)
    }

    /// What an agent is told that somebody behind the door has turned away.
    fn refused(&self, asked: &Asked) -> u64 {
        self.door.seconds(Some(asked), Wait::AtLeast(Duration::ZERO), &self.rules, self.now)
    }

    fn pass(&mut self, seconds: f64) {
        self.now = self.now.after(Duration::from_secs_f64(seconds));
    }
}

#[test]
fn an_agent_that_asks_too_often_is_refused_and_its_neighbours_are_not() {
    let mut bench = Bench::new("[limits.agents]\nrequests_per_minute = 60\nburst = 3");
    let asked: Vec<_> = (0..4).map(|_| bench.limit("tasks", "a-1", "t-1")).collect();
    assert_eq!(asked, [None, None, None, Some(Limit::AgentRate)]);
    assert_eq!(bench.limit("tasks", "a-2", "t-1"), None);
    assert_eq!(bench.metrics.shed.with_label_values(&["tasking", "agent_rate"]).get(), 1);
    bench.pass(1.0);
    assert_eq!(bench.limit("tasks", "a-1", "t-1"), None);
}

#[test]
fn a_route_with_a_bucket_of_its_own_leaves_the_agents_alone() {
    let bench = Bench::new("[limits.agents]\nrequests_per_minute = 60\nburst = 3");
    let asked: Vec<_> = (0..3).map(|_| bench.limit("updates", "a-1", "t-1")).collect();
    assert_eq!(asked, [None, None, Some(Limit::AgentRate)]);
    assert_eq!(bench.limit("tasks", "a-1", "t-1"), None);
}

#[test]
fn a_tenant_at_its_share_is_refused_and_others_are_not() {
    let bench = Bench::new("[limits]\nmax_requests = 100\n[limits.tenants]\nweights = [\"big=2\"]");
    let held: Vec<_> =
        (0..80).map(|agent| bench.knock("tasks", &format!("a-{agent}"), "t-1").1.ok().unwrap()).collect();
    assert_eq!(bench.limit("tasks", "a-x", "t-1"), Some(Limit::TenantRequests));
    assert_eq!(bench.limit("tasks", "b-1", "t-2"), None);
    assert_eq!(bench.limit("tasks", "", ""), None, "whoever has no name counts for itself");
    drop(held);
    assert_eq!(bench.limit("tasks", "a-x", "t-1"), None);
    let held = (0..100).map_while(|agent| bench.knock("tasks", &format!("b-{agent}"), "big").1.ok());
    assert_eq!(held.collect::<Vec<_>>().len(), 89, "eight times of what is free");
}

#[test]
fn the_rate_of_all_is_bound_and_a_tenants_before() {
    let mut bench = Bench::new("[limits.tenants]\nmax_requests_per_second = 100");
    let noisy = (0..200).filter(|agent| bench.limit("tasks", &format!("a-{agent}"), "t-1").is_none()).count();
    assert_eq!(noisy, 80);
    assert_eq!(bench.limit("tasks", "a-x", "t-1"), Some(Limit::TenantRate));
    let others = (0..30).map(|tenant| bench.limit("tasks", "b-1", &format!("t-{}", tenant + 2)));
    let others: Vec<_> = others.collect();
    assert!(
        others[..20].iter().all(Option::is_none) && others[20..].iter().all(|limit| *limit == Some(Limit::NodeRate))
    );
    bench.pass(1.0);
    assert_eq!(bench.limit("tasks", "a-x", "t-1"), None);
}

#[test]
fn a_shadow_counts_and_lets_in() {
    let bench = Bench::new(
        "[limits]\nmax_requests = 10\n[limits.agents]\nburst = 1\nshadow = true\n[limits.tenants]\nshadow = true",
    );
    let held: Vec<_> = (0..10).map(|_| bench.knock("tasks", "a-1", "t-1").1.ok().unwrap()).collect();
    let shadow = |limit: &str| bench.metrics.limit_shadow.with_label_values(&[limit]).get();
    assert_eq!((shadow("agent_rate"), shadow("tenant_requests")), (9, 2));
    assert_eq!(bench.limit("tasks", "a-2", "t-2"), Some(Limit::Class), "the bound of all is no shadow");
    drop(held);
}

#[test]
fn who_ignores_retry_after_is_damped_and_told_of_by_version() {
    let mut bench = Bench::new("");
    for _ in 0..3 {
        let (asked, entered) = bench.knock("tasks", "a-1", "t-1");
        assert!(entered.is_ok());
        assert!((5..=10).contains(&bench.refused(&asked)));
        bench.pass(2.0);
    }
    let (asked, entered) = bench.knock("tasks", "a-1", "t-1");
    let turned = entered.err().unwrap();
    assert_eq!(turned.limit, Limit::Damping);
    let Wait::Exactly(left) = turned.wait else { panic!("{turned:?}") };
    assert!(bench.door.seconds(Some(&asked), turned.wait, &bench.rules, bench.now) <= 8, "{left:?}");
    assert_eq!(bench.limit("updates", "a-1", "t-1"), None, "only where it was told to wait");
    assert_eq!(bench.limit("tasks", "a-2", "t-1"), None);
    assert_eq!(bench.metrics.agents_early.get(), 3);
    assert_eq!(bench.door.versions.lock().worst_first()[0].version, "agent/1.0");
    bench.now = bench.now.after(left);
    let (asked, entered) = bench.knock("tasks", "a-1", "t-1");
    assert!(entered.is_ok(), "its time has come");
    assert!((10..=20).contains(&bench.refused(&asked)), "and it is told twice as long");
}

#[test]
fn an_agent_that_is_answered_owes_nothing() {
    let mut bench = Bench::new("");
    for _ in 0..10 {
        let (asked, _) = bench.knock("tasks", "a-1", "t-1");
        bench.refused(&asked);
        bench.pass(2.0);
        let (asked, entered) = bench.knock("tasks", "a-1", "t-1");
        if entered.is_err() {
            return assert!(bench.metrics.agents_early.get() == 3, "one return before its time for each refusal");
        }
        bench.door.answered(&asked, bench.now);
        let (_, entered) = bench.knock("tasks", "a-1", "t-1");
        assert!(entered.is_ok());
    }
    panic!("never damped");
}

#[test]
fn a_stampede_is_told_longer_and_longer_times() {
    let bench = Bench::new("");
    let told: Vec<u64> = (0..1000)
        .map(|agent| {
            let (asked, entered) = bench.knock("updates", &format!("a-{agent}"), "t-1");
            drop(entered);
            bench.refused(&asked)
        })
        .collect();
    assert!((5..=10).contains(&told[0]));
    assert!(
        told[500..].iter().all(|seconds| (300..=600).contains(seconds)),
        "nobody was let in, so the longest window"
    );
    bench.door.refresh_metrics(bench.now);
    assert_eq!(bench.metrics.agents_returning.with_label_values(&["update"]).get(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_damped_agent_waits_for_its_refusal_and_others_do_not() {
    let bench = Bench::new("[limits.damping]\npause = \"2s\"");
    let told_after = async |limit| {
        let began = tokio::time::Instant::now();
        let turned = TurnedAway { limit, wait: Wait::AtLeast(Duration::ZERO) };
        bench.door.hold_back(&turned, &bench.rules).await;
        began.elapsed().as_secs()
    };
    assert_eq!(told_after(Limit::Damping).await, 2);
    assert_eq!(told_after(Limit::AgentRate).await, 0);
    assert_eq!(bench.door.paused.load(Ordering::Acquire), 0);
}
