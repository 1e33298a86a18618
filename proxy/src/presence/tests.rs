//! Reports to a scripted core.

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;
use weir_batch::Batch;
use weir_config::CoreId;
use weir_logic::{AgentId, TenantId};

use super::*;
use crate::upstream::{OriginAnswer, OriginError};

/// Fails a number of times, then takes everything.
struct Core {
    failures: Mutex<u32>,
    ids: Mutex<Vec<String>>,
    rows: watch::Sender<Vec<serde_json::Value>>,
}

impl Core {
    fn new(failures: u32) -> Arc<Self> {
        Arc::new(Self { failures: Mutex::new(failures), ids: Mutex::default(), rows: watch::Sender::default() })
    }
}

#[async_trait]
impl Origin for Core {
    async fn send(&self, request: OriginRequest) -> Result<OriginAnswer, OriginError> {
        let id =
            request.headers.iter().find(|(name, _)| name == "idempotency-key").unwrap().1.to_str().unwrap().to_owned();
        self.ids.lock().push(id);
        let mut failures = self.failures.lock();
        if *failures > 0 {
            *failures -= 1;
            return Err(OriginError::Timeout);
        }
        let rows = Batch::open(&request.body).unwrap().rows(1 << 20).unwrap().into_owned();
        let rows = String::from_utf8(rows).unwrap();
        self.rows.send_modify(|known| known.extend(rows.lines().map(|row| serde_json::from_str(row).unwrap())));
        Ok(OriginAnswer { status: StatusCode::NO_CONTENT, headers: HeaderMap::new(), body: Bytes::new() })
    }
}

fn settings(interval: Duration, max_agents: usize) -> weir_config::Presence {
    weir_config::Presence {
        interval,
        max_agents,
        path: "/v1/presence".to_owned(),
        version_header: "x-agent-version".to_owned(),
        core: CoreId(0),
    }
}

fn identity(agent: u32) -> Identity {
    Identity { agent: AgentId::new(&format!("a-{agent}")), tenant: TenantId::new("t-1") }
}

const HOUR: Duration = Duration::from_secs(3600);

fn report(presence: &Arc<Presence>, core: &Arc<Core>) -> tokio::task::JoinHandle<Option<()>> {
    crate::task::spawn("presence", Arc::clone(presence).report(Arc::clone(core) as Arc<dyn Origin>))
}

#[tokio::test(start_paused = true)]
async fn an_agents_last_sign_of_life_is_reported_once_an_interval() {
    let core = Core::new(0);
    let presence = Presence::new("edge-1", Some(settings(HOUR, 100)), Metrics::new(), Clock::start());
    presence.seen(&identity(1), Some("1.2"), Millis(5));
    presence.seen(&identity(1), None, Millis(9));
    presence.seen(&Identity::default(), None, Millis(9));
    let reporting = report(&presence, &core);
    let mut rows = core.rows.subscribe();
    rows.wait_for(|rows| !rows.is_empty()).await.unwrap();
    let expected = serde_json::json!([{"kind":"presence","tenant":"t-1","agent":"a-1","last_seen":9,"version":"1.2"}]);
    assert_eq!(serde_json::Value::from(rows.borrow().clone()), expected);
    presence.stop(HOUR).await;
    reporting.await.unwrap();
    assert_eq!(core.ids.lock().len(), 1, "an empty table makes no report");
}

#[tokio::test(start_paused = true)]
async fn a_report_is_tried_under_one_id_until_the_core_has_it() {
    let core = Core::new(3);
    let presence = Presence::new("edge-1", Some(settings(HOUR, 100)), Metrics::new(), Clock::start());
    presence.seen(&identity(1), None, Millis(5));
    let reporting = report(&presence, &core);
    core.rows.subscribe().wait_for(|rows| rows.len() == 1).await.unwrap();
    presence.stop(HOUR).await;
    reporting.await.unwrap();
    let ids = core.ids.lock().clone();
    let metrics = &presence.metrics;
    assert_eq!(metrics.records_forwarded.with_label_values(&[STREAM]).get(), 1);
    assert_eq!(metrics.records_held.with_label_values(&[STREAM]).get(), 0);
    assert_eq!((ids.len(), ids.iter().collect::<std::collections::BTreeSet<_>>().len()), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_half_full_table_is_reported_early_and_a_full_one_takes_no_more() {
    let core = Core::new(0);
    let presence = Presence::new("edge-1", Some(settings(HOUR, 10)), Metrics::new(), Clock::start());
    (0..12).for_each(|agent| presence.seen(&identity(agent), None, Millis(5)));
    presence.refresh_metrics();
    assert_eq!(presence.metrics.presence_agents.get(), 10);
    assert_eq!(presence.metrics.records_discarded.with_label_values(&[STREAM, "table_full"]).get(), 2);
    let started = tokio::time::Instant::now();
    let reporting = report(&presence, &core);
    core.rows.subscribe().wait_for(|rows| rows.len() == 10).await.unwrap();
    assert!(started.elapsed() < HOUR);
    presence.stop(HOUR).await;
    reporting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_table_holds_leaves_when_the_node_stops() {
    let core = Core::new(0);
    let presence = Presence::new("edge-1", Some(settings(HOUR, 10)), Metrics::new(), Clock::start());
    let reporting = report(&presence, &core);
    presence.seen(&identity(1), None, Millis(5));
    presence.stop(HOUR).await;
    reporting.await.unwrap();
    assert_eq!(core.rows.borrow().len(), 1);
}

#[tokio::test]
async fn nothing_is_remembered_while_presence_is_off() {
    let presence = Presence::new("edge-1", None, Metrics::new(), Clock::start());
    presence.seen(&identity(1), None, Millis(5));
    assert_eq!(presence.agents.load(Ordering::Relaxed), 0);
}
