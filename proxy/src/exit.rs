//! How a command ends: the exit codes of `sysexits.h`, so that a supervisor can tell a wrong file from a taken port.

use std::fmt;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    message: String,
}

/// An exit code other than 0, each with one meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Wrong arguments, as clap has it.
    Usage = 2,
    /// `EX_DATAERR`: a file's content is damaged.
    DataError = 65,
    /// `EX_NOINPUT`: a file named on the command line cannot be read.
    NoInput = 66,
    /// `EX_UNAVAILABLE`: something the node needs is taken: an address, the data directory's lock.
    Unavailable = 69,
    /// `EX_SOFTWARE`: the node stopped, but not cleanly.
    Software = 70,
    /// `EX_CANTCREAT`: the data directory cannot be written.
    CannotCreate = 73,
    /// `EX_IOERR`: output could not be written.
    Output = 74,
    /// `EX_CONFIG`: the configuration is wrong.
    Config = 78,
}

impl Failure {
    /// A failure with what to tell the operator.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The process's exit code.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
