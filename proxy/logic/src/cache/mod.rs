//! The cache's policy: what may be kept, for how long it serves, and what an answer says about itself.
//!
//! The operator's TTLs decide how long an answer is fresh. Of the core's directives, those that forbid keeping an answer are
//! obeyed: `no-store`, `private`, `Vary: *` and `Set-Cookie`. Directives in agents' requests are not: an agent that says
//! `no-cache` would otherwise reach the core past the protection that the cache is. Keeping answers, waiting for fills and
//! bounding memory happen in `proxy`.

pub mod conditional;
mod directives;
mod explain;
mod fill;
mod headers;
mod hold;
mod policy;
pub mod purge;
mod status;
pub mod tags;

pub use explain::{Explanation, FillPreview, explain};
pub use fill::{FillRequest, Validators};
pub use headers::{Kept, TagFrom, kept, merged};
pub use hold::{Hold, come_back};
pub use policy::{CachePolicy, Freshness, Meaning, Unstorable, is_intact};
pub use status::{CACHE_STATUS, CacheStatus, age};
