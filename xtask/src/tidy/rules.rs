//! What the import graph must be: without circles between folders, without upward arrows, and
//! without a type whose methods are all over the place.

use std::collections::{BTreeMap, BTreeSet};

use super::circles::circles;
use super::graph::Graph;
use super::layers::{COMPOSITION_ROOTS, ORDER, is_ruled, may_depend};
use super::source::Source;

/// A type with methods in more files has no owner.
const OWNER_FILES_MAX: usize = 5;

type Order = [(&'static str, &'static [&'static [&'static str]])];

/// An arrow that goes up, and the two places.
#[derive(Debug)]
pub(super) struct Upward {
    pub(super) from: String,
    pub(super) to: String,
    /// The files that make it.
    pub(super) files: Vec<(usize, usize)>,
}

/// Circles between folders.
pub(super) fn folder_circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    circles(&graph.folders().into_keys().collect())
}

/// Circles of files inside a folder.
pub(super) fn file_circles(graph: &Graph) -> Vec<BTreeSet<usize>> {
    let place = |at: usize| graph.files[at].place();
    let inside = graph.arrows.iter().filter(|(from, to)| place(*from) == place(*to));
    circles(&inside.copied().collect())
}

/// Arrows against the layers of crates or the order of folders, and arrows to a file that puts
/// parts together.
pub(super) fn upward(graph: &Graph) -> Vec<Upward> {
    upward_against(graph, ORDER)
}

fn upward_against(graph: &Graph, order: &Order) -> Vec<Upward> {
    let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for &(from, to) in &graph.arrows {
        let (a, b) = (&graph.files[from], &graph.files[to]);
        let is_upward = match a.krate == b.krate {
            true => is_named_root(b) || !is_below(order, &a.krate, b.top_folder(), a.top_folder()),
            false => !may_depend(&a.krate, &b.krate),
        };
        if is_upward {
            places.entry((a.place(), b.place())).or_default().push((from, to));
        }
    }
    places.into_iter().map(|((from, to), files)| Upward { from, to, files }).collect()
}

/// Whether a file is one of [`COMPOSITION_ROOTS`]. Other crates may import its public items.
fn is_named_root(file: &Source) -> bool {
    COMPOSITION_ROOTS.contains(&file.shown().as_str())
}

/// Whether `low` may be imported by `high`. Without an order in the crate, it may.
fn is_below(order: &Order, krate: &str, low: &str, high: &str) -> bool {
    let Some((_, rows)) = order.iter().find(|(name, _)| *name == krate) else { return true };
    let level = |folder| rows.iter().position(|row| row.contains(&folder));
    // Folders that are missing from the order are told of by themselves.
    low == high || level(low).zip(level(high)).is_none_or(|(low, high)| low < high)
}

/// Folders that the order of their crate does not have.
pub(super) fn unordered(graph: &Graph) -> BTreeSet<String> {
    unordered_in(graph, ORDER)
}

fn unordered_in(graph: &Graph, order: &Order) -> BTreeSet<String> {
    let is_missing = |file: &&Source| {
        let rows = order.iter().find(|(name, _)| *name == file.krate).map(|(_, rows)| *rows);
        rows.is_some_and(|rows| !rows.iter().any(|row| row.contains(&file.top_folder())))
    };
    let missing = graph.files.iter().filter(is_missing);
    missing.map(|file| format!("{}/{}", file.krate, file.top_folder())).collect()
}

/// Types with methods in too many files: crate, type and how many.
pub(super) fn scattered(graph: &Graph) -> Vec<(&str, &str, usize)> {
    let counted = graph
        .owners
        .iter()
        .map(|((krate, owner), files)| (krate.as_str(), owner.as_str(), files.len()));
    counted.filter(|(_, _, files)| *files > OWNER_FILES_MAX).collect()
}

/// Everything that is wrong with the graph.
pub(super) fn check(graph: &Graph, faults: &mut Vec<String>) {
    for circle in folder_circles(graph) {
        if circle.iter().any(|place| is_ruled(crate_of(place))) {
            faults.push(format!("folders import each other in a circle: {}", joined(&circle)));
        }
    }
    for place in unordered(graph) {
        faults.push(format!("{place} has no place in the order of folders of its crate"));
    }
    for arrow in upward(graph) {
        for (from, to) in arrow.files {
            let (from, to) = (graph.files[from].shown(), graph.files[to].shown());
            faults.push(format!("{from} imports {to}: that goes up"));
        }
    }
    for (krate, owner, files) in scattered(graph) {
        if is_ruled(krate) {
            faults.push(format!("{krate} has methods of {owner} in {files} files: who owns it?"));
        }
    }
}

/// The crate of a place.
fn crate_of(place: &str) -> &str {
    place.split('/').next().unwrap_or(place)
}

/// A set in one line.
pub(super) fn joined(set: &BTreeSet<String>) -> String {
    set.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    const TWO_ROWS: &Order = &[("dfs-core", &[&["root"], &["low", "beside"], &["high"]])];

    #[track_caller]
    fn check_upward(tree: &[(&str, &str, &str)], expected: &[&str]) {
        let found = upward_against(&graph(tree), TWO_ROWS);
        let found: Vec<_> = found.iter().map(|one| format!("{} > {}", one.from, one.to)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn arrows_go_down_the_order_of_folders() {
        let high = ("dfs-core", "high/a.rs", "use crate::low::b; use crate::c;");
        let low = ("dfs-core", "low/b.rs", "use crate::c;");
        check_upward(&[high, low, ("dfs-core", "c.rs", "")], &[]);
        let low = ("dfs-core", "low/b.rs", "use crate::high::a;");
        check_upward(&[("dfs-core", "high/a.rs", ""), low], &["dfs-core/low > dfs-core/high"]);
        let beside = ("dfs-core", "beside/c.rs", "use crate::low::b;");
        check_upward(&[("dfs-core", "low/b.rs", ""), beside], &["dfs-core/beside > dfs-core/low"]);
    }

    #[test]
    fn folders_inside_a_folder_have_its_place() {
        let outer = ("dfs-core", "low/a.rs", "use crate::low::inner::b;");
        check_upward(&[outer, ("dfs-core", "low/inner/b.rs", "use crate::low::a;")], &[]);
    }

    #[test]
    fn arrows_go_down_the_layers_of_crates() {
        let env = ("dfs-env", "lib.rs", "mod a;");
        let core = ("dfs-core", "c.rs", "use dfs_env::a::B;");
        let upward = ["dfs-core/root > dfs-env/root"];
        check_upward(&[env, ("dfs-env", "a.rs", ""), core], &upward);
        let store = ("dfs-store", "c.rs", "use dfs_env::a::B;");
        check_upward(&[env, ("dfs-env", "a.rs", ""), store], &[]);
    }

    #[test]
    fn what_puts_parts_together_is_not_imported() {
        let server = ("dfs-server", "server.rs", "use crate::a::b;");
        let folder = ("dfs-server", "a/b.rs", "");
        check_upward(&[server, folder], &[]);
        let folder = ("dfs-server", "a/b.rs", "use crate::server::Server;");
        check_upward(&[server, folder], &["dfs-server/a > dfs-server/root"]);
        let beside = ("dfs-server", "b.rs", "use crate::server::Server;");
        check_upward(&[server, beside], &["dfs-server/root > dfs-server/root"]);
    }

    #[test]
    fn a_folder_without_a_place_is_told_of() {
        let tree =
            [("dfs-core", "new/a.rs", ""), ("dfs-core", "low/b.rs", ""), ("x", "y/z.rs", "")];
        assert_eq!(joined(&unordered_in(&graph(&tree), TWO_ROWS)), "dfs-core/new");
    }

    #[test]
    fn circles_between_folders_are_faults_and_those_inside_are_not() {
        let tree = [("a", "b/c.rs", "use crate::d::e;"), ("a", "d/e.rs", "use crate::b::f;")];
        let mut faults = Vec::new();
        check(&graph(&[&tree[..], &[("a", "b/f.rs", "")]].concat()), &mut faults);
        assert_eq!(faults, ["folders import each other in a circle: a/b, a/d"]);
        let tree = [("a", "b/c.rs", "use crate::b::e;"), ("a", "b/e.rs", "use crate::b::c;")];
        let graph = graph(&tree);
        faults.clear();
        check(&graph, &mut faults);
        assert_eq!((faults.len(), file_circles(&graph).len()), (0, 1));
    }

    #[test]
    fn a_type_has_its_methods_in_few_files() {
        let paths: Vec<_> = (0..6).map(|number| format!("f{number}.rs")).collect();
        let tree: Vec<_> = paths.iter().map(|path| ("a", path.as_str(), "impl T {}")).collect();
        assert_eq!(scattered(&graph(&tree)), [("a", "T", 6)]);
        assert!(scattered(&graph(&tree[..5])).is_empty());
    }
}
