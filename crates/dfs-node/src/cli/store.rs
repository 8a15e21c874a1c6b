//! `dfs put`.

use std::fs::File;
use std::path::{Path, PathBuf};

use dfs_core::name::FilePath;

use crate::api::StoredView;
use crate::cli::args::Put;
use crate::cli::http::Api;
use crate::cli::output::{Counted, Output, size};
use crate::cli::{remote, tree};
use crate::exit::{Code, Failure};

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
        let bar = out.bar(None);
        let mut source = Counted { source: std::io::stdin().lock(), bar: &bar };
        let stored = api.put(&dst, &mut source, None, condition)?;
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

fn base_name(src: &Path) -> Result<String, Failure> {
    let name = src
        .canonicalize()
        .ok()
        .and_then(|path| path.file_name().and_then(|name| name.to_str()).map(ToOwned::to_owned));
    let usage = || Failure::new(Code::Usage, format!("{} has no name to use", src.display()));
    name.ok_or_else(usage)
}

fn put_file(
    api: &Api,
    src: &Path,
    dst: &FilePath,
    condition: Option<(&str, &str)>,
    out: &Output,
) -> Result<StoredView, Failure> {
    let unreadable =
        |error| Failure::new(Code::Failed, format!("cannot read {}: {error}", src.display()));
    let file = File::open(src).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    // Only a regular file knows how long it is.
    let len = found.is_file().then_some(found.len());
    let bar = out.bar(len);
    let mut source = Counted { source: file, bar: &bar };
    let stored = api.put(dst, &mut source, len, condition);
    bar.finish_and_clear();
    stored
}

fn say(out: &Output, stored: &StoredView) -> Result<(), Failure> {
    if out.json {
        return out.object(stored);
    }
    eprintln!(
        "stored {} ({}), {} of {} copies so far",
        stored.path,
        size(stored.bytes),
        stored.copies,
        stored.wanted
    );
    Ok(())
}

fn put_tree(api: &Api, src: &Path, dst: &str, out: &Output) -> Result<(), Failure> {
    let top = dst.trim_matches('/');
    let mut files = Vec::new();
    collect(src, top, &mut files)?;
    let count = files.len();
    let quiet = out.without_progress();
    tree::for_each(files, |(path, name)| {
        let stored = put_file(api, &path, &remote(&name)?, None, &quiet)?;
        if out.json { out.object(&stored) } else { Ok(()) }
    })?;
    if !out.json {
        eprintln!("stored {count} files under {top:?}");
    }
    Ok(())
}

/// Every regular file below a directory, with the remote name it gets. Links are not followed.
fn collect(dir: &Path, name: &str, files: &mut Vec<(PathBuf, String)>) -> Result<(), Failure> {
    let unreadable =
        |error| Failure::new(Code::Failed, format!("cannot read {}: {error}", dir.display()));
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let file_name = entry.file_name();
        let base = file_name.to_str().ok_or_else(|| {
            Failure::new(Code::Failed, format!("{} is not a UTF-8 name", path.display()))
        })?;
        let name = if name.is_empty() { base.to_owned() } else { format!("{name}/{base}") };
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            collect(&path, &name, files)?;
        } else if kind.is_file() {
            files.push((path, name));
        } else {
            eprintln!("skipped {}: neither a file nor a directory", path.display());
        }
    }
    Ok(())
}
