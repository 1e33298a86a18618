//! The cache against a scripted core.

mod answers;
mod flights;
mod outage;
mod purges;
mod real_core;
pub(super) mod support;
mod tenants;
