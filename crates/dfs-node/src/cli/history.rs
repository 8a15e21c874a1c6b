//! `dfs log`, `dfs restore` and `dfs conflicts`.

use std::io::{self, Write};

use dfs_server::{ConflictPage, ListedKind, Logged, rfc3339};

use crate::cli::args::{Conflicts, Restore};
use crate::cli::http::Api;
use crate::cli::output::{Output, print, shown, size, word};
use crate::cli::paths::{remote, remote_dir};
use crate::exit::{Failure, tell};

pub(super) fn log(api: &Api, path: &str, out: &Output) -> Result<(), Failure> {
    let log = api.log(&remote(path)?)?;
    if out.json {
        return log.iter().try_for_each(|line| out.object(line));
    }
    print(|text| log.iter().try_for_each(|line| show_version(line, text)))
}

pub(super) fn restore(api: &Api, restore: &Restore, out: &Output) -> Result<(), Failure> {
    let version = restore.version.as_deref().unwrap_or_default();
    let stored = api.restore(&remote(&restore.path)?, version)?;
    if out.json {
        return out.object(&stored);
    }
    tell(format_args!(
        "restored {} ({}), {} of {} copies so far",
        stored.path,
        size(stored.about.bytes),
        stored.about.copies,
        stored.about.wanted
    ));
    Ok(())
}

pub(super) fn conflicts(api: &Api, conflicts: &Conflicts, out: &Output) -> Result<(), Failure> {
    let dir = remote_dir(&conflicts.dir)?;
    let mut count = 0;
    api.conflicts(dir.as_ref(), &mut |page| {
        count += page.conflicts.len();
        show_page(page, out)
    })?;
    if count > 0 && !out.json {
        tell(
            "hint: 'dfs restore PATH --version V' or a new 'dfs put' settles one; of a file and a \
              directory of one name 'dfs mv' gives the file another",
        );
    }
    Ok(())
}

fn show_page(page: &ConflictPage, out: &Output) -> Result<(), Failure> {
    if out.json {
        return page.conflicts.iter().try_for_each(|conflict| out.object(conflict));
    }
    print(|text| {
        page.conflicts.iter().try_for_each(|conflict| {
            writeln!(text, "{}", shown(&conflict.path))?;
            conflict.versions.iter().try_for_each(|line| show_version(line, text))
        })
    })
}

pub(super) fn show_version(line: &Logged, text: &mut dyn Write) -> io::Result<()> {
    let bytes = match line.kind {
        Some(ListedKind::File) => size(line.bytes),
        Some(ListedKind::Dir) => "directory".to_owned(),
        Some(ListedKind::Link) => "link".to_owned(),
        None => String::new(),
    };
    writeln!(
        text,
        "{bytes:>10}  {}  {}  {}",
        rfc3339(line.modified_ms),
        line.version,
        word(&line.state)
    )
}
