//! Who may import whom: the layers of crates, and the order of the folders inside a crate.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The layers: each crate, and the crates of ours it may depend on.
pub(super) const LAYERS: [(&str, &[&str]); 10] = [
    ("dfs-core", &[]),
    ("dfs-env", &[]),
    ("dfs-p2p", &["dfs-core", "dfs-env"]),
    ("dfs-store", &["dfs-core", "dfs-env"]),
    ("dfs-server", &["dfs-core", "dfs-env", "dfs-p2p", "dfs-store"]),
    ("dfs-node", &["dfs-core", "dfs-env", "dfs-p2p", "dfs-store", "dfs-server"]),
    ("dfs-sim", &["dfs-core", "dfs-env", "dfs-p2p", "dfs-store", "dfs-server", "dfs-hostile"]),
    ("dfs-hostile", &["dfs-core", "dfs-env", "dfs-p2p", "dfs-store"]),
    ("dfs-testbed", &[]),
    ("xtask", &["dfs-testbed"]),
];

/// The order of folders in a crate, from the bottom to the top; those in one row do not import
/// each other. `root` is `src` itself, and a folder has with it all folders inside it. A crate that
/// stands here has each of its folders here.
pub(super) const ORDER: &[(&str, &[&[&str]])] = &[
    ("dfs-core", &[&["root"], &["record", "layout"], &["node"], &["replica"]]),
    ("dfs-store", &[&["root"], &["vault", "disk"]]),
    (
        "dfs-server",
        &[
            &["root"],
            &["replica"],
            &["chain", "disk"],
            &["rpc"],
            &["records", "blobs", "layout"],
            &["sync", "repair", "proof", "gc", "content"],
            &["serve", "names"],
            &["status"],
            &["client"],
        ],
    ),
];

/// Crates that are held to the rules on circles, owners and width only once [`ORDER`] has them.
const RULED_ONCE_ORDERED: [&str; 2] = ["dfs-server", "dfs-store"];

/// Where the parts of a crate are put together: besides `lib.rs` and `main.rs`, these files import
/// whatever they like, and no file of their crate imports them.
pub(super) const COMPOSITION_ROOTS: [&str; 1] = ["dfs-server/server.rs"];

/// Where a crate is.
pub(super) fn dir(root: &Path, krate: &str) -> PathBuf {
    if krate == "xtask" { root.join(krate) } else { root.join("crates").join(krate) }
}

/// Whether a crate may depend on another.
pub(super) fn may_depend(krate: &str, on: &str) -> bool {
    LAYERS.iter().any(|(name, allowed)| *name == krate && allowed.contains(&on))
}

/// Whether all rules hold for a crate already.
pub(super) fn is_ruled(krate: &str) -> bool {
    !RULED_ONCE_ORDERED.contains(&krate) || ORDER.iter().any(|(name, _)| *name == krate)
}

/// Looks at what the manifests say.
pub(super) fn check_manifests(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    for (name, _) in LAYERS {
        let manifest = fs::read_to_string(dir(root, name).join("Cargo.toml"))
            .with_context(|| format!("{name} has no manifest"))?;
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for line in dependencies.lines().filter(|line| line.starts_with("dfs-")) {
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if !may_depend(name, dependency) {
                faults.push(format!("{name} may not depend on {dependency}"));
            }
        }
    }
    Ok(())
}
