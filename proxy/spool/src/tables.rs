//! Tables: what a stream of states remembers for longer than a window, and so for longer than its segments.
//!
//! A shard's table is the file `tables/SHARD-GENERATION.table`. Layout of version 1, integers little-endian: the magic
//! `WEIRTAB` and a zero byte; the version as two bytes; two bytes of features that a reader must know, none so far; the
//! generation since which records are states under this plan, as eight bytes; the length of the plan as four; the
//! [`Plan`] as JSON; the CRC-32 of all before it. Contents follow (see [`weir_logic::state`]), the first in full: the
//! length as eight bytes, the CRC-32 of the content, the content.
//!
//! The notes on emitted generations say which file is a shard's table, and how many bytes of it. So a content that was
//! written for a generation that was not announced is cut off on start, and one that is missing is damage. A content
//! in full goes to a new file; the one before it stays until its successor is noted.
//!
//! A table that cannot be read, even a part of it, is put aside as `.damaged`: an old hash is worse than none. What it
//! had counted is lost, and [`crate::Ledger::damaged`] says how much; the shard's states leave once more.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_logic::Millis;
use weir_logic::state::{Change, Content, States};

use crate::files::Files;
use crate::inspect::{InspectError, TableSummary};
use crate::ledger::Mark;
use crate::log::{Log, Sync};
use crate::plan::{Plan, PlanMode};
use crate::recovery::SpoolError;

/// Where a shard's table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) shard: u8,
    /// In the file's name.
    pub(crate) generation: u64,
    /// Bytes of the file that count; 0 when there is no table any more.
    pub(crate) length: u64,
}

/// The tables of one stream. Calls that return an [`io::Result`] write files; one that fails may be made again.
pub(crate) struct Tables<F: Files> {
    files: F,
    root: PathBuf,
    open: BTreeMap<u8, Table<F>>,
    /// To be written.
    changes: VecDeque<Change>,
    /// Written, and not yet noted.
    written: BTreeMap<u8, Place>,
    /// Files that go once the notes say that others have taken their place.
    replaced: Vec<PathBuf>,
    /// Whether names are to be made durable.
    named: bool,
}

struct Table<F: Files> {
    generation: u64,
    log: Log<F>,
}

/// What tables give to start from.
pub(crate) struct Seeds {
    /// The generation that they begin with; those before it had another plan.
    since: u64,
    plan: Option<Arc<Plan>>,
    states: Option<States>,
    /// Shards whose tables are damaged.
    lost: Vec<u8>,
}

impl Seeds {
    /// The plan that the tables were written under.
    pub(crate) fn plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }

    /// Whether a generation starts from them.
    pub(crate) fn reach(&self, generation: u64) -> bool {
        generation >= self.since
    }

    /// Damaged tables.
    pub(crate) fn damaged(&self) -> usize {
        self.lost.len()
    }

    /// What is known in a stream of that mode, and since when.
    pub(crate) fn into_states(self, mode: &PlanMode) -> Option<(States, u64)> {
        let PlanMode::State(plan) = mode else { return None };
        let known = self.states.filter(|states| states.plan() == plan);
        let mut states = known.unwrap_or_else(|| States::new(plan.clone()));
        self.lost.iter().for_each(|shard| states.lose(*shard));
        Some((states, self.since))
    }
}

const MAGIC: &[u8; 8] = b"WEIRTAB\0";
const VERSION: u16 = 1;
const FEATURES: u16 = 0;
const DIR: &str = "tables";
const EXTENSION: &str = ".table";

impl<F: Files> Tables<F> {
    /// Opens the tables that the notes name, and reads them; other files are removed. Memory: one file beside what is in
    /// it.
    pub(crate) fn open(
        files: F,
        root: &Path,
        places: &[Place],
        mark: Option<Mark>,
    ) -> Result<(Self, Option<Seeds>), SpoolError> {
        let dir = root.join(DIR);
        let at = |error| SpoolError::Io { path: dir.clone(), error };
        let mut tables = Self {
            files,
            root: root.to_owned(),
            open: BTreeMap::new(),
            changes: VecDeque::new(),
            written: BTreeMap::new(),
            replaced: Vec::new(),
            named: false,
        };
        tables.remove_others(places).map_err(at)?;
        let mut read = Vec::new();
        let mut lost = Vec::new();
        for place in places {
            match tables.read(place)? {
                Some(table) => read.push((*place, table)),
                None => lost.push(place.shard),
            }
        }
        if places.is_empty() {
            return Ok((tables, None));
        }
        let newest = read.iter().max_by_key(|(_, table)| table.since);
        let (since, plan) = newest.map_or((0, None), |(_, table)| (table.since, Some(Arc::clone(&table.plan))));
        let mut states = match plan.as_deref() {
            Some(Plan { mode: PlanMode::State(plan), .. }) => Some(States::new(plan.clone())),
            _ => None,
        };
        let latest = Millis(mark.map_or(0, |mark| mark.sealed_at));
        for (place, table) in read {
            let path = tables.path(&place);
            let loaded = states.as_mut().filter(|_| table.since == since).is_some_and(|states| {
                table.contents().all(|content| states.load(place.shard, content, latest).is_ok())
            });
            let io = |error| SpoolError::Io { path: path.clone(), error };
            if loaded {
                let log = Log::open(&tables.files, &path, place.length).map_err(io)?;
                tables.open.insert(place.shard, Table { generation: place.generation, log });
            } else {
                tables.put_aside(&path).map_err(io)?;
                lost.push(place.shard);
            }
        }
        Ok((tables, Some(Seeds { since, plan, states, lost })))
    }

    /// Adds changes to be written.
    pub(crate) fn push(&mut self, changes: Vec<Change>) {
        self.changes.extend(changes);
    }

    /// Makes the changes durable, as those of a generation under a plan that has been in force since another.
    pub(crate) fn write(&mut self, generation: u64, plan: &Plan, since: u64) -> io::Result<()> {
        while let Some(Change { shard, content }) = self.changes.front() {
            let shard = *shard;
            let length = match content {
                Content::Nothing => {
                    self.retire(shard);
                    0
                }
                Content::More(content) => {
                    let table = self.open.get_mut(&shard).ok_or_else(|| io::Error::other("a table is missing"))?;
                    table.log.append(&block(content), Sync::Now)?;
                    table.log.length()
                }
                Content::Full(content) => {
                    let bytes = [head(plan, since), block(content)].concat();
                    let place = Place { shard, generation, length: bytes.len() as u64 };
                    let log = self.create(&place, &bytes)?;
                    self.retire(shard);
                    self.open.insert(shard, Table { generation, log });
                    place.length
                }
            };
            let generation = self.open.get(&shard).map_or(0, |table| table.generation);
            self.written.insert(shard, Place { shard, generation, length });
            self.changes.pop_front();
        }
        if self.named {
            self.files.sync_dir(&self.root.join(DIR))?;
            self.named = false;
        }
        Ok(())
    }

    /// What has been written since the last note.
    pub(crate) fn written(&self) -> Vec<Place> {
        self.written.values().copied().collect()
    }

    /// What was written is noted: files that others have replaced go. One that cannot be removed goes with the next
    /// start.
    pub(crate) fn noted(&mut self) {
        self.written.clear();
        for path in std::mem::take(&mut self.replaced) {
            self.files.remove(&path).unwrap_or(());
        }
    }

    fn create(&mut self, place: &Place, bytes: &[u8]) -> io::Result<Log<F>> {
        let dir = self.root.join(DIR);
        self.files.create_dir(&dir)?;
        self.files.sync_dir(&self.root)?;
        let temporary = dir.join("new.tmp");
        let log = Log::create(&self.files, &temporary, bytes)?;
        self.files.rename(&temporary, &self.path(place))?;
        self.named = true;
        Ok(log)
    }

    /// Forgets a shard's file, which stays until that is noted.
    fn retire(&mut self, shard: u8) {
        if let Some(Table { generation, .. }) = self.open.remove(&shard) {
            self.replaced.push(self.path(&Place { shard, generation, length: 0 }));
        }
    }

    /// Reads a table; `None` when it is damaged, and then put aside.
    fn read(&self, place: &Place) -> Result<Option<Read>, SpoolError> {
        let path = self.path(place);
        let io = |error| SpoolError::Io { path: path.clone(), error };
        let length = usize::try_from(place.length).unwrap_or(usize::MAX);
        let bytes = match self.files.read(&path, length) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(io)?,
        };
        match Read::decode(bytes, length) {
            Ok(read) => Ok(Some(read)),
            Err(Unreadable::Newer { version, features }) => Err(SpoolError::Newer { path, version, features }),
            Err(Unreadable::Damaged) => {
                self.put_aside(&path).map_err(io)?;
                Ok(None)
            }
        }
    }

    fn put_aside(&self, path: &Path) -> io::Result<()> {
        self.files.rename(path, &path.with_extension("table.damaged"))
    }

    fn remove_others(&self, places: &[Place]) -> io::Result<()> {
        let dir = self.root.join(DIR);
        let listed = match self.files.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed?,
        };
        let named: Vec<String> = places.iter().map(file_name).collect();
        let ours = |name: &str| name.ends_with(EXTENSION) || name.ends_with(".tmp");
        for listed in listed.iter().filter(|listed| ours(&listed.name) && !named.contains(&listed.name)) {
            self.files.remove(&dir.join(&listed.name))?;
        }
        Ok(())
    }

    fn path(&self, place: &Place) -> PathBuf {
        path_of(&self.root, place)
    }
}

/// Where a shard's table lies in a spool's directory.
pub(crate) fn path_of(root: &Path, place: &Place) -> PathBuf {
    root.join(DIR).join(file_name(place))
}

/// Whether a file is a table, whole as far as the notes say that it counts.
pub(crate) fn is_whole(bytes: &[u8], place: &Place) -> bool {
    let length = usize::try_from(place.length).unwrap_or(usize::MAX);
    bytes.len() >= length && Read::decode(bytes[..length].to_vec(), length).is_ok()
}

/// What is in a table's file.
pub(crate) fn inspect(bytes: Vec<u8>) -> Result<TableSummary, InspectError> {
    let length = bytes.len();
    match Read::decode(bytes, length) {
        Ok(Read { since, plan, contents, .. }) => {
            Ok(TableSummary { since, plan: Plan::clone(&plan), contents: contents.len() })
        }
        Err(Unreadable::Damaged) => Err(InspectError::Table),
        Err(Unreadable::Newer { version, features }) => Err(InspectError::Newer { version, features }),
    }
}

fn file_name(place: &Place) -> String {
    format!("{:02}-{:020}{EXTENSION}", place.shard, place.generation)
}

fn head(plan: &Plan, since: u64) -> Vec<u8> {
    let plan = serde_json::to_vec(plan).expect("strings and numbers always serialise");
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&FEATURES.to_le_bytes());
    head.extend_from_slice(&since.to_le_bytes());
    head.extend_from_slice(&u32::try_from(plan.len()).expect("a plan is a few names").to_le_bytes());
    head.extend_from_slice(&plan);
    head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    head
}

fn block(content: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(content.len() + 12);
    block.extend_from_slice(&(content.len() as u64).to_le_bytes());
    block.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
    block.extend_from_slice(content);
    block
}

/// A table's file, checked.
struct Read {
    since: u64,
    plan: Arc<Plan>,
    bytes: Vec<u8>,
    /// Where its contents stand.
    contents: Vec<std::ops::Range<usize>>,
}

/// Why a file is no table.
enum Unreadable {
    Damaged,
    Newer { version: u16, features: u16 },
}

impl Read {
    fn decode(bytes: Vec<u8>, length: usize) -> Result<Self, Unreadable> {
        let damaged = || Unreadable::Damaged;
        let (head, rest) = bytes.split_first_chunk::<24>().ok_or_else(damaged)?;
        let [.., v0, v1, f0, f1, s0, s1, s2, s3, s4, s5, s6, s7, l0, l1, l2, l3] = *head;
        let (version, features) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([f0, f1]));
        let plan_bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if !head.starts_with(MAGIC) {
            return Err(Unreadable::Damaged);
        }
        if version > VERSION || features & !FEATURES != 0 {
            return Err(Unreadable::Newer { version, features });
        }
        let (plan, rest) = rest.split_at_checked(plan_bytes).ok_or_else(damaged)?;
        let (checksum, _) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let start = 24 + plan_bytes + 4;
        if crc32fast::hash(&bytes[..start - 4]) != u32::from_le_bytes(*checksum) || bytes.len() < length {
            return Err(Unreadable::Damaged);
        }
        let since = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let plan = Arc::new(serde_json::from_slice(plan).map_err(|_| Unreadable::Damaged)?);
        let contents = contents(&bytes, start).ok_or_else(damaged)?;
        Ok(Self { since, plan, bytes, contents })
    }

    fn contents(&self) -> impl Iterator<Item = &[u8]> {
        self.contents.iter().map(|range| &self.bytes[range.clone()])
    }
}

/// Where the contents stand, from there to the end; `None` when one is cut short or damaged.
fn contents(bytes: &[u8], start: usize) -> Option<Vec<std::ops::Range<usize>>> {
    let mut contents = Vec::new();
    let mut at = start;
    while at < bytes.len() {
        let (length, rest) = bytes[at..].split_first_chunk::<8>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let content = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return None;
        }
        contents.push(at + 12..at + 12 + content.len());
        at += 12 + content.len();
    }
    Some(contents)
}
