//! Fields of a record, found in one pass and kept as the JSON text they are.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The fields to look for.
#[derive(Debug)]
pub(crate) struct Fields {
    wanted: Vec<Wanted>,
    same: usize,
    /// The exemplars' names as JSON text with a colon, in order.
    exemplar_names: Vec<String>,
}

/// A top-level name and what is looked for in its value.
#[derive(Debug)]
struct Wanted {
    name: String,
    /// For each field under this name: its place in the list of values, and the rest of its pointer.
    targets: Vec<(usize, Vec<String>)>,
}

/// The values found in one record, each its JSON text.
pub(crate) struct Values<'p, 'r> {
    fields: &'p Fields,
    found: Vec<Option<&'r [u8]>>,
}

impl<'r> Values<'_, 'r> {
    /// The values of the `same` fields, in order.
    pub(crate) fn same(&self) -> impl Iterator<Item = Option<&'r [u8]>> {
        self.found[..self.fields.same].iter().copied()
    }

    /// The exemplar fields as the JSON text of an object; `None` when the record has none of them.
    pub(crate) fn exemplar(&self) -> Option<Box<[u8]>> {
        let mut object = Vec::new();
        for (name, value) in self.fields.exemplar_names.iter().zip(&self.found[self.fields.same..]) {
            let Some(value) = value else { continue };
            object.push(if object.is_empty() { b'{' } else { b',' });
            object.extend_from_slice(name.as_bytes());
            object.extend_from_slice(value);
        }
        if object.is_empty() {
            return None;
        }
        object.push(b'}');
        Some(object.into())
    }
}

impl Fields {
    pub(crate) fn new(same: &[String], exemplars: &[String]) -> Self {
        let mut wanted: Vec<Wanted> = Vec::new();
        for (place, field) in same.iter().chain(exemplars).enumerate() {
            let mut tokens = tokens(field);
            let name = if tokens.is_empty() { String::new() } else { tokens.remove(0) };
            match wanted.iter_mut().find(|wanted| wanted.name == name) {
                Some(known) => known.targets.push((place, tokens)),
                None => wanted.push(Wanted { name, targets: vec![(place, tokens)] }),
            }
        }
        let exemplar_names =
            exemplars.iter().map(|name| format!("{}:", serde_json::Value::String(name.clone()))).collect();
        Self { wanted, same: same.len(), exemplar_names }
    }

    /// The record's values; `None` when it has none of the `same` fields, or a name on the way to one of them twice.
    pub(crate) fn values<'r>(&self, record: &'r [u8]) -> Option<Values<'_, 'r>> {
        let names: Vec<&str> = self.wanted.iter().map(|wanted| wanted.name.as_str()).collect();
        let members = members(record, &names)?;
        let mut found = vec![None; self.same + self.exemplar_names.len()];
        for (wanted, member) in self.wanted.iter().zip(members) {
            for (place, rest) in &wanted.targets {
                let value = match &member {
                    Member::Absent => None,
                    Member::Once(value) => match descend(value, rest) {
                        Ok(value) => value,
                        Err(Twice) if *place < self.same => return None,
                        Err(Twice) => None,
                    },
                    Member::Twice if *place < self.same => return None,
                    Member::Twice => None,
                };
                found[*place] = value;
            }
        }
        found[..self.same].iter().any(Option::is_some).then_some(Values { fields: self, found })
    }
}

/// A field's path: its pointer's tokens unescaped (RFC 6901, section 4), or the one name.
fn tokens(field: &str) -> Vec<String> {
    match field.strip_prefix('/') {
        Some(pointer) => pointer.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect(),
        None => vec![field.to_owned()],
    }
}

/// A name stands twice in one object, so that what it means depends on the reader.
struct Twice;

fn descend<'r>(value: &'r RawValue, path: &[String]) -> Result<Option<&'r [u8]>, Twice> {
    let text = value.get();
    let Some((token, rest)) = path.split_first() else { return Ok(Some(text.as_bytes())) };
    if text.starts_with('[') {
        // RFC 6901, section 4: digits without leading zeros.
        let index = token.parse::<usize>().ok().filter(|index| index.to_string() == *token);
        let elements: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
        return index.and_then(|index| elements.get(index)).map_or(Ok(None), |element| descend(element, rest));
    }
    match members(text.as_bytes(), &[token]).and_then(|mut members| members.pop()) {
        Some(Member::Once(value)) => descend(value, rest),
        Some(Member::Twice) => Err(Twice),
        // No object at all: a pointer into a scalar leads nowhere.
        Some(Member::Absent) | None => Ok(None),
    }
}

#[derive(Clone, Copy)]
enum Member<'r> {
    Absent,
    Once(&'r RawValue),
    Twice,
}

/// Finds members of an object by name; `None` when the text is no object.
fn members<'r>(object: &'r [u8], names: &[&str]) -> Option<Vec<Member<'r>>> {
    serde_json::Deserializer::from_slice(object).deserialize_map(Finder { names }).ok()
}

struct Finder<'n> {
    names: &'n [&'n str],
}

impl<'de> Visitor<'de> for Finder<'_> {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = vec![Member::Absent; self.names.len()];
        while let Some(Name(name)) = map.next_key()? {
            match self.names.iter().position(|wanted| *wanted == name) {
                Some(place) => {
                    let value: &RawValue = map.next_value()?;
                    members[place] = match members[place] {
                        Member::Absent => Member::Once(value),
                        Member::Once(_) | Member::Twice => Member::Twice,
                    };
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(members)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn same(fields: &[&str], record: &str) -> Option<Vec<Option<String>>> {
        let fields = Fields::new(&fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>(), &[]);
        let values = fields.values(record.as_bytes())?;
        Some(values.same().map(|value| value.map(|value| String::from_utf8(value.to_vec()).unwrap())).collect())
    }

    #[test]
    fn values_keep_their_text() {
        let found = same(&["a", "b", "c"], r#"{"b": 1.0e0 ,"x":[{"a":0}],"a":"\u0041"}"#).unwrap();
        assert_eq!(found, [Some(r#""\u0041""#.to_owned()), Some("1.0e0".to_owned()), None]);
    }

    #[test]
    fn pointers_lead_into_objects_and_arrays() {
        let record = r#"{"process":{"name":"x","args":["a","b"]},"a/b":{"~":1}}"#;
        let found =
            same(&["/process/name", "/process/args/1", "/a~1b/~0", "/process/args/01", "/process/name/x"], record);
        let expected = [Some("\"x\""), Some("\"b\""), Some("1"), None, None].map(|text| text.map(str::to_owned));
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn names_are_compared_without_their_escapes() {
        assert_eq!(same(&["ab"], r#"{"\u0061b":1}"#).unwrap(), [Some("1".to_owned())]);
    }

    #[test]
    fn a_record_that_readers_may_read_differently_has_no_key() {
        assert_eq!(same(&["a"], r#"{"a":1,"a":2}"#), None);
        assert_eq!(same(&["a"], r#"{"a":1,"\u0061":2}"#), None);
        assert_eq!(same(&["/a/b"], r#"{"a":{"b":1,"b":2}}"#), None);
    }

    #[test]
    fn a_record_with_none_of_the_fields_has_no_key() {
        assert_eq!(same(&["a", "/b/c"], r#"{"x":1,"b":{}}"#), None);
    }

    #[test]
    fn exemplars_are_an_object_of_the_fields_there_are() {
        let fields = Fields::new(&["a".to_owned()], &["pid".to_owned(), "/p/q".to_owned(), "ts".to_owned()]);
        let values = fields.values(br#"{"a":1,"pid":7,"ts":"x","p":0}"#).unwrap();
        assert_eq!(values.exemplar().as_deref(), Some(br#"{"pid":7,"ts":"x"}"#.as_slice()));
        assert_eq!(fields.values(br#"{"a":1}"#).unwrap().exemplar(), None);
    }
}
