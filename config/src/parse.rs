//! From files to a [`Config`], or to everything that is wrong with them.

use std::path::{Path, PathBuf};

use crate::Config;
use crate::diagnostic::Diagnostics;
use crate::environment::Environment;
use crate::section::{Context, Names};
use crate::sections::{self, Read};
use crate::show::References;
use crate::{tree, whole};

/// A configuration that was found right.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it says.
    pub config: Config,
    /// What is probably not meant; never an error.
    pub warnings: Diagnostics,
    /// The file and all that it includes, in the order of reading.
    pub files: Vec<PathBuf>,
    pub(crate) references: References,
}

/// Reads the file at `path` and all that it includes.
///
/// Relative paths in a file, of includes and `file:` values as of certificates and directories, are taken from the
/// directory of that file.
///
/// # Errors
///
/// All problems at once, warnings among them, when the configuration is refused.
pub fn parse(environment: &dyn Environment, path: &Path) -> Result<Parsed, Diagnostics> {
    let mut context = Context::default();
    let table = tree::read(path, environment, &mut context.findings);
    let files = context.findings.paths();
    if context.findings.is_unreadable() {
        return Err(context.findings.finish());
    }
    context.names = Names { cores: sections::core_names(&table), streams: sections::stream_names(&table) };
    let references = References::of(&table);
    let read = sections::read(table, &mut context);
    if let Some(read) = &read {
        whole::judge(read, &mut context.findings);
    }
    let diagnostics = context.findings.finish();
    match read.and_then(assembled) {
        Some(config) if !diagnostics.has_errors() => Ok(Parsed { config, warnings: diagnostics, files, references }),
        _ => Err(diagnostics),
    }
}

fn assembled(read: Read) -> Option<Config> {
    let mut routes: Vec<_> = read.routes.into_iter().map(|(route, _)| route).collect();
    whole::sort(&mut routes);
    Some(Config {
        edge: read.edge?,
        listeners: read.listeners.into_iter().map(|(listener, _)| listener).collect(),
        admin: read.admin?,
        cores: read.cores.into_iter().map(|(core, _)| core).collect(),
        identity: read.identity?,
        routes,
        streams: read.streams.into_iter().map(|(stream, _)| stream).collect(),
        presence: read.presence?,
        limits: read.limits?,
        shutdown: read.shutdown?,
    })
}
