//! Lookups: many agents' single requests answered from one bulk request.
//!
//! - `window` collects: identical keys join, the window closes on time or when it is full;
//! - `contract` writes the bulk request and reads its answer, as `proxy/CONTRACTS.md` has it;
//! - `division` is what follows a bulk request that the core refuses for one of its keys;
//! - `kept` holds answers for their TTL, within bounds, and says which are to be fetched anew before it ends.
//!
//! With a window of `w` seconds a route asks the core at most `1/w` times a second as long as a window does not fill up, however
//! many agents poll; past that, once for every `max_keys` keys. Keys that are refreshed while nobody waits travel with a window that
//! leaves anyway, or gather for `refresh_window`. Sending, timers and waiting happen in `proxy`.
//!
//! A route whose `ttl` is zero is taken to be one for orders: an agent's answer must not be older than its request, so a request
//! never joins a bulk request that has left, but the next window.

mod contract;
mod division;
#[cfg(test)]
mod fleet;
mod kept;
mod window;

pub use contract::{BulkError, KeyAnswer, KeyText, Meaning, answers, question};
pub use division::Division;
pub use kept::{Kept, KeptAnswers, lease};
pub use window::{Full, Join, LookupEntry, LookupWindow, LookupWindows, Place, WindowBounds};
