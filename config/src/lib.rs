//! The operator's file: parsed once into types that cannot be wrong.
//!
//! Pure: no file is opened and no clock read here. Whoever parses lends an [`Environment`] that answers for variables,
//! included files and secrets. Every key is described once, in `sections`; parsing, messages, reference and schema
//! follow from that.
//!
//! ```
//! use std::path::Path;
//!
//! use weir_config::{MemoryEnvironment, parse};
//!
//! let text = r#"
//! [[listener]]
//! address = "0.0.0.0:${PORT:-8080}"
//! [core]
//! peers = "core-a:80"
//! max_wiat = "2s"
//! "#;
//! let problems = parse(&MemoryEnvironment::new().file("weir.toml", text), Path::new("weir.toml")).unwrap_err();
//! let problem = problems.iter().next().unwrap();
//! assert_eq!(problem.to_string(), "weir.toml:6:1: error: `max_wiat` is no key of `[[core]]`");
//! assert_eq!(problem.help.as_deref(), Some("did you mean `max_wait`?"));
//! ```

mod changes;
mod diagnostic;
mod environment;
mod expand;
mod form;
mod grammar;
mod key;
mod model;
mod parse;
#[cfg(test)]
mod reference;
mod schema;
mod section;
mod sections;
mod setting;
mod show;
mod tree;
mod units;
mod whole;

pub use changes::{Change, changes};
pub use diagnostic::{Diagnostic, Diagnostics, Related, Severity};
pub use environment::{Environment, MemoryEnvironment};
pub use grammar::GrammarError;
pub use model::*;
pub use parse::{Parsed, parse};
pub use schema::schema;
pub use show::to_toml;
pub use units::{ByteSize, Ratio, UnitError, duration_from_text, duration_to_text};

/// A complete configuration with every key of every table explained: the text of `weir config example`.
pub const EXAMPLE: &str = include_str!("../weir.toml");
