//! Session tickets: a session sealed for the agent to keep, so that any number of agents resumes without a table here.
//!
//! What seals is [`SharedKeys`], of the file that the nodes of a region share or made in memory. Around
//! it stands what rustls leaves to others: a resumed session shows no certificate, so a ticket is worth nothing once the
//! full handshake that it goes back to is too long ago, the certificate shown then has expired or is denied, or the
//! authorities have changed. Such a ticket is no error; the agent makes a full handshake and is judged by that.

pub(super) mod keys;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use rustls::crypto::GetRandomFailed;
use rustls::server::ProducesTickets;
use rustls::ticketer::TicketRotator;

use super::proof::{self, Proof};
use super::trust::Trust;
use keys::SharedKeys;

/// Tickets that each handshake gives: one for the next connection, and one in reserve, because a ticket is used once and
/// an attempt that breaks off, as many do when a herd comes back, has used it.
pub(super) const TICKETS_PER_HANDSHAKE: usize = 2;

/// Makes and judges the tickets of one listener.
pub(super) struct Tickets {
    keys: Arc<dyn ProducesTickets>,
    trust: Arc<Trust>,
    lifetime: u64,
    refused: IntCounterVec,
}

impl Tickets {
    /// Tickets sealed by `keys`, for sessions that can be resumed for `lifetime`.
    pub(super) fn new(
        keys: Arc<dyn ProducesTickets>,
        trust: Arc<Trust>,
        lifetime: Duration,
        refused: IntCounterVec,
    ) -> Self {
        Self { keys, trust, lifetime: lifetime.as_secs(), refused }
    }

    /// What is left of the proof at `now`, in seconds, or why nothing is.
    fn left(&self, proof: &Proof, now: u64) -> Result<u64, &'static str> {
        let end = proof.at.saturating_add(self.lifetime);
        if proof.at > now.saturating_add(MAX_SKEW) || end <= now {
            Err("age")
        } else if proof.until <= now {
            Err("certificate")
        } else if self.trust.denies(&proof.certificate) {
            Err("denied")
        } else {
            Ok(end.min(proof.until) - now)
        }
    }

    fn open(&self, ticket: &[u8]) -> Result<Vec<u8>, &'static str> {
        let bytes = self.keys.decrypt(ticket).ok_or("key")?;
        let (proof, session) = Proof::split(&bytes).ok_or("key")?;
        self.left(&proof, proof::now().ok_or("age")?)?;
        proof::note(proof);
        Ok(session.to_vec())
    }
}

/// Keys made in memory, which only this node has; the second half of their life they only open.
///
/// # Errors
/// When the system gives no randomness.
pub(super) fn keys_in_memory(lifetime: Duration) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    fn random() -> Result<Box<dyn ProducesTickets>, GetRandomFailed> {
        Ok(Box::new(SharedKeys::random()?))
    }
    let lifetime = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
    Ok(Arc::new(TicketRotator::new(lifetime, random)?))
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    /// What is left for the session under way.
    fn lifetime(&self) -> u32 {
        let left = proof::current().zip(proof::now()).and_then(|(proof, now)| self.left(&proof, now).ok());
        u32::try_from(left.unwrap_or(0)).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let (proof, now) = proof::current().zip(proof::now())?;
        self.left(&proof, now).ok()?;
        self.keys.encrypt(&proof.before(session))
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket).map_err(|cause| self.refused.with_label_values(&[cause]).inc()).ok()
    }
}

/// By how much another node's clock may be ahead, in seconds.
const MAX_SKEW: u64 = 600;

#[cfg(test)]
mod tests;
