//! Making a remote directory what a local one is.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::Path;

use dfs_core::name::FilePath;
use dfs_server::{Depth, Listed, ListedKind, Said};
use parking_lot::Mutex;

use crate::cli::paths::{failed_to_read, remote};
use crate::cli::stamp;
use crate::cli::store::put_found;
use crate::cli::sync::{Action, Task};
use crate::cli::tree;
use crate::cli::walk::{Found, Rules, Walk, What};
use crate::exit::{Code, Failure};

pub(super) fn run(task: &Task<'_>, src: &Path, dst: Option<&FilePath>) -> Result<(), Failure> {
    if !std::fs::metadata(src).map_err(|error| failed_to_read(src, &error))?.is_dir() {
        let why = format!("{} is no directory: 'dfs put' stores a file", src.display());
        return Err(Failure::new(Code::Usage, why));
    }
    let top = dst.map_or("", FilePath::as_str);
    let there = Mutex::new(listed(task, dst)?);
    let rules = Rules {
        exclude: task.exclude.clone(),
        one_file_system: task.sync.one_file_system,
        exclude_caches: task.sync.exclude_caches,
    };
    let mut walk = Walk::new(src, top, &rules)?;
    let below = |path: &str| path[top.len()..].trim_start_matches('/').to_owned();
    let bring = |found: Found| {
        let mut now = there.lock().remove(&found.name);
        let is_dir = found.what == What::Dir;
        if let Some(other) = now.take_if(|now| (now.kind == ListedKind::Dir) != is_dir) {
            let mut there = there.lock();
            let is_kept = |entry: &Listed| {
                is_at_or_below(&entry.path, &found.name)
                    && task.is_excluded(&below(&entry.path), entry.kind == ListedKind::Dir)
            };
            make_way(task, &remote(&found.name)?, &other, there.values().any(is_kept))?;
            there.retain(|path, _| !is_at_or_below(path, &found.name));
        }
        bring(task, &found, now.as_ref())
    };
    // Directories one after the other, so that each is there before what is in it.
    let with_dirs_there = walk.by_ref().map(|found| match found? {
        dir if dir.what == What::Dir => bring(dir).map(|_| None),
        other => Ok(Some(other)),
    });
    let outcome =
        tree::for_each(with_dirs_there, task.sync.jobs, |found: Result<_, Failure>| match found? {
            Some(found) => bring(found),
            None => Ok(1),
        });
    if task.deletes(&outcome) {
        let mut left = there.into_inner();
        for name in walk.passed_by() {
            left.retain(|path, _| !is_at_or_below(path, name));
        }
        let is_left =
            |entry: &&Listed| !task.is_excluded(&below(&entry.path), entry.kind == ListedKind::Dir);
        // Those in directories before these: an order of paths backwards.
        let gone: Vec<_> = left.values().filter(is_left).rev().collect();
        let (dirs, files): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|entry| entry.kind == ListedKind::Dir);
        let removed = tree::for_each(files.into_iter(), task.sync.jobs, |entry| {
            let name = remote(&entry.path)?;
            let remove = || task.api.remove(&name, false).map(|_| 0);
            task.report.act(Action::Delete, &entry.path, remove).map(|()| 1)
        });
        let mut failed = removed.failed;
        for dir in dirs {
            failed += usize::from(!remove_dir(task, dir)?);
        }
        return task.finish(failed, walk.not_stored().skipped);
    }
    node_gone(outcome.result)?;
    task.finish(outcome.failed, walk.not_stored().skipped)
}

/// Passes on that the node is gone: the rest was not tried.
fn node_gone(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(failure) if failure.code == Code::NoNode => Err(failure),
        _ => Ok(()),
    }
}

/// What is there, by path.
fn listed(task: &Task<'_>, dst: Option<&FilePath>) -> Result<BTreeMap<String, Listed>, Failure> {
    let mut there = BTreeMap::new();
    if let Some(dst) = dst {
        match task.api.stat(dst, None) {
            Err(failure) if failure.code == Code::NotFound => return Ok(there),
            stat if stat.as_ref().is_ok_and(|stat| stat.about.kind != ListedKind::Dir) => {
                return Err(Failure::new(Code::Failed, format!("{dst} is no directory")));
            }
            stat => {
                let said = stat?.about;
                let (path, kind) = (dst.to_string(), ListedKind::Dir);
                let (bytes, modified_ms) = (0, said.modified_ms);
                let (version, said) = (said.version, said.said);
                let top = Listed { path, kind, bytes, modified_ms, said, version };
                there.insert(top.path.clone(), top);
            }
        }
    }
    let prefix = dst.map(|dst| format!("{dst}/")).unwrap_or_default();
    task.api.list(&prefix, Depth::Tree, &mut |page| {
        there.extend(page.entries.iter().map(|entry| (entry.path.clone(), entry.clone())));
        Ok(())
    })?;
    Ok(there)
}

/// Stores something local, unless it is there already. Returns 1: one thing was seen to.
fn bring(task: &Task<'_>, found: &Found, now: Option<&Listed>) -> Result<usize, Failure> {
    let name = remote(&found.name)?;
    let put =
        || Ok(put_found(task.api, found, &task.report.quiet())?.map_or(0, |put| put.about.bytes));
    let failed = |error| failed_to_read(&found.path, &error);
    match (&found.what, now) {
        (What::Link(says), Some(now)) if now.said.target.as_ref() == Some(says) => {
            task.report.same();
            Ok(1)
        }
        (What::Link(_), _) => task.report.act(Action::Link, &found.name, put).map(|()| 1),
        (What::Dir, Some(now)) => {
            let local = std::fs::metadata(&found.path).map_err(failed)?;
            describe(task, &name, &local, &now.said).map(|()| 1)
        }
        (What::Dir, None) => task.report.act(Action::MakeDir, &found.name, put).map(|()| 1),
        (What::File, Some(now)) if now.kind == ListedKind::File => {
            let local = std::fs::symlink_metadata(&found.path).map_err(failed)?;
            if is_same(task, &name, found, &local, now)? {
                task.report.same();
                return describe(task, &name, &local, &now.said).map(|()| 1);
            }
            task.report.act(Action::Copy, &found.name, put).map(|()| 1)
        }
        (What::File, _) => task.report.act(Action::Copy, &found.name, put).map(|()| 1),
    }
}

fn is_at_or_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Removes what is a directory where a file belongs, or the other way round, unless a part of it is
/// to be kept.
fn make_way(task: &Task<'_>, name: &FilePath, now: &Listed, has_kept: bool) -> Result<(), Failure> {
    if has_kept {
        let why = format!("{name} is a directory there, and something in it is left out");
        return Err(Failure::new(Code::Failed, why));
    }
    if !task.sync.delete {
        let what = if now.kind == ListedKind::Dir { "a directory" } else { "no directory" };
        return Err(Failure::new(Code::Failed, format!("{name} is {what} there"))
            .hint("'--delete' removes it"));
    }
    let is_dir = now.kind == ListedKind::Dir;
    task.report.act(Action::Delete, name.as_str(), || task.api.remove(name, is_dir).map(|_| 0))
}

fn is_same(
    task: &Task<'_>,
    name: &FilePath,
    found: &Found,
    local: &Metadata,
    now: &Listed,
) -> Result<bool, Failure> {
    if local.len() != now.bytes {
        return Ok(false);
    }
    match task.sync.checksum {
        true => task.has_same_content(name, &found.path),
        false => Ok(now.said.mtime.is_some() && now.said.mtime == stamp::of(local).mtime),
    }
}

/// Says of it what is said here, where that differs.
fn describe(task: &Task<'_>, name: &FilePath, local: &Metadata, now: &Said) -> Result<(), Failure> {
    let said = stamp::of(local);
    if (said.permissions, said.mtime) == (now.permissions, now.mtime) {
        return Ok(());
    }
    let describe = || task.api.set_attributes(name, &said).map(|_| 0);
    task.report.act(Action::Describe, name.as_str(), describe)
}

/// Removes a directory, unless there is something in it that was left. Returns whether that went
/// well.
fn remove_dir(task: &Task<'_>, dir: &Listed) -> Result<bool, Failure> {
    let name = remote(&dir.path)?;
    let removed = if task.sync.dry_run { Ok(()) } else { task.api.remove_dir(&name).map(|_| ()) };
    match removed {
        Ok(()) => task.report.act(Action::Delete, &dir.path, || Ok(0)).map(|()| true),
        Err(failure) if matches!(failure.code, Code::Failed | Code::NotFound) => Ok(true),
        Err(failure) if failure.code == Code::NoNode => Err(failure),
        Err(failure) => {
            failure.report();
            Ok(false)
        }
    }
}
