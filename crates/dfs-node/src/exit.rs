//! Exit codes, and the line that says why: `error: what failed: why` and `hint: what to do`.

use std::fmt;
use std::io::{self, Write};

/// Exit codes of both programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Failed for another reason than those below.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Some of several things were done.
    Partly = 3,
    /// No such path or version.
    NotFound = 4,
    /// May succeed later: no quorum, a peer down, busy.
    Retryable = 5,
    /// Does not verify, or no good copy is left.
    Unverified = 6,
    /// The condition of a conditional write does not hold.
    Condition = 7,
    /// No running node.
    NoNode = 10,
    /// The data directory is in use.
    Locked = 11,
    /// Wrong or missing key.
    Key = 12,
    /// Whoever read stdout went away: what a program that SIGPIPE ends gives, 128 + 13.
    Pipe = 141,
}

/// A failure with its exit code and advice.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What failed, and why.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says so on stderr.
    pub fn report(&self) {
        tell(format_args!("error: {}", self.message));
        if let Some(hint) = &self.hint {
            tell(format_args!("hint: {hint}"));
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Code::Failed, format!("{error:#}"))
    }
}

/// Says a line on stderr. When stderr is a closed pipe or a full disk there is nobody left to tell,
/// and that must not end what is under way, as `eprintln!` would.
pub fn tell(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// An error and its causes, as one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
