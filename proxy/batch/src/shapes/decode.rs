//! Tables back into rows.

use memchr::memchr;

use super::{Elements, FORMAT_LINE, Members, members};

/// Rows as they were before they were encoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// The rows, a line feed after each.
    pub(crate) rows: Vec<u8>,
    /// The fields of which shapes were made.
    pub(crate) same: Vec<String>,
}

/// Why lines are not rows in this encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// They would be longer than they may be.
    TooLarge,
    /// A line, counted from 1, says what cannot be; 0 when all of them together do.
    Malformed { line: usize },
}

/// Reads lines that begin with the format's line, into at most `max_bytes` bytes of rows. Memory beside that: a few
/// times the bytes of the tables `shape` and `origin`.
pub(crate) fn decode(lines: &[u8], max_bytes: usize) -> Result<Decoded, Undecodable> {
    let mut dictionary = Dictionary::default();
    let mut tables = Vec::new();
    let mut rest = lines.strip_prefix(FORMAT_LINE).ok_or(Undecodable::Malformed { line: 1 })?;
    let mut line = 1;
    while !rest.is_empty() {
        line += 1;
        let malformed = Undecodable::Malformed { line };
        let end = memchr(b'\n', rest).ok_or(malformed)?;
        let found = members(&rest[..end]).ok_or(malformed)?;
        rest = &rest[end + 1..];
        match member(&found, b"kind").ok_or(malformed)? {
            b"\"shape\"" => dictionary.read_shapes(&found).ok_or(malformed)?,
            b"\"origin\"" => dictionary.read_origins(&found).ok_or(malformed)?,
            kind => tables.push((line, kind, found)),
        }
    }
    let mut open = Vec::with_capacity(tables.len());
    let mut runs = Vec::new();
    for (line, kind, found) in &tables {
        let malformed = Undecodable::Malformed { line: *line };
        let table = Table::open(kind, found, &dictionary).ok_or(malformed)?;
        for run in Elements::of(member(found, b"rows").ok_or(malformed)?) {
            let (first, count) = read_run(run).ok_or(malformed)?;
            runs.push((first, count, open.len()));
        }
        open.push((*line, table));
    }
    runs.sort_unstable();
    let rows = weave(&runs, &mut open, &dictionary, max_bytes)?;
    let same = dictionary.shapes.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    Ok(Decoded { rows, same })
}

/// Puts the rows of all tables in their order.
fn weave(
    runs: &[(u64, u64, usize)],
    tables: &mut [(usize, Table<'_>)],
    dictionary: &Dictionary<'_>,
    max_bytes: usize,
) -> Result<Vec<u8>, Undecodable> {
    let mut rows = Vec::new();
    let mut next = 0;
    for (first, count, table) in runs {
        let (line, table) = &mut tables[*table];
        let malformed = Undecodable::Malformed { line: *line };
        if *first != next || *count == 0 {
            return Err(malformed);
        }
        next = first.checked_add(*count).ok_or(malformed)?;
        for _ in 0..*count {
            table.write_row(dictionary, &mut rows).ok_or(malformed)?;
            if rows.len() > max_bytes {
                return Err(Undecodable::TooLarge);
            }
        }
    }
    match tables.iter_mut().find_map(|(line, table)| (!table.is_over()).then_some(*line)) {
        Some(line) => Err(Undecodable::Malformed { line }),
        None => Ok(rows),
    }
}

fn read_run(run: &[u8]) -> Option<(u64, u64)> {
    let mut numbers = Elements::of(run);
    let run = (read_number(numbers.next()?)?, read_number(numbers.next()?)?);
    numbers.is_over().then_some(run)
}

fn read_number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn member<'a>(members: &Members<'a>, wanted: &[u8]) -> Option<&'a [u8]> {
    members.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
}

/// What rows refer to.
#[derive(Default)]
struct Dictionary<'a> {
    /// By field.
    shapes: Vec<(&'a [u8], Vec<&'a [u8]>)>,
    tenants: Vec<&'a [u8]>,
    agents: Vec<&'a [u8]>,
}

impl<'a> Dictionary<'a> {
    fn read_shapes(&mut self, found: &Members<'a>) -> Option<()> {
        for (name, column) in members(member(found, b"key")?)? {
            self.shapes.push((name, read_column(column)?));
        }
        Some(())
    }

    fn read_origins(&mut self, found: &Members<'a>) -> Option<()> {
        self.tenants = read_column(member(found, b"tenant")?)?;
        self.agents = read_column(member(found, b"agent")?)?;
        Some(())
    }
}

fn read_column(text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut elements = Elements::of(text);
    let column = elements.by_ref().collect();
    elements.is_over().then_some(column)
}

/// A table of which rows are read one after the other.
struct Table<'a> {
    kind: &'a [u8],
    origins: Option<Elements<'a>>,
    shapes: Option<Elements<'a>>,
    parts: Vec<(&'a [u8], Part<'a>)>,
}

enum Part<'a> {
    Tenant,
    Agent,
    Values(Elements<'a>),
    Body(Vec<(&'a [u8], Field<'a>)>),
    Examples(Vec<(&'a [u8], Elements<'a>)>),
    /// All of the row.
    Line(Elements<'a>),
}

enum Field<'a> {
    Values(Elements<'a>),
    /// The place of the field's column in the dictionary.
    OfShape(usize),
}

impl<'a> Table<'a> {
    fn open(kind: &'a [u8], found: &Members<'a>, dictionary: &Dictionary<'a>) -> Option<Self> {
        if kind == b"\"row\"" {
            let parts = vec![(b"row".as_slice(), Part::Line(Elements::of(member(found, b"row")?)))];
            return Some(Self { kind, origins: None, shapes: None, parts });
        }
        let column = |name: &[u8]| member(found, name).map(Elements::of);
        let (origins, shapes) = (column(b"origin"), column(b"shape"));
        let mut parts = Vec::new();
        for name in Elements::of(member(found, b"members")?) {
            let name = unquoted(name)?;
            let part = match name {
                b"tenant" if origins.is_some() => Part::Tenant,
                b"agent" if origins.is_some() => Part::Agent,
                _ => match (member(found, name)?, name) {
                    (columns @ [b'{', ..], b"exemplars") => Part::Examples(
                        members(columns)?.into_iter().map(|(name, column)| (name, Elements::of(column))).collect(),
                    ),
                    (columns @ [b'{', ..], _) => Part::Body(open_body(columns, member(found, b"fields"), dictionary)?),
                    (column, _) => Part::Values(Elements::of(column)),
                },
            };
            parts.push((name, part));
        }
        Some(Self { kind, origins, shapes, parts })
    }

    /// Appends the next row; `None` when there is none.
    fn write_row(&mut self, dictionary: &Dictionary<'_>, output: &mut Vec<u8>) -> Option<()> {
        if let [(_, Part::Line(rows))] = self.parts.as_mut_slice() {
            output.extend_from_slice(rows.next()?);
            output.push(b'\n');
            return Some(());
        }
        let place = |column: &mut Option<Elements<'_>>| match column {
            Some(column) => usize::try_from(read_number(column.next()?)?).ok().map(Some),
            None => Some(None),
        };
        let (origin, shape) = (place(&mut self.origins)?, place(&mut self.shapes)?);
        output.extend_from_slice(b"{\"kind\":");
        output.extend_from_slice(self.kind);
        for (name, part) in &mut self.parts {
            write_name(output, b',', name);
            match part {
                Part::Tenant => output.extend_from_slice(dictionary.tenants.get(origin?)?),
                Part::Agent => output.extend_from_slice(dictionary.agents.get(origin?)?),
                Part::Values(column) => output.extend_from_slice(column.next()?),
                Part::Body(fields) => write_body(fields, shape, dictionary, output)?,
                Part::Examples(columns) => write_examples(columns, output)?,
                Part::Line(_) => return None,
            }
        }
        output.extend_from_slice(b"}\n");
        Some(())
    }

    /// Whether every column has ended.
    fn is_over(&mut self) -> bool {
        let dictionary = self.origins.iter_mut().chain(&mut self.shapes).all(Elements::is_over);
        let parts = self.parts.iter_mut().all(|(_, part)| match part {
            Part::Tenant | Part::Agent => true,
            Part::Values(column) | Part::Line(column) => column.is_over(),
            Part::Examples(columns) => columns.iter_mut().all(|(_, column)| column.is_over()),
            Part::Body(fields) => fields.iter_mut().all(|(_, field)| match field {
                Field::Values(column) => column.is_over(),
                Field::OfShape(_) => true,
            }),
        });
        dictionary && parts
    }
}

fn unquoted(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// The fields of a record or key in their order, each from a column of the table or from the shape.
fn open_body<'a>(
    columns: &'a [u8],
    fields: Option<&'a [u8]>,
    dictionary: &Dictionary<'a>,
) -> Option<Vec<(&'a [u8], Field<'a>)>> {
    let columns = members(columns)?;
    let mut body = Vec::new();
    for name in Elements::of(fields.unwrap_or(b"[]")) {
        let name = unquoted(name)?;
        let field = match member(&columns, name) {
            Some(column) => Field::Values(Elements::of(column)),
            None => Field::OfShape(dictionary.shapes.iter().position(|(known, _)| *known == name)?),
        };
        body.push((name, field));
    }
    Some(body)
}

fn write_body(
    fields: &mut [(&[u8], Field<'_>)],
    shape: Option<usize>,
    dictionary: &Dictionary<'_>,
    output: &mut Vec<u8>,
) -> Option<()> {
    let mut before = b'{';
    for (name, field) in fields {
        write_name(output, before, name);
        before = b',';
        output.extend_from_slice(match field {
            Field::Values(column) => column.next()?,
            Field::OfShape(place) => dictionary.shapes[*place].1.get(shape?)?,
        });
    }
    if before == b'{' {
        output.push(b'{');
    }
    output.push(b'}');
    Some(())
}

fn write_examples(columns: &mut [(&[u8], Elements<'_>)], output: &mut Vec<u8>) -> Option<()> {
    let mut lists = Vec::with_capacity(columns.len());
    for (name, column) in columns {
        lists.push((*name, Elements::of(column.next()?)));
    }
    let mut before = b'[';
    loop {
        let start = output.len();
        let mut opening = b'{';
        let mut ended = 0;
        output.push(before);
        for (name, list) in &mut lists {
            let Some(value) = list.next() else {
                ended += 1;
                continue;
            };
            write_name(output, opening, name);
            opening = b',';
            output.extend_from_slice(value);
        }
        if ended == lists.len() {
            output.truncate(start);
            break;
        }
        if ended > 0 {
            return None;
        }
        output.push(b'}');
        before = b',';
    }
    if before == b'[' {
        output.push(b'[');
    }
    output.push(b']');
    lists.iter_mut().all(|(_, list)| list.is_over()).then_some(())
}

fn write_name(output: &mut Vec<u8>, before: u8, name: &[u8]) {
    output.push(before);
    output.push(b'"');
    output.extend_from_slice(name);
    output.extend_from_slice(b"\":");
}
