//! How the program ends.

use std::io;
use std::process::ExitCode;

/// The exit codes. Where several apply the first of `Usage`, `Export`, `Input`, `Assertion` wins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// Done; also when the reader of the output went away.
    Done = 0,
    /// An assertion failed: `--expect`, `--fail-on`, `--fail-on-loss`.
    Assertion = 1,
    /// Wrong use or configuration.
    Usage = 2,
    /// Input that cannot be read, or not to its end.
    Input = 3,
    /// This machine, or these rights, do not allow it.
    Preflight = 4,
    /// What was found could not be written: disk full, folder read-only.
    Export = 5,
}

impl Exit {
    /// What a failure to write means: nothing when the reader has gone, as `head` does.
    pub(crate) fn of_write(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Done,
            _ => Self::Export,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
