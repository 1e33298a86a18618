//! The cache against a scripted core.

mod answers;
mod flights;
mod outage;
pub(super) mod support;
mod tenants;
