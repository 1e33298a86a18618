//! How the node stops: notice to load balancers, then the connections, each at its turn, then what is left to flush; all
//! of it within a bound.
//!
//! pingora's own flow closes every idle connection at once and then sleeps through its whole grace period, so that it is given a
//! quick end after our own drain is over. SIGTERM drains; SIGINT, or a second signal of either kind, ends the drain early. SIGQUIT
//! means nothing here: sockets are not handed over.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;

use super::lifecycle::{Lifecycle, Phase};
use super::systemd;
use crate::accept::Drain;
use crate::exit::Code;
use crate::snapshot::SharedSnapshot;

/// Tells pingora when the server ends: after our own drain.
pub(super) struct Stop {
    lifecycle: Lifecycle,
    drain: Arc<Drain>,
    snapshot: SharedSnapshot,
    signals: Mutex<Signals>,
    cut: Arc<AtomicUsize>,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// SIGTERM.
    Orderly,
    /// SIGINT.
    Quick,
}

impl Stop {
    /// Takes SIGTERM and SIGINT over from now on. Needs a runtime.
    ///
    /// # Errors
    ///
    /// When the system refuses a handler.
    pub(super) fn new(lifecycle: Lifecycle, drain: Arc<Drain>, snapshot: SharedSnapshot) -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let signals = Mutex::new(Signals { terminate, interrupt });
        Ok(Self { lifecycle, drain, snapshot, signals, cut: Arc::default() })
    }

    /// Where the number of connections that had to be cut is found after the end.
    pub(super) fn cut(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.cut)
    }

    /// Waits until load balancers know that the node is not ready. A second signal ends that as it ends the drain.
    async fn give_notice(&self, urgency: Urgency, signals: &mut Signals) -> Urgency {
        let notice = self.snapshot.load().config.shutdown.notice;
        if urgency == Urgency::Quick || notice.is_zero() {
            return urgency;
        }
        tracing::info!(?notice, "not ready, and serving until load balancers know");
        tokio::select! {
            () = tokio::time::sleep(notice) => urgency,
            _ = signals.next() => Urgency::Quick,
        }
    }

    async fn drain(&self, urgency: Urgency, signals: &mut Signals) {
        let shutdown = self.snapshot.load().config.shutdown;
        let (window, patience) = match urgency {
            Urgency::Orderly => (shutdown.drain, shutdown.drain + shutdown.timeout),
            Urgency::Quick => (Duration::ZERO, shutdown.timeout.min(QUICK)),
        };
        tracing::info!(connections = self.drain.open(), ?window, "stopping");
        self.drain.begin(window);
        tokio::select! {
            () = self.drain.finished() => return,
            () = tokio::time::sleep(patience) => {}
            _ = signals.next() => {
                self.drain.begin(Duration::ZERO);
                // What ends by itself at once is not counted as cut.
                drop(tokio::time::timeout(QUICK, self.drain.finished()).await);
            }
        }
        self.cut.store(self.drain.open(), Ordering::Relaxed);
    }
}

#[async_trait]
impl ShutdownSignalWatch for Stop {
    /// pingora calls this once all services have been started: from here on the node serves.
    async fn recv(&self) -> ShutdownSignal {
        self.lifecycle.enter(Phase::Serving);
        systemd::ready("serving");
        tracing::info!("ready");
        let mut signals = self.signals.lock().await;
        let urgency = signals.next().await;
        self.lifecycle.enter(Phase::Draining);
        systemd::stopping("draining connections");
        let shutdown = self.snapshot.load().config.shutdown;
        bound(shutdown.notice + shutdown.drain + 2 * shutdown.timeout + SLACK);
        let urgency = self.give_notice(urgency, &mut signals).await;
        self.drain(urgency, &mut signals).await;
        ShutdownSignal::FastShutdown
    }
}

impl Signals {
    async fn next(&mut self) -> Urgency {
        tokio::select! {
            _ = self.terminate.recv() => Urgency::Orderly,
            _ = self.interrupt.recv() => Urgency::Quick,
        }
    }
}

/// Ends the process after `patience`, whatever hangs: a supervisor must not have to. The journal makes that safe.
fn bound(patience: Duration) {
    let (never, waiting) = mpsc::sync_channel::<()>(0);
    let wait = move || {
        let outcome = waiting.recv_timeout(patience);
        drop(never);
        if outcome == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!(?patience, "the stop hangs; ending at once");
            std::process::exit(Code::Software as i32);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("weir-stop-bound".to_owned()).spawn(wait) {
        tracing::error!(%error, "the stop has no bound");
    }
}

/// The most time that SIGINT leaves to answers under way.
const QUICK: Duration = Duration::from_secs(1);
/// On top of the configured times, before the process is ended.
const SLACK: Duration = Duration::from_secs(5);
