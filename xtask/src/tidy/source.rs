//! The source files that the graph is drawn of, each with its crate, module and folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::layers;

/// What is told of files in `src` itself.
pub(super) const ROOT: &str = "root";

/// One source file.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As the crate's directory is called.
    pub(super) krate: String,
    /// Below `src`, as `layout/epoch.rs`.
    pub(super) path: String,
    /// The modules that lead to it: none for `lib.rs`.
    pub(super) module: Vec<String>,
    /// The directory below `src` that it belongs to, or [`ROOT`].
    pub(super) folder: String,
    pub(super) lines: usize,
    pub(super) text: String,
}

impl Source {
    /// A file of a crate; `is_folder` tells whether a path below `src` is a directory.
    pub(super) fn new(
        krate: &str,
        path: &str,
        text: String,
        is_folder: impl Fn(&str) -> bool,
    ) -> Self {
        let stem = path.trim_end_matches(".rs");
        let (parent, name) = stem.rsplit_once('/').unwrap_or(("", stem));
        let is_table = ["mod", "lib", "main"].contains(&name);
        let module = if is_table { parent } else { stem };
        let folder = if !is_table && is_folder(stem) { stem } else { parent };
        Self {
            krate: krate.to_owned(),
            path: path.to_owned(),
            module: module.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            folder: if folder.is_empty() { ROOT } else { folder }.to_owned(),
            lines: text.lines().count(),
            text,
        }
    }

    /// Where it is in the repository's own words, as `dfs-core/layout/epoch.rs`.
    pub(super) fn shown(&self) -> String {
        format!("{}/{}", self.krate, self.path)
    }

    /// The crate and the folder.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.krate, self.folder)
    }

    /// The outermost folder that it is in.
    pub(super) fn top_folder(&self) -> &str {
        self.folder.split('/').next().unwrap_or(&self.folder)
    }

    /// Whether it is the root of a crate, and so a table of contents.
    pub(super) fn is_crate_root(&self) -> bool {
        ["lib.rs", "main.rs"].contains(&self.path.as_str())
    }
}

/// All files below the `src` of each of these crates, without tests and fuzzing.
pub(super) fn read_all<'a>(
    root: &Path,
    crates: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for krate in crates {
        let src = layers::dir(root, krate).join("src");
        let mut files = Vec::new();
        rust_files(&src, &mut files)?;
        files.sort();
        for file in files {
            let path = file.strip_prefix(&src)?.to_string_lossy().into_owned();
            if !is_left_out(&path) {
                let text = fs::read_to_string(&file)?;
                let is_folder = |stem: &str| holds_code(&src.join(stem));
                sources.push(Source::new(krate, &path, text, is_folder));
            }
        }
    }
    Ok(sources)
}

/// Finds the Rust files below a directory.
pub(super) fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether a directory exists and has more than tests in it.
fn holds_code(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| !is_left_out(&entry.file_name().to_string_lossy()))
        })
    })
}

fn is_left_out(path: &str) -> bool {
    let stem = path.trim_end_matches(".rs");
    stem.split('/').any(|part| ["tests", "fuzzing"].contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, module: &str, folder: &str) {
        let source = Source::new("a", path, String::new(), |stem| stem == "layout/epoch");
        assert_eq!((source.module.join("::").as_str(), source.folder.as_str()), (module, folder));
    }

    #[test]
    fn a_file_beside_a_directory_of_its_name_belongs_to_it() {
        check("lib.rs", "", ROOT);
        check("id.rs", "id", ROOT);
        check("layout/mod.rs", "layout", "layout");
        check("layout/facts.rs", "layout::facts", "layout");
        check("layout/epoch.rs", "layout::epoch", "layout/epoch");
        check("layout/epoch/proof.rs", "layout::epoch::proof", "layout/epoch");
    }

    #[test]
    fn tests_and_fuzzing_are_left_out() {
        assert!(is_left_out("tests/codec.rs") && is_left_out("fuzzing.rs"));
        assert!(is_left_out("disk/store/tests.rs") && !is_left_out("disk/store/scrub.rs"));
    }
}
