//! Releases on disk: one file a key, replaced whole, so that a crash leaves the old file or the new one.
//!
//! A file is a line with the SHA-256 of what follows, a line of JSON, and the body of the settled answer. Of the release on its
//! way only the digest is kept: the core gives the answer again. A file that does not agree with its first line, or that a
//! later version has written, is put aside and counted, and the node starts without it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use weir_config::ByteSize;
use weir_logic::cache::purge::Marks;
use weir_logic::cache::rollout::{Release, Releases, Rollout};
use weir_logic::cache::{Arrival, Selection, Terms};
use weir_logic::{CacheKey, Digest, Millis};

use super::Slot;
use crate::cache::entry::Entry;
use crate::purging::Departure;

/// The directory.
pub(super) struct Disk {
    directory: PathBuf,
    writing: Mutex<()>,
}

/// What a directory holds.
#[derive(Default)]
pub(super) struct Restored {
    pub(super) found: Vec<(CacheKey, Slot)>,
    pub(super) damaged: u64,
}

/// The line of JSON.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    /// The key, and the same with what tells its answers apart where there are several.
    key: Vec<u8>,
    variant: Vec<u8>,
    route: String,
    /// Names and values; a value's bytes as the characters of the same numbers.
    headers: Vec<(String, String)>,
    /// Milliseconds since 1970.
    stored: u64,
    /// Its age when it was stored, in milliseconds.
    age: u64,
    marks: Marks,
    candidate: Option<OnItsWay>,
}

#[derive(Serialize, Deserialize)]
struct OnItsWay {
    digest: String,
    rollout: Rollout,
}

impl Disk {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), writing: Mutex::new(()) }
    }

    /// To be held while files are written or removed.
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock()
    }

    /// The same, if nobody else holds it.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, ()>> {
        self.writing.try_lock()
    }

    /// Reads all files of up to `max_bytes`, one after the other. An answer counts as fetched at `departure`; rollouts go on from `now`.
    pub(super) fn load(&self, max_bytes: ByteSize, departure: &dyn Fn() -> Departure, now: Millis) -> Restored {
        let mut restored = Restored::default();
        let Ok(files) = fs::read_dir(&self.directory) else { return restored };
        for path in files.filter_map(|file| file.ok().map(|file| file.path())) {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(FINISHED) => {}
                // A crash has left it.
                Some(DRAFT) => {
                    drop(fs::remove_file(&path));
                    continue;
                }
                _ => continue,
            }
            match read(&path, max_bytes).and_then(|bytes| parsed(&bytes, &departure(), now)) {
                Ok(found) => restored.found.push(found),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a kept release is damaged and put aside");
                    restored.damaged += 1;
                    drop(fs::rename(&path, path.with_extension("damaged")));
                }
            }
        }
        restored
    }

    pub(super) fn write(&self, variant: &CacheKey, slot: &Slot) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o750).create(&self.directory)?;
        let content = [&record(variant, slot)?[..], b"\n", slot.releases.previous().answer.body()].concat();
        let path = self.path(variant);
        let draft = path.with_extension(DRAFT);
        let mut file = File::create(&draft)?;
        writeln!(file, "{}", Digest::of(&content))?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&draft, &path)
    }

    /// Makes what has been written and removed outlast a power loss.
    pub(super) fn sync(&self) -> io::Result<()> {
        match File::open(&self.directory) {
            // Nothing was ever written.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => opened?.sync_all(),
        }
    }

    pub(super) fn remove(&self, variant: &CacheKey) -> io::Result<()> {
        match fs::remove_file(self.path(variant)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, variant: &CacheKey) -> PathBuf {
        self.directory.join(format!("{:032x}.{FINISHED}", variant.digest()))
    }
}

fn record(variant: &CacheKey, slot: &Slot) -> io::Result<Vec<u8>> {
    let text = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect::<String>();
    let Release { answer, .. } = slot.releases.previous();
    let arrival = answer.arrival();
    let candidate = slot.releases.candidate();
    let record = Record {
        version: VERSION,
        key: slot.key.as_bytes().to_vec(),
        variant: variant.as_bytes().to_vec(),
        route: slot.route.to_string(),
        headers: answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        stored: arrival.stored.0,
        age: u64::try_from(arrival.terms.age.as_millis()).unwrap_or(u64::MAX),
        marks: Marks::clone(answer.stamp().marks()),
        candidate: candidate.map(|known| OnItsWay { digest: known.digest.to_string(), rollout: known.rollout }),
    };
    Ok(serde_json::to_vec(&record)?)
}

fn read(path: &Path, max_bytes: ByteSize) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > max_bytes.bytes().saturating_add(MAX_RECORD_BYTES) {
        return Err(io::Error::other("longer than limits.rollouts.max_bytes"));
    }
    fs::read(path)
}

fn parsed(bytes: &[u8], departure: &Departure, now: Millis) -> io::Result<(CacheKey, Slot)> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "the content is not what was written");
    let (first, content) = line(bytes).ok_or_else(broken)?;
    let digest = std::str::from_utf8(first).ok().and_then(Digest::parse);
    if digest != Some(Digest::of(content)) {
        return Err(broken());
    }
    let (json, body) = line(content).ok_or_else(broken)?;
    let record: Record = serde_json::from_slice(json)?;
    if record.version != VERSION {
        return Err(io::Error::other(format!("version {} is not known", record.version)));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &record.headers {
        let value: Option<Vec<u8>> = value.chars().map(|character| u8::try_from(character).ok()).collect();
        let value = value.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()).ok_or_else(broken)?;
        headers.append(name.parse::<HeaderName>().map_err(|_| broken())?, value);
    }
    let terms = Terms { age: Duration::from_millis(record.age), ..Terms::default() };
    let arrival = Arrival { status: 200, terms, stored: Millis(record.stored), draw: 0.0 };
    let stamp = departure.stamp(Arc::new(record.marks));
    // What it was chosen by is in the variant: it is never looked for by it.
    let answer = Entry::new(arrival, &headers, Bytes::copy_from_slice(body), stamp, Selection::default());
    let candidate = record.candidate.map(|known| Digest::parse(&known.digest).map(|digest| (digest, known.rollout)));
    let candidate = match candidate {
        Some(None) => return Err(broken()),
        Some(known) => known,
        None => None,
    };
    let settled = Release { digest: answer.digest(), answer: Arc::new(answer) };
    let releases = Releases::restored(settled, candidate, now);
    let slot = Slot { key: CacheKey::restored(record.key), route: record.route.into(), releases, place: (false, 0) };
    Ok((CacheKey::restored(record.variant), slot))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

const VERSION: u32 = 1;
const FINISHED: &str = "release";
const DRAFT: &str = "draft";
/// Both lines of a file, at most: a key, headers and marks are bounded by what a request and an answer's head may be.
const MAX_RECORD_BYTES: u64 = 4 * 1024 * 1024;
