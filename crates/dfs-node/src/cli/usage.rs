//! `dfs du`: what directories hold, with all that is below them.

use dfs_server::{DirUsage, ListedKind};
use serde::Serialize;

use crate::cli::args::Du;
use crate::cli::http::Api;
use crate::cli::output::{Output, print, shown, size};
use crate::cli::paths::{remote, remote_dir};
use crate::exit::{Failure, tell};

/// What is at a path and below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Usage {
    path: String,
    bytes: u64,
    files: u64,
    /// Directories below it.
    dirs: u64,
}

pub(super) fn run(api: &Api, du: &Du, out: &Output) -> Result<(), Failure> {
    let everything = [String::new()];
    let paths = if du.paths.is_empty() { &everything[..] } else { &du.paths };
    let max_depth = if du.summarize { Some(0) } else { du.max_depth };
    for path in paths {
        if let Some(path) = remote_dir(path)?
            && api.stat(&path, None)?.about.kind != ListedKind::Dir
        {
            show_file(api, path.as_str(), out)?;
            continue;
        }
        show_tree(api, path, max_depth, out)?;
    }
    Ok(())
}

fn show_file(api: &Api, path: &str, out: &Output) -> Result<(), Failure> {
    let bytes = api.stat(&remote(path)?, None)?.about.bytes;
    show(&Usage { path: path.to_owned(), bytes, files: 1, dirs: 0 }, out)
}

fn show_tree(api: &Api, path: &str, max_depth: Option<usize>, out: &Output) -> Result<(), Failure> {
    let (mut sums, mut guarded) = (Sums::default(), true);
    api.usage(remote_dir(path)?.as_ref(), &mut |page| {
        guarded &= page.guarded;
        page.dirs.iter().try_for_each(|dir| {
            let done = sums.enter(dir);
            show_all(done, max_depth, out)
        })
    })?;
    show_all(sums.end(), max_depth, out)?;
    if !guarded {
        tell(UNGUARDED);
    }
    Ok(())
}

fn show_all(
    done: Vec<(usize, Usage)>,
    max_depth: Option<usize>,
    out: &Output,
) -> Result<(), Failure> {
    let is_shown = |depth: usize| max_depth.is_none_or(|max| depth <= max);
    done.iter().filter(|(depth, _)| is_shown(*depth)).try_for_each(|(_, usage)| show(usage, out))
}

fn show(usage: &Usage, out: &Output) -> Result<(), Failure> {
    if out.json {
        return out.object(usage);
    }
    let path = if usage.path.is_empty() { "/" } else { &usage.path };
    print(|text| writeln!(text, "{:>10}  {}", size(usage.bytes), shown(path)))
}

/// Adds directories up: each comes before those in it, and is complete when the next is none of
/// them.
#[derive(Debug, Default)]
struct Sums {
    /// Those that the walk is in, each in the one before.
    open: Vec<Usage>,
}

impl Sums {
    /// Takes a directory in. Returns those that are complete, with how deep they are.
    fn enter(&mut self, dir: &DirUsage) -> Vec<(usize, Usage)> {
        let mut done = Vec::new();
        while self.open.last().is_some_and(|above| !is_below(&dir.path, &above.path)) {
            done.extend(self.leave());
        }
        let DirUsage { path, files, bytes, .. } = dir;
        self.open.push(Usage { path: path.clone(), bytes: *bytes, files: *files, dirs: 0 });
        done
    }

    fn leave(&mut self) -> Option<(usize, Usage)> {
        let done = self.open.pop()?;
        if let Some(above) = self.open.last_mut() {
            above.bytes += done.bytes;
            above.files += done.files;
            above.dirs += done.dirs + 1;
        }
        Some((self.open.len(), done))
    }

    /// The rest.
    fn end(mut self) -> Vec<(usize, Usage)> {
        std::iter::from_fn(|| self.leave()).collect()
    }
}

fn is_below(path: &str, above: &str) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

const UNGUARDED: &str = "note: too few of the gateways that hold these directories answered; \
    other machines can have hidden something";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_has_what_is_below_it() {
        let mut sums = Sums::default();
        let mut lines = Vec::new();
        for (path, files, bytes) in
            [("", 1, 1), ("a", 2, 10), ("a/b", 3, 100), ("a/c", 0, 0), ("ab", 1, 1000)]
        {
            let path = path.to_owned();
            lines.extend(sums.enter(&DirUsage { path, files, bytes, conflicts: 0 }));
        }
        lines.extend(sums.end());
        let lines: Vec<_> = lines
            .iter()
            .map(|(depth, usage)| (*depth, &*usage.path, usage.files, usage.bytes, usage.dirs))
            .collect();
        assert_eq!(
            lines,
            [
                (2, "a/b", 3, 100, 0),
                (2, "a/c", 0, 0, 0),
                (1, "a", 5, 110, 2),
                (1, "ab", 1, 1000, 0),
                (0, "", 7, 1111, 4),
            ]
        );
    }
}
