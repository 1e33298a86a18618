//! The reference file: `weir.toml` beside this crate, made from the descriptions of the keys.
//!
//! The file is kept in the repository for people to read; the tests here make it anew and hold it to the code.

use std::collections::BTreeSet;

use crate::key::{Absent, Description, Key, Kind};
use crate::sections::ROOT_DESCRIPTION;

/// The reference as the code would write it.
pub(crate) fn reference() -> String {
    Writing { defaults: true, ..Writing::default() }.whole()
}

/// The same without the keys that stand at their defaults, and without comments.
pub(crate) fn bare() -> String {
    let text = Writing::default().whole();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// A table of the reference, with the values that it shows instead of defaults and samples.
struct Block {
    header: &'static str,
    key: &'static str,
    case: Option<&'static str>,
    intro: &'static str,
    values: &'static [(&'static str, &'static str)],
}

const fn block(header: &'static str, key: &'static str, intro: &'static str) -> Block {
    Block { header, key, case: None, intro, values: &[] }
}

const BLOCKS: &[Block] = &[
    block("[edge]", "edge", ""),
    Block {
        values: &[
            ("listener.tls.client_auth", "\"required\""),
            ("listener.tls.client_ca", "\"/etc/weir/tls/agents-ca.pem\""),
        ],
        ..block("[[listener]]", "listener", "Repeat this table for more addresses.")
    },
    block("[admin]", "admin", ""),
    block("[core]", "core", ""),
    Block {
        values: &[("identity.agent", "[\"certificate.cn\"]"), ("identity.tenant", "[\"certificate.o\"]")],
        ..block("[identity]", "identity", "")
    },
    Block {
        case: Some("cache"),
        values: &[("route.key", "[\"path.channel\", \"query.platform\", \"query.arch\"]"), ("route.shared", "true")],
        ..block("[[route]]", "route", "This one answers update checks from the cache.")
    },
    Block {
        case: Some("lookup"),
        values: &[
            ("route.name", "\"tasks\""),
            ("route.match.path", "\"/v1/agents/{agent}/tasks\""),
            ("route.class", "\"tasking\""),
            ("route.action", "\"lookup\""),
        ],
        ..block("[[route]]", "route", "This one turns many agents' polls for tasks into few bulk lookups.")
    },
    Block {
        case: Some("aggregate"),
        values: &[
            ("route.name", "\"process-events\""),
            ("route.match.method", "\"POST\""),
            ("route.match.path", "\"/v1/events/process\""),
            ("route.class", "\"telemetry\""),
            ("route.action", "\"aggregate\""),
        ],
        ..block("[[route]]", "route", "This one takes uploads of events.")
    },
    Block {
        case: Some("aggregate"),
        values: &[
            ("route.name", "\"inventory\""),
            ("route.match.method", "\"POST\""),
            ("route.match.path", "\"/v1/inventory\""),
            ("route.class", "\"telemetry\""),
            ("route.action", "\"aggregate\""),
            ("route.stream", "\"inventory\""),
        ],
        ..block("[[route]]", "route", "This one takes uploads of states.")
    },
    Block {
        case: Some("forward"),
        values: &[
            ("route.name", "\"everything-else\""),
            ("route.match.method", "[\"GET\", \"POST\", \"PUT\", \"DELETE\"]"),
            ("route.match.path", "\"/{path*}\""),
            ("route.class", "\"config\""),
            ("route.action", "\"forward\""),
        ],
        ..block("[[route]]", "route", "This one passes everything else through.")
    },
    Block { case: Some("events"), ..block("[[stream]]", "stream", "This one merges the repeats of events.") },
    Block {
        case: Some("state"),
        values: &[
            ("stream.name", "\"inventory\""),
            ("stream.mode", "\"state\""),
            ("stream.window", "\"60s\""),
            ("stream.max_keys", "1_000_000"),
        ],
        ..block(
            "[[stream]]",
            "stream",
            "This one sends states only when they have changed. Here `window` is the time within which the last one wins, \
             and past `max_keys` those not seen for longest are forgotten.",
        )
    },
    block("[presence]", "presence", ""),
    block("[limits]", "limits", ""),
    block("[shutdown]", "shutdown", ""),
];

const PREAMBLE: &str = "\
# The configuration of a Weir node: every key of every table.
#
# A key stands at its default unless its comment says otherwise; leaving it out changes nothing. A
# key behind `#` has no default: its value is an example. Times are written \"250ms\", \"60s\",
# \"1h30m\", \"7d\"; sizes \"512 B\", \"64 MiB\", \"1 GB\"; ratios 0.1 or \"10 %\". A list of one may be
# written without brackets.
#
# Inside any string, ${NAME} is the environment variable NAME, ${NAME:-text} the same with a
# fallback, and $${ stands for ${ itself. A string that begins with file: is the content of that
# file, up to 64 KiB, without its last newline. Relative paths start at the directory of the file
# they stand in.
#
# `weir check` says whether a file is right, `weir explain` what a request would meet, `weir config
# show` what holds in the end. A reload (SIGHUP) takes up all keys but those that need a restart.
";

/// The reference as far as it is written.
#[derive(Default)]
struct Writing {
    text: String,
    /// Whether keys that stand at their defaults are written.
    defaults: bool,
    /// What has been explained already.
    explained: BTreeSet<(&'static str, &'static str)>,
}

impl Writing {
    fn whole(mut self) -> String {
        self.text.push_str(PREAMBLE);
        for key in ROOT_DESCRIPTION.keys.iter().filter(|key| key.kind.description().is_none()) {
            self.text.push('\n');
            self.scalar(key, &ROOT_DESCRIPTION, ("", None), "");
        }
        for block in BLOCKS {
            self.block(block);
        }
        self.text
    }

    fn block(&mut self, block: &Block) {
        let Some(key) = ROOT_DESCRIPTION.keys.iter().find(|key| key.name == block.key) else { return };
        let Some(description) = key.kind.description() else { return };
        let off = if matches!(key.absent, Absent::Nothing(_)) { "#" } else { "" };
        self.text.push_str(&format!("\n{}\n", "#".repeat(100)));
        if self.explained.insert((description.title, "")) {
            self.comment(description.doc);
        }
        self.comment(block.intro);
        self.text.push_str(&format!("{off}{}\n", block.header));
        self.table(block, block.key, description, block.case, off);
    }

    /// The keys of a table: plain ones first, then the tables in it.
    fn table(&mut self, block: &Block, path: &str, description: &'static Description, case: Option<&str>, off: &str) {
        let (tables, plain): (Vec<&Key>, Vec<&Key>) =
            description.keys_of(case).into_iter().partition(|key| key.kind.description().is_some());
        for key in plain {
            let name = format!("{path}.{}", key.name);
            let value = block.values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            self.scalar(key, description, (&name, value), off);
        }
        for key in tables {
            let Some(inner) = key.kind.description() else { continue };
            let path = format!("{path}.{}", key.name);
            let own_value = block.values.iter().any(|(known, _)| known.starts_with(&format!("{path}.")));
            let needed = own_value || matches!(key.absent, Absent::Required(_));
            let new = self.explained.insert((description.title, key.name));
            if !new && !needed {
                continue;
            }
            // A listener's TLS is what a listener is for, though it can be left out.
            let optional = matches!(key.absent, Absent::Nothing(_)) && key.name != "tls" || key.off;
            let off = if optional { "#" } else { off };
            self.text.push('\n');
            if new {
                self.comment(key.doc);
            }
            self.text.push_str(&format!("{off}[{path}]\n"));
            self.table(block, &path, inner, None, off);
        }
    }

    fn scalar(&mut self, key: &'static Key, owner: &Description, (name, value): (&str, Option<&str>), off: &str) {
        let new = self.explained.insert((owner.title, key.name));
        let standing = matches!(key.absent, Absent::Default(_)) && value.is_none();
        if (standing && !self.defaults && off.is_empty())
            || (!new && value.is_none() && !matches!(key.absent, Absent::Required(_)))
        {
            return;
        }
        if new {
            self.comment(&explanation(key, value, name));
        }
        let off =
            if value.is_none() && matches!(key.absent, Absent::Nothing(_) | Absent::Computed(_)) { "#" } else { off };
        let value = value.map_or_else(|| key.kind.literal(key.sample().unwrap_or_default()), str::to_owned);
        self.text.push_str(&format!("{off}{} = {value}\n", key.name));
    }

    /// A text as comment lines of 100 characters at most.
    fn comment(&mut self, text: &str) {
        let mut line = String::from("#");
        for word in text.split_whitespace() {
            if line.len() + 1 + word.len() > 100 {
                self.text.push_str(&line);
                self.text.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        if line.len() > 1 {
            self.text.push_str(&line);
            self.text.push('\n');
        }
    }
}

/// What stands above a key: its meaning, its words or bounds, its default where another value is shown.
fn explanation(key: &Key, value: Option<&str>, name: &str) -> String {
    let mut text = key.doc.to_owned();
    let kind = if let Kind::List(element) = key.kind { element } else { &key.kind };
    if let Kind::Choice(choices) = kind {
        let plain = choices.iter().all(|choice| choice.name == choice.doc);
        let word = |choice: &crate::key::Choice| match plain {
            true => choice.name.to_owned(),
            false => format!("\"{}\": {}", choice.name, choice.doc),
        };
        text.push_str(&format!(
            " {}.",
            choices.iter().map(word).collect::<Vec<_>>().join(if plain { ", " } else { "; " })
        ));
    }
    if let Some((least, most)) = key.between {
        text.push_str(&format!(" From {} to {}.", kind.literal(least), kind.literal(most)));
    }
    match key.absent {
        Absent::Required(_) => text.push_str(" Required."),
        Absent::Default(default) if value.is_some() => {
            text.push_str(&format!(" Default: {}.", key.kind.literal(default)));
        }
        _ => {}
    }
    if key.restart && !name.is_empty() {
        text.push_str(" Needs a restart.");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Config, EXAMPLE, MemoryEnvironment, parse};

    fn parsed(text: &str) -> crate::Parsed {
        let environment = MemoryEnvironment::new().file("weir.toml", text).file("region.toml", "");
        parse(&environment, Path::new("weir.toml")).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
    }

    fn example() -> Config {
        parsed(EXAMPLE).config
    }

    /// The example with every key behind `#` brought forward.
    fn uncommented() -> String {
        let open = |line: &str| {
            let inside = line
                .strip_prefix('#')
                .filter(|inside| inside.starts_with(|c: char| c.is_ascii_lowercase() || c == '['));
            format!("{}\n", inside.unwrap_or(line))
        };
        EXAMPLE.lines().map(open).collect()
    }

    #[test]
    fn the_example_is_what_the_code_would_write() {
        if std::env::var_os("WEIR_BLESS").is_some() {
            std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("weir.toml"), reference())
                .expect("the example is writable");
            return;
        }
        assert_eq!(EXAMPLE, reference(), "run the tests of this crate once with WEIR_BLESS=1");
    }

    #[test]
    fn the_example_parses_without_a_warning() {
        let warnings = parsed(EXAMPLE).warnings;
        assert!(warnings.is_empty(), "{warnings}");
    }

    #[test]
    fn a_key_at_its_default_can_be_left_out() {
        assert_eq!(parsed(&bare()).config, example());
    }

    #[test]
    fn every_key_stands_in_the_example() {
        let text = uncommented();
        parsed(&text);
        let table: toml::Table = text.parse().expect("the example is TOML");
        let mut missing = Vec::new();
        for key in ROOT_DESCRIPTION.keys {
            absent("", key, &[&table], &mut missing);
        }
        assert_eq!(missing, [""; 0]);
    }

    /// Gathers the keys that stand in none of the tables.
    fn absent(path: &str, key: &Key, tables: &[&toml::Table], missing: &mut Vec<String>) {
        let path = format!("{path}.{}", key.name);
        let values: Vec<&toml::Value> = tables.iter().filter_map(|table| table.get(key.name)).collect();
        if values.is_empty() {
            missing.push(path);
            return;
        }
        let Some(description) = key.kind.description() else { return };
        let inner: Vec<&toml::Table> = values
            .iter()
            .flat_map(|value| value.as_array().map_or_else(|| vec![*value], |values| values.iter().collect()))
            .filter_map(toml::Value::as_table)
            .collect();
        for key in description.all_keys() {
            absent(&path, key, &inner, missing);
        }
    }
}
