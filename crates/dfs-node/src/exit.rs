//! Exit codes, and the line that says why: `error: what failed: why` and `hint: what to do`.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::quote;

/// The one table of exit codes: name, number, meaning, and the statuses of the HTTP answers whose
/// body names it. An answer has one exit code, but a code may go with several statuses.
macro_rules! exit_codes {
    ($($name:ident = $number:literal, $meaning:literal, [$($status:literal),*];)*) => {
        /// Exit codes of both programs. In JSON it is the number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(into = "u8", from = "u8")]
        pub enum Code {
            $(#[doc = concat!($meaning, ".")] $name = $number,)*
        }

        impl Code {
            /// Every code, in order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Its name as a word, which stays.
            pub fn word(self) -> String {
                let mut word = String::new();
                for letter in self.name().chars() {
                    if letter.is_ascii_uppercase() && !word.is_empty() {
                        word.push('-');
                    }
                    word.push(letter.to_ascii_lowercase());
                }
                word
            }

            /// What it means.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// The statuses of the HTTP answers that name it.
            pub fn statuses(self) -> &'static [u16] {
                match self { $(Self::$name => &[$($status),*],)* }
            }
        }
    };
}

exit_codes! {
    Failed = 1, "Failed for another reason", [400, 408, 409, 410, 500, 501, 507];
    Usage = 2, "Wrong usage", [400, 404, 411, 416];
    Partly = 3, "Some of several things were done", [];
    NotFound = 4, "No such path or version", [404];
    Retryable = 5, "May succeed later", [503];
    Unverified = 6, "Does not verify, or no good copy is left", [502];
    Condition = 7, "The condition of a conditional write does not hold", [412];
    NoNode = 10, "No running node", [];
    Locked = 11, "The data directory is in use", [];
    Key = 12, "Wrong or missing key", [401, 403];
    // What a program that SIGPIPE ends gives: 128 + 13.
    Pipe = 141, "Nobody reads stdout any more", [];
}

impl From<Code> for u8 {
    fn from(code: Code) -> Self {
        code as Self
    }
}

impl From<u8> for Code {
    /// A number that is not in the table, as a newer node may send, is a failure like any other.
    fn from(number: u8) -> Self {
        Self::ALL.iter().copied().find(|code| u8::from(*code) == number).unwrap_or(Self::Failed)
    }
}

/// What a program ends with; a failure is reported first.
pub fn exit_code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(u8::from(failure.code))
        }
    }
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

    /// Writes both to stderr.
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

/// Writes a line to stderr, on a terminal with nothing in it that acts on one. A closed pipe or a
/// full disk there must not end what is under way, as `eprintln!` would, so the error is dropped.
pub fn tell(line: impl fmt::Display) {
    let mut stderr = io::stderr().lock();
    let _ = match stderr.is_terminal() {
        true => writeln!(stderr, "{}", quote::line(&line.to_string())),
        false => writeln!(stderr, "{line}"),
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    const CLI: &str = include_str!("../../../docs/reference/cli.md");
    const HTTP_API: &str = include_str!("../../../docs/reference/http-api.md");

    /// The cells of the table below a heading.
    fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
        let below = page.split_once(&format!("{heading}\n")).unwrap().1;
        let lines = below.lines().skip_while(|line| !line.starts_with('|')).skip(2);
        let rows = lines.take_while(|line| line.starts_with('|'));
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
    }

    #[test]
    fn the_number_of_a_code_leads_back_to_it() {
        for code in Code::ALL {
            assert_eq!(Code::from(u8::from(*code)), *code);
        }
        assert_eq!(Code::from(99), Code::Failed);
    }

    #[test]
    fn the_reference_has_the_codes_of_dfs_and_their_meaning() {
        let mut documented = Vec::new();
        for row in rows(CLI, "### Exit codes of dfs") {
            // 0 is no failure, and signals have the codes that a shell gives them.
            let Ok(number @ 1..) = row[0].parse::<u8>() else { continue };
            let code = Code::from(number);
            assert!(row[1].starts_with(code.meaning()), "{number}: {}", row[1]);
            documented.push((number, code));
        }
        let known: Vec<_> = Code::ALL.iter().map(|code| (u8::from(*code), *code)).collect();
        assert_eq!(documented, known);
    }

    #[test]
    fn the_reference_knows_the_codes_of_dfs_node_and_of_http_answers() {
        let known: Vec<u8> = Code::ALL.iter().copied().map(u8::from).collect();
        for row in rows(CLI, "### Exit codes of dfs-node") {
            let Ok(number @ 1..) = row[0].parse::<u8>() else { continue };
            assert!(known.contains(&number), "{number}");
        }
        for row in rows(HTTP_API, "## Errors") {
            // Some answers are made before there is an error body.
            let Ok(number) = row[1].parse::<u8>() else { continue };
            let status: u16 = row[0].parse().unwrap();
            assert!(Code::from(number).statuses().contains(&status), "{status} {number}");
        }
    }
}
