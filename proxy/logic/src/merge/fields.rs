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

/// Where the fields of a record stand. Kept from record to record for its memory, and because records mostly look like the ones before.
#[derive(Debug, Default)]
pub(crate) struct Found {
    members: Vec<Member>,
    places: Vec<Option<Range<usize>>>,
    layout: Layout,
}

/// The names of the members of records of late, in their order: agents write theirs in one order, so that a name need not be read to
/// be known. At most [`Layout::LENGTH`] names of [`Layout::NAME`] bytes.
#[derive(Debug, Default)]
struct Layout(Vec<Known>);

/// A name as it is written, quotes and colon included, and which of the wanted ones it is.
#[derive(Debug)]
struct Known {
    text: Vec<u8>,
    wanted: Option<usize>,
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
        if self.members(record, found).is_err() {
            return false;
        }
        for (wanted, member) in self.wanted.iter().zip(&found.members) {
            for (place, rest) in &wanted.targets {
                let value = match member {
                    Member::Absent => Ok(None),
                    Member::Once(value) if rest.is_empty() => Ok(Some(value.clone())),
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

    /// Finds the wanted members of the record itself, those first that stand where they stood before.
    fn members(&self, record: &[u8], found: &mut Found) -> Result<(), Ambiguous> {
        let Found { members: values, layout, .. } = found;
        values.clear();
        values.resize(self.wanted.len(), Member::Absent);
        let names = || self.wanted.iter().map(|wanted| wanted.name.as_str());
        let mut members = Members::new(record, 0..record.len());
        for at in 0.. {
            let expected = layout.0.get(at).and_then(|known| Some((known.wanted, members.next_like(&known.text)?)));
            let (wanted, value) = match expected {
                Some(expected) => expected,
                None => {
                    let Some((name, value)) = members.next() else { break };
                    let wanted = position(&record[name.clone()], names())?;
                    layout.note(at, &record[name.start..value.start], wanted);
                    (wanted, value)
                }
            };
            if let Some(wanted) = wanted {
                values[wanted].meet(value);
            }
        }
        Ok(())
    }

    /// The values of the `same` fields, in order, each its JSON text.
    pub(crate) fn same<'r>(&self, record: &'r [u8], found: &Found) -> impl Iterator<Item = Option<&'r [u8]>> {
        found.places[..self.same].iter().map(|place| place.clone().map(|place| &record[place]))
    }

    /// The exemplar fields as the JSON text of an object; `None` when the record has none of them.
    pub(crate) fn exemplar(&self, record: &[u8], found: &Found) -> Option<Box<[u8]>> {
        let present = || {
            let fields = self.exemplar_names.iter().zip(&found.places[self.same..]);
            fields.filter_map(|(name, place)| Some((name.as_bytes(), &record[place.clone()?])))
        };
        let length: usize = present().map(|(name, value)| 1 + name.len() + value.len()).sum();
        if length == 0 {
            return None;
        }
        // Of just its size: it is kept.
        let mut object = Vec::with_capacity(length + 1);
        for (name, value) in present() {
            object.push(if object.is_empty() { b'{' } else { b',' });
            object.extend_from_slice(name);
            object.extend_from_slice(value);
        }
        object.push(b'}');
        Some(object.into())
    }
}

impl Layout {
    const LENGTH: usize = 64;
    const NAME: usize = 64;

    /// Notes what stands between the beginning of a member and its value, where that is a plain name and a colon.
    fn note(&mut self, at: usize, text: &[u8], wanted: Option<usize>) {
        let is_plain = text.len() <= Self::NAME && text.ends_with(b"\":") && !text.contains(&b'\\');
        if !is_plain {
            return;
        }
        if let Some(known) = self.0.get_mut(at) {
            known.text.clear();
            known.text.extend_from_slice(text);
            known.wanted = wanted;
        } else if at == self.0.len() && at < Self::LENGTH {
            self.0.push(Known { text: text.to_vec(), wanted });
        }
    }
}

impl Member {
    /// A member of that name has this value.
    fn meet(&mut self, value: Range<usize>) {
        *self = match self {
            Self::Absent => Self::Once(value),
            Self::Once(_) | Self::Twice => Self::Twice,
        };
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
        if let Some(place) = position(&record[name], names())? {
            found[place].meet(value);
        }
    }
    Ok(())
}

/// Which of these names one is that is written so.
fn position<'n>(name: &[u8], mut names: impl Iterator<Item = &'n str>) -> Result<Option<usize>, Ambiguous> {
    if name.contains(&b'\\') {
        let name: String = serde_json::from_slice(name).map_err(|_| Ambiguous)?;
        return Ok(names.position(|wanted| wanted == name));
    }
    let name = name.get(1..name.len() - 1).unwrap_or_default();
    Ok(names.position(|wanted| wanted.as_bytes() == name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn what_records_before_looked_like_changes_nothing(
            records in proptest::collection::vec(
                proptest::collection::vec(("[ab]|ab|[ab]\\\\u0061|\\PC", 0..9_u8, prop::bool::ANY), 0..5),
                1..6,
            ),
        ) {
            let fields = Fields::new(&["a".to_owned(), "ab".to_owned()], &["b".to_owned()]);
            let mut kept = Found::default();
            for record in records {
                let members = record.iter().map(|(name, value, spaced)| {
                    let name = if name.contains('\\') { format!("\"{name}\"") } else { serde_json::to_string(name).unwrap() };
                    if *spaced { format!("{name} : {value}") } else { format!("{name}:{value}") }
                });
                let text = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
                let mut fresh = Found::default();
                let found = [&mut kept, &mut fresh].map(|found| {
                    let has_key = fields.find(text.as_bytes(), found);
                    (has_key, has_key.then(|| found.places.clone()))
                });
                prop_assert_eq!(&found[0], &found[1], "{}", text);
            }
        }
    }
}
