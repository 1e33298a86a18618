//! Answers on disk: one fill for everyone, while it is under way and after it.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use weir_config::{AnswerStore, ByteSize, CacheLimits, CacheRoute, PackageLimits, Route};
use weir_logic::Outcome;
use weir_logic::cache::purge::{Severity, Target};

use super::support::{Ask, called, gathered, manifest, package_limits, routed};
use crate::answer::{Answer, Body, Cut};
use crate::cache::{CacheAction, Packages};
use crate::clock::{Clock, Hand};
use crate::metrics::Metrics;
use crate::purging::{Keeper, Purging};
use crate::upstream::{Origin, OriginAnswer, OriginError, OriginRequest, OriginStream};

type Piece = Result<Bytes, OriginError>;

/// A core whose answers are prepared, and whose bodies come as the test sends them.
pub(super) struct Core {
    prepared: Mutex<VecDeque<(StatusCode, HeaderMap, mpsc::Receiver<Piece>)>>,
    /// Whether the next is prepared in front of the others.
    in_front: AtomicBool,
    pub(super) asked: watch::Sender<Vec<OriginRequest>>,
}

#[async_trait]
impl Origin for Core {
    async fn send(&self, _request: OriginRequest) -> Result<OriginAnswer, OriginError> {
        panic!("a route on disk reads its answers piece by piece");
    }

    async fn open(&self, request: OriginRequest) -> Result<OriginStream, OriginError> {
        self.asked.send_modify(|asked| asked.push(request));
        let (status, headers, pieces) = self.prepared.lock().pop_front().ok_or(OriginError::Connect)?;
        let body = futures::stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces))).boxed();
        Ok(OriginStream { status, headers, body })
    }
}

impl Core {
    /// Prepares the next answer; its body is what is sent, and ends when the sender is dropped.
    pub(super) fn prepare(&self, status: u16, headers: &[(&'static str, &str)]) -> mpsc::Sender<Piece> {
        let (sender, receiver) = mpsc::channel(64);
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let answer = (StatusCode::from_u16(status).unwrap(), headers, receiver);
        let mut prepared = self.prepared.lock();
        if self.in_front.load(Ordering::Relaxed) {
            prepared.push_front(answer);
        } else {
            prepared.push_back(answer);
        }
        sender
    }

    /// What is prepared next comes before what is prepared already.
    pub(super) fn put_next_first(&self) {
        self.in_front.store(true, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> usize {
        self.asked.borrow().len()
    }
}

/// A cache with a directory of its own.
pub(super) struct Depot {
    dir: Arc<TempDir>,
    pub(super) core: Arc<Core>,
    cache: Arc<CacheAction>,
    purging: Arc<Purging>,
    pub(super) metrics: Metrics,
    clock: Clock,
    hand: Hand,
    route: Arc<Route>,
}

fn packages() -> CacheRoute {
    CacheRoute { store: AnswerStore::Disk, ..manifest() }
}

impl Depot {
    pub(super) fn new() -> Self {
        Self::with(packages(), &package_limits())
    }

    fn with(route: CacheRoute, limits: &PackageLimits) -> Self {
        let (clock, hand) = Clock::manual(weir_logic::Millis(1_700_000_000_000));
        let core =
            Core { prepared: Mutex::default(), in_front: AtomicBool::new(false), asked: watch::Sender::default() };
        Self::over(Arc::new(tempfile::tempdir().unwrap()), Arc::new(core), routed(route), clock, hand, limits)
    }

    fn over(
        dir: Arc<TempDir>,
        core: Arc<Core>,
        route: Arc<Route>,
        clock: Clock,
        hand: Hand,
        limits: &PackageLimits,
    ) -> Self {
        let (metrics, purging) = (Metrics::new(), Arc::new(Purging::default()));
        let packages = Packages::new(dir.path(), limits, &metrics);
        packages.restore(&[Route::clone(&route)], &purging, clock.now()).unwrap();
        let memory = CacheLimits {
            max_bytes: ByteSize::mib(1),
            max_object_bytes: ByteSize::kib(64),
            max_waiters: 1000,
            max_keys: 1000,
            what_if_keys: 0,
        };
        let origin: Arc<dyn Origin> = Arc::clone(&core) as _;
        let (to_purge, counted) = (Arc::clone(&purging), metrics.clone());
        let cache = CacheAction::new(packages, origin, to_purge, Arc::default(), counted, clock, &memory);
        Self { dir, core, cache: Arc::new(cache), purging, metrics, clock, hand, route }
    }

    /// The same directory and core after a restart of the node.
    pub(super) async fn restarted(self) -> Self {
        self.quiet().await;
        Self::over(self.dir, self.core, self.route, self.clock, self.hand, &package_limits())
    }

    pub(super) async fn ask(&self, ask: &Ask) -> Answer {
        called(&self.route, self.clock.now(), ask, async |call| self.cache.answer(call).await).await
    }

    pub(super) async fn get(&self) -> Answer {
        self.ask(&Ask::get()).await
    }

    /// Fills the key with this body.
    async fn filled(self, body: &str) -> Self {
        let sender = self.core.prepare(200, &[("etag", "\"v1\""), ("content-length", &body.len().to_string())]);
        sender.send(Ok(Bytes::from(body.to_owned()))).await.unwrap();
        drop(sender);
        assert_eq!(read(self.get().await).await.unwrap(), body);
        self.quiet().await;
        self
    }

    /// Waits until no fill is under way and what was to be removed is.
    pub(super) async fn quiet(&self) {
        while !self.cache.shell.flights.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    }

    /// Waits until there are so many files.
    pub(super) async fn has_files(&self, count: usize) {
        while self.files().len() != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub(super) async fn read(answer: Answer) -> Result<String, Cut> {
    answer.body.gather().await.map(|body| String::from_utf8(body.to_vec()).unwrap())
}

fn stream(answer: &mut Answer) -> &mut crate::answer::Stream {
    let Body::Stream(stream) = &mut answer.body else { panic!("a stream was expected") };
    stream
}

pub(super) async fn next(answer: &mut Answer) -> Result<String, Cut> {
    let piece = stream(answer).next().await.expect("a piece")?;
    Ok(String::from_utf8(piece.to_vec()).unwrap())
}

const ETAG: (&str, &str) = ("etag", "\"v1\"");

#[tokio::test]
async fn agents_read_while_the_body_arrives_and_the_core_sends_it_once() {
    let depot = Depot::new();
    let core = depot.core.prepare(200, &[ETAG, ("content-length", "10"), ("content-type", "a/b")]);
    core.send(Ok("01234".into())).await.unwrap();
    let mut first = depot.get().await;
    assert_eq!((first.status, first.body.length(), first.outcome), (200, Some(10), Outcome::Miss));
    assert_eq!(next(&mut first).await.unwrap(), "01234", "before the core has said the rest");
    let mut second = depot.get().await;
    assert_eq!((next(&mut second).await.unwrap().as_str(), second.outcome), ("01234", Outcome::Coalesced));
    core.send(Ok("56789".into())).await.unwrap();
    drop(core);
    assert_eq!(read(first).await.unwrap(), "56789");
    assert_eq!(read(second).await.unwrap(), "56789");
    depot.quiet().await;
    let third = depot.get().await;
    assert_eq!((third.outcome, read(third).await.unwrap().as_str()), (Outcome::Hit, "0123456789"));
    assert_eq!((depot.core.count(), depot.files().len()), (1, 2));
    assert_eq!(depot.metrics.packages.get(), 1);
}

#[tokio::test]
async fn a_part_that_has_not_arrived_is_waited_for_and_costs_no_request() {
    let depot = Depot::new();
    let core = depot.core.prepare(200, &[ETAG, ("content-length", "10")]);
    core.send(Ok("01234".into())).await.unwrap();
    let _whole = depot.get().await;
    let late = depot.ask(&Ask::get().with("range", "bytes=7-8")).await;
    assert_eq!(
        (late.status, late.header(&http::header::CONTENT_RANGE).unwrap()),
        (206, &"bytes 7-8/10".parse::<http::HeaderValue>().unwrap())
    );
    let early = depot.ask(&Ask::get().with("range", "bytes=1-2").with("if-range", "\"v1\"")).await;
    assert_eq!(read(early).await.unwrap(), "12");
    assert_eq!(depot.ask(&Ask::get().with("range", "bytes=10-")).await.status, 416);
    assert_eq!(depot.ask(&Ask::get().with("range", "bytes=1-2").with("if-range", "\"v0\"")).await.status, 200);
    core.send(Ok("56789".into())).await.unwrap();
    assert_eq!(read(late).await.unwrap(), "78");
    assert_eq!(depot.core.count(), 1);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_given_as_it_comes_and_in_parts_when_it_is_whole() {
    let depot = Depot::new();
    let core = depot.core.prepare(200, &[ETAG]);
    core.send(Ok("01234".into())).await.unwrap();
    let growing = depot.ask(&Ask::get().with("range", "bytes=1-2")).await;
    assert_eq!((growing.status, growing.body.length()), (200, None));
    drop(core);
    assert_eq!(read(growing).await.unwrap(), "01234");
    depot.quiet().await;
    let part = depot.ask(&Ask::get().with("range", "bytes=1-2")).await;
    assert_eq!((part.status, read(part).await.unwrap().as_str()), (206, "12"));
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_breaks_for_good_cuts_its_readers_and_leaves_what_was_stored() {
    for end in [Some(OriginError::Broken), None] {
        let depot = Depot::new().filled("good").await;
        depot.hand.advance(Duration::from_secs(100));
        let core = depot.core.prepare(200, &[("etag", "\"v2\""), ("content-length", "10")]);
        core.send(Ok("01234".into())).await.unwrap();
        let mut reader = depot.get().await;
        assert_eq!(next(&mut reader).await.unwrap(), "01234");
        if let Some(error) = end {
            core.send(Err(error)).await.unwrap();
        }
        drop(core);
        assert_eq!(read(reader).await, Err(Cut), "{end:?}");
        depot.quiet().await;
        let stale = depot.get().await;
        assert_eq!((stale.outcome, read(stale).await.unwrap().as_str()), (Outcome::Stale, "good"));
        depot.has_files(2).await;
    }
}

#[tokio::test]
async fn with_nothing_stored_who_comes_after_the_break_is_told_when_to_come_back() {
    let depot = Depot::new();
    let core = depot.core.prepare(200, &[ETAG, ("content-length", "10")]);
    core.send(Err(OriginError::Timeout)).await.unwrap();
    let answer = depot.get().await;
    if answer.status == 200 {
        assert_eq!(read(answer).await, Err(Cut));
    }
    depot.quiet().await;
    let later = depot.get().await;
    assert_eq!((later.status, later.outcome), (503, Outcome::Failed));
    depot.has_files(0).await;
    assert_eq!(depot.core.count(), 1, "the key rests");
}

#[tokio::test]
async fn after_a_restart_a_body_is_confirmed_and_not_sent_again() {
    let depot = Depot::new().filled("0123456789").await.restarted().await;
    assert_eq!(depot.metrics.packages.get(), 1);
    let confirmation = depot.core.prepare(304, &[ETAG]);
    drop(confirmation);
    let stale = depot.ask(&Ask::get().with("range", "bytes=2-3")).await;
    assert_eq!((stale.status, stale.outcome), (206, Outcome::Stale), "a purge may have been missed");
    assert_eq!(read(stale).await.unwrap(), "23");
    depot.quiet().await;
    let hit = depot.get().await;
    assert_eq!((hit.outcome, read(hit).await.unwrap().as_str()), (Outcome::Hit, "0123456789"));
    let asked = depot.core.asked.borrow()[1].headers.clone();
    assert!(asked.iter().any(|(name, value)| name == "if-none-match" && value == "\"v1\""), "{asked:?}");
    let again = depot.restarted().await;
    assert_eq!(again.get().await.outcome, Outcome::Stale);
}

#[tokio::test]
async fn a_damaged_body_is_dropped_counted_and_filled_anew() {
    let depot = Depot::new().filled("0123456789").await;
    let body = depot.files().into_iter().find(|path| path.extension().unwrap() == "body").unwrap();
    fs::write(body, "0123456_89").unwrap();
    let depot = depot.restarted().await;
    assert_eq!((depot.metrics.packages.get(), depot.metrics.package_damaged.get()), (1, 0), "only heads are read");
    let depot = depot.filled("abc").await;
    assert_eq!((depot.metrics.package_damaged.get(), depot.core.count()), (1, 2));
    depot.has_files(2).await;
}

#[tokio::test]
async fn a_start_removes_what_is_not_whole() {
    let depot = Depot::new().filled("0123456789").await;
    let head = depot.files().into_iter().find(|path| path.extension().unwrap() == "head").unwrap();
    let mut torn = fs::read(&head).unwrap();
    torn.pop();
    fs::write(&head, torn).unwrap();
    for name in ["a.part", "b.new", "c.body"] {
        fs::write(depot.dir.path().join(name), "left").unwrap();
    }
    let depot = depot.restarted().await;
    assert_eq!((depot.metrics.packages.get(), depot.metrics.package_damaged.get(), depot.files().len()), (0, 1, 0));
}

#[tokio::test]
async fn a_start_forgets_the_bodies_of_routes_that_keep_none_on_disk_any_more() {
    let depot = Depot::new().filled("0123456789").await;
    let route = routed(manifest());
    let depot = Depot::over(depot.dir, depot.core, route, depot.clock, depot.hand, &package_limits());
    assert_eq!((depot.metrics.packages.get(), depot.files().len()), (0, 0));
}

#[tokio::test]
async fn the_least_used_body_leaves_and_who_reads_it_goes_on() {
    let limits = PackageLimits { max_objects: 1, ..package_limits() };
    let depot = Depot::with(packages(), &limits).filled("first").await;
    let reader = depot.get().await;
    let sender = depot.core.prepare(200, &[("content-length", "6")]);
    sender.send(Ok("second".into())).await.unwrap();
    drop(sender);
    let other = depot.ask(&Ask::get().query("os=other")).await;
    assert_eq!(read(other).await.unwrap(), "second");
    depot.quiet().await;
    assert_eq!((depot.metrics.packages.get(), depot.metrics.package_evictions.get()), (1, 1));
    depot.has_files(2).await;
    assert_eq!(read(reader).await.unwrap(), "first");
}

#[tokio::test]
async fn bodies_on_their_way_make_room_and_do_not_pass_the_bounds() {
    let limits =
        PackageLimits { max_bytes: ByteSize::kib(16), max_object_bytes: ByteSize::kib(12), ..package_limits() };
    let depot = Depot::with(packages(), &limits).filled(&"x".repeat(8_000)).await;
    for length in [Some("12289"), None] {
        let headers: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
        let core = depot.core.prepare(200, &headers);
        core.send(Ok(Bytes::from(vec![b'y'; 12_289]))).await.unwrap();
        drop(core);
        let answer = depot.ask(&Ask::get().query("os=large")).await;
        assert!(answer.status == 502 || read(answer).await == Err(Cut), "{length:?}");
        depot.quiet().await;
        depot.hand.advance(Duration::from_secs(20));
    }
    assert_eq!(depot.metrics.packages.get(), 1, "what could not be kept has displaced nothing");
    let core = depot.core.prepare(200, &[("content-length", "12000")]);
    core.send(Ok(Bytes::from(vec![b'y'; 12_000]))).await.unwrap();
    drop(core);
    assert_eq!(read(depot.ask(&Ask::get().query("os=large")).await).await.unwrap().len(), 12_000);
    depot.quiet().await;
    assert_eq!((depot.metrics.packages.get(), depot.metrics.package_evictions.get()), (1, 1));
}

#[tokio::test]
async fn a_body_that_is_purged_on_its_way_is_given_to_nobody_who_comes_later_and_not_kept() {
    let depot = Depot::new();
    let old = depot.core.prepare(200, &[("content-length", "6")]);
    old.send(Ok("old".into())).await.unwrap();
    let mut before = depot.get().await;
    assert_eq!(next(&mut before).await.unwrap(), "old");
    depot.purging.purge(Target::All, Severity::Hard, depot.clock.now()).unwrap();
    let depot = depot.filled("new").await;
    old.send(Ok("old".into())).await.unwrap();
    drop(old);
    assert_eq!(read(before).await.unwrap(), "old", "who had begun is given the rest");
    depot.has_files(2).await;
    assert_eq!(read(depot.get().await).await.unwrap(), "new");
    depot.purging.purge(Target::All, Severity::Hard, depot.clock.now()).unwrap();
    assert_eq!(depot.cache.sweep(), 1);
    depot.has_files(0).await;
}

#[tokio::test]
async fn what_may_not_be_kept_is_passed_on_as_it_comes_and_leaves_no_file() {
    let depot = Depot::new();
    let core = depot.core.prepare(200, &[("cache-control", "no-store"), ("content-length", "10")]);
    core.send(Ok("01234".into())).await.unwrap();
    let mut answer = depot.get().await;
    assert_eq!((answer.outcome, next(&mut answer).await.unwrap().as_str()), (Outcome::Bypass, "01234"));
    core.send(Ok("56789".into())).await.unwrap();
    drop(core);
    assert_eq!(read(answer).await.unwrap(), "56789");
    depot.has_files(0).await;
}

#[tokio::test]
async fn answers_that_are_no_packages_are_kept_in_memory_and_take_the_place_of_one() {
    let depot = Depot::new().filled("0123456789").await;
    depot.hand.advance(Duration::from_secs(100));
    let gone = depot.core.prepare(404, &[]);
    gone.send(Ok("gone".into())).await.unwrap();
    drop(gone);
    for outcome in [Outcome::Miss, Outcome::Hit] {
        let answer = depot.get().await;
        assert_eq!((answer.status, answer.outcome), (404, outcome));
        assert_eq!(gathered(answer).await.body, "gone");
    }
    assert_eq!((depot.metrics.packages.get(), depot.metrics.cache_entries.get()), (0, 1));
    depot.has_files(0).await;
    depot.hand.advance(Duration::from_secs(40));
    let depot = depot.filled("back").await;
    assert_eq!((depot.metrics.packages.get(), depot.metrics.cache_entries.get()), (1, 0));
}

#[tokio::test]
async fn where_the_disk_cannot_be_written_the_fill_fails_and_the_node_goes_on() {
    let depot = Depot::new();
    fs::remove_dir(depot.dir.path()).unwrap();
    let _core = depot.core.prepare(200, &[("content-length", "10")]);
    let answer = depot.get().await;
    assert_eq!((answer.status, answer.outcome), (503, Outcome::Shed));
    fs::create_dir(depot.dir.path()).unwrap();
    depot.hand.advance(Duration::from_secs(20));
    depot.filled("0123456789").await;
}

#[tokio::test(start_paused = true)]
async fn all_agents_together_are_given_no_more_than_the_bandwidth() {
    let route = CacheRoute { max_bytes_per_second: ByteSize::kib(64), ..packages() };
    let depot = Depot::with(route, &package_limits()).filled(&"x".repeat(64 * 1024)).await;
    // The fill's own reader has used up what was saved.
    let started = tokio::time::Instant::now();
    let readers = (0..10).map(|_| async { read(depot.get().await).await.unwrap().len() });
    let lengths = futures::future::join_all(readers).await;
    assert!(lengths.iter().all(|length| *length == 64 * 1024));
    let took = started.elapsed();
    assert!((9.8..11.2).contains(&took.as_secs_f64()), "640 KiB at 64 KiB a second took {took:?}");
}
