//! `dfs cp`, `dfs mv`, `dfs mkdir`, `dfs rmdir` and `dfs ln`.

use dfs_core::name::FilePath;
use dfs_server::{ListedKind, Said};
use serde_json::Value;

use crate::cli::args::{Cp, Ln, Mkdir, Mv, Onto, Rmdir};
use crate::cli::http::Api;
use crate::cli::output::Output;
use crate::cli::paths::{remote, remote_dir};
use crate::exit::{Code, Failure, tell};

pub(super) fn copy(api: &Api, cp: &Cp, out: &Output) -> Result<(), Failure> {
    let mut query = Vec::new();
    query.extend(cp.recursive.then_some(("recursive", "true")));
    query.extend(cp.version.as_deref().map(|version| ("version", version)));
    relocate(api, ("copy", "copied"), &cp.paths, cp.onto, &query, out)
}

pub(super) fn rename(api: &Api, mv: &Mv, out: &Output) -> Result<(), Failure> {
    relocate(api, ("move", "moved"), &mv.paths, mv.onto, &[], out)
}

fn relocate(
    api: &Api,
    (verb, done): (&str, &str),
    paths: &[String],
    onto: Onto,
    query: &[(&str, &str)],
    out: &Output,
) -> Result<(), Failure> {
    let Some((last, sources)) = paths.split_last() else { return Ok(()) };
    let target = Target::find(api, last, sources.len(), onto.merge)?;
    each(sources, |source| {
        let from = remote(source.trim_end_matches('/'))?;
        let to = target.of(&from)?;
        let mut query = query.to_vec();
        query.push(("to", to.as_str()));
        query.extend(onto.no_clobber.then_some(("replace", "false")));
        query.extend(onto.merge.then_some(("merge", "true")));
        let told = api.relocate(verb, &from, &query)?;
        show(&told, (done, &from, &to), out)
    })
}

/// Where sources go.
enum Target {
    /// Each under its own name into this directory; `None` is the root.
    Into(Option<FilePath>),
    /// The only one to this path.
    As(FilePath),
}

impl Target {
    fn find(api: &Api, typed: &str, sources: usize, merge: bool) -> Result<Self, Failure> {
        let Some(path) = remote_dir(typed)? else { return Ok(Self::Into(None)) };
        if merge {
            return match sources {
                1 => Ok(Self::As(path)),
                _ => Err(Failure::new(Code::Usage, "'--merge' takes one directory at a time")),
            };
        }
        let kind = match api.stat(&path, None) {
            Ok(stat) => Some(stat.about.kind),
            Err(failure) if failure.code == Code::NotFound => None,
            Err(failure) => return Err(failure),
        };
        let means_dir = sources > 1 || typed.ends_with('/');
        match kind {
            Some(ListedKind::Dir) => Ok(Self::Into(Some(path))),
            _ if !means_dir => Ok(Self::As(path)),
            Some(ListedKind::File | ListedKind::Link) => {
                Err(Failure::new(Code::Failed, format!("{:?} is no directory", path.as_str())))
            }
            None => {
                Err(Failure::new(Code::NotFound, format!("{:?} does not exist", path.as_str()))
                    .hint("'dfs mkdir' makes a directory"))
            }
        }
    }

    fn of(&self, from: &FilePath) -> Result<FilePath, Failure> {
        match self {
            Self::As(path) => Ok(path.clone()),
            Self::Into(dir) => {
                let name = from.base().unwrap_or_default();
                match dir {
                    None => remote(name),
                    Some(dir) => remote(&format!("{dir}/{name}")),
                }
            }
        }
    }
}

fn show(
    told: &Value,
    (done, from, to): (&str, &FilePath, &FilePath),
    out: &Output,
) -> Result<(), Failure> {
    if out.json {
        return out.object(told);
    }
    let count = |name: &str| told[name].as_u64().unwrap_or(0);
    match count("dirs") {
        0 => tell(format_args!("{done} {from} to {to}")),
        _ => tell(format_args!("{done} {from} to {to}: {} files", count("files"))),
    }
    Ok(())
}

pub(super) fn make_dirs(api: &Api, mkdir: &Mkdir, out: &Output) -> Result<(), Failure> {
    each(&mkdir.paths, |path| {
        let made =
            api.make_dir(&remote(path.trim_end_matches('/'))?, mkdir.parents, &Said::default())?;
        if out.json { out.object(&made) } else { Ok(()) }
    })
}

pub(super) fn remove_dirs(api: &Api, rmdir: &Rmdir, out: &Output) -> Result<(), Failure> {
    each(&rmdir.paths, |path| {
        let removed = api.remove_dir(&remote(path.trim_end_matches('/'))?)?;
        if out.json { out.object(&removed) } else { Ok(()) }
    })
}

pub(super) fn make_link(api: &Api, ln: &Ln, out: &Output) -> Result<(), Failure> {
    let path = remote(&ln.path)?;
    let stored = api.make_link(&path, &ln.target, ln.force, &Said::default())?;
    if out.json { out.object(&stored) } else { Ok(()) }
}

/// Does the same with each path. One that fails does not keep the others from it.
fn each(
    paths: &[String],
    mut act: impl FnMut(&String) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut failed = 0;
    for path in paths {
        match act(path) {
            Ok(()) => {}
            Err(failure) if paths.len() == 1 => return Err(failure),
            Err(failure) => {
                failure.report();
                failed += 1;
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(Code::Partly, format!("{failed} of {} paths failed", paths.len()))),
    }
}
