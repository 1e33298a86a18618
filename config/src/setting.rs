//! The plain types that values become: texts, numbers, quantities, addresses, and lists and options of them.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::diagnostic::nearest;
use crate::expand::escape;
use crate::form::Form;
use crate::key::{Key, Kind, quoted};
use crate::section::{Context, Names, Setting, wrong_type};
use crate::tree::{Node, Value};
use crate::units::{ByteSize, Ratio, duration_from_text, duration_to_text, guess_duration, guess_size};
use crate::{BodyPointer, CoreId, IdentitySource, KeyPart, PathPattern, Peer, TenantWeight};

impl Setting for bool {
    const KIND: Kind = Kind::Boolean;

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        let Value::Boolean(value) = node.value else {
            wrong_type(node, key, context);
            return None;
        };
        Some(value)
    }

    fn write(&self, _: &Names) -> Option<toml::Value> {
        Some(toml::Value::Boolean(*self))
    }
}

macro_rules! integer_settings {
    ($($type:ty),*) => { $(
        impl Setting for $type {
            const KIND: Kind = Kind::Integer;

            fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
                let Value::Integer(value) = node.value else {
                    wrong_type(node, key, context);
                    return None;
                };
                let (least, most) = key.between.unwrap_or(("0", "1000000000"));
                let fits = least.parse().is_ok_and(|least| value >= least) && most.parse().is_ok_and(|most| value <= most);
                let value = <$type>::try_from(value).ok().filter(|_| fits);
                value.or_else(|| out_of_bounds(node, key, (least, most), context))
            }

            fn write(&self, _: &Names) -> Option<toml::Value> {
                Some(toml::Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX)))
            }
        }
    )* };
}
integer_settings!(usize, u32, u16);

/// A quantity with an order, so that it can be held to bounds.
macro_rules! quantity_setting {
    ($type:ty, $kind:expr, $parse:expr, $guess:expr, $print:expr) => {
        impl Setting for $type {
            const KIND: Kind = $kind;

            fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
                let Some(text) = node.text() else {
                    wrong_type(node, key, context);
                    return None;
                };
                let value = match $parse(text) {
                    Ok(value) => value,
                    Err(error) => {
                        let draft = context.findings.error(node.at, format!("{} is {error}", node.shown()));
                        if let Some(guess) = $guess(text).filter(|_| node.secret.is_none()) {
                            draft.help(format!("did you mean {}?", quoted(&guess)));
                        }
                        return None;
                    }
                };
                let Some((least, most)) = key.between else { return Some(value) };
                let fits =
                    $parse(least).is_ok_and(|least| value >= least) && $parse(most).is_ok_and(|most| value <= most);
                if fits { Some(value) } else { out_of_bounds(node, key, (least, most), context) }
            }

            fn write(&self, _: &Names) -> Option<toml::Value> {
                Some(toml::Value::String($print(*self)))
            }
        }
    };
}
quantity_setting!(Duration, Kind::Duration, duration_from_text, guess_duration, duration_to_text);
quantity_setting!(ByteSize, Kind::Size, ByteSize::from_str, guess_size, |size: ByteSize| size.to_string());

fn out_of_bounds<T>(node: &Node, key: &Key, (least, most): (&str, &str), context: &mut Context) -> Option<T> {
    context.findings.error(node.at, format!("`{}` cannot be {}", key.name, node.shown())).label(format!(
        "expected {} to {}",
        key.kind.literal(least),
        key.kind.literal(most)
    ));
    None
}

impl Setting for Ratio {
    const KIND: Kind = Kind::Ratio;

    #[expect(clippy::cast_precision_loss, reason = "only 0 and 1 are taken")]
    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        let ratio = match &node.value {
            Value::Integer(value) => Self::new(*value as f64),
            Value::Float(value) => Self::new(*value),
            Value::Text(text) => text.parse().ok(),
            _ => {
                wrong_type(node, key, context);
                return None;
            }
        };
        if ratio.is_none() {
            let draft = context.findings.error(node.at, format!("`{}` must be a ratio", key.name));
            draft.label("expected a number from 0 to 1, or a percentage such as \"10 %\"");
        }
        ratio
    }

    fn write(&self, _: &Names) -> Option<toml::Value> {
        Some(toml::Value::Float(self.value()))
    }
}

impl Setting for String {
    const KIND: Kind = Kind::Text("a string");

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        let Some(text) = node.text() else {
            wrong_type(node, key, context);
            return None;
        };
        if key.form.accepts(text) {
            if key.form == Form::Stream && !context.names.streams.iter().any(|name| name == text) {
                undeclared(node, "stream", text, &context.names.streams.clone(), context);
                return None;
            }
            return Some(text.to_owned());
        }
        let lower = text.to_lowercase();
        let draft = context.findings.error(node.at, format!("{} is not right for `{}`", node.shown(), key.name));
        draft.label(format!("expected {}", key.form.expected()));
        if lower != *text && key.form.accepts(&lower) && node.secret.is_none() {
            draft.help(format!("did you mean {}?", quoted(&lower)));
        }
        None
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn write(&self, _: &Names) -> Option<toml::Value> {
        Some(toml::Value::String(escape(self)))
    }
}

impl Setting for CoreId {
    const KIND: Kind = Kind::Text("the name of a core");

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        let Some(text) = node.text() else {
            wrong_type(node, key, context);
            return None;
        };
        let found = context.names.cores.iter().position(|name| name == text).map(Self);
        if found.is_none() {
            undeclared(node, "core", text, &context.names.cores.clone(), context);
        }
        found
    }

    fn absent() -> Option<Self> {
        Some(Self(0))
    }

    fn write(&self, names: &Names) -> Option<toml::Value> {
        Some(toml::Value::String(names.cores.get(self.0)?.clone()))
    }
}

/// Reports a name that nothing declares.
fn undeclared(node: &Node, what: &str, name: &str, known: &[String], context: &mut Context) {
    let draft = context.findings.error(node.at, format!("there is no {what} named {}", node.shown()));
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => draft.help(format!("did you mean {}?", quoted(near))),
        None if known.is_empty() => draft.note(format!("no `[[{what}]]` is declared")),
        None => draft.note(format!("declared are {}", known.join(", "))),
    };
}

impl Setting for PathBuf {
    const KIND: Kind = Kind::File;

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        let Some(text) = node.text() else {
            wrong_type(node, key, context);
            return None;
        };
        if text.is_empty() || text.contains('\0') {
            context.findings.error(node.at, format!("`{}` must name a file or directory", key.name));
            return None;
        }
        Some(if node.directory.as_os_str().is_empty() { Self::from(text) } else { node.directory.join(text) })
    }

    fn write(&self, _: &Names) -> Option<toml::Value> {
        let path: &Path = self;
        Some(toml::Value::String(escape(&path.to_string_lossy())))
    }
}

/// Types that are read from a string by their own grammar.
macro_rules! text_settings {
    ($($type:ty: $what:literal, $parse:expr;)*) => { $(
        impl Setting for $type {
            const KIND: Kind = Kind::Text($what);

            fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
                let Some(text) = node.text() else {
                    wrong_type(node, key, context);
                    return None;
                };
                parsed(node, $what, $parse(text), context)
            }

            fn write(&self, _: &Names) -> Option<toml::Value> {
                Some(toml::Value::String(escape(&self.to_string())))
            }
        }
    )* };
}

text_settings! {
    SocketAddr: "an address and port, such as \"0.0.0.0:8443\"", address;
    IpNet: "a network, such as \"10.0.0.0/8\"", network;
    Peer: "a host and port, such as \"core-a:443\"", Peer::from_str;
    PathPattern: "a path, such as \"/v1/agents/{agent}/tasks\"", PathPattern::from_str;
    KeyPart: "a part of the request, such as \"path.channel\"", KeyPart::from_str;
    BodyPointer: "a place in a JSON body, such as \"body./etag\"", BodyPointer::from_str;
    TenantWeight: "a tenant and its weight, such as \"acme=4\"", TenantWeight::from_str;
    IdentitySource: "a source, such as \"certificate.cn\"", IdentitySource::from_str;
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "not an address with a port")
}

/// A network, or a lone address as the network of itself.
fn network(text: &str) -> Result<IpNet, &'static str> {
    let lone = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(lone).ok_or("not a network")
}

fn parsed<T, E: Display>(node: &Node, what: &str, result: Result<T, E>, context: &mut Context) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            // The reason may quote the text, which stays out of messages when it was read from a file.
            let message = match node.secret {
                Some(_) => format!("{} is not right here", node.shown()),
                None => format!("{} is {error}", node.shown()),
            };
            context.findings.error(node.at, message).label(format!("expected {what}"));
            None
        }
    }
}

impl<T: Setting + PartialEq> Setting for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        let nodes = node.elements();
        if nodes.is_empty() && key.filled {
            context.findings.error(node.at, format!("`{}` cannot be empty", key.name));
        }
        let element = Key { kind: T::KIND, ..*key };
        let mut values: Vec<T> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let Some(value) = T::read(node, &element, context) else { continue };
            if values.contains(&value) {
                context.findings.error(node.at, format!("the same stands twice in `{}`", key.name));
            }
            values.push(value);
        }
        (values.len() == nodes.len()).then_some(values)
    }

    fn write(&self, names: &Names) -> Option<toml::Value> {
        Some(toml::Value::Array(self.iter().filter_map(|value| value.write(names)).collect()))
    }
}

impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;
    const OFF: bool = T::OFF;

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        match node.value {
            Value::Boolean(false) if T::OFF => Some(None),
            _ => T::read(node, key, context).map(Some),
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn write(&self, names: &Names) -> Option<toml::Value> {
        match self {
            Some(value) => value.write(names),
            None => T::OFF.then_some(toml::Value::Boolean(false)),
        }
    }
}

/// Types that are one of a few words.
macro_rules! choice_settings {
    ($($seen:vis $type:ident { $($name:literal => $variant:ident: $doc:literal;)* })*) => { $(
        impl $crate::section::Setting for $type {
            const KIND: $crate::key::Kind =
                $crate::key::Kind::Choice(&[$( $crate::key::Choice { name: $name, doc: $doc } ),*]);

            fn read(
                node: &$crate::tree::Node,
                key: &$crate::key::Key,
                context: &mut $crate::section::Context,
            ) -> Option<Self> {
                $crate::setting::chosen(node, key, &[$( ($name, Self::$variant) ),*], context)
            }

            fn write(&self, _: &$crate::section::Names) -> Option<toml::Value> {
                Some(toml::Value::String(self.as_str().to_owned()))
            }
        }

        impl $type {
            /// The word that the configuration uses.
            $seen const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $name ),* }
            }
        }
    )* };
}
pub(crate) use choice_settings;

/// The variant whose word stands in the file.
pub(crate) fn chosen<T: Copy>(node: &Node, key: &Key, words: &[(&str, T)], context: &mut Context) -> Option<T> {
    let Some(text) = node.text() else {
        wrong_type(node, key, context);
        return None;
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    let names: Vec<String> = words.iter().map(|(word, _)| quoted(word)).collect();
    let draft = context.findings.error(node.at, format!("`{}` cannot be {}", key.name, node.shown()));
    draft.label(format!("expected one of {}", names.join(", ")));
    if let Some(near) = nearest(text, words.iter().map(|(word, _)| *word)) {
        draft.help(format!("did you mean {}?", quoted(near)));
    }
    None
}
