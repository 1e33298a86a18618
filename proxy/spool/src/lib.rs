//! Uploads on their way to the core, on disk: journal, merging under replay, outbox.
//!
//! A stream's spool is a directory:
//! ```text
//! journal/00000001700000000000.segment     accepted uploads, one file for each generation
//! outbox/00000001700000000000-000000.batch batches the core has not acknowledged
//! dead/                                     batches the core will never take, readable with `weir batch cat`
//! tables/07-00000001700000000000.table     of a stream of states: what outlives the windows, a file for each shard
//! progress                                  what has left the journal and the outbox, and the ledger
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
//! goes once every window that it touches has been emitted too. On start, generations up to that mark only rebuild the
//! open windows; later ones are emitted again.
//!
//! # Who uses what
//! [`recover`] opens a spool and gives three parts for three places: the [`Journal`] takes uploads, the [`Emitter`] is
//! handed every committed [`Step`] in order, and the [`Outbox`], shared, hands batches to a sender and keeps the
//! [`Ledger`]. None of them starts a thread, waits, retries or reads the clock. Every call on the file system goes
//! through [`Files`].
//!
//! Not here: HTTP, threads, the decision when to seal, retries.

mod emitter;
mod entry;
mod files;
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
mod segment;
mod tables;
mod trial;
mod windows;

#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;

pub use emitter::{Emitter, Settled, Step};
pub use entry::{EndReason, Entry, Upload};
pub use files::{Append, Disk, Files, Listed};
pub use journal::{Durability, Journal};
pub use ledger::{Ledger, Mark, Meters};
pub use losses::{Loss, LossReason, Losses, Lost, PerReason};
pub use outbox::{Content, Lent, Outbox, Parcel, Revived, Waiting};
pub use plan::{Plan, PlanMode};
pub use recovery::{Recovered, RecoveryReport, SpoolError, recover};
