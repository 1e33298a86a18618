//! Reports on their way through a real spool to a scripted core.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;
use weir_batch::Batch;
use weir_config::{Config, MemoryEnvironment, parse};
use weir_logic::{AgentId, TenantId};

use super::*;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::upstream::{Origin as Core, OriginAnswer, OriginError, OriginRequest};

/// A core that keeps each report once, by its id, and checks that an id never names two reports and that no agent's
/// last sign of life goes back in time.
#[derive(Default)]
struct Scripted {
    down: AtomicBool,
    attempts: watch::Sender<usize>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The rows of each report, in the order of their coming.
    reports: Vec<(String, String)>,
    last_seen: BTreeMap<String, u64>,
    wire_bytes: usize,
}

impl Scripted {
    fn is_down(&self, down: bool) {
        self.down.store(down, Ordering::Release);
    }

    async fn until(&self, enough: impl Fn(&Known) -> bool) {
        let mut attempts = self.attempts.subscribe();
        let arrived = attempts.wait_for(|_| enough(&self.known.lock()));
        assert!(tokio::time::timeout(LONG, arrived).await.is_ok(), "{} reports", self.known.lock().reports.len());
    }

    fn reports(&self) -> usize {
        self.known.lock().reports.len()
    }

    fn last_seen(&self, agent: u32) -> Option<u64> {
        self.known.lock().last_seen.get(&format!("a-{agent}")).copied()
    }
}

#[async_trait]
impl Core for Scripted {
    async fn send(&self, request: OriginRequest) -> Result<OriginAnswer, OriginError> {
        let down = self.down.load(Ordering::Acquire);
        if !down {
            self.known.lock().take(&request);
        }
        self.attempts.send_modify(|attempts| *attempts += 1);
        let answer = || OriginAnswer { status: StatusCode::NO_CONTENT, headers: HeaderMap::new(), body: Bytes::new() };
        if down { Err(OriginError::Timeout) } else { Ok(answer()) }
    }
}

impl Known {
    fn take(&mut self, request: &OriginRequest) {
        assert_eq!(request.target, "/v1/presence");
        let id = request.headers.iter().find(|(name, _)| name == "idempotency-key").unwrap().1.to_str().unwrap();
        let rows = Batch::open(&request.body).unwrap().rows(MAX_REPORT_BYTES).unwrap().into_owned();
        let rows = String::from_utf8(rows).unwrap();
        if let Some((_, known)) = self.reports.iter().find(|(known, _)| known == id) {
            assert!(*known == rows, "two reports under the id {id}");
            return;
        }
        for row in rows.lines() {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            let seen = row["last_seen"].as_u64().unwrap();
            let before = self.last_seen.insert(row["agent"].as_str().unwrap().to_owned(), seen);
            assert!(before <= Some(seen), "{row} after {before:?}");
        }
        self.wire_bytes += request.body.len();
        self.reports.push((id.to_owned(), rows));
    }
}

const LONG: Duration = Duration::from_secs(60);

fn config(dir: &Path, presence: &str) -> Config {
    let file = format!(
        r#"
edge = {{ region = "us-east-1", data_dir = "{}" }}
core = {{ peers = ["core-a:443"] }}
identity = {{ agent = ["header.x-agent-id"] }}
{presence}
[[listener]]
address = "127.0.0.1:0"
[[route]]
name = "rest"
match = {{ path = "/v1/things" }}
class = "config"
action = "forward"
"#,
        dir.display()
    );
    let environment = MemoryEnvironment::new().file("weir.toml", &file);
    parse(&environment, Path::new("weir.toml")).unwrap_or_else(|problems| panic!("{problems}")).config
}

/// Reports are due each second, the least that there is.
const ON: &str = "presence = { interval = \"1s\", max_agents = 200_000 }";

struct Node {
    presence: Arc<Presence>,
    spool: Arc<Aggregate>,
    metrics: Metrics,
}

impl Node {
    fn start(config: &Config, core: &Arc<Scripted>) -> Self {
        let metrics = Metrics::new();
        let origin = Arc::clone(core) as Arc<dyn Core>;
        let budget = Budget::new(metrics.clone());
        let spool = Aggregate::start(config, "edge-1", origin, budget, metrics.clone(), Clock::start()).unwrap();
        Self { presence: Presence::new(config.presence.clone(), metrics.clone()), spool: Arc::new(spool), metrics }
    }

    /// The reporter; to be dropped, or waited for.
    fn report(&self) -> tokio::task::JoinHandle<Option<()>> {
        crate::task::spawn("presence", Arc::clone(&self.presence).report(Arc::clone(&self.spool)))
    }

    fn see(&self, agents: std::ops::Range<u32>, now: u64) {
        for agent in agents {
            self.presence.seen(&identity(agent), Some("1.2"), Millis(now));
        }
    }

    fn agents(&self) -> usize {
        self.presence.agents.load(Ordering::Relaxed)
    }

    /// What the stream's ledger says: accepted, forwarded, waiting.
    fn ledger(&self) -> (u64, u64, u64) {
        let [status] = self.spool.status().try_into().unwrap();
        assert_eq!((status.stream.as_str(), status.ledger.difference), ("presence", 0));
        (status.ledger.accepted, status.ledger.forwarded, status.ledger.in_journal + status.ledger.in_outbox)
    }
}

fn identity(agent: u32) -> Identity {
    Identity { agent: AgentId::new(&format!("a-{agent}")), tenant: TenantId::new("t-1") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_last_sign_of_life_is_reported_once_and_an_empty_table_is_no_report() {
    let (dir, core) = (tempfile::tempdir().unwrap(), Arc::new(Scripted::default()));
    let node = Node::start(&config(dir.path(), ON), &core);
    node.presence.seen(&identity(1), Some("1.2"), Millis(5));
    node.presence.seen(&identity(1), None, Millis(9));
    node.presence.seen(&Identity::default(), None, Millis(9));
    node.presence.hand_over(&node.spool).await;
    node.presence.hand_over(&node.spool).await;
    assert!(node.spool.stop(LONG).await);
    let expected = "{\"kind\":\"presence\",\"tenant\":\"t-1\",\"agent\":\"a-1\",\"last_seen\":9,\"version\":\"1.2\"}\n";
    let [(id, rows)] = core.known.lock().reports.clone().try_into().unwrap();
    assert!(id.starts_with("edge-1/presence/"), "{id}");
    assert_eq!(rows, expected);
    assert_eq!((node.ledger(), node.agents()), ((1, 1, 0), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_agents_are_one_batch_an_interval() {
    const AGENTS: u32 = 100_000;
    let (dir, core) = (tempfile::tempdir().unwrap(), Arc::new(Scripted::default()));
    let node = Node::start(&config(dir.path(), ON), &core);
    for interval in 1..=3_u32 {
        let now = 1_700_000_000_000 + u64::from(interval) * 60_000;
        for agent in 0..AGENTS {
            node.presence.seen(&identity(agent), Some("7.18.17106.0"), Millis(now + u64::from(agent) * 7 % 60_000));
        }
        node.presence.hand_over(&node.spool).await;
        core.until(|known| known.reports.len() == interval as usize).await;
    }
    assert!(node.spool.stop(LONG).await);
    let known = core.known.lock();
    let rows: usize = known.reports.iter().map(|(_, rows)| rows.len()).sum();
    println!("a report of {AGENTS} agents: {} bytes of rows, {} on the wire", rows / 3, known.wire_bytes / 3);
    assert_eq!((known.reports.len(), known.last_seen.len()), (3, AGENTS as usize));
    assert_eq!(known.reports[2].1.lines().count(), AGENTS as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_of_several_intervals_everyone_is_reported_as_last_seen() {
    let (dir, core) = (tempfile::tempdir().unwrap(), Arc::new(Scripted::default()));
    let node = Node::start(&config(dir.path(), ON), &core);
    node.see(0..100, 1_000);
    let _reporter = node.report();
    core.until(|known| known.last_seen.len() == 100).await;
    core.is_down(true);
    // While the first of these waits for the core, four more intervals pass, each with other agents.
    for interval in 2..=6_u32 {
        node.see(interval..interval + 100, u64::from(interval) * 1_000);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert!(node.spool.status()[0].outbox_batches <= 1, "reports pile up");
    }
    core.is_down(false);
    core.until(|known| known.last_seen.get("a-105") == Some(&6_000)).await;
    for agent in 0..106 {
        let last = u64::from(agent.min(6)) * 1_000;
        assert_eq!(core.last_seen(agent), Some(last.max(1_000)), "agent {agent}");
    }
    assert_eq!(core.reports(), 3, "one from before the outage, the one that waited, and what came after it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_outlives_the_death_of_its_node_under_its_id() {
    let (dir, core) = (tempfile::tempdir().unwrap(), Arc::new(Scripted::default()));
    core.is_down(true);
    let node = Node::start(&config(dir.path(), ON), &core);
    node.see(0..50, 1_000);
    node.presence.hand_over(&node.spool).await;
    node.see(25..75, 2_000);
    core.attempts.subscribe().wait_for(|attempts| *attempts > 0).await.unwrap();
    // What is on disk now is what the node would leave if it were killed: the report, and not the table.
    let left = tempfile::tempdir().unwrap();
    copy(dir.path(), left.path());
    core.is_down(false);
    node.presence.hand_over(&node.spool).await;
    core.until(|known| known.reports.len() == 2).await;
    let before = core.known.lock().reports.clone();
    let heir = Node::start(&config(left.path(), ON), &core);
    core.known.lock().last_seen.clear();
    core.known.lock().reports.truncate(1);
    heir.see(25..75, 3_000);
    heir.presence.hand_over(&heir.spool).await;
    assert!(heir.spool.stop(LONG).await);
    let after = core.known.lock().reports.clone();
    assert_eq!((before.len(), after.len()), (2, 2));
    assert_eq!(before[0], after[0]);
    assert_eq!(heir.ledger(), (100, 100, 0));
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if entry.is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&entry, &to);
        } else {
            std::fs::copy(&entry, &to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_spool_does_not_take_joins_the_next_report() {
    let (dir, core) = (tempfile::tempdir().unwrap(), Arc::new(Scripted::default()));
    let (on, off) = (config(dir.path(), ON), config(dir.path(), "presence = false"));
    let node = Node::start(&on, &core);
    node.spool.reconfigure(&off).unwrap();
    node.see(0..10, 1_000);
    node.presence.hand_over(&node.spool).await;
    assert_eq!((core.reports(), node.agents()), (0, 10));
    node.presence.agents.fetch_add(1, Ordering::Relaxed);
    node.presence.put_back(identity(3), Seen { last: Millis(500), version: Some("old".into()) });
    node.see(5..6, 2_000);
    node.spool.reconfigure(&on).unwrap();
    node.presence.hand_over(&node.spool).await;
    assert!(node.spool.stop(LONG).await);
    assert_eq!((core.reports(), node.agents()), (1, 0));
    assert_eq!((core.last_seen(3), core.last_seen(5)), (Some(1_000), Some(2_000)));
    assert!(!core.known.lock().reports[0].1.contains("old"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_full_table_is_reported_early_and_a_full_one_takes_no_more() {
    let (dir, core) = (tempfile::tempdir().unwrap(), Arc::new(Scripted::default()));
    let node = Node::start(&config(dir.path(), "presence = { interval = \"1h\", max_agents = 1000 }"), &core);
    node.see(0..1002, 5);
    node.presence.refresh_metrics();
    assert_eq!(node.metrics.presence_agents.get(), 1000);
    assert_eq!(node.metrics.records_refused.with_label_values(&["presence", "table_full"]).get(), 2);
    let _reporter = node.report();
    core.until(|known| known.last_seen.len() == 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_table_holds_leaves_when_the_node_stops() {
    let (dir, core) = (tempfile::tempdir().unwrap(), Arc::new(Scripted::default()));
    let node = Node::start(&config(dir.path(), "presence = { interval = \"1h\" }"), &core);
    let reporter = node.report();
    node.presence.reporting.subscribe().wait_for(|reporting| *reporting).await.unwrap();
    node.see(1..2, 5);
    node.presence.stop(LONG).await;
    reporter.await.unwrap();
    assert!(node.spool.stop(LONG).await);
    assert_eq!((core.reports(), node.agents()), (1, 0));
}

#[test]
fn nothing_is_remembered_while_presence_is_off() {
    let presence = Presence::new(None, Metrics::new());
    presence.seen(&identity(1), None, Millis(5));
    assert_eq!(presence.agents.load(Ordering::Relaxed), 0);
}
