//! The keys that seal tickets: from a file that nodes share, or random.
//!
//! Each ticket is sealed by a key of its own, derived (HKDF, RFC 5869) from the file's key, a random salt that stands in
//! the ticket, and whom the listener trusts. So however many tickets the nodes of a region give out under one key of the
//! file, no key and nonce come twice; nodes need no clock in common and no state beside the file; and a ticket of other
//! authorities, or of a listener that asks for no certificate, does not open.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::GetRandomFailed;
use rustls::server::ProducesTickets;

/// A key as it stands in the file.
pub(in crate::accept) type Secret = [u8; 32];

/// Keys of which the first seals and all open. A ticket is longer than its session by 48 bytes.
pub(in crate::accept) struct SharedKeys(Vec<SharedKey>);

struct SharedKey {
    /// Says in a ticket which key it needs.
    name: Name,
    root: Prk,
    bound_to: [u8; 32],
}

type Name = [u8; 16];
type TicketSalt = [u8; 16];

impl SharedKeys {
    /// Keys whose tickets open only where `bound_to` is the same.
    pub(in crate::accept) fn new(secrets: &[Secret], bound_to: [u8; 32]) -> Self {
        Self(secrets.iter().map(|secret| SharedKey::new(secret, bound_to)).collect())
    }

    /// One key that nobody else has.
    pub(super) fn random() -> Result<Self, GetRandomFailed> {
        let mut secret = Secret::default();
        SystemRandom::new().fill(&mut secret).map_err(|_| GetRandomFailed)?;
        Ok(Self::new(&[secret], [0; 32]))
    }
}

impl SharedKey {
    fn new(secret: &Secret, bound_to: [u8; 32]) -> Self {
        let root = Salt::new(HKDF_SHA256, b"weir session tickets 1").extract(secret);
        let mut name = Name::default();
        root.expand(&[b"name", &bound_to], NameLength)
            .and_then(|bytes| bytes.fill(&mut name))
            .expect("16 bytes are within the bound of HKDF, 255 hashes");
        Self { name, root, bound_to }
    }

    fn key(&self, salt: &TicketSalt) -> LessSafeKey {
        let info: [&[u8]; 3] = [b"key", &self.bound_to, salt];
        let bytes = self.root.expand(&info, &AES_256_GCM).expect("32 bytes are within the bound of HKDF, 255 hashes");
        LessSafeKey::new(UnboundKey::from(bytes))
    }

    fn seal(&self, session: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut salt = TicketSalt::default();
        SystemRandom::new().fill(&mut salt)?;
        let mut ticket = Vec::with_capacity(HEAD + session.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(&salt);
        ticket.extend_from_slice(session);
        let tag = self.key(&salt).seal_in_place_separate_tag(nonce(), Aad::from(self.name), &mut ticket[HEAD..])?;
        ticket.extend_from_slice(tag.as_ref());
        Ok(ticket)
    }

    fn open(&self, salt: &TicketSalt, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut session = sealed.to_vec();
        let length = self.key(salt).open_in_place(nonce(), Aad::from(self.name), &mut session).ok()?.len();
        session.truncate(length);
        Some(session)
    }
}

/// Always the same: a ticket's key seals nothing but that ticket.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Bytes before what is sealed.
const HEAD: usize = size_of::<Name>() + size_of::<TicketSalt>();

struct NameLength;

impl KeyType for NameLength {
    fn len(&self) -> usize {
        size_of::<Name>()
    }
}

impl fmt::Debug for SharedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedKeys").field(&self.0.len()).finish()
    }
}

impl ProducesTickets for SharedKeys {
    fn enabled(&self) -> bool {
        true
    }

    /// As long as the key is in the file: who bounds it stands around this.
    fn lifetime(&self) -> u32 {
        u32::MAX
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.0.first()?.seal(session).ok()
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<{ size_of::<Name>() }>()?;
        let (salt, sealed) = rest.split_first_chunk::<{ size_of::<TicketSalt>() }>()?;
        self.0.iter().find(|key| key.name == *name)?.open(salt, sealed)
    }
}
