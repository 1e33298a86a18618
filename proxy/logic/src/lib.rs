//! The policies of an edge node, pure.
//!
//! Nothing here knows a socket, a file, a lock, a thread or a clock: `now` and randomness are arguments, so that a test can live
//! a week in a millisecond. A policy answers; the caller in `proxy` acts.

pub mod admit;
pub mod answer;
pub mod cache;
pub mod calm;
pub mod delivery;
pub mod digest;
pub mod fields;
pub mod gate;
pub mod heap;
pub mod identity;
pub mod key;
pub mod lookup;
pub mod merge;
pub mod outcome;
pub mod refusal;
pub mod rehearse;
pub mod request;
pub mod retry;
pub mod retry_after;
pub mod route;
pub mod stall;
pub mod state;
pub mod strict;
pub mod time;
pub mod whatif;

pub use admit::{Admission, Verdict};
pub use answer::Answer;
pub use digest::Digest;
pub use fields::{Field, Fields, Lender};
pub use identity::{AgentId, CertificateFields, Identity, TenantId};
pub use key::CacheKey;
pub use outcome::{Cause, Outcome};
pub use refusal::Refusal;
pub use request::{Call, Headers, Parameters, RequestView, Values};
pub use route::{Found, RouteTable};
pub use time::Millis;
