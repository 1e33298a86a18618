//! Who is let in when the node is busy, cheap questions first: how an agent behaves ([`damping`]), how often it asks
//! ([`buckets`]), how much its tenant has under way ([`fair`]), and which class it asks in ([`room`]).
//!
//! The memory that bodies take is counted by the caller.

pub mod buckets;
pub mod damping;
pub mod fair;
pub mod room;
pub mod rules;
pub mod slots;
pub mod versions;

pub use buckets::{Bucket, Rate};
pub use damping::{Conduct, Damping, Manner};
pub use fair::{FairShare, Recent};
pub use room::{Admission, Verdict};
pub use rules::{Limit, Load, Rules};
pub use slots::Slots;
pub use versions::{TopVersions, VersionCount};
