//! Rows into tables.

use std::collections::{BTreeSet, HashMap};

use memchr::{memchr, memchr_iter};

use super::{Elements, FORMAT_LINE, Members, members};
use crate::json::scan_value;

/// Writes rows, each of which ends with a line feed, as `shapes/1`; `same` names the fields that make a shape. `None`
/// when that takes as many bytes as the rows, or a row is no JSON. Memory beside the rows: the result twice, and some
/// hundred bytes for each shape and sender.
pub(crate) fn encode(rows: &[u8], same: &[String]) -> Option<Vec<u8>> {
    let mut tables = Tables {
        same,
        kinds: HashMap::new(),
        tables: Vec::new(),
        plain: Vec::new(),
        dictionary: Dictionary::default(),
    };
    for row in lines(rows) {
        tables.count(row)?;
    }
    for (number, row) in (0..).zip(lines(rows)) {
        tables.add(number, row);
    }
    let mut output = FORMAT_LINE.to_vec();
    tables.write(&mut output);
    (output.len() < rows.len()).then_some(output)
}

fn lines(rows: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr_iter(b'\n', rows).map(move |end| {
        let line = &rows[start..end];
        start = end + 1;
        line
    })
}

struct Tables<'a> {
    same: &'a [String],
    /// The table for rows that look like that, and how many do.
    kinds: HashMap<Vec<u8>, (Option<usize>, u64)>,
    tables: Vec<Table<'a>>,
    /// Rows that look like no other.
    plain: Vec<(u64, &'a [u8])>,
    dictionary: Dictionary<'a>,
}

/// Rows that look alike.
struct Table<'a> {
    kind: &'a [u8],
    members: Vec<&'a [u8]>,
    fields: Vec<&'a [u8]>,
    runs: Runs,
    origins: Option<Column>,
    shapes: Vec<usize>,
    parts: Vec<(&'a [u8], Part<'a>)>,
}

/// A part of all rows of a table.
enum Part<'a> {
    Values(Column),
    Columns(Vec<(&'a [u8], Column)>),
}

/// Values with commas between them.
#[derive(Default)]
struct Column(Vec<u8>);

/// Numbers of rows, as runs: the first, and how many.
#[derive(Default)]
struct Runs(Vec<(u64, u64)>);

/// What rows refer to.
#[derive(Default)]
struct Dictionary<'a> {
    origins: HashMap<(&'a [u8], &'a [u8]), usize>,
    tenants: Column,
    agents: Column,
    shapes: HashMap<Vec<Option<&'a [u8]>>, usize>,
}

/// A row, taken apart.
struct Row<'a> {
    kind: &'a [u8],
    members: Vec<(&'a [u8], Content<'a>)>,
}

enum Content<'a> {
    Value(&'a [u8]),
    /// A record or key.
    Body(Members<'a>),
    /// Objects with the same members.
    Examples(Vec<Members<'a>>),
}

impl<'a> Tables<'a> {
    /// Looks at a row before any is written; `None` when it is no JSON.
    fn count(&mut self, row: &'a [u8]) -> Option<()> {
        match Row::parse(row) {
            Some(row) => self.kinds.entry(row.looks()).or_default().1 += 1,
            None => drop(scan_value(row, 0).ok().filter(|scanned| scanned.end == row.len())?),
        }
        Some(())
    }

    fn add(&mut self, number: u64, line: &'a [u8]) {
        let row = Row::parse(line);
        let place = row.as_ref().and_then(|row| self.kinds.get_mut(&row.looks()));
        let (Some(row), Some((table, count))) = (row, place) else { return self.plain.push((number, line)) };
        if *count < 2 {
            return self.plain.push((number, line));
        }
        let table = *table.get_or_insert_with(|| {
            self.tables.push(Table::of(&row, self.same));
            self.tables.len() - 1
        });
        self.tables[table].add(number, &row, self.same, &mut self.dictionary);
    }

    fn write(self, output: &mut Vec<u8>) {
        let places = self.dictionary.write(self.same, output);
        for table in self.tables {
            table.write(&places, output);
        }
        if !self.plain.is_empty() {
            let (mut runs, mut column) = (Runs::default(), Column::default());
            for (number, row) in self.plain {
                runs.push(number);
                column.push(row);
            }
            output.extend_from_slice(b"{\"kind\":\"row\",\"rows\":");
            runs.write(output);
            output.extend_from_slice(b",\"row\":");
            column.write(output);
            output.extend_from_slice(b"}\n");
        }
    }
}

/// Names that mean something else at the top of a table.
const RESERVED: [&[u8]; 6] = [b"kind", b"rows", b"members", b"fields", b"origin", b"shape"];

/// Kinds of lines that are no tables of rows like these.
const RESERVED_KINDS: [&[u8]; 4] = [b"\"format\"", b"\"shape\"", b"\"origin\"", b"\"row\""];

impl<'a> Row<'a> {
    /// Takes a row apart; `None` when it cannot be put together again from its parts.
    fn parse(row: &'a [u8]) -> Option<Self> {
        let mut found = tight(row)?.into_iter();
        let (b"kind", kind) = found.next()? else { return None };
        if kind.first() != Some(&b'"') || RESERVED_KINDS.contains(&kind) {
            return None;
        }
        let mut has_body = false;
        let mut members = Vec::new();
        for (name, value) in found {
            if RESERVED.contains(&name) {
                return None;
            }
            let content = match name {
                b"record" | b"key" if !has_body => tight(value).map(Content::Body),
                b"exemplars" => examples(value).map(Content::Examples),
                _ => None,
            };
            has_body |= matches!(content, Some(Content::Body(_)));
            members.push((name, content.unwrap_or(Content::Value(value))));
        }
        Some(Self { kind, members })
    }

    fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        self.members.iter().map(|(name, _)| *name)
    }

    /// The value of a member that is not taken apart.
    fn value(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        self.members.iter().find_map(|(name, content)| match content {
            Content::Value(value) if *name == wanted => Some(*value),
            _ => None,
        })
    }

    fn origin(&self) -> Option<(&'a [u8], &'a [u8])> {
        Some((self.value(b"tenant")?, self.value(b"agent")?))
    }

    fn body(&self) -> Option<&Members<'a>> {
        self.members.iter().find_map(|(_, content)| match content {
            Content::Body(body) => Some(body),
            _ => None,
        })
    }

    /// All that rows of one table have in common, as bytes. Names are JSON text, which holds no control characters.
    fn looks(&self) -> Vec<u8> {
        let mut looks = self.kind.to_vec();
        let mut add = |mark: u8, name: &[u8]| {
            looks.push(mark);
            looks.extend_from_slice(name);
        };
        for (name, content) in &self.members {
            add(0, name);
            match content {
                Content::Value(_) => {}
                Content::Body(body) => {
                    add(1, b"");
                    body.iter().for_each(|(name, _)| add(2, name));
                }
                Content::Examples(examples) => {
                    add(3, b"");
                    examples.iter().take(1).flatten().for_each(|(name, _)| add(4, name));
                }
            }
        }
        looks
    }
}

/// The members of an object that is written without space, each name once and without escapes.
fn tight(object: &[u8]) -> Option<Members<'_>> {
    let members = members(object)?;
    let commas = members.len().saturating_sub(1);
    let bytes: usize = members.iter().map(|(name, value)| name.len() + value.len() + 3).sum();
    let mut names: Vec<&[u8]> = members.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let plain = names.iter().all(|name| memchr(b'\\', name).is_none());
    let once = names.windows(2).all(|pair| pair[0] != pair[1]);
    (plain && once && bytes + commas + 2 == object.len()).then_some(members)
}

/// The elements of an array that is written without space: objects with the same members, at least one.
fn examples(array: &[u8]) -> Option<Vec<Members<'_>>> {
    let mut elements = Elements::of(array);
    let mut examples: Vec<Members<'_>> = Vec::new();
    let mut bytes = 1;
    for element in elements.by_ref() {
        let example = tight(element)?;
        let names = |example: &Members<'_>| example.iter().map(|(name, _)| name.to_vec()).collect::<Vec<_>>();
        if example.is_empty() || examples.first().is_some_and(|first| names(first) != names(&example)) {
            return None;
        }
        bytes += element.len() + 1;
        examples.push(example);
    }
    (elements.is_over() && !examples.is_empty() && bytes == array.len()).then_some(examples)
}

impl<'a> Table<'a> {
    fn of(row: &Row<'a>, same: &[String]) -> Self {
        let has_origin = row.origin().is_some();
        let columns = |names: Vec<&'a [u8]>| names.into_iter().map(|name| (name, Column::default())).collect();
        let mut parts = Vec::new();
        for (name, content) in &row.members {
            let part = match content {
                Content::Value(_) if has_origin && is_of_origin(name) => continue,
                Content::Value(_) => Part::Values(Column::default()),
                Content::Body(body) => Part::Columns(columns(
                    body.iter().map(|(name, _)| *name).filter(|name| !is_in(same, name)).collect(),
                )),
                Content::Examples(examples) => {
                    Part::Columns(columns(examples.iter().take(1).flatten().map(|(name, _)| *name).collect()))
                }
            };
            parts.push((*name, part));
        }
        Self {
            kind: row.kind,
            members: row.names().collect(),
            fields: row.body().into_iter().flatten().map(|(name, _)| *name).collect(),
            runs: Runs::default(),
            origins: has_origin.then(Column::default),
            shapes: Vec::new(),
            parts,
        }
    }

    fn add(&mut self, number: u64, row: &Row<'a>, same: &[String], dictionary: &mut Dictionary<'a>) {
        self.runs.push(number);
        if let (Some(column), Some(origin)) = (&mut self.origins, row.origin()) {
            column.push_number(dictionary.origin(origin));
        }
        if let Some(body) = row.body() {
            let field =
                |name: &String| body.iter().find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| *value);
            let key: Vec<Option<&'a [u8]>> = same.iter().map(field).collect();
            if key.iter().any(Option::is_some) {
                self.shapes.push(dictionary.shape(key));
            }
        }
        let contents = row.members.iter().filter(|(name, _)| self.origins.is_none() || !is_of_origin(name));
        for ((_, content), (_, part)) in contents.zip(&mut self.parts) {
            match (content, part) {
                (Content::Value(value), Part::Values(column)) => column.push(value),
                (Content::Body(body), Part::Columns(columns)) => {
                    let rest = body.iter().filter(|(name, _)| !is_in(same, name));
                    rest.zip(columns).for_each(|((_, value), (_, column))| column.push(value));
                }
                (Content::Examples(examples), Part::Columns(columns)) => {
                    for (place, (_, column)) in columns.iter_mut().enumerate() {
                        column.push_list(examples.iter().map(|example| example[place].1));
                    }
                }
                // Rows of a table look alike.
                _ => {}
            }
        }
    }

    /// `places` says where a shape stands in its table.
    fn write(self, places: &[usize], output: &mut Vec<u8>) {
        output.extend_from_slice(b"{\"kind\":");
        output.extend_from_slice(self.kind);
        output.extend_from_slice(b",\"rows\":");
        self.runs.write(output);
        write_names(output, "members", &self.members);
        if !self.fields.is_empty() {
            write_names(output, "fields", &self.fields);
        }
        if let Some(origins) = self.origins {
            output.extend_from_slice(b",\"origin\":");
            origins.write(output);
        }
        if !self.shapes.is_empty() {
            let mut column = Column::default();
            self.shapes.iter().for_each(|shape| column.push_number(places[*shape]));
            output.extend_from_slice(b",\"shape\":");
            column.write(output);
        }
        for (name, part) in self.parts {
            write_name(output, name);
            match part {
                Part::Values(column) => column.write(output),
                Part::Columns(columns) => write_columns(output, columns),
            }
        }
        output.extend_from_slice(b"}\n");
    }
}

fn is_in(same: &[String], name: &[u8]) -> bool {
    same.iter().any(|field| field.as_bytes() == name)
}

fn is_of_origin(name: &[u8]) -> bool {
    name == b"tenant" || name == b"agent"
}

impl<'a> Dictionary<'a> {
    fn origin(&mut self, origin: (&'a [u8], &'a [u8])) -> usize {
        let next = self.origins.len();
        *self.origins.entry(origin).or_insert_with(|| {
            self.tenants.push(origin.0);
            self.agents.push(origin.1);
            next
        })
    }

    fn shape(&mut self, key: Vec<Option<&'a [u8]>>) -> usize {
        let next = self.shapes.len();
        *self.shapes.entry(key).or_insert(next)
    }

    /// Writes both tables; gives where each shape stands. Shapes are sorted, those fields first that differ least, so
    /// that each stands beside those that it resembles: that is half of what compression gains from this encoding.
    fn write(self, same: &[String], output: &mut Vec<u8>) -> Vec<usize> {
        let mut shapes: Vec<(Vec<Option<&[u8]>>, usize)> = self.shapes.into_iter().collect();
        let distinct = |field: &usize| shapes.iter().map(|(key, _)| key[*field]).collect::<BTreeSet<_>>().len();
        let mut order: Vec<(usize, usize)> = (0..same.len()).map(|field| (distinct(&field), field)).collect();
        order.sort_unstable();
        shapes.sort_unstable_by(|(one, _), (other, _)| {
            let mut fields = order.iter().map(|(_, field)| one[*field].cmp(&other[*field]));
            fields.find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
        });
        let mut places = vec![0; shapes.len()];
        shapes.iter().enumerate().for_each(|(place, (_, shape))| places[*shape] = place);
        let used = (0..same.len()).filter(|field| shapes.iter().any(|(key, _)| key[*field].is_some()));
        let columns: Vec<(&[u8], Column)> = used
            .map(|field| {
                let mut column = Column::default();
                shapes.iter().for_each(|(key, _)| column.push(key[field].unwrap_or(b"null")));
                (same[field].as_bytes(), column)
            })
            .collect();
        if !columns.is_empty() {
            output.extend_from_slice(b"{\"kind\":\"shape\",\"key\":");
            write_columns(output, columns);
            output.extend_from_slice(b"}\n");
        }
        if !self.origins.is_empty() {
            output.extend_from_slice(b"{\"kind\":\"origin\",\"tenant\":");
            self.tenants.write(output);
            output.extend_from_slice(b",\"agent\":");
            self.agents.write(output);
            output.extend_from_slice(b"}\n");
        }
        places
    }
}

impl Column {
    fn push(&mut self, value: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b',');
        }
        self.0.extend_from_slice(value);
    }

    fn push_number(&mut self, value: usize) {
        self.push(value.to_string().as_bytes());
    }

    fn push_list<'v>(&mut self, values: impl Iterator<Item = &'v [u8]>) {
        let mut list = Self::default();
        values.for_each(|value| list.push(value));
        self.push(b"[");
        self.0.extend_from_slice(&list.0);
        self.0.push(b']');
    }

    fn write(&self, output: &mut Vec<u8>) {
        output.push(b'[');
        output.extend_from_slice(&self.0);
        output.push(b']');
    }
}

impl Runs {
    fn push(&mut self, number: u64) {
        match self.0.last_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => self.0.push((number, 1)),
        }
    }

    fn write(&self, output: &mut Vec<u8>) {
        let mut column = Column::default();
        self.0.iter().for_each(|(first, count)| column.push(format!("[{first},{count}]").as_bytes()));
        column.write(output);
    }
}

fn write_columns(output: &mut Vec<u8>, columns: Vec<(&[u8], Column)>) {
    let mut opening = b'{';
    for (name, column) in columns {
        output.push(opening);
        opening = b',';
        write_quoted(output, name);
        output.push(b':');
        column.write(output);
    }
    if opening == b'{' {
        output.push(b'{');
    }
    output.push(b'}');
}

fn write_names(output: &mut Vec<u8>, member: &str, names: &[&[u8]]) {
    let mut column = Column::default();
    for name in names {
        let mut quoted = Vec::new();
        write_quoted(&mut quoted, name);
        column.push(&quoted);
    }
    write_name(output, member.as_bytes());
    column.write(output);
}

fn write_name(output: &mut Vec<u8>, name: &[u8]) {
    output.push(b',');
    write_quoted(output, name);
    output.push(b':');
}

fn write_quoted(output: &mut Vec<u8>, name: &[u8]) {
    output.push(b'"');
    output.extend_from_slice(name);
    output.push(b'"');
}
