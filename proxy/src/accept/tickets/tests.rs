use std::collections::HashSet;

use rustls::server::WebPkiClientVerifier;
use weir_config::ClientAuth;
use weir_logic::Millis;

use super::keys::Secret;
use super::*;
use crate::accept::proof::{fingerprint, scope};
use crate::metrics::Metrics;

const NOON: u64 = 1_800_000_000;
const HOUR: u64 = 3600;
const LIFETIME: Duration = Duration::from_hours(12);

struct Node {
    tickets: Tickets,
    metrics: Metrics,
}

impl Node {
    fn new(secrets: &[Secret], denied: &[&[u8]]) -> Self {
        let denied: HashSet<_> = denied.iter().map(|certificate| fingerprint(certificate)).collect();
        let trust = Arc::new(Trust::new(WebPkiClientVerifier::no_client_auth(), ClientAuth::Off, &[], denied));
        let keys = Arc::new(SharedKeys::new(secrets, trust.digest()));
        let metrics = Metrics::new();
        Self { tickets: Tickets::new(keys, trust, LIFETIME, metrics.tickets_refused.clone()), metrics }
    }

    /// A handshake in which this is proven; its ticket.
    async fn full(&self, now: u64, proof: Option<Proof>) -> Option<Vec<u8>> {
        let handshake = async {
            proof.into_iter().for_each(proof::note);
            self.tickets.encrypt(b"session")
        };
        scope(Millis(now * 1000), handshake).await
    }

    /// A handshake in which a ticket is shown: the next ticket and its lifetime if that one resumes.
    async fn resume(&self, now: u64, ticket: &[u8]) -> Option<(Vec<u8>, u32)> {
        let handshake = async {
            assert_eq!(self.tickets.decrypt(ticket)?, b"session");
            Some((self.tickets.encrypt(b"session")?, self.tickets.lifetime()))
        };
        scope(Millis(now * 1000), handshake).await
    }

    fn refused(&self, cause: &str) -> u64 {
        self.metrics.tickets_refused.with_label_values(&[cause]).get()
    }
}

#[tokio::test]
async fn a_ticket_lives_from_the_full_handshake_on_and_resuming_does_not_lengthen_it() {
    let (one, other) = (Node::new(&[[1; 32]], &[]), Node::new(&[[1; 32]], &[]));
    let first = one.full(NOON, None).await.unwrap();
    let (second, left) = other.resume(NOON + 5 * HOUR, &first).await.unwrap();
    assert_eq!(u64::from(left), 7 * HOUR);
    assert!(one.resume(NOON + 12 * HOUR - 1, &second).await.is_some());
    assert!(one.resume(NOON + 12 * HOUR, &second).await.is_none());
    assert_eq!((one.refused("age"), other.refused("age")), (1, 0));
}

#[tokio::test]
async fn a_ticket_of_a_node_whose_clock_is_ahead_resumes_unless_it_is_far_ahead() {
    let node = Node::new(&[[1; 32]], &[]);
    let ticket = node.full(NOON, None).await.unwrap();
    assert!(node.resume(NOON - MAX_SKEW, &ticket).await.is_some());
    assert!(node.resume(NOON - MAX_SKEW - 1, &ticket).await.is_none());
}

#[tokio::test]
async fn a_ticket_ends_with_the_agents_certificate() {
    let node = Node::new(&[[1; 32]], &[]);
    let proof = Proof { at: NOON, until: NOON + HOUR, certificate: fingerprint(b"a-1") };
    let ticket = node.full(NOON, Some(proof)).await.unwrap();
    let (_, left) = node.resume(NOON + HOUR - 10, &ticket).await.unwrap();
    assert_eq!(left, 10);
    assert!(node.resume(NOON + HOUR, &ticket).await.is_none());
    assert_eq!(node.refused("certificate"), 1);
}

#[tokio::test]
async fn a_certificate_that_has_been_denied_does_not_come_back_through_a_ticket() {
    let before = Node::new(&[[1; 32]], &[]);
    let after = Node::new(&[[1; 32]], &[b"a-1"]);
    for (name, resumes) in [(b"a-1", false), (b"a-2", true)] {
        let proof = Proof { at: NOON, until: u64::MAX, certificate: fingerprint(name) };
        let ticket = before.full(NOON, Some(proof)).await.unwrap();
        assert_eq!(after.resume(NOON, &ticket).await.is_some(), resumes);
    }
    assert_eq!(after.refused("denied"), 1);
}

#[tokio::test]
async fn keys_are_changed_in_steps_and_a_ticket_outlives_one_of_them() {
    let ticket = Node::new(&[[1; 32]], &[]).full(NOON, None).await.unwrap();
    let announced = Node::new(&[[1; 32], [2; 32]], &[]);
    let changed = Node::new(&[[2; 32], [1; 32]], &[]);
    let done = Node::new(&[[3; 32], [2; 32]], &[]);
    assert!(announced.resume(NOON, &ticket).await.is_some());
    let (next, _) = changed.resume(NOON, &ticket).await.unwrap();
    assert!(announced.resume(NOON, &next).await.is_some(), "nodes that are a step behind open it");
    assert!(done.resume(NOON, &next).await.is_some());
    assert!(done.resume(NOON, &ticket).await.is_none());
    assert_eq!(done.refused("key"), 1);
}

#[tokio::test]
async fn a_ticket_opens_only_where_the_same_authorities_are_trusted() {
    let (here, there) = (SharedKeys::new(&[[1; 32]], [1; 32]), SharedKeys::new(&[[1; 32]], [2; 32]));
    let ticket = here.encrypt(b"session").unwrap();
    assert_eq!(here.decrypt(&ticket).unwrap(), b"session");
    assert_eq!(there.decrypt(&ticket), None);
}

#[tokio::test]
async fn what_is_changed_cut_or_made_up_opens_nothing() {
    let keys = SharedKeys::new(&[[1; 32]], [0; 32]);
    let ticket = keys.encrypt(b"session").unwrap();
    assert_eq!(ticket.len(), b"session".len() + 48);
    for index in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[index] ^= 1;
        assert_eq!(keys.decrypt(&changed), None, "byte {index}");
        assert_eq!(keys.decrypt(&ticket[..index]), None, "cut at {index}");
    }
    assert_ne!(keys.encrypt(b"session").unwrap(), ticket, "no two tickets are alike");
}

#[test]
fn outside_of_a_handshake_there_is_no_ticket() {
    let node = Node::new(&[[1; 32]], &[]);
    assert_eq!(node.tickets.encrypt(b"session"), None);
    let ticket = SharedKeys::new(&[[1; 32]], node.tickets.trust.digest()).encrypt(&[0; 64]).unwrap();
    assert_eq!(node.tickets.decrypt(&ticket), None);
}
