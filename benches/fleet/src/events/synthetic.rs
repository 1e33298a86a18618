//! Events of the vocabulary that ships with the crate, drawn by Zipf: a few programs make up most of what is seen.

use std::io::Write;

use rand::Rng;

use super::timestamp::rfc3339;
use super::vocabulary::{Entry, Rights, USERS, entries};
use super::{Occasion, Sight};
use crate::zipf::Zipf;

#[derive(Debug)]
pub(crate) struct SyntheticEvents {
    entries: Vec<Prepared>,
    zipf: Zipf,
}

/// An entry whose texts are JSON already and only wait for their placeholders.
#[derive(Debug)]
struct Prepared {
    image: Text,
    cmdline: Text,
    parent_image: Text,
    parent_cmdline: Text,
    cwd: Text,
    sha256: String,
    rights: Rights,
    varies: bool,
}

/// A text cut at its placeholders.
#[derive(Debug)]
struct Text(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// Escaped for JSON.
    Plain(String),
    User,
    Number,
    Hex,
    Guid,
}

impl SyntheticEvents {
    pub(super) fn new() -> Self {
        let entries: Vec<Prepared> = entries().iter().map(prepare).collect();
        let zipf = Zipf::new(entries.len(), 0.9);
        Self { entries, zipf }
    }

    pub(super) fn draw(&self, rng: &mut impl Rng) -> Sight {
        let entry = self.zipf.draw(rng);
        let variation = if self.entries[entry].varies { rng.random() } else { 0 };
        Sight { entry: u32::try_from(entry).unwrap_or(0), variation }
    }

    pub(super) fn render(&self, out: &mut Vec<u8>, sight: Sight, occasion: &Occasion<'_>) {
        let entry = &self.entries[sight.entry as usize % self.entries.len()];
        let filling = Filling { user: user(occasion.agent), variation: u64::from(sight.variation) };
        let (account, integrity) = match entry.rights {
            Rights::System => (r"NT AUTHORITY\\SYSTEM", "System"),
            Rights::Elevated => (filling.user, "High"),
            Rights::User => (filling.user, "Medium"),
        };
        let domain = if entry.rights == Rights::System { "" } else { r"OFFICE\\" };
        out.push(b'{');
        if !occasion.eid.is_empty() {
            text(out, &format!(r#""eid":"{}","#, occasion.eid));
        }
        let ts = rfc3339(occasion.unix_ms);
        text(out, &format!(r#""ts":"{ts}","pid":{},"ppid":{},"image_path":""#, occasion.pid, occasion.ppid));
        entry.image.write(out, &filling);
        text(out, r#"","cmdline":""#);
        entry.cmdline.write(out, &filling);
        text(
            out,
            &format!(r#"","sha256":"{}","user":"{domain}{account}","integrity":"{integrity}","cwd":""#, entry.sha256),
        );
        entry.cwd.write(out, &filling);
        text(out, r#"","parent_image":""#);
        entry.parent_image.write(out, &filling);
        text(out, r#"","parent_cmdline":""#);
        entry.parent_cmdline.write(out, &filling);
        text(out, "\"}");
    }
}

/// What goes where the placeholders stand.
struct Filling<'a> {
    user: &'a str,
    variation: u64,
}

impl Text {
    fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((at, length, piece)) = first_placeholder(rest) {
            pieces.push(Piece::Plain(escaped(&rest[..at])));
            pieces.push(piece);
            rest = &rest[at + length..];
        }
        pieces.push(Piece::Plain(escaped(rest)));
        Self(pieces)
    }

    fn varies(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Number | Piece::Hex | Piece::Guid))
    }

    fn write(&self, out: &mut Vec<u8>, filling: &Filling<'_>) {
        for (at, piece) in self.0.iter().enumerate() {
            let noise = mix(filling.variation ^ ((at as u64) << 40));
            match piece {
                Piece::Plain(plain) => text(out, plain),
                Piece::User => text(out, filling.user),
                Piece::Number => text(out, &(noise % 100_000).to_string()),
                Piece::Hex => text(out, &format!("{noise:016x}")),
                Piece::Guid => {
                    let other = mix(noise);
                    let (a, b, c) = (noise >> 32, noise >> 16 & 0xffff, noise & 0xffff);
                    text(
                        out,
                        &format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", other >> 48, other & 0xffff_ffff_ffff),
                    );
                }
            }
        }
    }
}

fn prepare(entry: &Entry) -> Prepared {
    let (cmdline, parent_cmdline) = (Text::new(&entry.cmdline), Text::new(&entry.parent_cmdline));
    let seed = entry.image.bytes().fold(17, |hash, byte| mix(hash ^ u64::from(byte)));
    Prepared {
        image: Text::new(&entry.image),
        varies: cmdline.varies() || parent_cmdline.varies(),
        cmdline,
        parent_image: Text::new(&entry.parent_image),
        parent_cmdline,
        cwd: Text::new(entry.cwd),
        sha256: (0..4).map(|part| format!("{:016x}", mix(seed + part))).collect(),
        rights: entry.rights,
    }
}

/// Where the first placeholder stands, how long it is and what it means.
fn first_placeholder(text: &str) -> Option<(usize, usize, Piece)> {
    let known = [("{user}", Piece::User), ("{number}", Piece::Number), ("{hex}", Piece::Hex), ("{guid}", Piece::Guid)];
    known
        .into_iter()
        .filter_map(|(name, piece)| Some((text.find(name)?, name.len(), piece)))
        .min_by_key(|found| found.0)
}

fn user(agent: u64) -> &'static str {
    USERS[usize::try_from(mix(agent) % USERS.len() as u64).unwrap_or(0)]
}

/// The text as it stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn text(out: &mut Vec<u8>, text: &str) {
    // Writing to a vector cannot fail.
    out.write_all(text.as_bytes()).ok();
}

/// One round of splitmix64: every bit of the input shows in every bit of the output.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
