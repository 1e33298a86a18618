//! Lookups: many agents' single requests answered from one bulk request.
//!
//! - `window` collects: identical keys join, the window closes on time or when it is full;
//! - `contract` writes the bulk request and reads its answer, as `proxy/CONTRACTS.md` has it;
//! - `kept` holds answers for their TTL, within bounds.
//!
//! With a window of `w` seconds a route asks the core at most `1/w` times a second as long as a window does not fill up, however
//! many agents poll; past that, once for every `max_keys` keys. Sending, timers and waiting happen in `proxy`.

mod contract;
mod kept;
mod window;

pub use contract::{BulkError, KeyAnswer, Meaning, answers, question};
pub use kept::{Kept, KeptAnswers};
pub use window::{Full, Join, LookupEntry, LookupWindow, LookupWindows, Place};
