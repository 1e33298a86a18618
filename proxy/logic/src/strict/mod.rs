//! HTTP taken at its word: what would be read one way here and another way by the core is refused before anything
//! routes on it.
//!
//! [`head`] checks an HTTP/1.1 header section byte by byte as it came off the wire, before any other parser has had a
//! chance to repair it. [`section`] gives its parts without copying them. [`target`] checks what both protocol versions
//! share: the request target and the host. None of them knows routes.

mod bytes;
pub mod head;
mod parts;
pub mod section;
pub mod target;

use crate::Refusal;

/// Why a request is refused for how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the agent is told.
    pub refusal: Refusal,
    /// What is wrong, for people; under 60 bytes.
    pub detail: &'static str,
}

impl Fault {
    const fn malformed(detail: &'static str) -> Self {
        Self { refusal: Refusal::Malformed, detail }
    }
}
