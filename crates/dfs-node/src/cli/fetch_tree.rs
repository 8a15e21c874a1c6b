//! `dfs get -r`: a directory with everything below it.

use std::path::{Path, PathBuf};

use dfs_server::{Depth, Listed, ListedKind, Said};

use crate::cli::args::Get;
use crate::cli::fetch::{get_file, say};
use crate::cli::http::Api;
use crate::cli::leftovers;
use crate::cli::output::Output;
use crate::cli::paths::{self, create_shut, remote};
use crate::cli::{stamp, tree};
use crate::exit::{Code, Failure, tell};

/// What is to be fetched, and where to.
#[derive(Default)]
struct Plan {
    /// The directory whose content it is, with a slash; empty for all there is.
    prefix: String,
    dst: PathBuf,
    dirs: Vec<Listed>,
    files: Vec<String>,
    links: Vec<Listed>,
}

/// A local directory that is to be as it was stored, once all that it holds is there.
struct Dir {
    path: PathBuf,
    said: Said,
    is_new: bool,
}

/// Directories come first, for they may be empty; then files. Links come last, and directories are
/// closed then: nothing is ever written through a link that was fetched, or needs one that is shut.
pub(super) fn get_tree(api: &Api, get: &Get, out: &Output) -> Result<(), Failure> {
    let top = get.src.trim_matches('/');
    let base = top.rsplit('/').next().filter(|base| !base.is_empty()).unwrap_or(".");
    let mut plan = Plan {
        prefix: if top.is_empty() { String::new() } else { format!("{}/", remote(top)?) },
        dst: get.dst.clone().unwrap_or_else(|| base.into()),
        ..Plan::default()
    };
    let prefix = plan.prefix.clone();
    api.list(&prefix, Depth::Tree, &mut |page| {
        page.entries.iter().for_each(|entry| plan.add(entry));
        Ok(())
    })?;
    let said = if top.is_empty() { Said::default() } else { plan.said_of_top(api, top)? };
    let mut dirs = Vec::new();
    // One that is there is somebody's already: what is said of the remote one is not said of it.
    if !plan.dst.exists() {
        create_shut(&plan.dst)?;
        dirs.push(Dir { path: plan.dst.clone(), said, is_new: true });
    }
    let quiet = out.without_progress();
    let mut all_made = true;
    for dir in &plan.dirs {
        match plan.make_dir(dir) {
            Ok(dir) => dirs.push(dir),
            Err(failure) => {
                failure.report();
                all_made = false;
            }
        }
    }
    let fetched = tree::for_each(plan.files.iter(), get.jobs, |name| {
        // Names were checked when they were stored, and are checked again: nothing leaves `dst`.
        let path = remote(name)?;
        let target = paths::below(&plan.dst, plan.below(path.as_str()))?;
        let bytes = get_file(api, &path, None, &target, &quiet)?;
        if out.json {
            say(out, &path, bytes, &target)?;
        }
        Ok(1)
    });
    let mut count = fetched.done;
    for link in &plan.links {
        match plan.make_link(link) {
            Ok(()) => count += 1,
            Err(failure) => {
                failure.report();
                all_made = false;
            }
        }
    }
    // The inner ones first: what is changed in a directory changes its time.
    for Dir { path, said, is_new } in dirs.iter().rev() {
        if let Err(error) = stamp::set_dir(path, said, *is_new) {
            paths::unwritable("set the mode and time of", path, &error).report();
            all_made = false;
        }
    }
    if !out.json {
        tell(format_args!("fetched {count} files to {}", plan.dst.display()));
    }
    fetched.result?;
    match all_made {
        true => Ok(()),
        false => Err(Failure::new(Code::Partly, "some directories or links were not made")),
    }
}

impl Plan {
    /// What is said of the directory itself, if it is one.
    fn said_of_top(&self, api: &Api, top: &str) -> Result<Said, Failure> {
        let is_empty = self.dirs.is_empty() && self.files.is_empty() && self.links.is_empty();
        let stat = api.stat(&remote(top)?, None)?.about;
        match stat.kind {
            ListedKind::Dir => Ok(stat.said),
            // A name may be both, after a split.
            _ if !is_empty => Ok(Said::default()),
            ListedKind::File => {
                Err(Failure::new(Code::Usage, format!("{top:?} is a file: get it without -r")))
            }
            ListedKind::Link => Err(Failure::new(Code::Usage, format!("{top:?} is a link"))),
        }
    }

    fn add(&mut self, entry: &Listed) {
        match entry.kind {
            ListedKind::File => self.files.push(entry.path.clone()),
            ListedKind::Dir => self.dirs.push(entry.clone()),
            ListedKind::Link => self.links.push(entry.clone()),
        }
    }

    fn below<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(&self.prefix).unwrap_or(path)
    }

    fn make_dir(&self, dir: &Listed) -> Result<Dir, Failure> {
        let path = remote(&dir.path)?;
        let (path, is_new) = paths::dir_below(&self.dst, self.below(path.as_str()), true)?;
        Ok(Dir { path, said: dir.said.clone(), is_new })
    }

    /// Makes a link in place of a file or link that is there.
    fn make_link(&self, link: &Listed) -> Result<(), Failure> {
        let path = remote(&link.path)?;
        let at = paths::place_below(&self.dst, self.below(path.as_str()))?;
        let says = link.said.target.as_deref().unwrap_or_default();
        put_link(Path::new(says), &at, &link.said)
            .map_err(|error| paths::unwritable("make the link", &at, &error))
    }
}

/// Makes a link in place of a file or link that is there.
pub(super) fn put_link(says: &Path, at: &Path, said: &Said) -> std::io::Result<()> {
    use std::os::unix::fs::symlink;
    let found = std::fs::symlink_metadata(at).ok().map(|found| found.file_type());
    if found.is_none() {
        symlink(says, at)?;
    } else if found.is_some_and(|found| !found.is_file() && !found.is_symlink()) {
        return Err(std::io::Error::other("what is there is neither a file nor a link"));
    } else if std::fs::read_link(at).is_ok_and(|now| now == says) {
        // It is there already.
    } else {
        let beside = at.with_file_name(leftovers::new_name());
        symlink(says, &beside)?;
        std::fs::rename(&beside, at).inspect_err(|_| drop(std::fs::remove_file(&beside)))?;
    }
    stamp::set_time_of(at, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_takes_the_place_of_a_file_or_link_and_of_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("l");
        let said = Said::default();
        for says in ["a", "a", "b/../c"] {
            put_link(Path::new(says), &at, &said).unwrap();
            assert_eq!(std::fs::read_link(&at).unwrap(), Path::new(says));
        }
        std::fs::remove_file(&at).unwrap();
        std::fs::write(&at, "x").unwrap();
        put_link(Path::new("a"), &at, &said).unwrap();
        std::fs::remove_file(&at).unwrap();
        std::fs::create_dir(&at).unwrap();
        assert!(put_link(Path::new("a"), &at, &said).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
