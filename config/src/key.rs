//! The description of a key: the one place that says its name, type, bounds, default and meaning.
//!
//! The parser, the messages, the reference file, the JSON Schema, `weir config show` and the list of changes at a
//! reload all read these descriptions, so that none of them can say something else than the others.

use crate::form::Form;
use crate::section::Setting;

/// A key of a section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What it does, in sentences; units and bounds are printed from the other fields.
    pub(crate) doc: &'static str,
    pub(crate) absent: Absent,
    /// The least and the largest value, in the form of the value itself without quotes.
    pub(crate) between: Option<(&'static str, &'static str)>,
    /// What its text, or each text of its list, must look like.
    pub(crate) form: Form,
    /// Whether a list must hold something.
    pub(crate) filled: bool,
    /// Whether `false` stands for its absence.
    pub(crate) off: bool,
    /// Whether a change waits for a restart.
    pub(crate) restart: bool,
}

/// What holds when a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The configuration is refused. The text is an example.
    Required(&'static str),
    /// This value, in the form of the value itself without quotes.
    Default(&'static str),
    /// Nothing: the feature is off or the choice is left to the node. The text is an example; the doc says what then
    /// happens.
    Nothing(&'static str),
    /// A value made from other keys. The text is an example; the doc says which.
    Computed(&'static str),
    /// A table in which every key is left out.
    Table,
    /// An empty list of tables.
    NoTables,
}

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A string; what it is, with its article.
    Text(&'static str),
    /// A string that names a file.
    File,
    /// A string that is a time.
    Duration,
    /// A string that is a size.
    Size,
    /// A number from 0 to 1, or a string that is a percentage.
    Ratio,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// One of these strings.
    Choice(&'static [Choice]),
    /// A list; a lone value is a list of one.
    List(&'static Kind),
    /// A table.
    Table(&'static Description),
    /// One of two types.
    Either(&'static Kind, &'static Kind),
}

/// One of the strings that a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
}

/// A table of the file.
#[derive(Debug)]
pub(crate) struct Description {
    /// How messages call it: `[limits]`, `[[route]]`, `lookup`.
    pub(crate) title: &'static str,
    /// What it is, in sentences.
    pub(crate) doc: &'static str,
    /// The keys that always belong to it.
    pub(crate) keys: &'static [Key],
    /// The keys that belong to it when one of its keys has a certain value.
    pub(crate) variants: Option<Variants>,
}

/// Keys that belong to a table only with a certain value of another of its keys.
#[derive(Debug)]
pub(crate) struct Variants {
    /// The other key.
    pub(crate) selector: &'static str,
    /// Its values and their keys.
    pub(crate) cases: &'static [(&'static str, &'static [Key])],
}

impl Key {
    /// A key that must be given.
    pub(crate) const fn required(example: &'static str, doc: &'static str) -> Self {
        Self::new(Absent::Required(example), doc)
    }

    /// A key with a default.
    pub(crate) const fn default(value: &'static str, doc: &'static str) -> Self {
        Self::new(Absent::Default(value), doc)
    }

    /// A key that switches something on.
    pub(crate) const fn optional(example: &'static str, doc: &'static str) -> Self {
        Self::new(Absent::Nothing(example), doc)
    }

    /// A key whose default is made from other keys.
    pub(crate) const fn computed(example: &'static str, doc: &'static str) -> Self {
        Self::new(Absent::Computed(example), doc)
    }

    /// A table whose keys can all be left out.
    pub(crate) const fn table(doc: &'static str) -> Self {
        Self::new(Absent::Table, doc)
    }

    /// A list of tables that may be empty.
    pub(crate) const fn tables(doc: &'static str) -> Self {
        Self::new(Absent::NoTables, doc)
    }

    const fn new(absent: Absent, doc: &'static str) -> Self {
        Self {
            name: "",
            kind: Kind::Boolean,
            doc,
            absent,
            between: None,
            form: Form::Any,
            filled: false,
            off: false,
            restart: false,
        }
    }

    /// The same with its name and type.
    pub(crate) const fn named<T: Setting>(self, name: &'static str) -> Self {
        Self { name, kind: T::KIND, off: T::OFF, ..self }
    }

    /// The same with bounds, both included.
    pub(crate) const fn between(self, least: &'static str, most: &'static str) -> Self {
        Self { between: Some((least, most)), ..self }
    }

    /// The same with a form for its text.
    pub(crate) const fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// The same, refusing an empty list.
    pub(crate) const fn filled(self) -> Self {
        Self { filled: true, ..self }
    }

    /// The same, marked as taking effect at the next start only.
    pub(crate) const fn restart(self) -> Self {
        Self { restart: true, ..self }
    }

    /// The text that stands for a value in examples: the default, or the example.
    pub(crate) const fn sample(&self) -> Option<&'static str> {
        match self.absent {
            Absent::Required(text) | Absent::Default(text) | Absent::Nothing(text) | Absent::Computed(text) => {
                Some(text)
            }
            Absent::Table | Absent::NoTables => None,
        }
    }
}

impl Kind {
    /// A value of this type as TOML, from the form that descriptions use: strings gain their quotes, all else stands as
    /// it is.
    pub(crate) fn literal(&self, text: &str) -> String {
        let structured = text.starts_with(['[', '{', '"']) || text == "true" || text == "false";
        match self {
            _ if structured => text.to_owned(),
            Self::Text(_) | Self::File | Self::Duration | Self::Size | Self::Choice(_) => quoted(text),
            Self::List(element) => element.literal(text),
            Self::Either(first, _) => first.literal(text),
            Self::Integer => grouped(text),
            Self::Ratio | Self::Boolean | Self::Table(_) => text.to_owned(),
        }
    }

    /// What the value must be, with its article, for messages.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Text(what) => (*what).to_owned(),
            Self::File => "the name of a file, a string".to_owned(),
            Self::Duration => "a time such as \"60s\"".to_owned(),
            Self::Size => "a size such as \"64 MiB\"".to_owned(),
            Self::Ratio => "a number from 0 to 1".to_owned(),
            Self::Integer => "a whole number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Choice(choices) => {
                let names: Vec<String> = choices.iter().map(|choice| quoted(choice.name)).collect();
                format!("one of {}", names.join(", "))
            }
            Self::List(element) => format!("a list, each element {}", element.expected()),
            Self::Table(_) => "a table".to_owned(),
            Self::Either(first, second) => format!("{} or {}", first.expected(), second.expected()),
        }
    }

    /// The table that the value is or the list is made of.
    pub(crate) fn description(&self) -> Option<&'static Description> {
        match self {
            Self::Table(description) => Some(description),
            Self::List(element) => element.description(),
            Self::Either(first, second) => first.description().or_else(|| second.description()),
            _ => None,
        }
    }
}

impl Description {
    /// Every key that some such table can have, the common ones first.
    pub(crate) fn all_keys(&self) -> Vec<&'static Key> {
        let mut keys: Vec<&'static Key> = self.keys.iter().collect();
        for (_, more) in self.variants.iter().flat_map(|variants| variants.cases) {
            for key in *more {
                if !keys.iter().any(|known| known.name == key.name) {
                    keys.push(key);
                }
            }
        }
        keys
    }

    /// The keys of a table whose selector has this value.
    pub(crate) fn keys_of(&self, case: Option<&str>) -> Vec<&'static Key> {
        let Some((variants, case)) = self.variants.as_ref().zip(case) else { return self.all_keys() };
        let own = variants.cases.iter().filter(|(name, _)| *name == case).flat_map(|(_, keys)| *keys);
        self.keys.iter().chain(own).collect()
    }

    /// The selector's values with which a table has this key; empty when it always has it or never.
    pub(crate) fn cases_with(&self, key: &str) -> Vec<&'static str> {
        let cases = self.variants.iter().flat_map(|variants| variants.cases);
        cases.filter(|(_, keys)| keys.iter().any(|known| known.name == key)).map(|(name, _)| *name).collect()
    }
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A whole number with its thousands apart.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            text.push('_');
        }
        text.push(digit);
    }
    text
}
