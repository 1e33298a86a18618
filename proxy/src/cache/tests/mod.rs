//! The cache against a scripted core.

mod alternation;
mod answers;
mod conformance;
mod flights;
mod isolation;
mod model;
mod modes;
mod outage;
mod packages;
mod payloads;
mod posts;
mod purges;
mod ranges;
mod real_core;
mod rehearsal;
mod resuming;
mod rollouts;
pub(super) mod support;
mod tenants;
mod variants;
mod what_if;
