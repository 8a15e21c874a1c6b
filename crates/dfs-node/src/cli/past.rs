//! What directories were: `dfs ls --versions`, `dfs restore -r` and `dfs purge`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dfs_core::name::FilePath;
use dfs_server::{ListedKind, Logged, NameHistory, Purged, Said, VersionState, rfc3339};
use serde_json::json;

use crate::cli::args::{Ls, Purge, Restore};
use crate::cli::history::show_version;
use crate::cli::http::Api;
use crate::cli::output::{Output, print, shown, size};
use crate::cli::paths::{remote, remote_dir};
use crate::cli::tree::{Outcome, for_each};
use crate::exit::{Code, Failure, tell};

/// Goes through the names of a directory with what is kept of each, page by page, and through those
/// of directories in it, deleted ones too, if that is wanted.
fn each_page(
    api: &Api,
    dir: Option<&FilePath>,
    recursive: bool,
    each: &mut dyn FnMut(&[NameHistory]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut below = Vec::new();
    api.history(dir, &mut |page| {
        let dirs = page.names.iter().filter(|name| was_dir(name));
        below.extend(dirs.map(|name| name.path.clone()));
        each(&page.names)
    })?;
    if recursive {
        below.iter().try_for_each(|dir| each_page(api, Some(&remote(dir)?), true, each))?;
    }
    Ok(())
}

fn was_dir(name: &NameHistory) -> bool {
    name.versions.iter().any(|version| version.kind == Some(ListedKind::Dir))
}

pub(super) fn list_versions(api: &Api, ls: &Ls, out: &Output) -> Result<(), Failure> {
    let dir = remote_dir(&ls.prefix)?;
    each_page(api, dir.as_ref(), ls.recursive, &mut |names| {
        if out.json {
            return names.iter().try_for_each(|name| out.object(name));
        }
        print(|text| {
            names.iter().try_for_each(|name| {
                writeln!(text, "{}", shown(&name.path))?;
                name.versions.iter().try_for_each(|line| show_version(line, text))
            })
        })
    })
}

pub(super) fn purge(api: &Api, purge: &Purge, out: &Output) -> Result<(), Failure> {
    let everything = [String::new()];
    let paths = if purge.paths.is_empty() { &everything[..] } else { &purge.paths };
    let older_than = purge.older_than.as_deref();
    let mut all = Tally::default();
    let mut sum = Purged::default();
    let mut forget = |paths: Vec<FilePath>| {
        let gone = parking_lot::Mutex::new(Purged::default());
        let outcome = for_each(paths.into_iter(), None, |path| {
            let purged = api.purge(&path, older_than)?;
            if purged.about.versions > 0 {
                let mut gone = gone.lock();
                gone.versions += purged.about.versions;
                gone.bytes += purged.about.bytes;
                if out.json {
                    out.object(&purged)?;
                }
            }
            Ok(1)
        });
        let gone = gone.into_inner();
        sum = Purged { versions: sum.versions + gone.versions, bytes: sum.bytes + gone.bytes };
        all.add(outcome)
    };
    let (mut unknown, mut last) = (0, None);
    for path in paths {
        let dir = remote_dir(path)?;
        if let Some(path) = &dir {
            // So that a name nobody knows is told.
            if let Err(failure) = api.log(path) {
                failure.report();
                (unknown, last) = (unknown + 1, Some(failure.code));
                continue;
            }
            forget(vec![path.clone()])?;
        }
        let below = each_page(api, dir.as_ref(), true, &mut |names| {
            let old = names.iter().filter(|name| has_old(name));
            forget(old.map(|name| remote(&name.path)).collect::<Result<_, _>>()?)
        });
        match below {
            Err(failure) if failure.code == Code::NotFound && dir.is_some() => {}
            below => below?,
        }
    }
    if !out.json {
        let (versions, bytes) = (sum.versions, size(sum.bytes));
        tell(format_args!("{versions} earlier versions ({bytes}) can not be had any more"));
        if versions > 0 {
            tell(
                "their space comes back once they are certain to be unused, within about two days",
            );
        }
    }
    match last {
        Some(code) if unknown == paths.len() => {
            Err(Failure::new(code, "nothing of what was named is known"))
        }
        _ => {
            all.failed += unknown;
            all.result()
        }
    }
}

fn has_old(name: &NameHistory) -> bool {
    let is_content = |version: &Logged| version.kind.is_some_and(|kind| kind != ListedKind::Dir);
    name.versions.iter().any(|version| version.state == VersionState::Old && is_content(version))
}

/// What is done about one name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// This version is brought back.
    Restore(String),
    /// A directory is made again.
    MakeDir,
    /// It came later.
    Remove,
    /// A directory that came later is removed, if it is empty then.
    RemoveDir,
    /// Nothing: it is as it was.
    Keep,
    /// Nothing can be done: what it was is not kept any more.
    Unknown,
}

pub(super) fn restore_tree(
    api: &Api,
    restore: &Restore,
    at: &str,
    out: &Output,
) -> Result<(), Failure> {
    let now = SystemTime::now();
    let at_ms = moment(at, now)?;
    let dir = remote_dir(&restore.path)?;
    if restore.delete && at_ms < moment("30days", now)? {
        let why = "with --delete TIME is within the 30 days for which what was there is kept";
        return Err(Failure::new(Code::Usage, why));
    }
    let mut counts = Counts::default();
    let mut all = Tally::default();
    let mut dirs_to_remove = Vec::new();
    each_page(api, dir.as_ref(), true, &mut |names| {
        let mut steps = Vec::new();
        for name in names {
            let step = step_back(name, at_ms, restore.delete);
            if step == Step::RemoveDir {
                dirs_to_remove.push(name.path.clone());
                continue;
            }
            counts.count(&step);
            if step != Step::Keep {
                steps.push((name.path.clone(), step));
            }
        }
        all.add(carry_out(api, steps, restore.dry_run, out))
    })?;
    // Those in others first.
    dirs_to_remove.reverse();
    for path in dirs_to_remove {
        all.add(carry_out(api, vec![(path, Step::RemoveDir)], restore.dry_run, out))?;
    }
    if !out.json {
        tell(counts.sentence(&restore.path, at_ms, restore.dry_run));
    }
    all.result()
}

fn carry_out(api: &Api, steps: Vec<(String, Step)>, dry_run: bool, out: &Output) -> Outcome {
    let work = |(path, step): (String, Step)| {
        let name = remote(&path)?;
        let done = match &step {
            Step::Restore(version) if !dry_run => api.restore(&name, version).map(|_| true),
            Step::MakeDir if !dry_run => api.make_dir(&name, true, &Said::default()).map(|_| true),
            Step::Remove if !dry_run => api.remove(&name, false).map(|_| true),
            Step::RemoveDir if !dry_run => match api.remove_dir(&name) {
                // Something in it was there before, or came in a moment ago.
                Err(failure) if failure.code == Code::Failed => Ok(false),
                removed => removed.map(|_| true),
            },
            Step::Unknown => {
                let why = format!("{path}: what it was then is not kept any more");
                Err(Failure::new(Code::NotFound, why))
            }
            _ => Ok(true),
        }?;
        if done {
            tell_step(&path, &step, dry_run, out)?
        };
        Ok(1)
    };
    for_each(steps.into_iter(), None, work)
}

fn tell_step(path: &str, step: &Step, dry_run: bool, out: &Output) -> Result<(), Failure> {
    let (word, version) = match step {
        Step::Restore(version) => ("restore", Some(version)),
        Step::MakeDir => ("make", None),
        Step::Remove | Step::RemoveDir => ("remove", None),
        Step::Keep | Step::Unknown => return Ok(()),
    };
    if out.json {
        return out.object(&json!({ "path": path, "action": word, "version": version }));
    }
    match dry_run {
        true => print(|text| writeln!(text, "{word:>8}  {}", shown(path))),
        false => Ok(()),
    }
}

/// What makes a name what it was then.
fn step_back(name: &NameHistory, at_ms: u64, delete: bool) -> Step {
    let live = |version: &&Logged| version.kind.is_some();
    let was_there = |version: &&Logged| {
        let is_gone = version.replaced_ms.is_some_and(|replaced_ms| replaced_ms <= at_ms);
        version.written_ms <= at_ms && !is_gone
    };
    let now = name.versions.iter().find(|version| version.state == VersionState::Current);
    // The newest of then. A deletion of before it is older.
    let then = name.versions.iter().find(was_there).filter(live);
    match (then, now) {
        (Some(then), Some(now)) if then.digest == now.digest => Step::Keep,
        (Some(Logged { kind: Some(ListedKind::Dir), .. }), now) => match now {
            Some(now) if now.kind == Some(ListedKind::Dir) => Step::Keep,
            _ => Step::MakeDir,
        },
        (Some(then), _) => Step::Restore(then.version.clone()),
        // What it is now is older than that: it was written again, or came from elsewhere.
        (None, Some(now)) if now.modified_ms <= at_ms => Step::Keep,
        (None, _) if is_cut(name, at_ms) => Step::Unknown,
        (None, Some(_)) if delete && !is_first_known(name) => Step::Unknown,
        (None, Some(now)) if delete && now.kind == Some(ListedKind::Dir) => Step::RemoveDir,
        (None, Some(_)) if delete => Step::Remove,
        (None, _) => Step::Keep,
    }
}

/// Whether the name had more versions after that time than are kept, so that what it was then may
/// be among those that are not.
fn is_cut(name: &NameHistory, at_ms: u64) -> bool {
    let old = name.versions.iter().filter(|version| version.state == VersionState::Old);
    let after = old.filter(|version| version.written_ms > at_ms).count();
    after >= dfs_core::record::retention::VERSIONS_KEPT
}

/// Whether it is known that nothing was before the oldest version that is kept: one that was
/// written later than it was modified says again what another said, as after a purge.
fn is_first_known(name: &NameHistory) -> bool {
    let oldest = name.versions.iter().rev().find(|version| version.kind.is_some());
    oldest.is_none_or(|oldest| {
        oldest.kind == Some(ListedKind::Dir)
            || oldest.written_ms.saturating_sub(oldest.modified_ms) < UPLOAD_MS
    })
}

/// A time as it is typed, in milliseconds since 1970: until the end of its second.
fn moment(text: &str, now: SystemTime) -> Result<u64, Failure> {
    let day = format!("{text} 00:00:00");
    let time = match humantime::parse_duration(text) {
        Ok(ago) => now.checked_sub(ago),
        Err(_) => humantime::parse_rfc3339_weak(text)
            .or_else(|_| humantime::parse_rfc3339_weak(&day))
            .ok(),
    };
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let since = since.filter(|since| *since < Duration::from_secs(YEAR_9999));
    let unknown = || {
        Failure::new(Code::Usage, format!("{text:?} is no time"))
            .hint("as 2026-11-28T17:00:00Z, 2026-11-28, or 3h for three hours ago; all in UTC")
    };
    Ok(since.ok_or_else(unknown)?.as_secs() * 1000 + 999)
}

/// What was done, or would be.
#[derive(Debug, Default)]
struct Counts {
    restored: usize,
    made: usize,
    removed: usize,
    kept: usize,
}

impl Counts {
    fn count(&mut self, step: &Step) {
        match step {
            Step::Restore(_) => self.restored += 1,
            Step::MakeDir => self.made += 1,
            Step::Remove => self.removed += 1,
            Step::Keep => self.kept += 1,
            Step::RemoveDir | Step::Unknown => {}
        }
    }

    fn sentence(&self, path: &str, at_ms: u64, dry_run: bool) -> String {
        let Self { restored, made, removed, kept } = self;
        let path = if path.trim_matches('/').is_empty() { "everything" } else { path };
        let (would, at) = (if dry_run { "would be " } else { "" }, rfc3339(at_ms));
        format!(
            "{path} as it was at {at}: {restored} files and links {would}restored, {made} \
             directories {would}made, {removed} files {would}removed, {kept} stay as they are"
        )
    }
}

/// How many went well, over several pages.
#[derive(Debug, Default)]
struct Tally {
    failed: usize,
    done: usize,
}

impl Tally {
    /// Ends it all when the node is gone.
    fn add(&mut self, outcome: Outcome) -> Result<(), Failure> {
        self.failed += outcome.failed;
        self.done += outcome.done;
        match outcome.result {
            Err(failure) if failure.code == Code::NoNode => Err(failure),
            _ => Ok(()),
        }
    }

    fn result(&self) -> Result<(), Failure> {
        match self.failed {
            0 => Ok(()),
            failed => {
                let of = self.done + failed;
                Err(Failure::new(Code::Partly, format!("{failed} of {of} names failed")))
            }
        }
    }
}

/// How long it takes to store a file that is not large. Of what took longer it is not known whether
/// something was there before.
const UPLOAD_MS: u64 = 2_000;
/// Seconds until the year 10,000, which no program writes.
const YEAR_9999: u64 = 253_402_300_800;
