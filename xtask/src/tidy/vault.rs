//! What answers peers, and what keeps bytes on a disk, never names what only the key holder needs.

use super::graph::Graph;
use super::names::Names;

/// Folders that never name another: crate, folders, and the word that they keep clear of.
const BLIND: [(&str, &[&str], &str); 3] = [
    (
        "dfs-server",
        &[
            "rpc", "records", "blobs", "sync", "repair", "proof", "gc", "disk", "chain", "layout",
            "replica", "serve",
        ],
        "vault",
    ),
    ("dfs-store", &["disk"], "vault"),
    ("dfs-store", &["vault"], "disk"),
];

/// Looks at every path in these folders, and at where it leads.
pub(super) fn check(graph: &Graph, faults: &mut Vec<String>) {
    for (krate, folders, word) in BLIND {
        for (at, file) in graph.files.iter().enumerate() {
            let is_blind = file.krate == krate && folders.contains(&file.top_folder());
            if !is_blind {
                continue;
            }
            let leads =
                graph.imports(at).find(|to| to.krate == "dfs-store" && to.top_folder() == word);
            if let Some(to) = leads {
                faults.push(format!("{} may not import {}", file.shown(), to.shown()));
            } else if names_word(&graph.names[at], word) {
                faults.push(format!("{} may not name {word}", file.shown()));
            }
        }
    }
}

/// Whether a word is part of a path.
fn names_word(names: &Names, word: &str) -> bool {
    let used = names.uses.iter().map(|(named, _)| named);
    used.chain(&names.paths).any(|named| named.path.iter().any(|part| part == word))
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    #[track_caller]
    fn check_in(krate: &str, path: &str, text: &str, expected: &[&str]) {
        let mut faults = Vec::new();
        let lib = "pub use disk::store::Store; pub use vault::keys::VaultKey;";
        let tree = [
            ("dfs-store", "lib.rs", lib),
            ("dfs-store", "disk/store.rs", ""),
            ("dfs-store", "vault/keys.rs", ""),
            (krate, path, text),
        ];
        check(&graph(&tree), &mut faults);
        assert_eq!(faults, expected);
    }

    #[test]
    fn what_answers_peers_never_names_the_vault() {
        let refused = ["dfs-server/serve/a.rs may not import dfs-store/vault/keys.rs"];
        let keys = "use dfs_store::vault::keys::VaultKey;";
        check_in("dfs-server", "serve/a.rs", keys, &refused);
        check_in("dfs-server", "serve/a.rs", "use dfs_store::VaultKey;", &refused);
        check_in("dfs-server", "content/a.rs", keys, &[]);
        let named = "use dfs_store::{vault, Store}; fn f() { self.vault.g() }";
        check_in(
            "dfs-server",
            "gc/a.rs",
            named,
            &["dfs-server/gc/a.rs may not import dfs-store/vault/mod.rs"],
        );
        check_in(
            "dfs-server",
            "gc/a.rs",
            "fn f() { crate::vault::g() }",
            &["dfs-server/gc/a.rs may not name vault"],
        );
        check_in("dfs-server", "gc/a.rs", "fn f() { self.vault.g() }", &[]);
    }

    #[test]
    fn the_two_halves_of_the_store_do_not_see_each_other() {
        let refused = ["dfs-store/disk/a.rs may not import dfs-store/vault/keys.rs"];
        check_in("dfs-store", "disk/a.rs", "use crate::vault::keys;", &refused);
        let refused = ["dfs-store/vault/a.rs may not import dfs-store/disk/store.rs"];
        check_in("dfs-store", "vault/a.rs", "use crate::Store;", &refused);
    }
}
