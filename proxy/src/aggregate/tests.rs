//! Streams against a scripted core, with real files and threads.

mod delivery;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::sync::watch;
use weir_batch::Batch;
use weir_config::{Config, MemoryEnvironment, Method, Route, parse};
use weir_logic::{AgentId, Answer, Call, Identity, Millis, RequestView, TenantId};

use super::*;
use crate::upstream::{OriginAnswer, OriginError, OriginRequest};

/// A core that keeps each batch once, by its id, and answers what it is told to.
struct Core {
    batches: Mutex<BTreeMap<String, String>>,
    /// What it said when it took a part only. It says the same to the same id.
    partial: Mutex<BTreeMap<String, String>>,
    script: Mutex<Script>,
    attempts: watch::Sender<u64>,
}

#[derive(Clone, Copy)]
enum Script {
    Status(u16),
    /// 413 for batches of more rows.
    AtMost(u64),
    Down,
    /// Accepts, but the answer is lost.
    Mute,
    /// 422 for batches with this text in them.
    Never(&'static str),
    /// 207 for batches with the first text in a row, which is refused, or the second, which is wanted again.
    Rows(&'static str, &'static str),
    /// 207 with this body, and nothing accepted.
    Nonsense(&'static str),
}

impl Core {
    fn new(script: Script) -> Arc<Self> {
        Arc::new(Self {
            batches: Mutex::default(),
            partial: Mutex::default(),
            script: Mutex::new(script),
            attempts: watch::Sender::new(0),
        })
    }

    fn play(&self, script: Script) {
        *self.script.lock() = script;
    }

    /// Accepts the rows that are neither refused nor wanted again, and says which those are.
    fn accept_rows(&self, request: &OriginRequest, refused: &str, later: &str) -> String {
        let rows = rows(request);
        let id = header(request, "idempotency-key");
        if let Some(said) = self.partial.lock().get(&id) {
            return said.clone();
        }
        let numbers = |text: &str| -> Vec<usize> {
            rows.lines().enumerate().filter(|(_, row)| row.contains(text)).map(|(number, _)| number).collect()
        };
        let rejected: Vec<_> =
            numbers(refused).iter().map(|row| serde_json::json!({"row": row, "reason": "no such image"})).collect();
        let said = serde_json::json!({"rejected": rejected, "retry": numbers(later)}).to_string();
        let taken = rows.lines().filter(|row| !row.contains(refused) && !row.contains(later));
        let taken: String = taken.map(|row| format!("{row}\n")).collect();
        self.batches.lock().insert(id.clone(), taken);
        self.partial.lock().insert(id, said.clone());
        said
    }

    fn accept(&self, request: &OriginRequest) {
        let rows = rows(request);
        assert_eq!(header(request, "weir-rows"), rows.lines().count().to_string());
        let id = header(request, "idempotency-key");
        let known = self.batches.lock().entry(id).or_insert_with(|| rows.clone()).clone();
        assert_eq!(known, rows);
    }

    fn rows(&self) -> Vec<serde_json::Value> {
        let batches = self.batches.lock();
        batches.values().flat_map(|rows| rows.lines()).map(|row| serde_json::from_str(row).unwrap()).collect()
    }

    /// Records by what the rows stand for.
    fn records(&self) -> u64 {
        let rows = self.rows();
        let records = rows.iter().filter(|row| row["kind"] != "loss");
        records.map(|row| row["count"].as_u64().unwrap_or(1)).sum()
    }

    /// Waits until a batch that makes it true has arrived.
    async fn until(&self, what: &str, arrived: impl Fn(&Self) -> bool) {
        let mut attempts = self.attempts.subscribe();
        let waiting = attempts.wait_for(|_| arrived(self));
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(waited.is_ok(), "{what}: {:#?}", self.rows());
    }
}

#[async_trait]
impl Origin for Core {
    async fn send(&self, request: OriginRequest) -> Result<OriginAnswer, OriginError> {
        let script = *self.script.lock();
        let answer = |status| OriginAnswer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let said = |status, body: String| OriginAnswer { body: Bytes::from(body), ..answer(status) };
        // What only tells of losses comes at its own time, and is no part of the script.
        if header(&request, "weir-records") == "0" {
            return Ok(answer(200));
        }
        let count: u64 = header(&request, "weir-rows").parse().unwrap();
        let result = match script {
            Script::Status(200) => {
                self.accept(&request);
                Ok(answer(200))
            }
            Script::Status(status) => Ok(answer(status)),
            Script::AtMost(most) if count > most => Ok(answer(413)),
            Script::AtMost(_) => {
                self.accept(&request);
                Ok(answer(204))
            }
            Script::Never(text) if rows(&request).contains(text) => Ok(said(422, format!("{text} is not allowed"))),
            Script::Never(_) => {
                self.accept(&request);
                Ok(answer(200))
            }
            Script::Rows(refused, later) => Ok(said(207, self.accept_rows(&request, refused, later))),
            Script::Nonsense(body) => Ok(said(207, body.to_owned())),
            Script::Down => Err(OriginError::Connect),
            Script::Mute => {
                self.accept(&request);
                Err(OriginError::Timeout)
            }
        };
        self.attempts.send_modify(|attempts| *attempts += 1);
        result
    }
}

fn rows(request: &OriginRequest) -> String {
    let rows = Batch::open(&request.body).unwrap().rows(1 << 24).unwrap().into_owned();
    String::from_utf8(rows).unwrap()
}

fn header(request: &OriginRequest, name: &str) -> String {
    let (_, value) = request.headers.iter().find(|(known, _)| known == name).unwrap();
    value.to_str().unwrap().to_owned()
}

fn config(data_dir: &Path, stream: &str) -> Config {
    let file = format!(
        r#"
edge = {{ region = "us-east-1", data_dir = "{}" }}
core = {{ peers = ["core-a:443"] }}
[[listener]]
address = "127.0.0.1:0"
[[route]]
name = "events"
match = {{ method = "POST", path = "/v1/events" }}
class = "telemetry"
action = "aggregate"
stream = "process"
[[stream]]
name = "process"
{stream}
retry = {{ initial = "1ms", max = "20ms" }}
"#,
        data_dir.display()
    );
    let environment = MemoryEnvironment::new().file("weir.toml", &file);
    parse(&environment, Path::new("weir.toml")).unwrap_or_else(|problems| panic!("{problems}")).config
}

const EVENTS: &str = r#"
mode = "events"
same = ["image"]
exemplars = ["pid"]
window = "100ms"
batch = { max_age = "10ms" }
"#;

const RAW: &str = "mode = \"raw\"\nbatch = { max_age = \"10ms\" }";

fn start(config: &Config, core: &Arc<Core>) -> Aggregate {
    let origin: Arc<dyn Origin> = Arc::clone(core) as Arc<dyn Origin>;
    let metrics = Metrics::new();
    Aggregate::start(config, "edge-1", origin, Budget::new(metrics.clone()), metrics, Clock::start()).unwrap()
}

async fn upload(aggregate: &Aggregate, config: &Config, body: &[u8], headers: &HeaderMap) -> Answer {
    let route: Arc<Route> = Arc::new(config.routes[0].clone());
    let identity = Identity { agent: AgentId::new("a-1"), tenant: TenantId::new("t-1") };
    let request = RequestView { method: Method::Post, path: "/v1/events", query: None, host: "edge", headers, body };
    let call = Call {
        request,
        route: &route,
        parameters: &Vec::new(),
        identity: &identity,
        now: aggregate.context.clock.now(),
    };
    aggregate.handle(&call).await
}

async fn post(aggregate: &Aggregate, config: &Config, body: &str) -> (u16, String) {
    let answer = upload(aggregate, config, body.as_bytes(), &HeaderMap::new()).await;
    (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
}

fn ledger(aggregate: &Aggregate) -> LedgerStatus {
    let [status] = aggregate.status().try_into().unwrap();
    let ledger = status.ledger;
    let left = ledger.forwarded + ledger.merged + ledger.dead_lettered + ledger.expired + ledger.damaged;
    let sum = left + ledger.in_journal + ledger.in_outbox;
    assert_eq!((sum, ledger.difference), (ledger.accepted, 0), "{ledger:?}");
    ledger
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_acknowledged_reaches_the_core() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), EVENTS), Core::new(Script::Status(200)));
    let aggregate = start(&config, &core);
    let body = r#"[{"image":"x","pid":1},{"image":"x","pid":2},{"image":"y","pid":3},7]"#;
    let (status, report) = post(&aggregate, &config, body).await;
    assert_eq!((status, &*report), (202, r#"{"accepted":3,"refused":[{"index":3,"reason":"not an object"}]}"#));
    core.until("all records arrive once the window has ended", |core| core.records() == 3).await;
    let rows = core.rows();
    let repeat = rows.iter().find(|row| row["kind"] == "repeat").unwrap();
    assert_eq!((&repeat["key"]["image"], &repeat["count"], &repeat["tenant"]), (&"x".into(), &1.into(), &"t-1".into()));
    assert_eq!(repeat["exemplars"], serde_json::json!([{"pid":2}]));
    assert!(aggregate.stop(LONG).await);
    let ledger = ledger(&aggregate);
    assert_eq!((ledger.accepted, ledger.forwarded, ledger.merged), (3, 2, 1));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_the_right_status() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), RAW), Core::new(Script::Status(200)));
    let aggregate = start(&config, &core);
    assert_eq!(post(&aggregate, &config, r#"[{"a":1}"#).await.0, 400);
    assert_eq!(post(&aggregate, &config, "[1]").await.0, 400);
    assert_eq!(post(&aggregate, &config, "[]").await, (202, r#"{"accepted":0,"refused":[]}"#.to_owned()));
    for (encoding, body, status) in [("br", "{}", 415), ("gzip", "{}", 400), ("identity", "{}", 202)] {
        let headers = HeaderMap::from_iter([(http::header::CONTENT_ENCODING, encoding.parse().unwrap())]);
        assert_eq!(upload(&aggregate, &config, body.as_bytes(), &headers).await.status, status, "{encoding}");
    }
    assert!(aggregate.stop(LONG).await);
    assert_eq!(core.records(), 1);
}

#[tokio::test]
async fn uploads_are_taken_while_the_core_is_down_and_delivered_after() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), EVENTS), Core::new(Script::Down));
    let aggregate = start(&config, &core);
    for number in 0..20 {
        assert_eq!(post(&aggregate, &config, &format!(r#"{{"image":"{number}"}}"#)).await.0, 202);
    }
    assert_eq!((ledger(&aggregate).accepted, core.records()), (20, 0));
    core.play(Script::Status(200));
    core.until("all records arrive", |core| core.records() == 20).await;
    assert!(aggregate.stop(LONG).await);
    assert_eq!(ledger(&aggregate).forwarded, 20);
}

#[tokio::test]
async fn a_restart_goes_on_where_the_last_run_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), EVENTS), Core::new(Script::Mute));
    let aggregate = start(&config, &core);
    for _ in 0..5 {
        assert_eq!(post(&aggregate, &config, r#"[{"image":"x"},{"image":"y"}]"#).await.0, 202);
    }
    assert!(!aggregate.stop(LONG).await, "the core acknowledges nothing, and is not waited for");
    drop(aggregate);
    core.play(Script::Status(200));
    let aggregate = start(&config, &core);
    core.until("all records arrive, once", |core| core.records() == 10).await;
    assert!(aggregate.stop(LONG).await);
    let ledger = ledger(&aggregate);
    assert_eq!((ledger.accepted, ledger.forwarded + ledger.merged), (10, 10));
}

#[tokio::test]
async fn a_merge_that_stands_still_holds_up_no_upload_and_forgets_none() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), EVENTS), Core::new(Script::Status(200)));
    let aggregate = start(&config, &core);
    assert_eq!(post(&aggregate, &config, r#"{"image":"x"}"#).await.0, 202);
    core.until("the first record arrives", |core| core.records() == 1).await;
    // No batch can be written where the outbox was.
    let outbox = dir.path().join("spool/process/outbox");
    std::fs::rename(&outbox, dir.path().join("away")).unwrap();
    let body = r#"[{"image":"x"},{"image":"y"},{"image":"y"}]"#;
    for _ in 0..100 {
        assert_eq!(post(&aggregate, &config, body).await.0, 202);
    }
    let [status] = aggregate.status().try_into().unwrap();
    assert!(status.unread_bytes > 0);
    assert_eq!((ledger(&aggregate).accepted, ledger(&aggregate).in_journal), (301, 300));
    std::fs::rename(dir.path().join("away"), &outbox).unwrap();
    core.until("all records arrive", |core| core.records() == 301).await;
    assert!(aggregate.stop(LONG).await);
    let [status] = aggregate.status().try_into().unwrap();
    assert_eq!((status.unread_bytes, ledger(&aggregate).accepted), (0, 301));
}

#[tokio::test]
async fn a_node_that_stops_while_it_replays_stops_at_once_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), EVENTS), Core::new(Script::Down));
    let spool = dir.path().join("spool/process");
    let aggregate = start(&config, &core);
    // Nothing is merged: no batch can be written.
    std::fs::rename(spool.join("outbox"), dir.path().join("away")).unwrap();
    for _ in 0..10 {
        assert_eq!(post(&aggregate, &config, r#"[{"image":"x"},{"image":"y"}]"#).await.0, 202);
    }
    assert!(!aggregate.stop(Duration::from_secs(2)).await);
    while !aggregate.status()[0].broken {
        tokio::task::yield_now().await;
    }
    drop(aggregate);
    let segment = || std::fs::read_dir(spool.join("journal")).unwrap().map(|file| file.unwrap().file_name()).min();
    let oldest = segment().unwrap().into_string().unwrap();
    // In the way of the first batch that is replayed.
    let obstacle = spool.join("outbox").join(oldest.replace(".segment", "-000000.batch.tmp"));
    std::fs::create_dir_all(&obstacle).unwrap();
    let aggregate = start(&config, &core);
    assert_eq!(post(&aggregate, &config, r#"{"image":"z"}"#).await.0, 202);
    let [status] = aggregate.status().try_into().unwrap();
    assert_eq!((status.replaying, status.ledger.difference), (true, 0));
    let stopped = tokio::time::timeout(LONG, aggregate.stop(LONG * 100)).await;
    assert_eq!(stopped.ok(), Some(false), "what is not replayed waits");
    drop(aggregate);
    std::fs::remove_dir(&obstacle).unwrap();
    core.play(Script::Status(200));
    let aggregate = start(&config, &core);
    core.until("all records arrive, once", |core| core.records() == 21).await;
    assert!(aggregate.stop(LONG).await);
    assert_eq!(ledger(&aggregate).accepted, 21);
}

#[tokio::test]
async fn a_disk_that_fails_shuts_the_stream_and_opens_it_again_without_an_upload() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), EVENTS), Core::new(Script::Status(200)));
    let aggregate = start(&config, &core);
    let journal = dir.path().join("spool/process/journal");
    std::fs::rename(&journal, dir.path().join("away")).unwrap();
    assert_eq!(post(&aggregate, &config, r#"{"image":"x"}"#).await.0, 503);
    let [shut] = aggregate.shut().try_into().unwrap();
    assert_eq!((shut.reason, shut.is_better_elsewhere()), (ShutReason::Disk, false));
    aggregate.refresh_metrics();
    let text = aggregate.context.metrics.render();
    assert!(text.contains("weir_stream_shut{reason=\"disk\",stream=\"process\"} 1"), "{text}");
    assert_eq!(aggregate.status()[0].ledger.accepted, 0);
    std::fs::rename(dir.path().join("away"), &journal).unwrap();
    let open = async {
        while post(&aggregate, &config, r#"{"image":"y"}"#).await.0 != 202 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, open).await.unwrap();
    core.until("the record arrives", |core| core.records() == 1).await;
    assert!(aggregate.stop(LONG).await);
    assert_eq!(ledger(&aggregate).accepted, 1);
}

#[tokio::test]
async fn a_batch_that_is_too_large_goes_in_halves() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), RAW), Core::new(Script::AtMost(3)));
    let aggregate = start(&config, &core);
    let records: Vec<String> = (0..20).map(|number| format!(r#"{{"n":{number}}}"#)).collect();
    assert_eq!(post(&aggregate, &config, &format!("[{}]", records.join(","))).await.0, 202);
    core.until("all records arrive", |core| core.records() == 20).await;
    assert!(aggregate.stop(LONG).await);
    assert_eq!(ledger(&aggregate).forwarded, 20);
}

#[tokio::test]
async fn a_batch_that_the_core_refuses_for_good_goes_to_the_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), RAW), Core::new(Script::Status(422)));
    let aggregate = start(&config, &core);
    assert_eq!(post(&aggregate, &config, r#"{"n":1}"#).await.0, 202);
    assert!(aggregate.stop(LONG).await);
    assert_eq!(ledger(&aggregate).dead_lettered, 1);
    let dead = std::fs::read_dir(dir.path().join("spool/process/dead")).unwrap().next().unwrap().unwrap();
    let bytes = std::fs::read(dead.path()).unwrap();
    let rows = Batch::open(&bytes).unwrap().rows(1000).unwrap().into_owned();
    assert!(String::from_utf8(rows).unwrap().contains(r#""record":{"n":1}"#));
}

/// The dead letters of the stream: their rows, and the reasons for each batch and row.
fn dead_letters(data_dir: &Path) -> Vec<(String, weir_batch::Refused)> {
    let files = std::fs::read_dir(data_dir.join("spool/process/dead")).unwrap();
    let read = files.map(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let batch = Batch::open(&bytes).unwrap();
        let rows = batch.rows(1 << 20).unwrap().into_owned();
        (String::from_utf8(rows).unwrap(), batch.meta.unwrap().refusal.unwrap())
    });
    read.collect()
}

fn numbered(range: std::ops::Range<u32>) -> String {
    let records: Vec<String> = range.map(|number| format!(r#"{{"n":"<{number}>"}}"#)).collect();
    format!("[{}]", records.join(","))
}

/// A batch of 10,000 events.
const ONE_BATCH: &str = "mode = \"raw\"\nbatch = { max_age = \"1h\" }";

#[tokio::test]
async fn one_bad_record_in_ten_thousand_costs_fifteen_requests_and_no_other_record() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), ONE_BATCH), Core::new(Script::Never("<6666>")));
    let aggregate = start(&config, &core);
    assert_eq!(post(&aggregate, &config, &numbered(0..10_000)).await.0, 202);
    assert!(aggregate.stop(LONG).await);
    assert_eq!(core.records(), 9_999);
    let attempts = *core.attempts.borrow();
    assert!((10..=16).contains(&attempts), "{attempts} requests");
    assert_eq!((ledger(&aggregate).forwarded, ledger(&aggregate).dead_lettered), (9_999, 1));
    let [(row, refusal)] = dead_letters(dir.path()).try_into().unwrap();
    assert!(row.contains(r#""record":{"n":"<6666>"}"#) && row.lines().count() == 1, "{row}");
    assert_eq!(refusal, weir_batch::Refused::whole(422, "<6666> is not allowed"));
}

#[tokio::test]
async fn rows_that_the_core_wants_again_are_sent_again_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), RAW), Core::new(Script::Rows("<3>", "7>")));
    let aggregate = start(&config, &core);
    assert_eq!(post(&aggregate, &config, &numbered(0..20)).await.0, 202);
    core.until("the others arrive", |core| core.records() == 17).await;
    core.play(Script::Rows("<3>", "<17>"));
    core.until("one of the two arrives", |core| core.records() == 18).await;
    core.play(Script::Status(200));
    core.until("all rows arrive once", |core| core.records() == 19).await;
    assert!(aggregate.stop(LONG).await);
    let ids: Vec<String> = core.batches.lock().keys().map(|id| id.split_once("/0").unwrap().1.to_owned()).collect();
    assert_eq!(ids, ["", ".r", ".r2"]);
    assert_eq!((ledger(&aggregate).forwarded, ledger(&aggregate).dead_lettered), (19, 1));
    let [(row, refusal)] = dead_letters(dir.path()).try_into().unwrap();
    assert!(row.contains("<3>"), "{row}");
    assert_eq!((refusal.status, &refusal.rows[..]), (207, &["no such image".to_owned()][..]));
}

#[tokio::test]
async fn a_partial_answer_that_cannot_be_read_accepts_nothing() {
    for body in ["", "{}", r#"{"retry":[99]}"#, r#"{"retry":[0]}"#] {
        let dir = tempfile::tempdir().unwrap();
        let (config, core) = (config(dir.path(), RAW), Core::new(Script::Nonsense(body)));
        let aggregate = start(&config, &core);
        assert_eq!(post(&aggregate, &config, r#"{"n":1}"#).await.0, 202);
        core.until("it is tried twice", |core| *core.attempts.borrow() >= 2).await;
        assert_eq!(ledger(&aggregate).in_outbox, 1, "{body}");
        core.play(Script::Status(200));
        core.until("it arrives", |core| core.records() == 1).await;
        assert!(aggregate.stop(LONG).await);
    }
}

#[tokio::test]
async fn batches_that_wait_while_none_is_accepted_raise_the_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), RAW), Core::new(Script::Down));
    let (clock, hand) = Clock::manual(Millis(1_700_000_000_000));
    let origin: Arc<dyn Origin> = Arc::clone(&core) as Arc<dyn Origin>;
    let aggregate =
        Aggregate::start(&config, "edge-1", origin, Budget::new(Metrics::new()), Metrics::new(), clock).unwrap();
    let alarm = || {
        aggregate.refresh_metrics();
        aggregate.context.metrics.render().contains("weir_outbox_stalled{stream=\"process\"} 1")
    };
    hand.advance(Duration::from_secs(60));
    assert!(!alarm(), "nothing waits");
    let keep = async { assert_eq!(post(&aggregate, &config, r#"{"n":1}"#).await.0, 202) };
    keep.await;
    // The batch is closed by its age, which the clock must reach.
    while *core.attempts.borrow() == 0 {
        hand.advance(Duration::from_millis(10));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!alarm(), "it has not waited long");
    hand.advance(Duration::from_secs(31));
    assert!(alarm());
    core.play(Script::Status(200));
    while core.records() == 0 {
        hand.advance(Duration::from_millis(10));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(aggregate.stop(LONG).await);
    assert!(!alarm());
}

#[tokio::test]
async fn a_full_outbox_refuses_uploads_until_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let small = "max_age = \"10ms\", max_bytes = \"512 KiB\"";
    let stream = RAW.replace("max_age = \"10ms\"", small) + "\nspool = { max_outbox_bytes = \"1 MiB\" }";
    let (config, core) = (config(dir.path(), &stream), Core::new(Script::Down));
    let aggregate = start(&config, &core);
    // Hexadecimal of a generator: nothing that packs well.
    let mut seed = 1u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("{seed:016x}")
    };
    let mut statuses = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let text: String = (0..2000).map(|_| noise()).collect();
        statuses.insert(post(&aggregate, &config, &format!(r#"{{"n":"{text}"}}"#)).await.0);
        if statuses.contains(&503) {
            break;
        }
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [202, 503]);
    core.play(Script::Status(200));
    let all = ledger(&aggregate).accepted;
    core.until("the backlog arrives", |core| core.records() == all).await;
    let mut status = 503;
    while status == 503 {
        tokio::task::yield_now().await;
        status = post(&aggregate, &config, r#"{"n":0}"#).await.0;
    }
    assert_eq!(status, 202);
    assert!(aggregate.stop(LONG).await);
}

#[tokio::test]
async fn a_reload_closes_windows_and_keeps_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let long = EVENTS.replace("100ms", "1h");
    let (before, core) = (config(dir.path(), &long), Core::new(Script::Status(200)));
    let aggregate = start(&before, &core);
    assert_eq!(post(&aggregate, &before, r#"[{"image":"x"},{"image":"x"}]"#).await.0, 202);
    let after = config(dir.path(), RAW);
    aggregate.reconfigure(&after).unwrap();
    assert_eq!(post(&aggregate, &after, r#"[{"image":"x"},{"image":"x"}]"#).await.0, 202);
    core.until("all records arrive", |core| core.records() == 4).await;
    let early: Vec<_> = core.rows().into_iter().filter(|row| row["kind"] == "repeat").collect();
    assert_eq!((early.len(), &early[0]["early"]), (1, &true.into()));
    assert!(aggregate.stop(LONG).await);
    assert_eq!(ledger(&aggregate).merged, 1);
}

#[tokio::test]
async fn the_spool_of_a_stream_that_is_gone_is_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let (before, core) = (config(dir.path(), EVENTS), Core::new(Script::Down));
    let aggregate = start(&before, &core);
    assert_eq!(post(&aggregate, &before, r#"[{"image":"x"},{"image":"x"}]"#).await.0, 202);
    // Waits until its threads have ended: two lives on one spool would be the test's fault.
    assert!(!aggregate.stop(LONG).await);
    drop(aggregate);
    core.play(Script::Status(200));
    let mut after = before.clone();
    (after.streams, after.routes) = (Vec::new(), Vec::new());
    let aggregate = start(&after, &core);
    core.until("all records arrive", |core| core.records() == 2).await;
    assert!(aggregate.stop(LONG).await);
}

#[tokio::test]
async fn the_ledger_in_the_metrics_adds_up_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), EVENTS), Core::new(Script::Status(200)));
    let aggregate = start(&config, &core);
    assert_eq!(post(&aggregate, &config, r#"[{"image":"x"},{"image":"x"}]"#).await.0, 202);
    core.until("the repeat arrives", |core| core.records() == 2).await;
    assert!(aggregate.stop(LONG).await);
    drop(aggregate);
    let aggregate = start(&config, &core);
    aggregate.refresh_metrics();
    aggregate.refresh_metrics();
    let text = aggregate.context.metrics.render();
    for line in [
        "weir_records_accepted_total{stream=\"process\"} 2",
        "weir_records_forwarded_total{stream=\"process\"} 1",
        "weir_records_merged_total{stream=\"process\"} 1",
        "weir_records_held{stream=\"process\"} 0",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(aggregate.stop(LONG).await);
}

const FROM_MEMORY: &str = "mode = \"raw\"\ndurability = \"memory\"\nbatch = { max_age = \"10ms\" }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_acknowledged_from_memory_is_written_once_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), FROM_MEMORY), Core::new(Script::Status(200)));
    let aggregate = start(&config, &core);
    let (journal, away) = (dir.path().join("spool/process/journal"), dir.path().join("away"));
    std::fs::rename(&journal, &away).unwrap();
    assert_eq!(post(&aggregate, &config, r#"[{"n":1},{"n":2}]"#).await.0, 202);
    // While the journal cannot be written, the node may take another or turn it away.
    let second = u64::from(post(&aggregate, &config, r#"{"n":3}"#).await.0 == 202);
    assert_eq!((ledger(&aggregate).accepted, core.records()), (0, 0), "nothing counts that is not written");
    std::fs::rename(&away, &journal).unwrap();
    core.until("what was acknowledged arrives", |core| core.records() == 2 + second).await;
    assert!(aggregate.stop(LONG).await);
    assert_eq!(ledger(&aggregate).forwarded, 2 + second);
}

#[tokio::test]
async fn uploads_acknowledged_from_memory_are_written_before_the_node_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), FROM_MEMORY), Core::new(Script::Status(200)));
    let aggregate = start(&config, &core);
    for number in 0..50 {
        assert_eq!(post(&aggregate, &config, &format!(r#"{{"n":{number}}}"#)).await.0, 202);
    }
    assert!(aggregate.stop(LONG).await);
    assert_eq!((ledger(&aggregate).forwarded, core.records()), (50, 50));
}

/// The journal thread that has granted a wish waits without a deadline until it hears of the next one.
#[test]
fn a_later_wish_is_news_to_the_journal_thread() {
    let wishes = super::journaling::Wishes::default();
    assert!(wishes.wish_end(Some(Millis(2_000))));
    assert!(!wishes.wish_end(Some(Millis(2_000))));
    assert!(wishes.wish_end(Some(Millis(4_000))));
    assert!(wishes.wish_end(Some(Millis(3_000))));
    assert!(!wishes.wish_end(None));
}
