//! The files as one tree of values, each with its place: TOML parsed, strings expanded, includes merged.
//!
//! What the values mean is not known here.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::diagnostic::{At, Findings};
use crate::environment::Environment;
use crate::expand::expand;
use crate::key::quoted;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
    /// The directory of the file it stands in: relative paths start there.
    pub(crate) directory: PathBuf,
    /// The file that a `file:` string was read from.
    pub(crate) secret: Option<PathBuf>,
}

/// What a TOML value can be.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime,
    List(Vec<Node>),
    Table(Table),
    /// Already reported.
    Broken,
}

/// Keys with their places and values, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: At,
    pub(crate) node: Node,
}

impl Node {
    /// What the value is, with its article.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Boolean(_) => "a boolean",
            Value::Datetime => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Broken => "broken",
        }
    }

    /// The value as messages may print it: what was read from a file stays there.
    pub(crate) fn shown(&self) -> String {
        match (&self.secret, &self.value) {
            (Some(file), _) => format!("the content of {}", file.display()),
            (None, Value::Text(text)) => quoted(text),
            (None, Value::Integer(value)) => value.to_string(),
            _ => self.kind().to_owned(),
        }
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as a list: a lone value is a list of one.
    pub(crate) fn elements(&self) -> &[Node] {
        match &self.value {
            Value::List(nodes) => nodes,
            Value::Broken => &[],
            _ => std::slice::from_ref(self),
        }
    }

    fn is_list_of_tables(&self) -> bool {
        matches!(&self.value, Value::List(nodes) if !nodes.is_empty() && nodes.iter().all(|node| node.table().is_some()))
    }
}

impl Table {
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(crate) fn node(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    fn remove(&mut self, key: &str) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index))
    }
}

/// A value written in the program, such as a default, standing at `at`. `None` when it is no TOML.
pub(crate) fn literal(text: &str, at: At) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let mut findings = Findings::default();
    let mut grower = Grower { file: at.file, directory: Path::new(""), environment: None, findings: &mut findings };
    let mut node = grower.node(&value);
    node.move_to(at);
    Some(node)
}

impl Node {
    fn move_to(&mut self, at: At) {
        self.at = at;
        match &mut self.value {
            Value::List(nodes) => nodes.iter_mut().for_each(|node| node.move_to(at)),
            Value::Table(table) => table.entries.iter_mut().for_each(|entry| entry.node.move_to(at)),
            _ => {}
        }
    }
}

/// Reads a file and all that it includes into one tree. Problems go to `findings`; what could be read is there
/// nevertheless.
pub(crate) fn read(path: &Path, environment: &dyn Environment, findings: &mut Findings) -> Table {
    let mut reading = Reading { environment, findings, open: Vec::new() };
    reading.file(path, At::default())
}

/// Included files within included files, at most.
const MAX_DEPTH: usize = 8;

/// Files of one configuration, at most.
const MAX_FILES: usize = 256;

/// The length of one file, at most.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// A reading of files, with those that are being read at the moment.
struct Reading<'a> {
    environment: &'a dyn Environment,
    findings: &'a mut Findings,
    open: Vec<PathBuf>,
}

impl Reading<'_> {
    /// The tree of a file and its includes; `from` is the place that names it.
    fn file(&mut self, path: &Path, from: At) -> Table {
        let text = match self.environment.read(path, MAX_FILE_BYTES) {
            Ok(text) => text,
            Err(reason) => {
                let message = format!("cannot read {}: {reason}", path.display());
                let from =
                    if self.open.is_empty() { At::new(self.findings.add_source(path, ""), &(0..0)) } else { from };
                self.findings.unreadable(from, message);
                return Table::default();
            }
        };
        let file = self.findings.add_source(path, &text);
        let (document, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            let at = At::new(file, &error.span().unwrap_or(0..0));
            self.findings.unreadable(at, format!("not TOML: {}", error.message()));
        }
        if !errors.is_empty() {
            return Table::default();
        }
        let directory = path.parent().unwrap_or(Path::new(""));
        let mut grower = Grower { file, directory, environment: Some(self.environment), findings: &mut *self.findings };
        let mut table = grower.table(document.get_ref());
        if let Some(include) = table.remove("include") {
            self.open.push(plain(path));
            self.include(&mut table, &include.node);
            self.open.pop();
        }
        table
    }

    fn include(&mut self, table: &mut Table, include: &Node) {
        for node in include.elements() {
            let Some(name) = node.text() else {
                self.findings
                    .error(node.at, format!("`include` names files, not {}", node.kind()))
                    .help("write it as in `include = [\"regions.toml\"]`");
                continue;
            };
            let path = include.directory.join(name);
            if self.open.contains(&plain(&path)) {
                self.findings.error(node.at, format!("{} includes itself", path.display()));
                continue;
            }
            if self.open.len() >= MAX_DEPTH {
                self.findings.error(node.at, format!("files are included more than {MAX_DEPTH} deep"));
                continue;
            }
            if self.findings.sources() >= MAX_FILES {
                self.findings.error(node.at, format!("more than {MAX_FILES} files"));
                return;
            }
            let included = self.file(&path, node.at);
            merge(table, included, "", self.findings);
        }
    }
}

/// Takes the keys of `added` into `table`. Tables grow together, lists of tables follow each other, all else is set
/// once.
fn merge(table: &mut Table, added: Table, prefix: &str, findings: &mut Findings) {
    for entry in added.entries {
        let Some(present) = table.entries.iter_mut().find(|present| present.key == entry.key) else {
            table.entries.push(entry);
            continue;
        };
        let name = format!("{prefix}{}", entry.key);
        let both_lists = present.node.is_list_of_tables() && entry.node.is_list_of_tables();
        match (&mut present.node.value, entry.node.value) {
            (Value::Table(into), Value::Table(from)) => merge(into, from, &format!("{name}."), findings),
            (Value::List(into), Value::List(from)) if both_lists => into.extend(from),
            _ => {
                findings
                    .error(entry.key_at, format!("`{name}` is set twice"))
                    .label("set again here")
                    .related(present.key_at, "first set here");
            }
        }
    }
}

/// The path without `.` and `..`, as far as that can be told without looking at the disk.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// Turns one file's TOML into nodes.
struct Grower<'a> {
    file: usize,
    directory: &'a Path,
    /// `None` for values that are not expanded.
    environment: Option<&'a dyn Environment>,
    findings: &'a mut Findings,
}

impl Grower<'_> {
    fn table(&mut self, table: &DeTable<'_>) -> Table {
        let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| Entry {
            key: key.get_ref().to_string(),
            key_at: At::new(self.file, &key.span()),
            node: self.node(value),
        };
        Table { entries: table.iter().map(entry).collect() }
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>) -> Node {
        let at = At::new(self.file, &value.span());
        let mut secret = None;
        let value = match value.get_ref() {
            DeValue::String(text) => self.string(text, at, &mut secret),
            DeValue::Integer(integer) => self.integer(integer, at),
            DeValue::Float(float) => float.as_str().replace('_', "").parse().map_or(Value::Broken, Value::Float),
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(_) => Value::Datetime,
            DeValue::Array(values) => Value::List(values.iter().map(|value| self.node(value)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { at, value, directory: self.directory.to_owned(), secret }
    }

    fn string(&mut self, text: &str, at: At, secret: &mut Option<PathBuf>) -> Value {
        let Some(environment) = self.environment else { return Value::Text(text.to_owned()) };
        match expand(text, self.directory, environment) {
            Ok(expanded) => {
                *secret = expanded.file;
                Value::Text(expanded.text)
            }
            Err(message) => {
                self.findings.error(at, message);
                Value::Broken
            }
        }
    }

    fn integer(&mut self, integer: &DeInteger<'_>, at: At) -> Value {
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => {
                self.findings.error(at, "the number is too large");
                Value::Broken
            }
        }
    }
}
