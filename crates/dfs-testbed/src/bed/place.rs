//! Where a run takes place: the directories, the programs in them, and no second run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::small_disk::SmallDisk;

/// The top of the repository.
///
/// # Panics
/// Never: this crate is two directories below it.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate is two directories below").to_owned()
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => root().join("target"),
    }
}

/// Builds the release binaries and says where they are.
///
/// # Errors
/// They do not build.
pub fn build() -> Result<PathBuf> {
    build_programs(&["dfs", "dfs-node"])
}

/// Builds the hostile member and says where it is.
pub(crate) fn build_hostile() -> Result<PathBuf> {
    Ok(build_programs(&["dfs-hostile"])?.join("dfs-hostile"))
}

/// Builds programs as a release, and says in which directory they are. Where [`PROGRAMS`] names one
/// they are there already: each set of programs has features of its own, and would build the
/// libraries once more.
///
/// # Errors
/// They do not build.
pub fn build_programs(names: &[&str]) -> Result<PathBuf> {
    if let Some(built) = std::env::var_os(PROGRAMS) {
        return Ok(PathBuf::from(built).canonicalize()?);
    }
    let status = release_build(names).status()?;
    ensure!(status.success(), "the release build of {} failed", names.join(", "));
    Ok(target_dir().join("release").canonicalize()?)
}

/// The command that [`build_programs`] runs.
#[must_use]
pub fn release_build(names: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--workspace"]).current_dir(root());
    cargo.args(names.iter().flat_map(|name| ["--bin", name]));
    cargo
}

/// Names the directory of programs that are built, for a whole run of several commands.
pub const PROGRAMS: &str = "DFS_PROGRAMS";

/// Keeps a second run away from the place of this one, until it is dropped.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    fs::create_dir_all(target_dir())?;
    let file = File::create(dir.with_extension("lock"))?;
    file.try_lock().with_context(|| format!("another run uses {}", dir.display()))?;
    Ok(file)
}

/// Makes an empty place with the programs in it: a build during the run changes nothing.
pub(crate) fn prepare(dir: &Path) -> Result<PathBuf> {
    let built = build()?;
    SmallDisk::clear(&dir.join("small"))?;
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    let bin = dir.join("bin");
    fs::create_dir_all(&bin)?;
    for program in ["dfs", "dfs-node"] {
        fs::copy(built.join(program), bin.join(program))?;
    }
    Ok(bin.canonicalize()?)
}
