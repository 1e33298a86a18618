//! What is written beside a body on disk, so that it can be given again after a restart.
//!
//! A head is a line that names the format, one JSON object, and the hash (XXH3, 64 bit) of both, so that one that was not written
//! to its end counts as missing. The body's own proof is its SHA-256. Texts that need not be UTF-8 are written byte for byte as the characters
//! of the same numbers. There is no older format: a head of another version is not read, and its body is fetched anew.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use weir_logic::cache::purge::Marks;
use weir_logic::cache::{Arrival, Terms};
use weir_logic::{CacheKey, Digest, Field, Millis};
use xxhash_rust::xxh3::xxh3_64;

/// Everything that is known of an answer of status 200 but its body.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::cache) struct Head {
    pub(super) route: String,
    key: String,
    headers: Vec<(String, String)>,
    /// In milliseconds since 1970, as all times here; spans in milliseconds.
    pub(super) stored: u64,
    draw: f64,
    lifetime: Option<u64>,
    stale_while_revalidate: Option<u64>,
    stale_if_error: Option<u64>,
    never_stale: bool,
    for_shared_caches: bool,
    age: u64,
    marks: Marks,
    pub(super) length: u64,
    sha256: String,
}

/// What a head is made of.
pub(in crate::cache) struct Told<'a> {
    pub(in crate::cache) route: &'a str,
    pub(in crate::cache) key: &'a CacheKey,
    pub(in crate::cache) arrival: &'a Arrival,
    pub(in crate::cache) headers: Vec<&'a Field>,
    pub(in crate::cache) marks: &'a Marks,
}

impl Head {
    /// The head of a body of that length and hash.
    pub(super) fn new(told: &Told<'_>, length: u64, digest: &Digest) -> Self {
        let Told { route, key, arrival, headers, marks } = told;
        let terms = &arrival.terms;
        Self {
            route: (*route).to_owned(),
            key: characters(key.as_bytes()),
            headers: headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), characters(value.as_bytes())))
                .collect(),
            stored: arrival.stored.0,
            draw: arrival.draw,
            lifetime: terms.lifetime.map(millis),
            stale_while_revalidate: terms.stale_while_revalidate.map(millis),
            stale_if_error: terms.stale_if_error.map(millis),
            never_stale: terms.never_stale,
            for_shared_caches: terms.for_shared_caches,
            age: millis(terms.age),
            marks: Marks::clone(marks),
            length,
            sha256: digest.to_string(),
        }
    }

    pub(super) fn key(&self) -> Option<CacheKey> {
        bytes(&self.key).map(CacheKey::restored)
    }

    pub(super) fn headers(&self) -> Option<HeaderMap> {
        let field = |(name, value): &(String, String)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(bytes(value)?).ok()?))
        };
        self.headers.iter().map(field).collect()
    }

    pub(super) fn arrival(&self) -> Arrival {
        let terms = Terms {
            lifetime: self.lifetime.map(Duration::from_millis),
            stale_while_revalidate: self.stale_while_revalidate.map(Duration::from_millis),
            stale_if_error: self.stale_if_error.map(Duration::from_millis),
            never_stale: self.never_stale,
            for_shared_caches: self.for_shared_caches,
            age: Duration::from_millis(self.age),
        };
        Arrival { status: 200, terms, stored: Millis(self.stored), draw: self.draw }
    }

    pub(super) fn marks(&self) -> Marks {
        self.marks.clone()
    }

    pub(super) fn digest(&self) -> Option<Digest> {
        Digest::parse(&self.sha256)
    }

    /// The head as it is written.
    pub(super) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = FORMAT.as_bytes().to_vec();
        serde_json::to_writer(&mut text, self)?;
        text.push(b'\n');
        let proof = xxh3_64(&text);
        text.extend_from_slice(format!("{proof:016x}\n").as_bytes());
        Ok(text)
    }

    /// What was written; `None` where it is not whole, or of another format.
    pub(super) fn from_bytes(written: &[u8]) -> Option<Self> {
        let (text, proof) = written.split_at_checked(written.len().checked_sub(PROOF_BYTES)?)?;
        if proof != format!("{:016x}\n", xxh3_64(text)).as_bytes() {
            return None;
        }
        serde_json::from_slice(text.strip_prefix(FORMAT.as_bytes())?).ok()
    }

    /// Bytes of a head, at most: the headers of an answer are bounded by what a connection reads.
    pub(super) const MAX_BYTES: u64 = 4 << 20;
}

const FORMAT: &str = "weir-package/1\n";
const PROOF_BYTES: usize = 17;

fn characters(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn bytes(characters: &str) -> Option<Vec<u8>> {
    characters.chars().map(|character| u8::try_from(character).ok()).collect()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use weir_logic::cache::purge::Mark;

    use super::super::super::tests::support::key_named;
    use super::*;

    fn head() -> Head {
        let terms = Terms { lifetime: Some(Duration::from_secs(60)), never_stale: true, ..Terms::default() };
        let arrival = Arrival { status: 200, terms, stored: Millis(1_700_000_000_123), draw: 0.1 + 0.2 };
        let headers = [
            (http::header::ETAG, HeaderValue::from_static("\"v1\"")),
            (http::header::SERVER, HeaderValue::from_bytes(b"caf\xe9 \"x\"").unwrap()),
        ];
        let marks = Marks::new([Mark::tag("release-7"), Mark::route("r")], "/v1/packages/a").of_tenant(Some("t-1"));
        let told = Told {
            route: "r",
            key: &key_named("k"),
            arrival: &arrival,
            headers: headers.iter().collect(),
            marks: &marks,
        };
        Head::new(&told, 7, &Digest([0xab; 32]))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let read = Head::from_bytes(&head().to_bytes().unwrap()).unwrap();
        assert_eq!(read, head());
        assert_eq!(read.key().unwrap(), key_named("k"));
        assert_eq!(read.headers().unwrap()["server"].as_bytes(), b"caf\xe9 \"x\"");
        assert_eq!(
            (read.arrival().stored, read.arrival().terms.lifetime),
            (Millis(1_700_000_000_123), Some(Duration::from_secs(60)))
        );
        assert_eq!(
            read.marks(),
            Marks::new([Mark::tag("release-7"), Mark::route("r")], "/v1/packages/a").of_tenant(Some("t-1"))
        );
        assert_eq!(read.digest(), Some(Digest([0xab; 32])));
    }

    #[test]
    fn one_byte_cut_off_or_changed_anywhere_makes_it_unreadable() {
        let written = head().to_bytes().unwrap();
        for at in 0..written.len() {
            assert_eq!(Head::from_bytes(&written[..at]), None);
            let mut changed = written.clone();
            changed[at] ^= 1;
            assert_eq!(Head::from_bytes(&changed), None, "at {at}");
        }
    }
}
