//! `dfs put`.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use dfs_core::name::FilePath;
use dfs_server::{Said, Stored};

use crate::api::OfPath;
use crate::cli::args::Put;
use crate::cli::asked::Trouble;
use crate::cli::command;
use crate::cli::exclude;
use crate::cli::http::Api;
use crate::cli::output::{Counted, Output, size};
use crate::cli::paths::{failed_to_read, remote};
use crate::cli::source::{Source, Watch};
use crate::cli::sparse::Holey;
use crate::cli::stamp;
use crate::cli::tree::{self, Outcome};
use crate::cli::walk::{Found, NotStored, Rules, Walk, What};
use crate::exit::{Code, Failure, tell};

pub(super) fn put(api: &Api, put: &Put, out: &Output) -> Result<(), Failure> {
    let condition = match (&put.if_version, put.if_absent) {
        (Some(version), _) => Some(("If-Match", format!("\"{version}\""))),
        (None, true) => Some(("If-None-Match", "*".to_owned())),
        (None, false) => None,
    };
    let condition = condition.as_ref().map(|(name, value)| (*name, value.as_str()));
    let src = put.src.as_path();
    if put.from_command {
        let stored = put_command(api, put, condition, out)?;
        return say(out, &stored);
    }
    if src == "-" {
        let usage = || Failure::new(Code::Usage, "stdin has no name: give the remote path as DST");
        let dst = remote(put.dst.as_deref().ok_or_else(usage)?)?;
        let stored = put_stdin(api, &dst, condition, out)?;
        return say(out, &stored);
    }
    let found = std::fs::metadata(src).map_err(|error| failed_to_read(src, &error))?;
    let dst = match &put.dst {
        Some(dst) => dst.clone(),
        None => base_name(src)?,
    };
    if found.is_dir() {
        if !put.recursive {
            return Err(Failure::new(Code::Usage, format!("{} is a directory", src.display()))
                .hint("'-r' stores it with everything below"));
        }
        if condition.is_some() {
            return Err(Failure::new(Code::Usage, "a condition is for one file, not for '-r'"));
        }
        return put_tree(api, put, src, &dst, out);
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
    let unreadable = |error| failed_to_read(src, &error);
    refuse_pipe(src).map_err(unreadable)?;
    let is_regular = std::fs::metadata(src).map_err(unreadable)?.is_file();
    // A condition that does not hold the second time may have held the first time.
    if condition.is_some() || !is_regular {
        return Ok(put_once(api, src, dst, condition, out)?);
    }
    api.patiently(|api| put_once(api, src, dst, None, out))
}

/// Stores a file by one node. A file that changes meanwhile is read once more.
fn put_once(
    api: &Api,
    src: &Path,
    dst: &FilePath,
    condition: Option<(&str, &str)>,
    out: &Output,
) -> Result<OfPath<Stored>, Trouble> {
    let unreadable = |error| failed_to_read(src, &error);
    let name = src.display().to_string();
    for is_last in [false, true] {
        let file = File::open(src).map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?;
        let said = if found.is_file() { stamp::of(&found) } else { Said::default() };
        let len = announced(&found);
        let watch = len.map(|_| Watch::of(&file, &found)).transpose().map_err(unreadable)?;
        let bar = out.bar(len);
        // What says that it is empty, as files of /proc do, may have no map either.
        let content: Box<dyn Read> = match len {
            Some(len) => Box::new(Holey::new(file, len)),
            None => Box::new(file),
        };
        let counted = Counted { source: content, bar: &bar };
        let mut source = Source::new(counted, &name, len).watching(watch);
        let stored = api.try_put(dst, &mut source, len, condition, &said);
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
    stored.inspect(|stored| note_if_empty(stored, "stdin"))
}

/// Stores what a command writes, when it has ended with 0 and not before.
fn put_command(
    api: &Api,
    put: &Put,
    condition: Option<(&str, &str)>,
    out: &Output,
) -> Result<OfPath<Stored>, Failure> {
    let not_utf8 = || Failure::new(Code::Usage, "the remote path is not UTF-8");
    let dst = remote(put.src.to_str().ok_or_else(not_utf8)?)?;
    let command: Vec<_> = put.dst.iter().map(OsString::from).chain(put.rest.clone()).collect();
    let mut written = command::Output::of(&command)?;
    let bar = out.bar(None);
    let counted = Counted { source: &mut written, bar: &bar };
    let mut source = Source::new(counted, "what the command writes", None);
    let stored = api.put(&dst, &mut source, None, condition);
    bar.finish_and_clear();
    let read = source.check();
    // That the command failed explains everything else.
    written.finish()?;
    read?;
    stored.inspect(|stored| note_if_empty(stored, "what the command wrote"))
}

/// A pipeline whose first command failed looks like this.
fn note_if_empty(stored: &OfPath<Stored>, source: &str) {
    if stored.about.bytes == 0 {
        tell(format_args!("note: {source} was empty"));
    }
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

fn put_tree(api: &Api, put: &Put, src: &Path, dst: &str, out: &Output) -> Result<(), Failure> {
    let top = dst.trim_matches('/');
    let rules = rules(put)?;
    let mut walk = Walk::new(src, top, &rules)?;
    let quiet = out.without_progress();
    let bytes = AtomicU64::new(0);
    let stored = tree::for_each(walk.by_ref(), put.jobs, |found| {
        let found = found?;
        let Some(stored) = put_found(api, &found, &quiet)? else { return Ok(0) };
        bytes.fetch_add(stored.about.bytes, Ordering::Relaxed);
        if out.json {
            out.object(&stored)?;
        }
        Ok(1)
    });
    let not_stored = walk.not_stored();
    say_tree(out, top, &stored, bytes.into_inner(), not_stored)?;
    stored.result?;
    match not_stored.skipped {
        0 => Ok(()),
        skipped => {
            let message = format!("{skipped} special files were skipped");
            Err(Failure::new(Code::Partly, message)
                .hint("'--exclude' leaves out what you do not want stored"))
        }
    }
}

/// Stores what a walk came to. Of a directory nothing is said that could be counted.
pub(super) fn put_found(
    api: &Api,
    found: &Found,
    quiet: &Output,
) -> Result<Option<OfPath<Stored>>, Failure> {
    let name = remote(&found.name)?;
    let failed = |error| failed_to_read(&found.path, &error);
    match &found.what {
        What::File => put_file(api, &found.path, &name, None, quiet).map(Some),
        What::Link(says) => {
            let link = std::fs::symlink_metadata(&found.path).map_err(failed)?;
            // Nobody asks what a link permits.
            let said = Said { permissions: None, ..stamp::of(&link) };
            api.make_link(&name, says, true, &said).map(Some)
        }
        What::Dir => {
            // The top may be a link to it.
            let said = stamp::of(&std::fs::metadata(&found.path).map_err(failed)?);
            api.make_dir(&name, true, &said).map(|_| None)
        }
    }
}

fn rules(put: &Put) -> Result<Rules, Failure> {
    let exclude = exclude::all(&put.exclude, &put.exclude_from)?;
    let Put { one_file_system, exclude_caches, .. } = *put;
    Ok(Rules { exclude, one_file_system, exclude_caches })
}

/// The closing line, which counts what was not stored.
fn say_tree(
    out: &Output,
    top: &str,
    stored: &Outcome,
    bytes: u64,
    not_stored: NotStored,
) -> Result<(), Failure> {
    let NotStored { skipped, left_out, excluded } = not_stored;
    if out.json {
        return out.object(&serde_json::json!({ "summary": {
            "stored": stored.done, "bytes": bytes, "failed": stored.failed,
            "skipped": skipped, "left_out": left_out, "excluded": excluded,
        }}));
    }
    let mut line = format!("stored {} files under {top:?}", stored.done);
    for (word, count) in [("skipped", skipped), ("left out", left_out), ("excluded", excluded)] {
        if count > 0 {
            line.push_str(&format!(", {word} {count}"));
        }
    }
    tell(line);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
