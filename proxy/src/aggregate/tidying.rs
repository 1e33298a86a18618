//! Gives up batches that are too old and dead letters that are too many, and has the journal thread tell the core of
//! losses. Not here: what is noted of them, and how the core is told.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use weir_batch::Counts;
use weir_logic::Millis;
use weir_spool::{Disk, Outbox};

use super::Context;
use super::journaling::Command;
use super::plan::Settings;
use crate::clock::Clock;

/// One stream's tidying: a task that looks every second.
pub(super) struct Tidying {
    stream: String,
    outbox: Arc<Outbox<Disk>>,
    settings: Arc<ArcSwap<Settings>>,
    journaling: SyncSender<Command>,
    /// Has the sender look at the outbox.
    arrived: Arc<Notify>,
    clock: Clock,
}

/// The time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks between two walks over the dead letters, where people may have tidied up themselves.
const WALK_EVERY: u32 = 30;

impl Tidying {
    /// The tidying of a stream.
    pub(super) fn new(
        context: &Context,
        stream: &str,
        settings: &Arc<ArcSwap<Settings>>,
        outbox: &Arc<Outbox<Disk>>,
        journaling: &SyncSender<Command>,
        arrived: &Arc<Notify>,
    ) -> Self {
        Self {
            stream: stream.to_owned(),
            outbox: Arc::clone(outbox),
            settings: Arc::clone(settings),
            journaling: journaling.clone(),
            arrived: Arc::clone(arrived),
            clock: context.clock,
        }
    }

    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        let tidying = Arc::new(self);
        let mut looks = 0_u32;
        loop {
            let look = Arc::clone(&tidying);
            let walk = looks.is_multiple_of(WALK_EVERY);
            // Files are read and written apart from the tasks that serve agents.
            let looked = tokio::task::spawn_blocking(move || look.look(walk)).await;
            if let Ok(Err(error)) = looked {
                tracing::error!(stream = tidying.stream, %error, "the spool cannot be tidied up");
            }
            looks = looks.wrapping_add(1);
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn look(&self, walk: bool) -> io::Result<()> {
        let settings = self.settings.load_full();
        let now = self.clock.now();
        let tidied = self.expire(&settings, now).and_then(|()| self.drop_dead(&settings, walk));
        // A full queue needs no waking: the journal thread looks before each commit.
        if self.outbox.losses().is_behind(now) {
            self.journaling.try_send(Command::Wake).unwrap_or(());
        }
        tidied
    }

    fn expire(&self, settings: &Settings, now: Millis) -> io::Result<()> {
        let Some(age) = settings.expire_after else { return Ok(()) };
        let before = Millis(now.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
        let mut given_up = Counts::default();
        let expired = loop {
            match self.outbox.expire(before) {
                Ok(counts) if counts.rows == 0 => break Ok(()),
                Ok(counts) => given_up += counts,
                Err(error) => break Err(error),
            }
        };
        if given_up.rows > 0 || expired.is_err() {
            self.arrived.notify_one();
        }
        let records = given_up.records;
        if records > 0 {
            tracing::error!(stream = self.stream, records, max_age = ?age, "batches are given up: the core did not take them in time");
        }
        expired
    }

    fn drop_dead(&self, settings: &Settings, walk: bool) -> io::Result<()> {
        let (max_files, max_bytes) = (settings.max_dead_files, settings.max_dead_bytes);
        if !walk && !self.outbox.has_too_many_dead(max_files, max_bytes) {
            return Ok(());
        }
        let lost = self.outbox.drop_dead(max_files, max_bytes)?;
        if lost.records + lost.parts > 0 {
            let (records, files) = (lost.records, lost.parts);
            tracing::error!(
                stream = self.stream,
                records,
                unreadable = files,
                "the oldest dead letters are removed for want of room"
            );
        }
        Ok(())
    }
}
