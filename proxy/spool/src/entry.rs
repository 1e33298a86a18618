//! What a journal holds, and its bytes.
//!
//! An entry: the body's length as four bytes, the kind as one, three zero bytes, the CRC-32 of those eight, the CRC-32
//! of the body, and the body. Integers are little-endian. The head has a checksum of its own so that an entry whose
//! body is damaged can be stepped over.

use bytes::Bytes;
use memchr::memchr;
use weir_logic::Millis;
use weir_logic::merge::{Eviction, ShardWindow};

use crate::losses::{Loss, LossReason, Lost};

/// One entry of a journal. Times never fall from one entry to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Records of one agent.
    Upload(Upload),
    /// Something is to leave its windows early, for want of room.
    Flush {
        /// When this was decided.
        time: Millis,
        /// What.
        which: Eviction,
    },
    /// All windows are to leave early, because the plan changes.
    FlushAll {
        /// When this was decided.
        time: Millis,
    },
    /// The core is told of a loss.
    Loss(Loss),
    /// The generation is closed; nothing follows.
    End {
        /// When it was closed.
        time: Millis,
        /// Why.
        reason: EndReason,
    },
}

/// Records of one agent, accepted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// When they were accepted.
    pub time: Millis,
    /// The agent's tenant.
    pub tenant: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// How many they are.
    pub records: u32,
    /// The records, a line feed after each and none inside.
    pub lines: Bytes,
}

impl Upload {
    /// Each record, without its line feed.
    pub(crate) fn each(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.lines;
        std::iter::from_fn(move || {
            let (record, after) = rest.split_at(memchr(b'\n', rest)?);
            rest = &after[1..];
            Some(record)
        })
    }
}

/// Why a generation was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// It holds as many bytes as its batches may.
    Bytes,
    /// It holds as many records as its batches may.
    Records,
    /// Its first record is as old as a batch may get.
    Age,
    /// A window has ended.
    Due,
    /// The plan changes.
    Plan,
    /// The node stops.
    Stop,
    /// The node died before it was closed.
    Recovered,
    /// Keys had to leave early.
    Pressure,
    /// The disk had failed, and this shows that it works again.
    Probe,
}

impl Entry {
    /// When the entry was made.
    pub fn time(&self) -> Millis {
        match self {
            Self::Upload(upload) => upload.time,
            Self::Loss(loss) => Millis(loss.until),
            Self::Flush { time, .. } | Self::FlushAll { time } | Self::End { time, .. } => *time,
        }
    }

    /// Records that it holds.
    pub fn records(&self) -> u64 {
        match self {
            Self::Upload(upload) => u64::from(upload.records),
            Self::Flush { .. } | Self::FlushAll { .. } | Self::Loss(_) | Self::End { .. } => 0,
        }
    }

    /// Appends the entry's bytes.
    pub(crate) fn encode(&self, output: &mut Vec<u8>) {
        let time = self.time();
        match self {
            Self::Upload(Upload { tenant, agent, records, lines, .. }) => {
                encode_upload(output, time, (tenant.as_deref(), agent.as_deref()), *records, lines);
            }
            Self::Flush { which, .. } => encode(output, time, |output| encode_eviction(output, which)),
            Self::FlushAll { .. } => encode(output, time, |_| FLUSH_ALL),
            Self::Loss(loss) => encode(output, time, |output| {
                output.push(loss.reason.code());
                for number in [loss.lost.records, loss.lost.parts, loss.total, loss.since] {
                    output.extend_from_slice(&number.to_le_bytes());
                }
                LOSS
            }),
            Self::End { reason, .. } => encode(output, time, |output| {
                output.push(reason.code());
                END
            }),
        }
    }
}

/// Appends the bytes of an upload of so many records, by a tenant's agent.
pub(crate) fn encode_upload(
    output: &mut Vec<u8>,
    time: Millis,
    (tenant, agent): (Option<&str>, Option<&str>),
    records: u32,
    lines: &[u8],
) {
    encode(output, time, |output| {
        output.extend_from_slice(&records.to_le_bytes());
        encode_name(output, tenant);
        encode_name(output, agent);
        output.extend_from_slice(lines);
        UPLOAD
    });
}

/// Appends an entry whose body, after the time, is written by `content`, which gives its kind.
fn encode(output: &mut Vec<u8>, time: Millis, content: impl FnOnce(&mut Vec<u8>) -> u8) {
    let start = output.len();
    output.extend_from_slice(&[0; HEAD]);
    output.extend_from_slice(&time.0.to_le_bytes());
    let kind = content(output);
    let (head, body) = output[start..].split_at_mut(HEAD);
    let length = u32::try_from(body.len()).expect("an upload is bounded far below 4 GiB");
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4] = kind;
    let head_crc = crc32fast::hash(&head[..8]);
    head[8..12].copy_from_slice(&head_crc.to_le_bytes());
    head[12..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
}

/// What stands at a place in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// An entry and its length.
    Entry { entry: Entry, length: usize },
    /// An entry of that length whose body is damaged.
    Damaged { length: usize },
    /// No entry's head, or one that promises more bytes than there are.
    Broken,
    /// The end.
    Nothing,
}

/// The length of the entry whose head begins the bytes; `None` when none does.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    let [l0, l1, l2, l3, _, _, _, _, h0, h1, h2, h3, ..] = *bytes.first_chunk::<HEAD>()?;
    let whole = crc32fast::hash(&bytes[..8]) == u32::from_le_bytes([h0, h1, h2, h3]);
    whole.then(|| HEAD + u32::from_le_bytes([l0, l1, l2, l3]) as usize)
}

/// Reads an entry of which [`length`] was right about the head.
pub(crate) fn read(bytes: &Bytes) -> Scanned {
    let length = bytes.len();
    let (Some([_, _, _, _, kind, _, _, _, _, _, _, _, checksum @ ..]), Some(body)) =
        (bytes.first_chunk::<HEAD>(), bytes.get(HEAD..))
    else {
        return Scanned::Broken;
    };
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Scanned::Damaged { length };
    }
    match decode(*kind, body, bytes) {
        Some(entry) => Scanned::Entry { entry, length },
        None => Scanned::Damaged { length },
    }
}

/// Reads a body; what it holds of records is a part of `whole`.
fn decode(kind: u8, mut body: &[u8], whole: &Bytes) -> Option<Entry> {
    let body = &mut body;
    let time = Millis(u64::from_le_bytes(take(body)?));
    match kind {
        UPLOAD => {
            let records = u32::from_le_bytes(take(body)?);
            let tenant = decode_name(body)?;
            let agent = decode_name(body)?;
            let lines = whole.slice(whole.len() - body.len()..);
            Some(Entry::Upload(Upload { time, tenant, agent, records, lines }))
        }
        FLUSH => {
            let [shard] = take(body)?;
            let window = u64::from_le_bytes(take(body)?);
            Some(Entry::Flush { time, which: Eviction::Window(ShardWindow { shard, window }) })
        }
        FLUSH_TENANT => {
            let tenant = decode_name(body)?;
            Some(Entry::Flush { time, which: Eviction::Tenant(tenant) })
        }
        FLUSH_ALL => Some(Entry::FlushAll { time }),
        LOSS => {
            let [code] = take(body)?;
            let reason = LossReason::from_code(code)?;
            let mut number = || Some(u64::from_le_bytes(take(body)?));
            let lost = Lost { records: number()?, parts: number()? };
            Some(Entry::Loss(Loss { reason, lost, total: number()?, since: number()?, until: time.0 }))
        }
        END => {
            let [code] = take(body)?;
            Some(Entry::End { time, reason: EndReason::from_code(code)? })
        }
        _ => None,
    }
}

fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = body.split_first_chunk::<N>()?;
    *body = rest;
    Some(*taken)
}

/// Appends what leaves early and gives the entry's kind.
fn encode_eviction(output: &mut Vec<u8>, which: &Eviction) -> u8 {
    match which {
        Eviction::Window(ShardWindow { shard, window }) => {
            output.push(*shard);
            output.extend_from_slice(&window.to_le_bytes());
            FLUSH
        }
        Eviction::Tenant(tenant) => {
            encode_name(output, tenant.as_deref());
            FLUSH_TENANT
        }
    }
}

/// Appends a name: four bytes that hold 0 for none, else its length and one, and then its bytes.
fn encode_name(output: &mut Vec<u8>, name: Option<&str>) {
    let length =
        name.map_or(0, |name| u32::try_from(name.len() + 1).expect("a name comes from a bounded header section"));
    output.extend_from_slice(&length.to_le_bytes());
    output.extend_from_slice(name.unwrap_or_default().as_bytes());
}

fn decode_name(body: &mut &[u8]) -> Option<Option<String>> {
    let length = u32::from_le_bytes(take(body)?) as usize;
    let Some(length) = length.checked_sub(1) else { return Some(None) };
    let (name, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some(Some(std::str::from_utf8(name).ok()?.to_owned()))
}

impl EndReason {
    /// The reason's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Records => "records",
            Self::Age => "age",
            Self::Due => "due",
            Self::Plan => "plan",
            Self::Stop => "stop",
            Self::Recovered => "recovered",
            Self::Pressure => "pressure",
            Self::Probe => "probe",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Bytes => 0,
            Self::Records => 1,
            Self::Age => 2,
            Self::Due => 3,
            Self::Plan => 4,
            Self::Stop => 5,
            Self::Recovered => 6,
            Self::Pressure => 7,
            Self::Probe => 8,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        let all = [
            Self::Bytes,
            Self::Records,
            Self::Age,
            Self::Due,
            Self::Plan,
            Self::Stop,
            Self::Recovered,
            Self::Pressure,
            Self::Probe,
        ];
        all.into_iter().find(|reason| reason.code() == code)
    }
}

/// Bytes of an entry before its body.
pub(crate) const HEAD: usize = 16;

const UPLOAD: u8 = 1;
const FLUSH: u8 = 2;
const FLUSH_ALL: u8 = 3;
const END: u8 = 4;
const FLUSH_TENANT: u8 = 5;
const LOSS: u8 = 6;
