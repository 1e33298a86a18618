//! The keys of one shard, and which of them its table has yet to learn of.

use std::collections::HashMap;
use std::sync::Arc;

use super::table::{Content, Corrupt, Saved, decode, encode};
use super::{NEVER, Row, Taken, hash};
use crate::Millis;
use crate::merge::{Origin, key};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Shard {
    entries: HashMap<Arc<[u8]>, Entry>,
    /// Windows up to here have ended; records from before are in the table.
    until: Millis,
    /// The end of the window in which something has come since.
    open_until: Option<Millis>,
    /// No key is to be forgotten before.
    expiry: Millis,
    /// The keys that have changed since the table's last change; `None` when they are too many to list.
    touched: Option<Vec<Arc<[u8]>>>,
    table: Option<TableSize>,
    counted: u64,
    key_bytes: u64,
    waiting_bytes: u64,
    /// The table was damaged, and a replay is under way.
    lost: bool,
}

#[derive(Debug)]
struct Entry {
    saved: Saved,
    /// The last record, when it must leave at the window's end.
    waiting: Option<Box<[u8]>>,
    touched: bool,
}

/// Bytes of a table.
#[derive(Clone, Copy, Debug)]
struct TableSize {
    /// Of its last content in full.
    full: u64,
    /// Of what was added since.
    more: u64,
}

/// Bytes that may be added to a table, however small it is, before it is written in full again.
const MIN_MORE: u64 = 64 * 1024;

/// Keys that are listed as changed, however few there are.
const MIN_TOUCHED: usize = 1024;

/// What a key costs beside its own bytes: the entry, its place in the map and in the list of changes.
const KEY_COST: u64 = 200;

impl Default for Shard {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            until: Millis::default(),
            open_until: None,
            expiry: NEVER,
            touched: Some(Vec::new()),
            table: None,
            counted: 0,
            key_bytes: 0,
            waiting_bytes: 0,
            lost: false,
        }
    }
}

impl Shard {
    /// One whose table is damaged.
    pub(super) fn lost() -> Self {
        Self { lost: true, ..Self::default() }
    }

    pub(super) fn keys(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.key_bytes + self.waiting_bytes
    }

    pub(super) fn counted(&self) -> u64 {
        self.counted
    }

    /// Whether there is anything to give back, soon or late.
    pub(super) fn holds_rows(&self) -> bool {
        self.counted > 0 || self.waiting_bytes > 0
    }

    /// The end of the window in which something has come.
    pub(super) fn open_until(&self) -> Option<Millis> {
        self.open_until
    }

    /// The time before which no key is to be forgotten; `None` when there is none to forget.
    pub(super) fn expiry(&self) -> Option<Millis> {
        (!self.lost && !self.entries.is_empty()).then_some(self.expiry)
    }

    /// Takes a record received now, in a window that ends then.
    pub(super) fn take(&mut self, key: &[u8], record: &[u8], now: Millis, end: Millis, refresh_ms: u64) -> Taken {
        if self.lost {
            self.take_unsent(key, record, now);
            return Taken::Settled;
        }
        if now < self.until {
            return Taken::Settled;
        }
        self.open_until = Some(end);
        self.expiry = self.expiry.min(later(now, refresh_ms));
        let hash = hash(record);
        let Some(entry) = self.entries.get_mut(key) else {
            let saved = Saved { hash, sent_at: now, first_seen: now, last_seen: now, count: 0 };
            self.insert(key.into(), saved);
            return Taken::First;
        };
        if entry.saved.count == 0 {
            entry.saved.first_seen = now;
        }
        entry.saved.count += 1;
        entry.saved.last_seen = now;
        self.counted += 1;
        self.waiting_bytes -= length(entry.waiting.as_deref());
        let holds = hash == entry.saved.hash && now < later(entry.saved.sent_at, refresh_ms);
        entry.waiting = (!holds).then(|| record.into());
        self.waiting_bytes += length(entry.waiting.as_deref());
        if !std::mem::replace(&mut entry.touched, true) {
            self.list_again(key);
        }
        Taken::Held
    }

    /// Keeps a record of which it is not known whether it has left: it leaves once more, and counts for nothing.
    fn take_unsent(&mut self, key: &[u8], record: &[u8], now: Millis) {
        if !self.entries.contains_key(key) {
            let saved = Saved { hash: [0; 16], sent_at: Millis::default(), first_seen: now, last_seen: now, count: 0 };
            self.insert(key.into(), saved);
        }
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.saved.first_seen, entry.saved.last_seen) = (now, now);
            self.waiting_bytes -= length(entry.waiting.as_deref());
            self.waiting_bytes += record.len() as u64;
            entry.waiting = Some(record.into());
        }
    }

    /// The replay is over. Gives whether the shard was lost: what it holds then leaves with the window that ends there.
    pub(super) fn replayed(&mut self, end: Millis) -> bool {
        if self.lost {
            (self.lost, self.open_until) = (false, Some(end));
            // The table must be written even when nothing came; when keys expire is found out at the window's end.
            (self.touched, self.expiry) = (None, end);
            return true;
        }
        false
    }

    /// Ends the windows up to `end`: what has changed leaves, and keys of which nothing has come for long.
    pub(super) fn close(&mut self, end: Millis, refresh_ms: u64) -> Vec<Row> {
        self.until = self.until.max(end);
        let mut rows = Vec::new();
        if self.open_until.is_some_and(|open| open <= end) {
            self.open_until = None;
            rows = self.release(end);
        }
        if self.expiry <= end {
            let expired = |saved: &Saved| later(saved.last_seen, refresh_ms) <= end;
            let keys = self.entries.iter().filter(|(_, entry)| expired(&entry.saved) && entry.waiting.is_none());
            let keys = keys.map(|(key, _)| Arc::clone(key)).collect();
            rows.extend(self.forget(keys));
            self.reckon(refresh_ms);
        }
        rows
    }

    /// Makes room within the window that ends at `end`: waiting states leave, and unless they were most of what is held,
    /// the half of the keys that was not seen for longer is forgotten.
    pub(super) fn flush(&mut self, now: Millis, end: Millis) -> Vec<Row> {
        if self.lost || now < self.until {
            return Vec::new();
        }
        self.open_until = Some(end);
        let forget = self.waiting_bytes <= self.key_bytes;
        let mut rows = self.release(now);
        if forget {
            let mut keys: Vec<_> =
                self.entries.iter().map(|(key, entry)| (entry.saved.last_seen, Arc::clone(key))).collect();
            keys.sort_unstable();
            keys.truncate(keys.len().div_ceil(2));
            rows.extend(self.forget(keys.into_iter().map(|(_, key)| key).collect()));
        }
        rows
    }

    /// Forgets everything and gives back all that is held, and whether there is a table to do away with.
    pub(super) fn flush_all(&mut self, now: Millis) -> (Vec<Row>, bool) {
        let mut rows = self.release(now);
        rows.extend(self.forget(self.entries.keys().cloned().collect()));
        let before = std::mem::take(self);
        (rows, before.table.is_some())
    }

    /// The next change of the table, when there is one to make: not while a window is open, whose records follow.
    pub(super) fn change(&mut self) -> Option<Content> {
        let nothing = self.touched.as_ref().is_some_and(Vec::is_empty);
        if nothing || self.open_until.is_some() {
            return None;
        }
        let touched = self.touched.replace(Vec::new());
        let mut more = touched.as_deref().map(|keys| self.encode_more(keys));
        if let (Some(size), Some(content)) = (&mut self.table, &more) {
            size.more += content.len() as u64;
        }
        if self.table.is_none_or(|size| size.more > size.full.max(MIN_MORE)) {
            more = None;
        }
        self.entries.values_mut().filter(|entry| entry.touched).for_each(|entry| entry.touched = false);
        if let Some(more) = more {
            return Some(Content::More(more));
        }
        let entries: Vec<_> = self.entries.iter().map(|(key, entry)| (&**key, entry.saved)).collect();
        let content = encode(true, self.until, &[], &entries);
        self.table = Some(TableSize { full: content.len() as u64, more: 0 });
        Some(Content::Full(content))
    }

    fn encode_more(&self, keys: &[Arc<[u8]>]) -> Vec<u8> {
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for key in keys {
            match self.entries.get(key) {
                Some(entry) => there.push((&**key, entry.saved)),
                None => gone.push(&**key),
            }
        }
        encode(false, self.until, &gone, &there)
    }

    /// Adds the next content of the table. Its keys must be this shard's, of so many parts, its times not after `latest`.
    pub(super) fn load(&mut self, index: usize, content: &[u8], parts: usize, latest: Millis) -> Result<(), Corrupt> {
        let decoded = decode(content)?;
        if decoded.full {
            *self = Self { table: Some(TableSize { full: content.len() as u64, more: 0 }), ..Self::default() };
        } else {
            self.table.as_mut().ok_or(Corrupt)?.more += content.len() as u64;
        }
        if decoded.until > latest || decoded.until < self.until {
            return Err(Corrupt);
        }
        self.until = decoded.until;
        for key in decoded.gone {
            self.remove(key);
        }
        for (key, saved) in decoded.there {
            let origin = Origin::new(key::text(key::part(key, 0)), key::text(key::part(key, 1)));
            let bytes: usize = key::parts(key).map(|part| 4 + part.map_or(0, <[u8]>::len)).sum();
            let ours = key.starts_with(origin.key_prefix()) && origin.shard() == index;
            if !ours || bytes != key.len() || key::parts(key).count() != parts || !saved.is_sane(latest) {
                return Err(Corrupt);
            }
            self.remove(key);
            self.counted += saved.count;
            self.key_bytes += key.len() as u64 + KEY_COST;
            self.entries.insert(key.into(), Entry { saved, waiting: None, touched: false });
        }
        Ok(())
    }

    /// Finds out when the first key is to be forgotten.
    pub(super) fn reckon(&mut self, refresh_ms: u64) {
        let expiries = self.entries.values().map(|entry| later(entry.saved.last_seen, refresh_ms));
        self.expiry = expiries.min().unwrap_or(NEVER);
    }

    /// Lets the waiting states leave, in the order of their keys.
    fn release(&mut self, sent_at: Millis) -> Vec<Row> {
        let mut keys: Vec<Arc<[u8]>> = match &self.touched {
            Some(touched) => touched.clone(),
            None => self.entries.keys().cloned().collect(),
        };
        keys.sort_unstable();
        let mut rows = Vec::new();
        for key in keys {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let Some(record) = entry.waiting.take() else { continue };
            self.waiting_bytes -= record.len() as u64;
            self.counted -= entry.saved.count;
            let Saved { first_seen, last_seen, count, .. } = entry.saved;
            (entry.saved.hash, entry.saved.sent_at, entry.saved.count) = (hash(&record), sent_at, 0);
            rows.push(Row { first_seen, last_seen, count, record: Some(record), key });
        }
        rows
    }

    /// Forgets keys; what they have counted leaves, in their order. Nothing of theirs waits.
    fn forget(&mut self, mut keys: Vec<Arc<[u8]>>) -> Vec<Row> {
        keys.sort_unstable();
        let mut rows = Vec::new();
        for key in keys {
            let Some(entry) = self.remove(&key) else { continue };
            if !entry.touched {
                self.list(Arc::clone(&key));
            }
            let Saved { first_seen, last_seen, count, .. } = entry.saved;
            if count > 0 {
                rows.push(Row { first_seen, last_seen, count, record: None, key });
            }
        }
        rows
    }

    fn insert(&mut self, key: Arc<[u8]>, saved: Saved) {
        self.key_bytes += key.len() as u64 + KEY_COST;
        self.entries.insert(Arc::clone(&key), Entry { saved, waiting: None, touched: true });
        self.list(key);
    }

    fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.key_bytes -= key.len() as u64 + KEY_COST;
        self.waiting_bytes -= length(entry.waiting.as_deref());
        self.counted -= entry.saved.count;
        Some(entry)
    }

    fn list_again(&mut self, key: &[u8]) {
        if let Some((key, _)) = self.entries.get_key_value(key) {
            self.list(Arc::clone(key));
        }
    }

    /// Notes that a key has changed. A key may be listed twice, when it was forgotten and has come again.
    fn list(&mut self, key: Arc<[u8]>) {
        let most = self.entries.len() + MIN_TOUCHED;
        match &mut self.touched {
            Some(touched) if touched.len() < most => touched.push(key),
            touched => *touched = None,
        }
    }
}

fn length(record: Option<&[u8]>) -> u64 {
    record.map_or(0, |record| record.len() as u64)
}

fn later(time: Millis, by_ms: u64) -> Millis {
    Millis(time.0.saturating_add(by_ms))
}
