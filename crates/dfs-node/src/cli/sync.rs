//! `dfs sync`: makes one side what the other is; only what differs travels.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dfs_core::name::FilePath;
use serde_json::json;

use crate::cli::args::Sync;
use crate::cli::exclude::{self, Pattern};
use crate::cli::http::Api;
use crate::cli::output::{Output, print, shown, size};
use crate::cli::paths::{failed_to_read, remote_dir};
use crate::cli::tree::Outcome;
use crate::cli::{sync_down, sync_up};
use crate::exit::{Code, Failure, tell};

pub(super) fn run(api: &Api, sync: &Sync, out: &Output) -> Result<(), Failure> {
    let exclude = exclude::all(&sync.exclude, &sync.exclude_from)?;
    let task = Task { api, sync, exclude, report: Report::new(sync, out) };
    match (Side::parse(&sync.src)?, Side::parse(&sync.dst)?) {
        (Side::Local(src), Side::Remote(dst)) => sync_up::run(&task, &src, dst.as_ref()),
        (Side::Remote(src), Side::Local(dst)) => sync_down::run(&task, src.as_ref(), &dst),
        (Side::Local(_), Side::Local(_)) | (Side::Remote(_), Side::Remote(_)) => {
            Err(Failure::new(Code::Usage, "one of the two is in the cluster: write it as dfs:PATH")
                .hint("'dfs cp -r' copies inside the cluster"))
        }
    }
}

/// What is to be made equal, and how.
pub(super) struct Task<'a> {
    pub(super) api: &'a Api,
    pub(super) sync: &'a Sync,
    pub(super) exclude: Vec<Pattern>,
    pub(super) report: Report<'a>,
}

/// One of the two trees.
enum Side {
    Local(PathBuf),
    Remote(Option<FilePath>),
}

impl Side {
    fn parse(text: &str) -> Result<Self, Failure> {
        match text.strip_prefix("dfs:") {
            Some(dir) => Ok(Self::Remote(remote_dir(dir)?)),
            None => Ok(Self::Local(text.into())),
        }
    }
}

impl Task<'_> {
    /// Whether a pattern names what is at this place below the top, or a directory that it is in.
    pub(super) fn is_excluded(&self, below: &str, is_dir: bool) -> bool {
        let above = below.match_indices('/').map(|(at, _)| (&below[..at], true));
        let mut all = above.chain([(below, is_dir)]);
        all.any(|(below, is_dir)| self.exclude.iter().any(|rule| rule.matches(below, is_dir)))
    }

    /// Whether two files have the same content, where that is to be looked at: reads both.
    pub(super) fn has_same_content(&self, name: &FilePath, file: &Path) -> Result<bool, Failure> {
        let unreadable = |error| failed_to_read(file, &error);
        let mut here = File::open(file).map_err(unreadable)?;
        let mut there = self.api.open(name, None, 0)?.content;
        let mut read = [vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]];
        loop {
            let [ours, theirs] = &mut read;
            let ours = fill(&mut here, ours).map_err(unreadable)?;
            let lost = |error| Failure::new(Code::Retryable, format!("{name}: {error}"));
            let theirs = fill(&mut there, theirs).map_err(lost)?;
            if ours != theirs {
                return Ok(false);
            }
            if ours.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Ends it: what went wrong, and what was done.
    pub(super) fn finish(&self, failed: usize, skipped: u64) -> Result<(), Failure> {
        self.report.say(failed, skipped)?;
        match (failed, skipped) {
            (0, 0) => Ok(()),
            (0, _) => {
                Err(Failure::new(Code::Partly, format!("{skipped} special files were skipped")))
            }
            _ => Err(Failure::new(Code::Partly, format!("{failed} things failed"))),
        }
    }

    /// Whether what the source does not have is to go now: not after something failed, for then it
    /// is not known what the source has.
    pub(super) fn deletes(&self, outcome: &Outcome) -> bool {
        if self.sync.delete && outcome.failed > 0 {
            tell("nothing is deleted, because something failed before");
        }
        self.sync.delete && outcome.failed == 0
    }
}

/// Reads until the buffer is full, or the end.
fn fill<'a>(source: &mut impl Read, buffer: &'a mut [u8]) -> std::io::Result<&'a [u8]> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(&buffer[..filled])
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Content goes over.
    Copy,
    /// Only what is said of it changes.
    Describe,
    /// A directory is made.
    MakeDir,
    /// A link is made.
    Link,
    Delete,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Describe => "describe",
            Self::MakeDir => "make",
            Self::Link => "link",
            Self::Delete => "delete",
        }
    }
}

/// Counts what is done, and tells it.
pub(super) struct Report<'a> {
    out: &'a Output,
    dry_run: bool,
    copied: AtomicU64,
    bytes: AtomicU64,
    deleted: AtomicU64,
    same: AtomicU64,
}

impl<'a> Report<'a> {
    fn new(sync: &Sync, out: &'a Output) -> Self {
        let [copied, bytes, deleted, same] = [const { AtomicU64::new(0) }; 4];
        Self { out, dry_run: sync.dry_run, copied, bytes, deleted, same }
    }

    pub(super) fn quiet(&self) -> Output {
        self.out.without_progress()
    }

    /// Something is as it should be.
    pub(super) fn same(&self) {
        self.same.fetch_add(1, Relaxed);
    }

    /// Does something, unless it is only to be told; `work` returns how many bytes went over.
    pub(super) fn act(
        &self,
        action: Action,
        path: &str,
        work: impl FnOnce() -> Result<u64, Failure>,
    ) -> Result<(), Failure> {
        let bytes = if self.dry_run { 0 } else { work()? };
        match action {
            Action::Copy | Action::Link => {
                self.copied.fetch_add(1, Relaxed);
                self.bytes.fetch_add(bytes, Relaxed);
            }
            Action::Delete => drop(self.deleted.fetch_add(1, Relaxed)),
            Action::Describe | Action::MakeDir => {}
        }
        let word = action.word();
        match (self.out.json, self.dry_run) {
            (true, _) => self.out.object(&json!({ "path": path, "action": word })),
            (false, true) => print(|text| writeln!(text, "{word:>8}  {}", shown(path))),
            (false, false) => Ok(()),
        }
    }

    fn say(&self, failed: usize, skipped: u64) -> Result<(), Failure> {
        let of = |count: &AtomicU64| count.load(Relaxed);
        let (copied, bytes, deleted, same) =
            (of(&self.copied), of(&self.bytes), of(&self.deleted), of(&self.same));
        if self.out.json {
            return self.out.object(&json!({ "summary": {
                "copied": copied, "bytes": bytes, "deleted": deleted, "same": same,
                "failed": failed, "skipped": skipped, "dry_run": self.dry_run,
            }}));
        }
        let would = if self.dry_run { "would be " } else { "" };
        let bytes = if self.dry_run { String::new() } else { format!(" ({})", size(bytes)) };
        tell(format_args!(
            "{copied} files and links {would}copied{bytes}, {deleted} {would}deleted, {same} were \
             the same"
        ));
        Ok(())
    }
}

/// Compared at once.
const COMPARED_BYTES: usize = 256 * 1024;
