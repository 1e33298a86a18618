//! Fields of a record, found in one pass and kept as the JSON text they are.

use std::ops::Range;

use super::json::{Elements, Members};

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

/// Where the fields of a record stand. Kept from record to record for its memory.
#[derive(Debug, Default)]
pub(crate) struct Found {
    members: Vec<Member>,
    places: Vec<Option<Range<usize>>>,
}

#[derive(Clone, Debug)]
enum Member {
    Absent,
    Once(Range<usize>),
    Twice,
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

    /// Finds the fields; false when the record has none of the `same` fields, or a name on the way to one of them twice,
    /// or a name that cannot be read. Allocates for pointers with more than one token and for names with escapes only.
    pub(crate) fn find(&self, record: &[u8], found: &mut Found) -> bool {
        found.places.clear();
        found.places.resize(self.same + self.exemplar_names.len(), None);
        let names = || self.wanted.iter().map(|wanted| wanted.name.as_str());
        if members(record, 0..record.len(), names, &mut found.members).is_err() {
            return false;
        }
        for (wanted, member) in self.wanted.iter().zip(&found.members) {
            for (place, rest) in &wanted.targets {
                let value = match member {
                    Member::Absent => Ok(None),
                    Member::Once(value) => descend(record, value.clone(), rest),
                    Member::Twice => Err(Ambiguous),
                };
                match value {
                    Ok(value) => found.places[*place] = value,
                    Err(Ambiguous) if *place < self.same => return false,
                    Err(Ambiguous) => {}
                }
            }
        }
        found.places[..self.same].iter().any(Option::is_some)
    }

    /// The values of the `same` fields, in order, each its JSON text.
    pub(crate) fn same<'r>(&self, record: &'r [u8], found: &Found) -> impl Iterator<Item = Option<&'r [u8]>> {
        found.places[..self.same].iter().map(|place| place.clone().map(|place| &record[place]))
    }

    /// The exemplar fields as the JSON text of an object; `None` when the record has none of them.
    pub(crate) fn exemplar(&self, record: &[u8], found: &Found) -> Option<Box<[u8]>> {
        let mut object = Vec::new();
        for (name, place) in self.exemplar_names.iter().zip(&found.places[self.same..]) {
            let Some(place) = place else { continue };
            object.push(if object.is_empty() { b'{' } else { b',' });
            object.extend_from_slice(name.as_bytes());
            object.extend_from_slice(&record[place.clone()]);
        }
        if object.is_empty() {
            return None;
        }
        object.push(b'}');
        Some(object.into())
    }
}

/// A field's path: its pointer's tokens unescaped (RFC 6901, section 4), or the one name.
fn tokens(field: &str) -> Vec<String> {
    match field.strip_prefix('/') {
        Some(pointer) => pointer.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect(),
        None => vec![field.to_owned()],
    }
}

/// What a field means depends on the reader: a name stands twice in one object, or is none.
struct Ambiguous;

fn descend(record: &[u8], value: Range<usize>, path: &[String]) -> Result<Option<Range<usize>>, Ambiguous> {
    let Some((token, rest)) = path.split_first() else { return Ok(Some(value)) };
    if record[value.start] == b'[' {
        // RFC 6901, section 4: digits without leading zeros.
        let index = token.parse::<usize>().ok().filter(|index| index.to_string() == *token);
        let element = index.and_then(|index| Elements::new(record, value).nth(index));
        return element.map_or(Ok(None), |element| descend(record, element, rest));
    }
    let mut found = Vec::new();
    members(record, value, || std::iter::once(token.as_str()), &mut found)?;
    match found.pop() {
        Some(Member::Once(value)) => descend(record, value, rest),
        Some(Member::Twice) => Err(Ambiguous),
        // Also where there is no object: a pointer into a scalar leads nowhere.
        Some(Member::Absent) | None => Ok(None),
    }
}

/// Finds members of an object by name.
fn members<'n, N: Iterator<Item = &'n str>>(
    record: &[u8],
    object: Range<usize>,
    names: impl Fn() -> N,
    found: &mut Vec<Member>,
) -> Result<(), Ambiguous> {
    found.clear();
    found.extend(names().map(|_| Member::Absent));
    for (name, value) in Members::new(record, object) {
        let name = &record[name];
        let place = if name.contains(&b'\\') {
            let name: String = serde_json::from_slice(name).map_err(|_| Ambiguous)?;
            names().position(|wanted| wanted == name)
        } else {
            let name = name.get(1..name.len() - 1).unwrap_or_default();
            names().position(|wanted| wanted.as_bytes() == name)
        };
        if let Some(place) = place {
            found[place] = match found[place] {
                Member::Absent => Member::Once(value),
                Member::Once(_) | Member::Twice => Member::Twice,
            };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(fields: &[&str], record: &str) -> Option<Vec<Option<String>>> {
        let fields = Fields::new(&fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>(), &[]);
        let mut found = Found::default();
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let has_key = fields.find(record.as_bytes(), &mut found);
        has_key.then(|| fields.same(record.as_bytes(), &found).map(|value| value.map(text)).collect())
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
        let exemplar = |record: &[u8]| {
            let mut found = Found::default();
            assert!(fields.find(record, &mut found));
            fields.exemplar(record, &found)
        };
        let full = exemplar(br#"{"a":1,"pid":7,"ts":"x","p":0}"#);
        assert_eq!(full.as_deref(), Some(br#"{"pid":7,"ts":"x"}"#.as_slice()));
        assert_eq!(exemplar(br#"{"a":1}"#), None);
    }

    #[test]
    fn a_record_with_a_name_that_is_no_text_has_no_key() {
        assert_eq!(same(&["a"], r#"{"a":1,"\ud800":2}"#), None);
    }
}
