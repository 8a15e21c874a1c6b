//! `dfs put`.

use std::fs::{DirEntry, File, Metadata};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use dfs_core::name::FilePath;
use dfs_server::Stored;

use crate::api::OfPath;
use crate::cli::args::Put;
use crate::cli::http::Api;
use crate::cli::leftovers;
use crate::cli::output::{Counted, Output, size};
use crate::cli::paths::remote;
use crate::cli::source::{Source, Watch};
use crate::cli::tree;
use crate::exit::{Code, Failure, tell};

pub(super) fn put(api: &Api, put: &Put, out: &Output) -> Result<(), Failure> {
    let condition = match (&put.if_version, put.if_absent) {
        (Some(version), _) => Some(("If-Match", format!("\"{version}\""))),
        (None, true) => Some(("If-None-Match", "*".to_owned())),
        (None, false) => None,
    };
    let condition = condition.as_ref().map(|(name, value)| (*name, value.as_str()));
    if put.src == "-" {
        let usage = || Failure::new(Code::Usage, "stdin has no name: give the remote path as DST");
        let dst = remote(put.dst.as_deref().ok_or_else(usage)?)?;
        let stored = put_stdin(api, &dst, condition, out)?;
        return say(out, &stored);
    }
    let src = Path::new(&put.src);
    let unreadable =
        |error| Failure::new(Code::Failed, format!("cannot read {}: {error}", put.src));
    let found = std::fs::metadata(src).map_err(unreadable)?;
    let dst = match &put.dst {
        Some(dst) => dst.clone(),
        None => base_name(src)?,
    };
    if found.is_dir() {
        if !put.recursive {
            return Err(Failure::new(Code::Usage, format!("{} is a directory", put.src))
                .hint("'-r' stores it with everything below"));
        }
        if condition.is_some() {
            return Err(Failure::new(Code::Usage, "a condition is for one file, not for '-r'"));
        }
        return put_tree(api, src, &dst, out);
    }
    let stored = put_file(api, src, &remote(&dst)?, condition, out)?;
    say(out, &stored)
}

/// The last component as it was written, so a link keeps its own name; `.` and `..` get the name of
/// their directory.
fn base_name(src: &Path) -> Result<String, Failure> {
    let name_of = |path: &Path| path.file_name()?.to_str().map(ToOwned::to_owned);
    let name = match src.file_name() {
        Some(_) => name_of(src),
        None => src.canonicalize().ok().as_deref().and_then(name_of),
    };
    let usage = || Failure::new(Code::Usage, format!("{} has no name to use", src.display()));
    name.ok_or_else(usage)
}

fn put_file(
    api: &Api,
    src: &Path,
    dst: &FilePath,
    condition: Option<(&str, &str)>,
    out: &Output,
) -> Result<OfPath<Stored>, Failure> {
    let unreadable =
        |error| Failure::new(Code::Failed, format!("cannot read {}: {error}", src.display()));
    let name = src.display().to_string();
    refuse_pipe(src).map_err(unreadable)?;
    for is_last in [false, true] {
        let file = File::open(src).map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?;
        let len = announced(&found);
        let watch = len.map(|_| Watch::of(&file, &found)).transpose().map_err(unreadable)?;
        let bar = out.bar(len);
        let counted = Counted { source: file, bar: &bar };
        let mut source = Source::new(counted, &name, len).watching(watch);
        let stored = api.put(dst, &mut source, len, condition);
        bar.finish_and_clear();
        if source.has_changed() && !is_last {
            tell(format_args!("{name} changed while it was read: reading it again"));
            continue;
        }
        source.check()?;
        return stored;
    }
    unreachable!("the last time returns")
}

/// Refuses a pipe that has a name: opening it waits for somebody to write, maybe for ever. One that
/// a shell opened, as for `<(...)`, has none.
fn refuse_pipe(src: &Path) -> std::io::Result<()> {
    if std::fs::metadata(src)?.file_type().is_fifo() && src.canonicalize().is_ok() {
        return Err(std::io::Error::other("it is a pipe: give its content as '-' on stdin"));
    }
    Ok(())
}

/// The length to announce. Only a regular file has one, and files in /proc report 0 in any case.
fn announced(found: &Metadata) -> Option<u64> {
    Some(found.len()).filter(|len| found.is_file() && *len > 0)
}

fn put_stdin(
    api: &Api,
    dst: &FilePath,
    condition: Option<(&str, &str)>,
    out: &Output,
) -> Result<OfPath<Stored>, Failure> {
    let bar = out.bar(None);
    let counted = Counted { source: std::io::stdin().lock(), bar: &bar };
    let mut source = Source::new(counted, "stdin", None);
    let stored = api.put(dst, &mut source, None, condition);
    bar.finish_and_clear();
    source.check()?;
    stored
}

fn say(out: &Output, stored: &OfPath<Stored>) -> Result<(), Failure> {
    if out.json {
        return out.object(stored);
    }
    tell(format_args!(
        "stored {} ({}), {} of {} copies so far",
        stored.path,
        size(stored.about.bytes),
        stored.about.copies,
        stored.about.wanted
    ));
    if stored.about.quorum && !stored.about.guarded {
        tell(
            "note: too few of the gateways that should hold this name have it yet; until they do, \
             a storage node could hide this version",
        );
    }
    Ok(())
}

fn put_tree(api: &Api, src: &Path, dst: &str, out: &Output) -> Result<(), Failure> {
    let top = dst.trim_matches('/');
    let mut files = Vec::new();
    collect(src, top, &mut files);
    let count = files.len();
    let quiet = out.without_progress();
    tree::for_each(files, |found| {
        let (path, name) = found?;
        let stored = put_file(api, &path, &remote(&name)?, None, &quiet)?;
        if out.json { out.object(&stored) } else { Ok(()) }
    })?;
    if !out.json {
        tell(format_args!("stored {count} files under {top:?}"));
    }
    Ok(())
}

/// A local file with the remote name it gets, or why it has none.
type Found = Result<(PathBuf, String), Failure>;

/// Collects every regular file below a directory. Links are not followed. What cannot be read or
/// named is collected as a failure, so that it is counted and does not stop the others.
fn collect(dir: &Path, name: &str, files: &mut Vec<Found>) {
    let unreadable =
        |error| Failure::new(Code::Failed, format!("cannot read {}: {error}", dir.display()));
    match std::fs::read_dir(dir) {
        Err(error) => files.push(Err(unreadable(error))),
        Ok(entries) => {
            for entry in entries {
                let collected =
                    entry.map_err(unreadable).and_then(|entry| collect_entry(&entry, name, files));
                files.extend(collected.err().map(Err));
            }
        }
    }
}

fn collect_entry(entry: &DirEntry, dir: &str, files: &mut Vec<Found>) -> Result<(), Failure> {
    let path = entry.path();
    let failed = |why: String| Failure::new(Code::Failed, why);
    let file_name = entry.file_name();
    if leftovers::is_incomplete(&file_name) {
        tell(format_args!("left out {}: an incomplete file of 'dfs get'", path.display()));
        return Ok(());
    }
    let base = file_name
        .to_str()
        .ok_or_else(|| failed(format!("{} is not a UTF-8 name", path.display())))?;
    let name = if dir.is_empty() { base.to_owned() } else { format!("{dir}/{base}") };
    let kind = entry
        .file_type()
        .map_err(|error| failed(format!("cannot read {}: {error}", path.display())))?;
    if kind.is_dir() {
        collect(&path, &name, files);
    } else if kind.is_file() {
        files.push(Ok((path, name)));
    } else {
        tell(format_args!("skipped {}: neither a file nor a directory", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn what_has_no_name_does_not_hide_the_others() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        for name in [&b"a"[..], b"\xff", b"sub/b", b"sub/\xfe"] {
            std::fs::write(dir.path().join(OsStr::from_bytes(name)), "x").unwrap();
        }
        let mut files = Vec::new();
        collect(dir.path(), "top", &mut files);
        collect(&dir.path().join("missing"), "top", &mut files);
        let (found, failed): (Vec<_>, Vec<_>) = files.into_iter().partition(Result::is_ok);
        let mut names: Vec<_> = found.into_iter().map(|found| found.unwrap().1).collect();
        names.sort();
        assert_eq!((names, failed.len()), (vec!["top/a".to_owned(), "top/sub/b".to_owned()], 3));
    }

    #[test]
    fn a_link_keeps_its_own_name_and_a_dot_has_that_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(base_name(&link).unwrap(), "link");
        assert_eq!(base_name(&target.join(".")).unwrap(), "target");
        assert_eq!(
            base_name(&target.join("../target/..")).unwrap(),
            base_name(dir.path()).unwrap()
        );
        assert!(base_name(Path::new("/")).is_err());
    }

    #[test]
    fn only_a_regular_file_that_is_not_empty_announces_its_length() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let len = |path: &Path| announced(&std::fs::metadata(path).unwrap());
        assert_eq!(len(file.path()), None);
        std::fs::write(file.path(), "12345").unwrap();
        assert_eq!(len(file.path()), Some(5));
        assert_eq!(len(Path::new("/dev/null")), None);
    }
}
