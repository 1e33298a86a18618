//! The cache's policy: what may be kept, for how long it serves, and what an answer says about itself.
//!
//! RFC 9111 for a shared cache, under an operator who may know better: a route's `freshness` says whether the operator's TTLs
//! decide how long an answer is fresh, the core's directives, or these within bounds. What the core forbids to keep is not kept
//! in any mode. Directives in agents' requests count on routes that obey their agents only: one that says `no-cache` would
//! otherwise reach the core past the protection that the cache is. `proxy/CACHING.md` has the whole, directive by directive.
//! Keeping answers, waiting for fills and bounding memory happen in `proxy`.

mod asking;
mod bandwidth;
mod census;
pub mod conditional;
pub mod dialect;
mod dictionary;
mod directives;
mod explain;
mod fill;
mod headers;
mod hold;
pub mod invalidation;
mod lease;
pub mod payload;
mod policy;
pub mod purge;
pub mod range;
mod resume;
pub mod rollout;
pub mod said;
pub mod sieve;
mod status;
pub mod tags;
mod terms;
mod vary;

pub use asking::Asking;
pub use bandwidth::Bandwidth;
pub use census::Census;
pub use explain::{Explanation, FillPreview, explain};
pub use fill::{FillRequest, Validators};
pub use headers::{Kept, TagFrom, kept, merged};
pub(crate) use headers::{field_bytes, is_own_tag};
pub use hold::Hold;
pub use lease::Lease;
pub use policy::{Arrival, CachePolicy, Freshness, Meaning, Unstorable, is_intact};
pub use resume::Resumption;
pub use status::{CACHE_STATUS, CacheStatus, age};
pub use terms::Terms;
pub use vary::Selection;
