//! How tables become types: a section lists its keys once, and reading, writing and describing follow from the list.

use crate::diagnostic::{At, Draft, Findings, nearest};
use crate::key::{Absent, Description, Key, Kind};
use crate::tree::{Node, Table, literal};

/// A type that a value of the file becomes.
pub(crate) trait Setting: Sized {
    /// The value's type in the file.
    const KIND: Kind;

    /// Whether `false` switches it off where it is optional.
    const OFF: bool = false;

    /// The value, or `None` after a report.
    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self>;

    /// The value when its key is left out and has no default in the file's terms.
    fn absent() -> Option<Self> {
        None
    }

    /// The value as TOML; `None` when the key is to be left out.
    fn write(&self, names: &Names) -> Option<toml::Value>;
}

/// A type that a table becomes, key by key.
pub(crate) trait Section: Sized {
    /// The keys, in the order of the fields.
    const KEYS: &'static [Key];

    /// The table.
    const DESCRIPTION: &'static Description;

    /// Reads the keys; unknown ones are left to [`Reader::finish`].
    fn fields(reader: &mut Reader<'_, '_>) -> Option<Self>;

    /// Writes the keys.
    fn write_fields(&self, writer: &mut Writer<'_>);
}

/// What is known while a tree is read.
#[derive(Debug, Default)]
pub(crate) struct Context {
    pub(crate) findings: Findings,
    /// The names that the file declares, gathered before anything is read.
    pub(crate) names: Names,
}

/// The names that other keys may refer to.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) cores: Vec<String>,
    pub(crate) streams: Vec<String>,
}

/// A table while it is read.
pub(crate) struct Reader<'t, 'c> {
    table: &'t Table,
    at: At,
    pub(crate) context: &'c mut Context,
}

impl<'t, 'c> Reader<'t, 'c> {
    /// A reader of `node`, which must be a table; anything else is reported.
    pub(crate) fn open(node: &'t Node, key: &Key, context: &'c mut Context) -> Option<Self> {
        let Some(table) = node.table() else {
            wrong_type(node, key, context);
            return None;
        };
        Some(Self { table, at: node.at, context })
    }

    /// The value of a key, or what holds when it is left out.
    pub(crate) fn take<T: Setting>(&mut self, title: &str, key: &Key) -> Option<T> {
        if let Some(node) = self.table.node(key.name) {
            return T::read(node, key, self.context);
        }
        match key.absent {
            Absent::Required(example) => {
                self.missing(title, key, example);
                None
            }
            Absent::Default(text) => T::read(&literal(&key.kind.literal(text), self.at)?, key, self.context),
            Absent::Table => T::read(&literal("{}", self.at)?, key, self.context),
            Absent::NoTables => T::read(&literal("[]", self.at)?, key, self.context),
            Absent::Nothing(_) | Absent::Computed(_) => T::absent(),
        }
    }

    fn missing(&mut self, title: &str, key: &Key, example: &str) {
        let whole = key.kind.description().map(|description| description.title);
        let draft = match whole.filter(|_| title == ROOT) {
            Some(table) => self.context.findings.error(self.at, format!("there is no `{table}`")),
            None => self.context.findings.error(self.at, format!("`{}` is missing in `{title}`", key.name)),
        };
        draft.note(first_sentence(key.doc));
        if whole.is_none() {
            draft.help(format!("write it as in `{} = {}`", key.name, key.kind.literal(example)));
        }
    }

    /// Reports every key that is not among the description's.
    pub(crate) fn finish(self, description: &Description, case: Option<&str>) {
        let known = description.keys_of(case);
        let selector = description.variants.as_ref().map_or("", |variants| variants.selector);
        for entry in &self.table.entries {
            if known.iter().any(|key| key.name == entry.key) {
                continue;
            }
            let cases = description.cases_with(&entry.key);
            let findings = &mut self.context.findings;
            if let (Some(case), false) = (case, cases.is_empty()) {
                let owners: Vec<String> = cases.iter().map(|owner| format!("`{selector} = \"{owner}\"`")).collect();
                findings
                    .error(entry.key_at, format!("`{}` belongs to {}", entry.key, owners.join(" and ")))
                    .label(format!("here `{selector}` is \"{case}\""));
                continue;
            }
            let draft = match description.title {
                ROOT => findings.error(entry.key_at, format!("there is no table or key named `{}`", entry.key)),
                title => findings.error(entry.key_at, format!("`{}` is no key of `{title}`", entry.key)),
            };
            match nearest(&entry.key, known.iter().map(|key| key.name)) {
                Some(name) => draft.help(format!("did you mean `{name}`?")),
                None => {
                    let names: Vec<&str> = known.iter().map(|key| key.name).collect();
                    draft.note(format!("the keys here are {}", names.join(", ")))
                }
            };
        }
    }

    /// The place of a key's value, or of the table when it is left out.
    pub(crate) fn place(&self, key: &str) -> At {
        self.table.node(key).map_or(self.at, |node| node.at)
    }

    /// Whether a key is given.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.node(key).is_some()
    }

    /// The value of a key as it stands.
    pub(crate) fn node(&self, key: &str) -> Option<&'t Node> {
        self.table.node(key)
    }

    /// Reports a problem at a key's value.
    pub(crate) fn error(&mut self, key: &str, message: impl Into<String>) -> &mut Draft {
        let at = self.place(key);
        self.context.findings.error(at, message)
    }

    /// Reports a doubt at a key's value.
    pub(crate) fn warning(&mut self, key: &str, message: impl Into<String>) -> &mut Draft {
        let at = self.place(key);
        self.context.findings.warning(at, message)
    }
}

/// How messages call the top of the file.
pub(crate) const ROOT: &str = "the top of the file";

/// Reports a value of the wrong type.
pub(crate) fn wrong_type(node: &Node, key: &Key, context: &mut Context) {
    if matches!(node.value, crate::tree::Value::Broken) {
        return;
    }
    let message = format!("`{}` cannot be {}", key.name, node.kind());
    let kind = match key.kind {
        Kind::List(element) if !matches!(node.value, crate::tree::Value::List(_)) => element,
        _ => &key.kind,
    };
    let draft = context.findings.error(node.at, message).label(format!("expected {}", kind.expected()));
    if let (crate::tree::Value::Integer(count), Kind::Duration | Kind::Size) = (&node.value, kind) {
        let unit = if matches!(kind, Kind::Duration) { "s" } else { " B" };
        draft.help(format!("did you mean \"{count}{unit}\"?"));
    }
}

/// The first sentence of a text.
pub(crate) fn first_sentence(text: &str) -> &str {
    text.find(". ").map_or(text, |end| &text[..=end])
}

/// A table while it is written.
pub(crate) struct Writer<'n> {
    pub(crate) table: toml::Table,
    pub(crate) names: &'n Names,
}

impl<'n> Writer<'n> {
    pub(crate) fn new(names: &'n Names) -> Self {
        Self { table: toml::Table::new(), names }
    }

    pub(crate) fn put<T: Setting>(&mut self, key: &Key, value: &T) {
        if let Some(value) = value.write(self.names) {
            self.table.insert(key.name.to_owned(), value);
        }
    }
}

/// Describes a section: the title and text of its table, its fields with their types and keys, and a check of the
/// whole.
macro_rules! section {
    ($type:ident, $title:literal, $doc:literal, $check:expr, {
        $( $field:ident $(as $name:literal)? : $value:ty = $key:expr; )*
    }) => {
        section!{ fields $type, $title, $check, { $( $field $(as $name)? : $value = $key; )* }, &$crate::key::Description {
            title: $title, doc: $doc, keys: <$type as $crate::section::Section>::KEYS, variants: None,
        }}
    };
    (fields $type:ident, $title:expr, $check:expr, {
        $( $field:ident $(as $name:literal)? : $value:ty = $key:expr; )*
    }, $description:expr) => {
        impl $crate::section::Section for $type {
            const KEYS: &'static [$crate::key::Key] = &[$(
                $key.named::<$value>(section!(@name $field $($name)?))
            ),*];
            const DESCRIPTION: &'static $crate::key::Description = $description;

            fn fields(reader: &mut $crate::section::Reader<'_, '_>) -> Option<Self> {
                let mut keys = Self::KEYS.iter();
                $( let $field = keys.next().and_then(|key| reader.take::<$value>($title, key)); )*
                let mut section = Self { $( $field: $field? ),* };
                let check: fn(&mut Self, &mut $crate::section::Reader<'_, '_>) = $check;
                check(&mut section, reader);
                Some(section)
            }

            fn write_fields(&self, writer: &mut $crate::section::Writer<'_>) {
                let mut keys = Self::KEYS.iter();
                $( if let Some(key) = keys.next() { writer.put(key, &self.$field); } )*
            }
        }
    };
    (@name $field:ident $name:literal) => { $name };
    (@name $field:ident) => { stringify!($field) };
}
pub(crate) use section;

/// Makes sections without variants settings: a table in, a table out.
macro_rules! table_settings {
    ($($type:ty),*) => { $(
        impl $crate::section::Setting for $type {
            const KIND: $crate::key::Kind = $crate::key::Kind::Table(<$type as $crate::section::Section>::DESCRIPTION);

            fn read(
                node: &$crate::tree::Node,
                key: &$crate::key::Key,
                context: &mut $crate::section::Context,
            ) -> Option<Self> {
                $crate::section::read_table(node, key, context)
            }

            fn write(&self, names: &$crate::section::Names) -> Option<toml::Value> {
                Some($crate::section::write_table(self, names))
            }
        }
    )* };
}
pub(crate) use table_settings;

/// A table without variants as a section, unknown keys reported.
pub(crate) fn read_table<S: Section>(node: &Node, key: &Key, context: &mut Context) -> Option<S> {
    let mut reader = Reader::open(node, key, context)?;
    let section = S::fields(&mut reader);
    reader.finish(S::DESCRIPTION, None);
    section
}

/// A section as a table.
pub(crate) fn write_table<S: Section>(section: &S, names: &Names) -> toml::Value {
    let mut writer = Writer::new(names);
    section.write_fields(&mut writer);
    toml::Value::Table(writer.table)
}
