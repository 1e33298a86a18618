//! Uploads on their way to the core, on disk: journal, merging under replay, outbox.
//!
//! A stream's spool is a directory:
//! ```text
//! journal/00000001700000000000.segment     accepted uploads, one file for each generation
//! outbox/00000001700000000000-000000.batch batches the core has not acknowledged
//! dead/                                     batches the core will never take, readable with `weir batch cat`
//! tables/07-00000001700000000000.table     of a stream of states: what outlives the windows, a file for each shard
//! progress                                  what has left the journal and the outbox, and the ledger
//! reserve                                   room for `progress` on a disk without any other
//! journal/spare                             zeros, for the next generation to be written over
//! ```
//! # Replay decides nothing
//! An upload is acknowledged once it is in the journal. Everything after that follows from the journal alone:
//! [`Emitter`] merges its entries and packs rows in an order that is a function of the entries, the seal time included.
//! What is decided on the way (an early flush, the end of a generation, the plan in force) is itself written to the
//! journal before it takes effect. A node that dies at any moment reads the journal again and arrives at the same
//! batches under the same ids, and the core drops those it already has.
//!
//! Sealing generation N closes the batches of N: the first sights of N in journal order and the repeats of windows that
//! ended since the seal before. They are durable in the outbox before `progress` says that N is emitted, and segment N
//! goes once every window that it touches has been emitted too. After a start, generations up to that mark only rebuild
//! the open windows; later ones are emitted again.
//!
//! # Serve first, rebuild behind
//! [`recover`] lists files and reads their heads; it replays nothing. The [`Journal`] takes uploads at once, in the next
//! generation, and the [`Follower`] reads the segments of earlier runs and then those of this one back for the emitter.
//! It reads from disk what this process has written a moment ago, which is a copy out of the page cache; in return there
//! is no queue that a slow merge could fill, and nothing to hand over between replaying and going on.
//!
//! # Who uses what
//! The [`Journal`] takes uploads, the [`Follower`] gives what is committed as [`Step`]s, the [`Emitter`] is handed each
//! of them in order, and the [`Outbox`], shared, hands batches to a sender and keeps the [`Ledger`]. None of them starts
//! a thread, waits, retries or reads the clock. Every call on the file system goes through [`Files`].
//!
//! Not here: HTTP, threads, the decision when to seal, retries.

mod emitter;
mod entry;
mod files;
mod follower;
pub mod inspect;
mod journal;
mod ledger;
mod log;
mod losses;
mod outbox;
mod packing;
mod plan;
mod progress;
mod recovery;
pub mod repair;
mod reserve;
mod segment;
mod spare;
mod tables;
mod tape;
mod trial;
mod windows;

#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;

pub use emitter::{Emitter, Settled, Step};
pub use entry::{EndReason, Entry, Upload};
pub use files::{Append, Disk, Files, Listed};
pub use follower::Follower;
pub use journal::{Durability, Journal};
pub use ledger::{Ledger, Mark, Meters};
pub use losses::{Loss, LossReason, Losses, Lost, PerReason};
pub use outbox::{Content, Lent, Outbox, Parcel, Revived, Waiting};
pub use plan::{Plan, PlanMode};
pub use recovery::{Recovered, RecoveryReport, SpoolError, recover};
pub use spare::Spare;
