//! Making a local directory what a remote one is.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use dfs_core::name::FilePath;
use dfs_server::{Depth, Listed, ListedKind, Mtime, Said};

use crate::cli::fetch::get_file;
use crate::cli::fetch_tree::put_link;
use crate::cli::paths::{self, create_dirs, failed_to_read, remote, unwritable};
use crate::cli::sync::{Action, Task};
use crate::cli::{own, stamp, tree};
use crate::exit::{Code, Failure, tell};

/// What is to be there, by its place below the top.
type Wanted = BTreeMap<String, Listed>;

pub(super) fn run(task: &Task<'_>, src: Option<&FilePath>, dst: &Path) -> Result<(), Failure> {
    if let Some(data) = own::data_dir_above(dst) {
        let why = format!("{} is the data directory of a node", data.display());
        return Err(Failure::new(Code::Failed, why));
    }
    let (wanted, guarded) = wanted(task, src)?;
    if !task.sync.dry_run {
        create_dirs(dst)?;
    }
    let of_kind = |kind| wanted.iter().filter(move |(_, entry)| entry.kind == kind);
    // Directories first, for they may be empty; links last: nothing is written through one.
    let mut failed = 0;
    let mut dirs = Vec::new();
    for (below, entry) in of_kind(ListedKind::Dir) {
        match make_dir(task, dst, below, entry) {
            Ok(dir) => dirs.extend(dir),
            Err(failure) => {
                failure.report();
                failed += 1;
            }
        }
    }
    let mut outcome =
        tree::for_each(of_kind(ListedKind::File), task.sync.jobs, |(below, entry)| {
            fetch(task, dst, below, entry).map(|()| 1)
        });
    for (below, entry) in of_kind(ListedKind::Link) {
        if let Err(failure) = link(task, dst, below, entry) {
            failure.report();
            failed += 1;
        }
    }
    outcome.failed += failed;
    if task.sync.delete && !guarded {
        tell(UNGUARDED);
        outcome.failed += 1;
    }
    if task.deletes(&outcome) {
        outcome.failed += delete(task, (dst, ""), &wanted)?;
    }
    // What is changed in a directory changes its time.
    for Dir { path, said, is_new } in dirs.iter().rev().filter(|_| !task.sync.dry_run) {
        if let Err(error) = stamp::set_dir(path, said, *is_new) {
            unwritable("set the mode and time of", path, &error).report();
            outcome.failed += 1;
        }
    }
    match outcome.result {
        Err(failure) if failure.code == Code::NoNode => Err(failure),
        _ => task.finish(outcome.failed, 0),
    }
}

/// A directory that is to be as it was stored once all that it holds is there.
struct Dir {
    path: PathBuf,
    said: Said,
    is_new: bool,
}

/// What is to be there, and whether nothing of it can have been hidden.
fn wanted(task: &Task<'_>, src: Option<&FilePath>) -> Result<(Wanted, bool), Failure> {
    if let Some(src) = src
        && task.api.stat(src, None)?.about.kind != ListedKind::Dir
    {
        let why = format!("{src} is no directory: 'dfs get' fetches a file");
        return Err(Failure::new(Code::Usage, why));
    }
    let prefix = src.map(|src| format!("{src}/")).unwrap_or_default();
    let (mut wanted, mut guarded) = (Wanted::new(), true);
    task.api.list(&prefix, Depth::Tree, &mut |page| {
        guarded &= page.guarded;
        for entry in &page.entries {
            let below = entry.path.strip_prefix(&prefix).unwrap_or(&entry.path);
            if !task.is_excluded(below, entry.kind == ListedKind::Dir) {
                wanted.insert(below.to_owned(), entry.clone());
            }
        }
        Ok(())
    })?;
    Ok((wanted, guarded))
}

/// Makes a directory, its owner's alone until the end, or opens one to its owner. Returns it with
/// what is to be said of it then.
fn make_dir(
    task: &Task<'_>,
    dst: &Path,
    below: &str,
    entry: &Listed,
) -> Result<Option<Dir>, Failure> {
    let said = entry.said.clone();
    let found = local(&dst.join(below))?;
    if let Some(found) = found.as_ref().filter(|found| found.is_dir()) {
        let (path, _) = paths::dir_below(dst, below, true)?;
        let mode = found.mode() & 0o7777;
        if !task.sync.dry_run && mode & OWNER != OWNER {
            // Where it is not ours, what has to be written there fails and says so.
            let opened = std::fs::Permissions::from_mode(mode | OWNER);
            let _ = std::fs::set_permissions(&path, opened);
        }
        return Ok(Some(Dir { path, said, is_new: false }));
    }
    if let Some(found) = found {
        make_way(task, dst, below, &found)?;
    }
    let mut made = None;
    task.report.act(Action::MakeDir, &entry.path, || {
        let (path, is_new) = paths::dir_below(dst, below, true)?;
        made = Some(Dir { path, said, is_new });
        Ok(0)
    })?;
    Ok(made)
}

fn fetch(task: &Task<'_>, dst: &Path, below: &str, entry: &Listed) -> Result<(), Failure> {
    let name = remote(&entry.path)?;
    let at = dst.join(below);
    let found = local(&at)?;
    if let Some(found) = found.as_ref().filter(|found| !found.is_file() && !found.is_symlink()) {
        make_way(task, dst, below, found)?;
    }
    let found = found.filter(Metadata::is_file);
    let mtime = entry.said.mtime.or_else(|| modified(entry));
    let is_same = match &found {
        Some(found) if found.len() == entry.bytes => match task.sync.checksum {
            true => task.has_same_content(&name, &at)?,
            false => stamp::of(found).mtime == mtime,
        },
        _ => false,
    };
    let Some(found) = found.filter(|_| is_same) else {
        return task.report.act(Action::Copy, &entry.path, || {
            let target = paths::below(dst, below)?;
            let bytes = get_file(task.api, &name, None, &target, &task.report.quiet())?;
            // What is not said is when it was stored, so that the next run knows it again.
            set_time(&target, mtime.filter(|_| entry.said.mtime.is_none()))?;
            Ok(bytes)
        });
    };
    task.report.same();
    let wanted = stamp::mode_of(&entry.said).filter(|mode| *mode != found.mode() & 0o777);
    let is_late = stamp::of(&found).mtime != mtime;
    if wanted.is_none() && !is_late {
        return Ok(());
    }
    task.report.act(Action::Describe, &entry.path, || {
        let target = paths::below(dst, below)?;
        if let Some(mode) = wanted {
            let set = std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode));
            set.map_err(|error| unwritable("set the mode of", &target, &error))?;
        }
        set_time(&target, mtime.filter(|_| is_late))?;
        Ok(0)
    })
}

fn link(task: &Task<'_>, dst: &Path, below: &str, entry: &Listed) -> Result<(), Failure> {
    let says = entry.said.target.as_deref().unwrap_or_default();
    let at = dst.join(below);
    let found = local(&at)?;
    if std::fs::read_link(&at).is_ok_and(|now| now == Path::new(says)) {
        task.report.same();
        return Ok(());
    }
    if let Some(found) = found.filter(Metadata::is_dir) {
        make_way(task, dst, below, &found)?;
    }
    task.report.act(Action::Link, &entry.path, || {
        let at = paths::place_below(dst, below)?;
        put_link(Path::new(says), &at, &entry.said)
            .map_err(|error| unwritable("make the link", &at, &error))?;
        Ok(0)
    })
}

/// Removes what is something else where a file, a directory or a link belongs, unless a part of it
/// is to be kept.
fn make_way(task: &Task<'_>, dst: &Path, below: &str, found: &Metadata) -> Result<(), Failure> {
    let at = paths::place_below(dst, below)?;
    let in_the_way =
        |why: &str| Failure::new(Code::Failed, format!("cannot write {}: {why}", at.display()));
    if !task.sync.delete {
        return Err(in_the_way("something else is there").hint("'--delete' removes it"));
    }
    if is_own(&at, found) {
        return Err(in_the_way("what is there is dfs' own"));
    }
    let mut failed = 0;
    if found.is_dir() {
        failed += delete(task, (&at, below), &Wanted::new())?;
        failed += remove_dir(task, &at)?;
    } else {
        failed += remove(task, &at)?;
    }
    // A dry run has removed nothing.
    match failed == 0 && (task.sync.dry_run || std::fs::symlink_metadata(&at).is_err()) {
        true => Ok(()),
        false => Err(in_the_way("a directory is there, and something in it is left out")),
    }
}

/// Deletes what is not wanted below a directory: nothing that a pattern leaves out, nothing of dfs'
/// own, and nothing on another file system. Returns how many things could not be deleted.
fn delete(task: &Task<'_>, (top, name): (&Path, &str), wanted: &Wanted) -> Result<usize, Failure> {
    let mut failed = 0;
    let mut ahead = vec![(top.to_owned(), name.to_owned())];
    let mut dirs = Vec::new();
    // The top may be a link to where it is.
    let device = std::fs::metadata(top).ok().map(|found| found.dev());
    while let Some((dir, above)) = ahead.pop() {
        let unreadable = |error| failed_to_read(&dir, &error);
        let entries = match std::fs::read_dir(&dir) {
            // Of a dry run.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(unreadable)?,
        };
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let (path, name) = (entry.path(), entry.file_name());
            let found = std::fs::symlink_metadata(&path).map_err(unreadable)?;
            let is_dir = found.is_dir();
            let below = match name.to_str() {
                Some(name) if above.is_empty() => name.to_owned(),
                Some(name) => format!("{above}/{name}"),
                // Nothing in the cluster has such a name, but a pattern cannot name it either.
                None => continue,
            };
            if is_own(&path, &found)
                || task.is_excluded(&below, is_dir)
                || Some(found.dev()) != device
            {
                continue;
            }
            let is_wanted = wanted.contains_key(&below);
            if is_dir {
                ahead.push((path.clone(), below));
                dirs.extend((!is_wanted).then_some(path));
            } else if !is_wanted {
                failed += remove(task, &path)?;
            }
        }
    }
    // Each was found after the one that it is in.
    for dir in dirs.iter().rev() {
        failed += remove_dir(task, dir)?;
    }
    Ok(failed)
}

fn is_own(path: &Path, found: &Metadata) -> bool {
    let name = path.file_name().unwrap_or_default();
    match found.is_dir() {
        true => own::of_dir(path).is_some(),
        false => found.is_file() && own::of_file(path, name, found.len()).is_some(),
    }
}

/// Deletes a file or link. Returns how many could not be.
fn remove(task: &Task<'_>, path: &Path) -> Result<usize, Failure> {
    let removed = if task.sync.dry_run { Ok(()) } else { std::fs::remove_file(path) };
    told(task, path, removed)
}

/// The same of a directory; one in which something was left stays.
fn remove_dir(task: &Task<'_>, path: &Path) -> Result<usize, Failure> {
    match if task.sync.dry_run { Ok(()) } else { std::fs::remove_dir(path) } {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(0),
        removed => told(task, path, removed),
    }
}

fn told(task: &Task<'_>, path: &Path, removed: std::io::Result<()>) -> Result<usize, Failure> {
    match removed {
        Ok(()) => {
            task.report.act(Action::Delete, &path.display().to_string(), || Ok(0)).map(|()| 0)
        }
        Err(error) => {
            unwritable("remove", path, &error).report();
            Ok(1)
        }
    }
}

/// What is there; a link itself.
fn local(path: &Path) -> Result<Option<Metadata>, Failure> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(failed_to_read(path, &error)),
    }
}

fn modified(entry: &Listed) -> Option<Mtime> {
    let ms = entry.modified_ms;
    let nanos = u32::try_from(ms % 1000).ok()? * 1_000_000;
    Mtime::new(i64::try_from(ms / 1000).ok()?, nanos)
}

fn set_time(path: &Path, mtime: Option<Mtime>) -> Result<(), Failure> {
    let said = Said { mtime, ..Said::default() };
    stamp::set_time_of(path, &said).map_err(|error| unwritable("set the time of", path, &error))
}

/// What the owner of a directory needs to write into it.
const OWNER: u32 = 0o700;
const UNGUARDED: &str = "note: too few of the gateways that hold these names answered; other \
    machines can have hidden some, so nothing is deleted";
