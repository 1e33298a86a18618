//! The composition root: the one place that knows everyone.
//!
//! A node has three kinds of threads: pingora's for agents' connections, a small runtime for what no agent waits for (health checks,
//! batches on their way to a core), and the admin listener's own. The second outlives the first, so that a stop can flush.

mod actions;
mod beating;
mod compose;
pub mod data_dir;
pub mod descriptors;
pub mod lifecycle;
mod node;
pub mod replaying;
mod stop;
pub mod systemd;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use weir_config::{Config, Parsed};

use crate::admin::{AdminServer, BoundAdmin};
use crate::clock::Clock;
use crate::exit::{Code, Failure};
use crate::metrics::Metrics;
use crate::reload::Reloader;
use crate::{logging, task};
use beating::Beating;
use compose::{Composed, Ground};
use data_dir::{DataDir, DataDirError};
use lifecycle::{Heartbeat, Lifecycle, Phase};
use node::Node;
use stop::Stop;

/// Runs a node with the configuration `parsed` from the file at `path`, until a signal stops it.
///
/// # Errors
///
/// When the node cannot start, or its stop was not clean.
pub fn run(parsed: Parsed, path: &Path) -> Result<(), Failure> {
    let clock = Clock::start();
    let metrics = Metrics::new();
    logging::start(parsed.config.edge.log_format, clock, metrics.log_suppressed.clone());
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a float exactly")]
    metrics.started.set(clock.now().0 as f64 / 1000.0);
    descriptors::raise_limit(&parsed.config);
    let data_dir = DataDir::open(&parsed.config.edge.data_dir).map_err(data_dir_failure)?;
    let edge = data_dir.edge_name(parsed.config.edge.name.as_deref()).map_err(data_dir_failure)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %edge, "starting");

    let background = background().map_err(|error| unavailable("the system gives no threads", &error))?;
    let inside = background.enter();
    let hang_up = signal(SignalKind::hangup()).map_err(|error| unavailable("SIGHUP cannot be handled", &error))?;
    let started = Started::start(parsed, path, &edge, &metrics, clock)?;
    drop(task::spawn("hang-up", reload_on(hang_up, Arc::clone(&started.reloader))));
    drop(inside);

    let Started { server, stop, composed, lifecycle, admin, .. } = started;
    let cut = stop.cut();
    server.run(RunArgs { shutdown_signal: Box::new(stop) });
    lifecycle.enter(Phase::Flushing);
    let outcome = finish(&background, &composed, &cut);
    drop(admin);
    background.shutdown_timeout(Duration::from_secs(1));
    drop(data_dir);
    outcome
}

/// A node that is ready to serve but for pingora's loop.
struct Started {
    server: Server,
    stop: Stop,
    composed: Composed,
    lifecycle: Lifecycle,
    reloader: Arc<Reloader>,
    admin: AdminServer,
}

impl Started {
    fn start(parsed: Parsed, path: &Path, edge: &str, metrics: &Metrics, clock: Clock) -> Result<Self, Failure> {
        let config = parsed.config.clone();
        let lifecycle = Lifecycle::default();
        let (agents, background) = (Heartbeat::new(clock), Heartbeat::new(clock));
        drop(task::spawn("heartbeat", background.clone().beat()));
        let heartbeats = vec![agents.clone(), background];
        let node = Arc::new(Node::new(edge, lifecycle.clone(), heartbeats, metrics.clone(), clock));
        let admin = admin(&config, Arc::clone(&node))?;

        let mut server = server(&config);
        let ground = Ground { config: &config, edge, metrics, clock };
        let (composed, acceptor) = compose::compose(&ground, &server.configuration)?;
        let reached = composed.reload_parts(acceptor.certificates(), metrics, clock);
        let reloader = Arc::new(Reloader::new(path.to_owned(), parsed, reached));
        node.composed(composed.node_parts(&reloader));
        let stop = Stop::new(lifecycle.clone(), Arc::clone(&composed.drain), Arc::clone(&composed.snapshot))
            .map_err(|error| unavailable("SIGTERM cannot be handled", &error))?;
        server.add_service(Beating::new(acceptor, agents));
        Ok(Self { server, stop, composed, lifecycle, reloader, admin })
    }
}

/// Operators see the node from before the spools are opened, which may take its time.
fn admin(config: &Config, node: Arc<Node>) -> Result<AdminServer, Failure> {
    let address = config.admin.address;
    let bound = BoundAdmin::bind(address)
        .map_err(|error| unavailable(&format!("admin: cannot listen on {address}"), &error))?;
    tracing::info!(listener = "admin", address = %bound.address(), "listening");
    AdminServer::start(bound, node).map_err(|error| unavailable("admin: the system gives no thread", &error))
}

/// What is done after the last connection has ended.
fn finish(background: &Runtime, composed: &Composed, cut: &AtomicUsize) -> Result<(), Failure> {
    let delivered = background.block_on(composed.flush());
    let cut = cut.load(Ordering::Relaxed);
    tracing::info!(connections_cut = cut, all_delivered = delivered, "stopped");
    if cut == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Code::Software,
        format!("{cut} connections were cut: requests on them took longer than shutdown.timeout"),
    ))
}

/// Health checks, senders and timers: little work, which must not wait for agents' requests.
fn background() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(BACKGROUND_THREADS)
        .thread_name("weir-background")
        .enable_all()
        .build()
}

const BACKGROUND_THREADS: usize = 2;

fn server(config: &Config) -> Server {
    let threads = config.edge.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let conf = ServerConf {
        threads: threads.unwrap_or(1),
        work_stealing: true,
        // Our own drain comes before; nothing is left to wait for.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        // A request is sent to the next machine by our own rules.
        max_retries: 3,
        upstream_keepalive_pool_size: config.cores.iter().map(|core| core.max_in_flight).sum(),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    server
}

async fn reload_on(mut hang_up: Signal, reloader: Arc<Reloader>) {
    while hang_up.recv().await.is_some() {
        let reloader = Arc::clone(&reloader);
        let reloaded = tokio::task::spawn_blocking(move || reloader.reload());
        if let Err(error) = reloaded.await {
            tracing::error!(%error, "the reload panicked");
        }
    }
}

fn unavailable(what: &str, error: &io::Error) -> Failure {
    Failure::new(Code::Unavailable, format!("{what}: {error}"))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(crate) fn data_dir_failure(error: DataDirError) -> Failure {
    let code = match &error {
        DataDirError::Taken { .. } => Code::Unavailable,
        DataDirError::Create { .. } | DataDirError::Write { .. } | DataDirError::Name { .. } => Code::CannotCreate,
    };
    Failure::new(code, error.to_string())
}
