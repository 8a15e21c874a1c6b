//! `dfs ls`, `dfs stat` and `dfs rm`.

use dfs_server::{Depth, Listed, ListedKind, Said, Stat, rfc3339};

use crate::api::{ListPage, OfPath};
use crate::cli::args;
use crate::cli::http::Api;
use crate::cli::output::{Output, print, shown, size, word};
use crate::cli::paths::remote;
use crate::exit::{Code, Failure, tell};

pub(super) fn list(api: &Api, ls: &args::Ls, out: &Output) -> Result<(), Failure> {
    let shown = ls.prefix.trim_start_matches('/').trim_end_matches('/');
    let inside = if shown.is_empty() { String::new() } else { format!("{}/", remote(shown)?) };
    let (mut count, mut guarded) = (0, true);
    let mut each = |page: &ListPage| {
        count += page.entries.len();
        guarded &= page.guarded;
        page.entries.iter().try_for_each(|entry| out.listed(entry, ls.long))
    };
    let depth = if ls.recursive { Depth::Files } else { Depth::Names };
    api.list(&inside, depth, &mut each)?;
    if !guarded {
        tell(UNGUARDED_LIST);
    }
    if count > 0 || shown.is_empty() {
        return Ok(());
    }
    // Not a directory with entries: a file, an empty directory, or nothing.
    let stat = api.stat(&remote(shown)?, None)?;
    match stat.about.kind {
        ListedKind::Dir => Ok(()),
        ListedKind::File | ListedKind::Link => out.listed(&as_listed(stat), ls.long),
    }
}

fn as_listed(stat: OfPath<Stat>) -> Listed {
    let OfPath { path, about: Stat { kind, bytes, modified_ms, said, version, .. } } = stat;
    Listed { path, kind, bytes, modified_ms, said, version }
}

pub(super) fn stat(api: &Api, args: &args::Stat, out: &Output) -> Result<(), Failure> {
    let found = api.stat(&remote(&args.path)?, args.version.as_deref())?;
    if out.json {
        return out.object(&found);
    }
    let stat = &found.about;
    print(|text| {
        writeln!(text, "path       {}", shown(&found.path))?;
        writeln!(text, "type       {}", word(&stat.kind))?;
        writeln!(text, "version    {}", stat.version)?;
        writeln!(text, "bytes      {} ({})", stat.bytes, size(stat.bytes))?;
        writeln!(text, "modified   {}", rfc3339(stat.modified_ms))?;
        let Said { permissions, mtime, target } = &stat.said;
        if let Some(permissions) = permissions {
            writeln!(text, "mode       {permissions}")?;
        }
        if let Some(mtime) = mtime {
            writeln!(text, "mtime      {mtime}")?;
        }
        if let Some(target) = target {
            writeln!(text, "target     {}", shown(target))?;
        }
        writeln!(text, "chunks     {}", stat.chunks)?;
        writeln!(text, "copies     {} of {}", stat.copies, stat.wanted)?;
        writeln!(text, "conflicts  {}", stat.conflicts)
    })
}

pub(super) fn remove(api: &Api, rm: &args::Rm, out: &Output) -> Result<(), Failure> {
    let mut failed = None;
    for path in &rm.paths {
        let path = remote(path)?;
        match api.remove(&path, rm.recursive) {
            Ok(removed) if out.json => out.object(&removed)?,
            Ok(_) => {}
            Err(failure) if rm.paths.len() == 1 => return Err(failure),
            Err(failure) => {
                failure.report();
                failed = Some(failure);
            }
        }
    }
    match failed {
        None => Ok(()),
        Some(_) => Err(Failure::new(Code::Partly, "some paths were not removed")),
    }
}

const UNGUARDED_LIST: &str = "note: too few of the gateways that hold these names answered; other \
    machines can have hidden some";
