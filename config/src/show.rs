//! A configuration written back as TOML, every key spelled out.

use std::collections::BTreeMap;

use crate::sections;
use crate::tree::{Node, Table, Value};
use crate::{Config, Parsed};

/// The configuration as canonical TOML: every key of every table, defaults included, in the order of the reference.
///
/// Reading it back gives the same configuration. What a `file:` value was read from is not known to a [`Config`];
/// [`crate::Parsed::to_toml`] prints the file's name instead of its content.
pub fn to_toml(config: &Config) -> String {
    text(&sections::write(config))
}

/// A table as text.
pub(crate) fn text(table: &toml::Table) -> String {
    toml::to_string(table).expect("a table of strings, numbers, booleans, lists and tables is always TOML")
}

impl Parsed {
    /// The configuration as [`to_toml`] writes it, but values that were read from a file are printed as `file:` and its
    /// name.
    pub fn to_toml(&self) -> String {
        text(&self.shown())
    }

    /// The configuration as a table that may be printed.
    pub(crate) fn shown(&self) -> toml::Table {
        let mut table = sections::write(&self.config);
        for (path, reference) in &self.references.0 {
            cover(&mut table, path, reference);
        }
        table
    }
}

/// Which values were read from which files: paths of keys, elements of lists by their names or numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct References(BTreeMap<Vec<String>, String>);

impl References {
    /// Those of a file's tree.
    pub(crate) fn of(table: &Table) -> Self {
        let mut references = Self::default();
        references.gather(table, &[]);
        references
    }

    fn gather(&mut self, table: &Table, path: &[String]) {
        for entry in &table.entries {
            let path = [path, std::slice::from_ref(&entry.key)].concat();
            self.visit(&entry.node, &path);
            if let Value::List(nodes) = &entry.node.value {
                for (index, node) in nodes.iter().enumerate() {
                    let label = node.table().map_or_else(|| index.to_string(), |table| label(table, &entry.key));
                    self.visit(node, &[path.as_slice(), &[label]].concat());
                }
            } else if let (Value::Table(table), true) =
                (&entry.node.value, ["core", "listener", "stream", "route"].contains(&&*entry.key))
            {
                // A lone table stands for a list of one.
                self.gather(table, &[path.as_slice(), &[label(table, &entry.key)]].concat());
            }
        }
    }

    fn visit(&mut self, node: &Node, path: &[String]) {
        if let Some(file) = &node.secret {
            self.0.insert(path.to_owned(), format!("file:{}", file.display()));
        }
        if let Value::Table(table) = &node.value {
            self.gather(table, path);
        }
    }
}

/// The name that an element of a list of tables has once it is read.
fn label(table: &Table, list: &str) -> String {
    let text = |key| table.node(key).and_then(Node::text).map(str::to_owned);
    text("name").or_else(|| text("address")).unwrap_or_else(|| list.to_owned())
}

/// Puts the reference in the place of the value at `path`; a path that leads nowhere is left alone.
fn cover(table: &mut toml::Table, path: &[String], reference: &str) {
    let Some((key, rest)) = path.split_first() else { return };
    let Some(value) = table.get_mut(key) else { return };
    match (rest, value) {
        ([], toml::Value::Array(values)) => *values = vec![toml::Value::String(reference.to_owned())],
        ([], value) => *value = toml::Value::String(reference.to_owned()),
        (_, toml::Value::Table(table)) => cover(table, rest, reference),
        ([label, rest @ ..], toml::Value::Array(values)) => {
            let by_number = label.parse::<usize>().ok();
            for (index, value) in values.iter_mut().enumerate() {
                match value {
                    toml::Value::Table(table) if table.get("name").and_then(toml::Value::as_str) == Some(label) => {
                        cover(table, rest, reference);
                    }
                    toml::Value::String(text) if by_number == Some(index) => reference.clone_into(text),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
