//! What differs between two configurations, key by key, for the answer to a reload.

use std::collections::HashMap;

use crate::key::{Description, Key};
use crate::sections::{self, ROOT_DESCRIPTION};
use crate::{Config, Parsed};

/// A key whose value is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key's path, as in `route.tasks.lookup.window`. Elements of lists of tables go by their names.
    pub key: String,
    /// What it was, as TOML; `None` when it was not there.
    pub old: Option<String>,
    /// What it is, as TOML; `None` when it is no longer there.
    pub new: Option<String>,
    /// Whether the running node keeps the old value until it is started anew.
    pub needs_restart: bool,
}

/// Every key that differs, in the order of the reference.
///
/// What was read by `file:` values is printed; [`Parsed::changes`] prints the files' names instead.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let (old, new) = (toml::Value::Table(sections::write(old)), toml::Value::Table(sections::write(new)));
    between(Side { real: &old, shown: &old }, Side { real: &new, shown: &new })
}

impl Parsed {
    /// Every key in which `newer` differs, in the order of the reference. A value that was read from a file is printed
    /// as that file's name.
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        let old = toml::Value::Table(sections::write(&self.config));
        let new = toml::Value::Table(sections::write(&newer.config));
        let (old_shown, new_shown) = (toml::Value::Table(self.shown()), toml::Value::Table(newer.shown()));
        between(Side { real: &old, shown: &old_shown }, Side { real: &new, shown: &new_shown })
    }
}

/// A value as it is and as it may be printed.
#[derive(Clone, Copy)]
struct Side<'a> {
    real: &'a toml::Value,
    shown: &'a toml::Value,
}

/// An element of a list of tables with its name.
type Element<'a> = (String, Side<'a>);

impl<'a> Side<'a> {
    fn at(self, key: &str) -> Option<Self> {
        Some(Self { real: self.real.get(key)?, shown: self.shown.get(key)? })
    }

    /// The elements of a list of tables with their names; `None` when it is anything else.
    fn tables(self) -> Option<Vec<Element<'a>>> {
        let (real, shown) = (self.real.as_array()?, self.shown.as_array()?);
        let pairs = real.iter().zip(shown).map(|(real, shown)| Some((name(real)?, Self { real, shown })));
        pairs.collect()
    }
}

/// The name of an element of a list of tables.
fn name(value: &toml::Value) -> Option<String> {
    value.get("name")?.as_str().map(str::to_owned)
}

fn between(old: Side<'_>, new: Side<'_>) -> Vec<Change> {
    let mut found = Vec::new();
    compare_tables("", &ROOT_DESCRIPTION, (old, new), &mut found);
    found
}

fn compare_tables(path: &str, description: &Description, (old, new): (Side<'_>, Side<'_>), found: &mut Vec<Change>) {
    for key in description.all_keys() {
        let (old, new) = (old.at(key.name), new.at(key.name));
        if old.map(|side| side.real) != new.map(|side| side.real) {
            compare(&step(path, key.name), key, old, new, found);
        }
    }
}

fn compare(path: &str, key: &Key, old: Option<Side<'_>>, new: Option<Side<'_>>, found: &mut Vec<Change>) {
    let description = key.kind.description();
    if let (Some(description), Some(old), Some(new)) = (description, old, new) {
        if old.real.is_table() && new.real.is_table() {
            return compare_tables(path, description, (old, new), found);
        }
        if let (Some(old), Some(new)) = (old.tables(), new.tables()) {
            return compare_lists(path, key, description, (&old, &new), found);
        }
    }
    found.push(change(path, key, old, new));
}

fn compare_lists(
    path: &str,
    key: &Key,
    description: &Description,
    (old, new): (&[Element<'_>], &[Element<'_>]),
    found: &mut Vec<Change>,
) {
    let (by_name, known) = (named(new), named(old));
    for (name, side) in old {
        match by_name.get(name.as_str()) {
            Some(other) => compare_tables(&step(path, name), description, (*side, *other), found),
            None => found.push(change(&step(path, name), key, Some(*side), None)),
        }
    }
    for (name, side) in new.iter().filter(|(name, _)| !known.contains_key(name.as_str())) {
        found.push(change(&step(path, name), key, None, Some(*side)));
    }
}

fn named<'e, 's>(elements: &'e [Element<'s>]) -> HashMap<&'e str, Side<'s>> {
    elements.iter().map(|(name, side)| (name.as_str(), *side)).collect()
}

fn change(path: &str, key: &Key, old: Option<Side<'_>>, new: Option<Side<'_>>) -> Change {
    let text = |side: Option<Side<'_>>| side.map(|side| side.shown.to_string());
    Change { key: path.to_owned(), old: text(old), new: text(new), needs_restart: key.restart }
}

/// A path one step longer; a name that is no bare key of TOML stands in quotes.
fn step(path: &str, name: &str) -> String {
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    let name = if bare { name.to_owned() } else { crate::key::quoted(name) };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}
