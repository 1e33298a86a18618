//! What a handshake has proven of the agent, and what a ticket carries of that to the next one.
//!
//! rustls tells neither who asks for a ticket nor who opens one, so a handshake runs in a scope in which the verifier of
//! certificates and the maker of tickets find the same proof. A resumed session proves nothing anew: its tickets carry
//! the proof of the full handshake that it goes back to, so that resuming never lengthens it (RFC 8446, section 4.6.1).

use std::cell::Cell;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use weir_logic::Millis;

/// A SHA-256, of a certificate in DER or of what a listener trusts.
pub(super) type Fingerprint = [u8; SHA256_OUTPUT_LEN];

/// The SHA-256 of these bytes.
pub(super) fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut fingerprint = [0; SHA256_OUTPUT_LEN];
    fingerprint.copy_from_slice(digest(&SHA256, bytes).as_ref());
    fingerprint
}

/// A full handshake as its tickets remember it. Times are seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// When it was made.
    pub(super) at: u64,
    /// The end of the validity of the agent's certificates; `u64::MAX` without one.
    pub(super) until: u64,
    /// The agent's certificate; zeros without one.
    pub(super) certificate: Fingerprint,
}

impl Proof {
    /// Bytes that a proof takes in a ticket.
    const LENGTH: usize = 2 * size_of::<u64>() + SHA256_OUTPUT_LEN;

    /// The proof of a handshake in which no certificate was shown.
    pub(super) fn nameless(at: u64) -> Self {
        Self { at, until: u64::MAX, certificate: [0; SHA256_OUTPUT_LEN] }
    }

    /// The proof followed by the session.
    pub(super) fn before(&self, session: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LENGTH + session.len());
        bytes.extend_from_slice(&self.at.to_be_bytes());
        bytes.extend_from_slice(&self.until.to_be_bytes());
        bytes.extend_from_slice(&self.certificate);
        bytes.extend_from_slice(session);
        bytes
    }

    /// Takes apart what [`before`](Self::before) has joined.
    pub(super) fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (at, bytes) = bytes.split_first_chunk()?;
        let (until, bytes) = bytes.split_first_chunk()?;
        let (certificate, session) = bytes.split_first_chunk()?;
        let proof = Self { at: u64::from_be_bytes(*at), until: u64::from_be_bytes(*until), certificate: *certificate };
        Some((proof, session))
    }
}

/// The handshake that runs on the current task.
struct UnderWay {
    now: u64,
    proof: Cell<Proof>,
}

tokio::task_local! {
    static UNDER_WAY: UnderWay;
}

/// Runs a handshake that began at `now`.
pub(super) async fn scope<F: Future>(now: Millis, handshake: F) -> F::Output {
    let now = now.0 / 1000;
    UNDER_WAY.scope(UnderWay { now, proof: Cell::new(Proof::nameless(now)) }, handshake).await
}

/// When the handshake under way began, in seconds since the Unix epoch; `None` outside of one.
pub(super) fn now() -> Option<u64> {
    UNDER_WAY.try_with(|handshake| handshake.now).ok()
}

/// What the handshake under way has proven so far; `None` outside of one.
pub(super) fn current() -> Option<Proof> {
    UNDER_WAY.try_with(|handshake| handshake.proof.get()).ok()
}

/// Notes what the handshake under way has proven. Outside of one there is no ticket that would need it.
pub(super) fn note(proof: Proof) {
    UNDER_WAY.try_with(|handshake| handshake.proof.set(proof)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_comes_out_of_a_ticket_as_it_went_in() {
        let proof = Proof { at: 1, until: 2, certificate: fingerprint(b"certificate") };
        let bytes = proof.before(b"session");
        assert_eq!(Proof::split(&bytes), Some((proof, b"session".as_slice())));
        assert_eq!(Proof::split(&bytes[..Proof::LENGTH - 1]), None);
    }
}
