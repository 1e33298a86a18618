//! What is wrong with a configuration, said so that an operator can put it right.
//!
//! All problems of all files are collected before anything is said. Each names its place, shows the line, and where it
//! can, names what was probably meant.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// The problems of a configuration, in the order of the files and of the places in them; the first 200 of them.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    sources: Vec<Source>,
    items: Vec<Diagnostic>,
    /// Whether one of all that were found, kept or not, refuses the configuration.
    errors: bool,
    omitted: usize,
}

/// One problem and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the configuration is refused for it.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What stands under the marked place; may be empty.
    pub label: String,
    /// Other places that belong to the problem.
    pub related: Vec<Related>,
    /// What was expected.
    pub notes: Vec<String>,
    /// What was probably meant.
    pub help: Option<String>,
    at: At,
}

/// Another place that belongs to a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// What stands there.
    pub label: String,
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    at: At,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is taken, but probably does not say what was meant.
    Warning,
}

impl Diagnostics {
    /// The problems.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.items.iter()
    }

    /// The number of problems.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether one of them refuses the configuration.
    pub fn has_errors(&self) -> bool {
        self.errors
    }

    /// The number of problems past those that are kept.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// The text for people with terminal colours. `Display` gives the same without.
    pub fn coloured(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let mut texts: Vec<String> = self.items.iter().map(|item| renderer.render(&[self.group(item)])).collect();
        if self.omitted > 0 {
            texts.push(format!("and {} more", self.omitted));
        }
        texts.join("\n\n")
    }

    fn group<'a>(&'a self, item: &'a Diagnostic) -> Group<'a> {
        let level = match item.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(&*item.message).element(self.snippet(item));
        for other in item.related.iter().filter(|other| other.at.file != item.at.file) {
            let source = &self.sources[other.at.file];
            let mark = AnnotationKind::Context.span(source.clamp(other.at)).label(&*other.label);
            group = group.element(Snippet::source(&*source.text).path(source.name()).annotation(mark));
        }
        for note in &item.notes {
            group = group.element(Level::NOTE.message(&**note));
        }
        match &item.help {
            Some(help) => group.element(Level::HELP.message(&**help)),
            None => group,
        }
    }

    /// The lines of the source from the first to the last that belongs to the problem, marked.
    fn snippet<'a>(&'a self, item: &'a Diagnostic) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let source = &self.sources[item.at.file];
        let related: Vec<&Related> = item.related.iter().filter(|other| other.at.file == item.at.file).collect();
        let lines = source.lines(related.iter().map(|other| other.at).chain([item.at]));
        let within = |at: At| {
            let span = source.clamp(at);
            span.start - lines.start..span.end - lines.start
        };
        let mut mark = AnnotationKind::Primary.span(within(item.at));
        if !item.label.is_empty() {
            mark = mark.label(&*item.label);
        }
        let first = source.text[..lines.start].matches('\n').count() + 1;
        let mut snippet =
            Snippet::source(&source.text[lines.clone()]).line_start(first).path(source.name()).annotation(mark);
        for other in related {
            snippet = snippet.annotation(AnnotationKind::Context.span(within(other.at)).label(&*other.label));
        }
        snippet
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

impl std::error::Error for Diagnostics {}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl fmt::Display for Diagnostic {
    /// One line for logs: `file:line:column: error: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: {}", self.file.display(), self.line, self.column, self.message)
    }
}

/// A place in one of the files: an index into the sources and a range of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) file: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl At {
    pub(crate) fn new(file: usize, span: &Range<usize>) -> Self {
        Self { file, start: span.start, end: span.end }
    }
}

/// A file as it was read.
#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The place as a range that lies in the text, on its first line.
    fn clamp(&self, at: At) -> Range<usize> {
        let start = self.text.floor_char_boundary(at.start);
        let end = self.text.floor_char_boundary(at.end.max(start));
        let line = self.text[start..end].find('\n').map_or(end, |offset| start + offset);
        start..line
    }

    /// The whole lines from the first of the places to the last.
    fn lines(&self, places: impl Iterator<Item = At>) -> Range<usize> {
        let spans: Vec<Range<usize>> = places.map(|at| self.clamp(at)).collect();
        let start = spans.iter().map(|span| span.start).min().unwrap_or_default();
        let end = spans.iter().map(|span| span.end).max().unwrap_or_default();
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[end..].find('\n').map_or(self.text.len(), |newline| end + newline);
        line_start..line_end
    }

    fn line_and_column(&self, at: At) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(at.start)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// Problems kept of one configuration, at most: what follows is seldom more than an echo.
const MAX_KEPT: usize = 200;

/// Problems as they are found, before their places are turned into lines and columns.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    sources: Vec<Source>,
    drafts: Vec<Draft>,
    unreadable: bool,
}

/// A problem in the making.
#[derive(Debug)]
pub(crate) struct Draft {
    severity: Severity,
    at: At,
    message: String,
    label: String,
    related: Vec<(At, String)>,
    notes: Vec<String>,
    help: Option<String>,
}

impl Findings {
    /// Takes in a file; the index stands in every [`At`] of it.
    pub(crate) fn add_source(&mut self, path: &Path, text: &str) -> usize {
        self.sources.push(Source { path: path.to_owned(), text: text.to_owned() });
        self.sources.len() - 1
    }

    /// The files taken in so far.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.sources.iter().map(|source| source.path.clone()).collect()
    }

    /// The number of files taken in so far.
    pub(crate) fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Whether a file could not be read as a tree, so that nothing can be said about what it means.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// Whether something that refuses the configuration was found so far.
    pub(crate) fn has_errors(&self) -> bool {
        self.drafts.iter().any(|draft| draft.severity == Severity::Error)
    }

    /// Reports that a file could not be read as a tree.
    pub(crate) fn unreadable(&mut self, at: At, message: impl Into<String>) -> &mut Draft {
        self.unreadable = true;
        self.error(at, message)
    }

    pub(crate) fn error(&mut self, at: At, message: impl Into<String>) -> &mut Draft {
        self.draft(Severity::Error, at, message.into())
    }

    pub(crate) fn warning(&mut self, at: At, message: impl Into<String>) -> &mut Draft {
        self.draft(Severity::Warning, at, message.into())
    }

    fn draft(&mut self, severity: Severity, at: At, message: String) -> &mut Draft {
        let blank = Draft { severity, at, message, label: String::new(), related: vec![], notes: vec![], help: None };
        self.drafts.push(blank);
        let last = self.drafts.len() - 1;
        &mut self.drafts[last]
    }

    /// The problems in order, with lines and columns.
    pub(crate) fn finish(mut self) -> Diagnostics {
        self.drafts.sort_by_key(|draft| (draft.at.file, draft.at.start));
        let errors = self.has_errors();
        let omitted = self.drafts.len().saturating_sub(MAX_KEPT);
        let sources = self.sources;
        let items = self.drafts.into_iter().take(MAX_KEPT).map(|draft| draft.place(&sources)).collect();
        Diagnostics { sources, items, errors, omitted }
    }
}

impl Draft {
    /// Says something under the marked place.
    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    /// Says what was expected.
    pub(crate) fn note(&mut self, note: impl Into<String>) -> &mut Self {
        self.notes.push(note.into());
        self
    }

    /// Says what was probably meant.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Marks another place.
    pub(crate) fn related(&mut self, at: At, label: impl Into<String>) -> &mut Self {
        self.related.push((at, label.into()));
        self
    }

    fn place(self, sources: &[Source]) -> Diagnostic {
        let source = &sources[self.at.file];
        let (line, column) = source.line_and_column(self.at);
        let related = self.related.into_iter().map(|(at, label)| {
            let source = &sources[at.file];
            let (line, column) = source.line_and_column(at);
            Related { label, file: source.path.clone(), line, column, at }
        });
        Diagnostic {
            severity: self.severity,
            message: self.message,
            file: source.path.clone(),
            line,
            column,
            label: self.label,
            related: related.collect(),
            notes: self.notes,
            help: self.help,
            at: self.at,
        }
    }
}

/// The name among `known` that `wrong` most resembles, if any is near enough to be meant.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let reach = (wrong.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= reach)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
