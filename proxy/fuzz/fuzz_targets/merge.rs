//! Records that merge: the names of the `same` fields, then records, one a line. A record counts as a repeat exactly
//! when a naive reading finds the same text in every field of an earlier one, and none goes uncounted.

#![no_main]

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU64;

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use weir_batch::{Encoding, Framing, InflateLimits, Upload, UploadLimits};
use weir_fuzz::sections;
use weir_logic::Millis;
use weir_logic::merge::{Applied, Load, MergePlan, Merger, Origin};

const LIMITS: UploadLimits = UploadLimits {
    inflate: InflateLimits { max_bytes: 1 << 16, max_ratio: 100 },
    max_records: 100,
    max_record_bytes: 1 << 12,
    max_depth: 32,
    max_string_bytes: 1 << 12,
};

fuzz_target!(|input: &str| {
    let mut input = sections(input);
    let names: Vec<String> = input.next().unwrap_or_default().split(' ').take(6).map(str::to_owned).collect();
    let body = input.next().unwrap_or_default();
    let Ok(upload) = Upload::parse(body.as_bytes(), Encoding::Identity, Framing::Lines, &LIMITS) else { return };
    let mut merger = Merger::new(MergePlan {
        exemplars: names.clone(),
        same: names.clone(),
        max_exemplars: 2,
        window_ms: NonZeroU64::new(60_000).expect("not zero"),
        max: Load { keys: 10, bytes: 1 << 20 },
        max_tenant: Load { keys: 10, bytes: 1 << 20 },
    });
    assert_eq!(merger.advance(Millis(1_700_000_000_000)).count(), 0);
    let origin = Origin::new(Some("t"), None);
    let mut seen: HashMap<Key, u64> = HashMap::new();
    for record in upload.lines.split_inclusive(|byte| *byte == b'\n') {
        let record = std::str::from_utf8(record).expect("an accepted record is text").trim_end_matches('\n');
        let applied = merger.apply(&origin, record.as_bytes());
        let Some(key) = key(&names, record) else {
            assert_eq!(applied, Applied::First, "a record without a key is merged: {record}");
            continue;
        };
        let count = seen.entry(key).or_default();
        assert_eq!(applied == Applied::Repeat, *count > 0, "{record}");
        *count += 1;
    }
    let repeats: Vec<_> = merger.flush_all().collect();
    assert_eq!(repeats.len(), seen.values().filter(|count| **count > 1).count());
    for repeat in &repeats {
        let key: Key = repeat.fields().map(|value| Some(String::from_utf8(value?.to_vec()).expect("text"))).collect();
        assert_eq!(Some(&(repeat.count + 1)), seen.get(&key), "records of a key are lost or doubled");
        for exemplar in &repeat.exemplars {
            assert!(serde_json::from_slice::<Members>(exemplar).is_ok(), "an example is no object");
        }
    }
    assert_eq!((merger.load(), merger.counted()), (Load::default(), 0));
});

/// The text of each field.
type Key = Vec<Option<String>>;

/// A record's key; `None` when it has none of the fields, or a name twice on the way to one, or one that is no text.
fn key(names: &[String], record: &str) -> Option<Key> {
    let mut key = Vec::new();
    for name in names {
        let tokens: Vec<String> = match name.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect(),
            None => vec![name.clone()],
        };
        key.push(find(record, &tokens).ok()?);
    }
    key.iter().any(Option::is_some).then_some(key)
}

/// What a field means depends on the reader.
struct Ambiguous;

fn find(text: &str, tokens: &[String]) -> Result<Option<String>, Ambiguous> {
    let Some((token, rest)) = tokens.split_first() else { return Ok(Some(text.to_owned())) };
    if let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) {
        let digits = token == "0" || !token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit());
        let index = token.parse::<usize>().ok().filter(|_| digits);
        return index.and_then(|index| elements.get(index)).map_or(Ok(None), |element| find(element.get(), rest));
    }
    let Ok(Members(members)) = serde_json::from_str(text) else {
        // An object with a name that is no text, or no object.
        return if text.starts_with('{') { Err(Ambiguous) } else { Ok(None) };
    };
    let mut named = members.iter().filter(|(name, _)| name == token);
    match (named.next(), named.next()) {
        (Some(_), Some(_)) => Err(Ambiguous),
        (Some((_, value)), None) => find(value.get(), rest),
        (None, _) => Ok(None),
    }
}

/// The members of an object in order, duplicates among them.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
