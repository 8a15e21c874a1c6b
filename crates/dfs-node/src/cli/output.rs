//! Results on stdout, progress on stderr.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Read, Write};

use bytesize::ByteSize;
use dfs_server::{Listed, ListedKind, rfc3339};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use crate::cli::args::Args;
use crate::cli::progress::{DRAWN_EVERY, Speed};
use crate::cli::temp;
use crate::exit::{Code, Failure};
use crate::quote;

/// How results are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) json: bool,
    progress: bool,
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// The word that the API has for a state.
pub(super) fn word(state: &impl Serialize) -> String {
    match serde_json::to_value(state) {
        Ok(Value::String(word)) => word,
        other => unreachable!("a state is written as a word: {other:?}"),
    }
}

/// Writes a result to stdout; on a terminal nothing in it acts on one.
pub(super) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    print_after("", write)
}

/// The same after a text that may act on a terminal, written together with it.
pub(super) fn print_after(
    before: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let write_all = || {
        if !stdout.is_terminal() {
            stdout.write_all(before.as_bytes())?;
            write(&mut stdout)?;
            return stdout.flush();
        }
        let mut text = Vec::new();
        write(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        stdout.write_all([before, &quote::text(&text)].concat().as_bytes())?;
        stdout.flush()
    };
    write_all().map_err(stdout_failed)
}

/// A name among results: quoted on a terminal, as it is elsewhere.
pub(super) fn shown(name: &str) -> Cow<'_, str> {
    if io::stdout().is_terminal() { quote::name(name) } else { name.into() }
}

/// What a failed write to stdout means. When its reader has seen enough, as `head` has, there is
/// nothing to report and nothing left to do: the program ends like one that SIGPIPE ends.
pub(super) fn stdout_failed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        temp::end(u8::from(Code::Pipe).into());
    }
    Failure::new(Code::Failed, format!("cannot write to stdout: {error}"))
}

impl Output {
    pub(super) fn new(args: &Args) -> Self {
        Self { json: args.json, progress: !args.quiet && std::io::stderr().is_terminal() }
    }

    /// The same for one of many files: many bars would only get in each other's way.
    pub(super) fn without_progress(self) -> Self {
        Self { progress: false, ..self }
    }

    /// One object, on one line.
    pub(super) fn object(&self, value: &impl Serialize) -> Result<(), Failure> {
        print(|text| {
            let line = serde_json::to_string(value)?;
            match io::stdout().is_terminal() {
                true => writeln!(text, "{}", quote::json(&line)),
                false => writeln!(text, "{line}"),
            }
        })
    }

    pub(super) fn listed(&self, entry: &Listed, long: bool) -> Result<(), Failure> {
        if self.json {
            return self.object(entry);
        }
        let mark = match &entry.said.target {
            _ if entry.kind == ListedKind::Dir => "/".to_owned(),
            Some(target) if long => format!(" -> {}", shown(target)),
            _ => String::new(),
        };
        let path = shown(&entry.path);
        print(|text| match long {
            false => writeln!(text, "{path}{mark}"),
            true => writeln!(
                text,
                "{:>10}  {}  {}  {path}{mark}",
                size(entry.bytes),
                rfc3339(entry.modified_ms),
                entry.version,
            ),
        })
    }

    /// A bar on a terminal, nothing elsewhere.
    pub(super) fn bar(&self, bytes: Option<u64>) -> ProgressBar {
        let bar = match bytes {
            Some(bytes) => ProgressBar::new(bytes),
            None => ProgressBar::no_length(),
        };
        let target =
            if self.progress { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        bar.set_draw_target(target);
        let style = match bytes {
            Some(_) => "{wide_bar} {bytes}/{total_bytes} {speed}",
            None => "{bytes} {speed}",
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.with_key("speed", Speed::default()));
        }
        if self.progress {
            bar.enable_steady_tick(DRAWN_EVERY);
        }
        bar
    }
}

/// A source that moves a bar.
pub(super) struct Counted<'a, R> {
    pub(super) source: R,
    pub(super) bar: &'a ProgressBar,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(out)?;
        self.bar.inc(read as u64);
        Ok(read)
    }
}
