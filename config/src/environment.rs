//! What the parser may ask of the world: files and variables, through whoever lends them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Answers for files and environment variables while a configuration is parsed.
pub trait Environment {
    /// The text of a file.
    ///
    /// # Errors
    ///
    /// A reason for people when the file cannot be read, is not UTF-8, or is longer than `max_bytes`. An implementation
    /// reads no more than `max_bytes + 1` bytes into memory.
    fn read(&self, path: &Path, max_bytes: usize) -> Result<String, String>;

    /// The value of an environment variable; `None` when it is unset or not Unicode.
    fn variable(&self, name: &str) -> Option<String>;
}

/// An [`Environment`] in memory, for tests and for configurations that a program makes.
#[derive(Clone, Debug, Default)]
pub struct MemoryEnvironment {
    files: BTreeMap<PathBuf, String>,
    variables: BTreeMap<String, String>,
}

impl MemoryEnvironment {
    /// An environment with neither files nor variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a file.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.files.insert(path.into(), text.into());
        self
    }

    /// The same with a variable.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }
}

impl Environment for MemoryEnvironment {
    fn read(&self, path: &Path, max_bytes: usize) -> Result<String, String> {
        let text = self.files.get(path).ok_or("no such file")?;
        if text.len() > max_bytes {
            return Err(format!("longer than {max_bytes} bytes"));
        }
        Ok(text.clone())
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}
