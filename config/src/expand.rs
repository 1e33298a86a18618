//! Variables and secret files inside strings.
//!
//! Expansion happens after the TOML is parsed, so that no value can inject keys or tables, and once: what a variable or
//! file contains is not expanded again.

use std::path::{Path, PathBuf};

use crate::environment::Environment;

/// The most that a `file:` value may hold.
pub(crate) const MAX_SECRET_BYTES: usize = 64 * 1024;

/// A string after expansion.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// The file that the text was read from, where the value was `file:PATH`.
    pub(crate) file: Option<PathBuf>,
}

/// Expands `${NAME}` and `${NAME:-fallback}`, then reads `file:PATH`. `$${` stands for `${` itself and a leading
/// `$file:` for `file:`. A relative path is taken from `directory`. Only a string that is written with `file:` in front
/// names a file, never one whose variable says so.
///
/// # Errors
///
/// A message for people: an unset variable, an open brace, a name that is none, a file that cannot be read.
pub(crate) fn expand(raw: &str, directory: &Path, environment: &dyn Environment) -> Result<Expanded, String> {
    let escaped = raw.trim_start_matches('$').starts_with("file:") && raw.starts_with('$');
    let text = variables(if escaped { &raw[1..] } else { raw }, environment)?;
    if !raw.starts_with("file:") {
        return Ok(Expanded { text, file: None });
    }
    let path = directory.join(text.trim_start_matches("file:"));
    let mut text = environment
        .read(&path, MAX_SECRET_BYTES)
        .map_err(|reason| format!("cannot read the value from {}: {reason}", path.display()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Expanded { text, file: Some(path) })
}

/// The inverse of [`expand`] for a value that shall stand for itself.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    if text.trim_start_matches('$').starts_with("file:") {
        escaped.push('$');
    }
    let mut rest = text;
    while let Some(brace) = rest.find("${") {
        escaped.push_str(&rest[..=brace]);
        escaped.push_str("${");
        rest = &rest[brace + 2..];
    }
    escaped.push_str(rest);
    escaped
}

fn variables(raw: &str, environment: &dyn Environment) -> Result<String, String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(dollar) = rest.find("${") {
        let before = &rest[..dollar];
        let inside = &rest[dollar + 2..];
        if let Some(before) = before.strip_suffix('$') {
            text.push_str(before);
            text.push_str("${");
            rest = inside;
            continue;
        }
        text.push_str(before);
        let Some(end) = inside.find('}') else {
            return Err("`${` without its `}`; write `$${` for the characters themselves".to_owned());
        };
        text.push_str(&variable(&inside[..end], environment)?);
        rest = &inside[end + 1..];
    }
    text.push_str(rest);
    Ok(text)
}

/// The value of `NAME` or `NAME:-fallback`. As in a shell, the fallback also stands in for an empty value.
fn variable(inside: &str, environment: &dyn Environment) -> Result<String, String> {
    let (name, fallback) = match inside.split_once(":-") {
        Some((name, fallback)) => (name, Some(fallback)),
        None => (inside, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!(
            "`{name}` cannot be the name of a variable; write `$${{` for the characters `${{` themselves"
        ));
    }
    match (environment.variable(name), fallback) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(fallback)) => Ok(fallback.to_owned()),
        (None, None) => {
            Err(format!("the variable `{name}` is not set, and no fallback is given as in `${{{name}:-fallback}}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::environment::MemoryEnvironment;

    fn expanded(raw: &str) -> Result<String, String> {
        let environment = MemoryEnvironment::new()
            .with_variable("REGION", "us-east-1")
            .with_variable("EMPTY", "")
            .with_variable("SNEAKY", "file:/etc/shadow")
            .with_variable("NESTED", "${REGION}")
            .file("/etc/weir/token", "secret\n\n")
            .file("/etc/weir/us-east-1", "east");
        expand(raw, Path::new("/etc/weir"), &environment).map(|expanded| expanded.text)
    }

    #[test]
    fn variables_stand_anywhere_in_a_string() {
        assert_eq!(expanded("a-${REGION}-b").as_deref(), Ok("a-us-east-1-b"));
        assert_eq!(expanded("${MISSING:-x:-y}").as_deref(), Ok("x:-y"));
        assert_eq!(expanded("${EMPTY:-x}").as_deref(), Ok("x"));
        assert_eq!(expanded("${EMPTY}").as_deref(), Ok(""));
    }

    #[test]
    fn an_unset_variable_is_named() {
        assert!(expanded("${MISSING}").unwrap_err().contains("`MISSING` is not set"));
        assert!(expanded("${REGION").is_err());
        assert!(expanded("${}").is_err());
        assert!(expanded("${A-B}").is_err());
    }

    #[test]
    fn a_doubled_dollar_stands_for_itself() {
        assert_eq!(expanded("$${REGION}").as_deref(), Ok("${REGION}"));
        assert_eq!(expanded("$$${REGION}").as_deref(), Ok("$${REGION}"));
        assert_eq!(expanded("$5 and $x").as_deref(), Ok("$5 and $x"));
        assert_eq!(expanded("$file:/etc/weir/token").as_deref(), Ok("file:/etc/weir/token"));
    }

    #[test]
    fn a_file_loses_one_trailing_newline() {
        assert_eq!(expanded("file:/etc/weir/token").as_deref(), Ok("secret\n"));
        assert_eq!(expanded("file:token").as_deref(), Ok("secret\n"));
        assert_eq!(expanded("file:${REGION}").as_deref(), Ok("east"));
        assert!(expanded("file:missing").unwrap_err().contains("/etc/weir/missing: no such file"));
    }

    #[test]
    fn what_a_variable_contains_is_taken_as_it_is() {
        assert_eq!(expanded("${SNEAKY}").as_deref(), Ok("file:/etc/shadow"));
        assert_eq!(expanded("${NESTED}").as_deref(), Ok("${REGION}"));
    }

    proptest! {
        #[test]
        fn an_escaped_text_expands_to_itself(text in "(\\$|\\{|\\}|file:|[a-z]){0,12}") {
            prop_assert_eq!(expanded(&escape(&text)), Ok(text));
        }
    }
}
