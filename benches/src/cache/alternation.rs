//! A core that answers, fails with 500, hangs, resets and sends garbage in turn, behind the product as a process, between real
//! sockets. Who asks for what was stored once must never see an error, and `Age` and `Cache-Status` must say how old the answer is.
//!
//! The core's manifest has a new version each time that it answers again, so that a version says when its answer was made: not
//! before the version was, and not after the next one but for an answer's time on the wire.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointKind};

use super::Failure;
use crate::node::Node;
use crate::place::Place;
use crate::text::fill;
use crate::wire::{Connection, field};

/// What agents were told.
#[derive(Debug, Default, Serialize)]
pub(super) struct Alternation {
    pub(super) seconds: u32,
    pub(super) requests: u64,
    /// Answers by what `Cache-Status` says of them.
    pub(super) fresh: u64,
    pub(super) stale: u64,
    pub(super) fetched: u64,
    /// Answers of 500 and above.
    pub(super) errors: u64,
    /// Other answers than 200 below that.
    pub(super) others: u64,
    /// Answers whose `Age` or `Cache-Status` cannot be true.
    pub(super) untrue: u64,
    /// The first of the untrue.
    pub(super) example: Option<String>,
    /// Seconds of age of the oldest answer.
    pub(super) oldest: u64,
    /// How often the core changed its mood, and the requests that it saw.
    pub(super) moods: u64,
    pub(super) core_requests: u64,
}

/// Lets the core change its mood for so many seconds.
pub(super) fn measure(seconds: u32) -> Result<Alternation, Failure> {
    Runtime::new()?.block_on(run(seconds))
}

const CHANNELS: u32 = 40;
const CLIENTS: u32 = 8;
/// Between the requests of a client.
const GAP: Duration = Duration::from_millis(10);
/// As long as the core is in one mood.
const MOOD: Duration = Duration::from_millis(400);
const TTL: i64 = 2;
/// The time that an answer of the core may be under way: the node's `request_timeout`, and a busy machine.
const ON_THE_WIRE: Duration = Duration::from_millis(600);
/// Age counts from the moment the core was asked (RFC 9111, section 4.2.3), which lies before the version was made where the core
/// was slow: by the node's `request_timeout` at most.
const ASKED_BEFORE: Duration = Duration::from_millis(300);

async fn run(seconds: u32) -> Result<Alternation, Failure> {
    let place = Place::new(None)?;
    let core = CoreSim::start(CoreOptions::default()).await?;
    let values = [("core", core.address().to_string())];
    let mut node = Node::start(&place.write_config(&fill(include_str!("alternation.toml"), &values))?).await?;
    let versions = Arc::new(Versions(Mutex::new(vec![Instant::now()])));
    let agents = node.agents()?;
    let mut first = Connection::open(agents).await?;
    for channel in 0..CHANNELS {
        let (head, _) = first.get(&target(channel), "").await?;
        if !head.starts_with("http/1.1 200 ") {
            return Err(format!("the core is well and the node answers {head}").into());
        }
    }
    let end = Instant::now() + Duration::from_secs(u64::from(seconds));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(agents, number, Arc::clone(&versions), end));
    }
    let moods = alternate(&core, &versions, end).await;
    let mut all = Alternation { seconds, moods, core_requests: core.snapshot().requests, ..Alternation::default() };
    while let Some(client) = clients.join_next().await {
        all.add(client??);
    }
    node.kill().await;
    place.leave()?;
    Ok(all)
}

fn target(channel: u32) -> String {
    format!("/v1/updates/ring-{channel}/manifest.json")
}

async fn alternate(core: &CoreSim, versions: &Versions, end: Instant) -> u64 {
    let moods = [Behaviour::status(500), Behaviour::Hang, Behaviour::Reset, Behaviour::Garbage];
    let mut count = 0;
    for mood in std::iter::once(Behaviour::Up).chain(moods).cycle().skip(1) {
        if Instant::now() >= end {
            break;
        }
        if mood == Behaviour::Up {
            versions.0.lock().push(Instant::now());
            core.bump_manifest();
        }
        core.script_for(EndpointKind::Update, mood);
        count += 1;
        tokio::time::sleep(MOOD).await;
    }
    count
}

async fn client(node: SocketAddr, number: u32, versions: Arc<Versions>, end: Instant) -> Result<Alternation, Failure> {
    let mut connection = Connection::open(node).await?;
    let (mut seen, mut channel, mut due) = (Alternation::default(), number, Instant::now());
    while due < end {
        sleep_until(due).await;
        channel = (channel + CLIENTS + 1) % CHANNELS;
        let asked = Instant::now();
        let (head, body) = connection.get(&target(channel), "").await?;
        seen.note(&head, &body, &versions, asked);
        due += GAP;
    }
    Ok(seen)
}

/// When each version of the manifests was made; the first is version 1.
struct Versions(Mutex<Vec<Instant>>);

impl Versions {
    /// Whether an answer of that version may be so many whole seconds old between `asked` and now.
    fn allow(&self, version: usize, age: u64, asked: Instant) -> bool {
        let versions = self.0.lock();
        let Some(made) = version.checked_sub(1).and_then(|at| versions.get(at)) else { return false };
        let not_too_old = Duration::from_secs(age) <= made.elapsed() + ASKED_BEFORE;
        let next = versions.get(version).copied();
        let not_too_young = next.is_none_or(|next| {
            let least = asked.saturating_duration_since(next + ON_THE_WIRE);
            Duration::from_secs(age + 1) > least
        });
        not_too_old && not_too_young
    }
}

impl Alternation {
    fn note(&mut self, head: &str, body: &[u8], versions: &Versions, asked: Instant) {
        self.requests += 1;
        let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).unwrap_or_default();
        match status {
            200 => {}
            500.. => self.errors += 1,
            _ => self.others += 1,
        }
        let age = field(head, "age").and_then(|age| age.parse::<u64>().ok()).unwrap_or_default();
        let told = field(head, "cache-status").unwrap_or_default();
        let ttl = told.split("; ").find_map(|part| part.strip_prefix("ttl=")?.parse::<i64>().ok());
        let hit = told.contains("; hit");
        *match ttl {
            _ if !hit => &mut self.fetched,
            Some(0..) => &mut self.fresh,
            _ => &mut self.stale,
        } += 1;
        self.oldest = self.oldest.max(age);
        // Both are cut to whole seconds.
        let agree = ttl.is_some_and(|ttl| (ttl + age.cast_signed() - TTL).abs() <= 1);
        if status == 200 && !(agree && versions.allow(version(body), age, asked)) {
            self.untrue += 1;
            self.example.get_or_insert_with(|| format!("age {age}, version {}, {told}", version(body)));
        }
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.fresh += other.fresh;
        self.stale += other.stale;
        self.fetched += other.fetched;
        self.errors += other.errors;
        self.others += other.others;
        self.untrue += other.untrue;
        self.example = self.example.take().or(other.example);
        self.oldest = self.oldest.max(other.oldest);
    }
}

/// The version that a manifest names, `7.VERSION.0`; 0 where it names none.
fn version(body: &[u8]) -> usize {
    let manifest: Option<Value> = serde_json::from_slice(body).ok();
    let version = manifest.as_ref().and_then(|manifest| manifest["version"].as_str());
    version.and_then(|version| version.split('.').nth(1)?.parse().ok()).unwrap_or(0)
}
