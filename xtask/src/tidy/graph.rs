//! The import graph of all crates, read from the code: which file names which.
//!
//! It sees `use` lines and inline paths. A method that is called on a value is not seen, so
//! `impl` blocks of one type in many files are counted apart.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::layers::COMPOSITION_ROOTS;
use super::names::{self, Named, Names};
use super::source::Source;

/// Files and which of them name which.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) files: Vec<Source>,
    /// What each of them names.
    pub(super) names: Vec<Names>,
    /// From the importing file to the imported one. What only puts parts together imports nothing.
    pub(super) arrows: BTreeSet<(usize, usize)>,
    /// For each crate and type, the files with methods of it.
    pub(super) owners: BTreeMap<(String, String), BTreeSet<usize>>,
}

impl Graph {
    /// Reads the files.
    ///
    /// # Errors
    /// A file is no Rust.
    pub(super) fn new(files: Vec<Source>) -> Result<Self> {
        let names = files.iter().map(|file| names::read(&file.text).with_context(|| file.shown()));
        let names = names.collect::<Result<Vec<_>>>()?;
        let resolver = Resolver::new(&files, &names);
        let mut arrows = BTreeSet::new();
        let mut owners: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
        for (at, named) in names.iter().enumerate() {
            if !is_composition_root(&files[at]) {
                let targets = resolver.imports(at).into_iter().filter(|to| *to != at);
                arrows.extend(targets.map(|to| (at, to)));
            }
            for owner in &named.owners {
                owners.entry((files[at].krate.clone(), owner.clone())).or_default().insert(at);
            }
        }
        Ok(Self { files, names, arrows, owners })
    }

    /// The files that a file imports.
    pub(super) fn imports(&self, at: usize) -> impl Iterator<Item = &Source> {
        self.arrows.range((at, 0)..=(at, usize::MAX)).map(|(_, to)| &self.files[*to])
    }

    /// The arrows between folders, each with the arrows between files that make it.
    pub(super) fn folders(&self) -> BTreeMap<(String, String), Vec<(usize, usize)>> {
        let mut folders: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for &(from, to) in &self.arrows {
            let places = (self.files[from].place(), self.files[to].place());
            if places.0 != places.1 {
                folders.entry(places).or_default().push((from, to));
            }
        }
        folders
    }
}

/// Whether a file puts the parts of a crate together.
pub(super) fn is_composition_root(file: &Source) -> bool {
    file.is_crate_root() || COMPOSITION_ROOTS.contains(&file.shown().as_str())
}

/// Finds the files that paths lead to.
struct Resolver<'a> {
    files: &'a [Source],
    names: &'a [Names],
    modules: BTreeMap<(&'a str, &'a [String]), usize>,
}

impl<'a> Resolver<'a> {
    fn new(files: &'a [Source], names: &'a [Names]) -> Self {
        let mut modules = BTreeMap::new();
        for (at, file) in files.iter().enumerate() {
            // A crate with a library and a program has two roots; others import the library.
            modules.entry((file.krate.as_str(), file.module.as_slice())).or_insert(at);
        }
        Self { files, names, modules }
    }

    /// The files that one file names.
    fn imports(&self, at: usize) -> BTreeSet<usize> {
        let Names { uses, paths, .. } = &self.names[at];
        let used = uses.iter().filter_map(|(named, _)| self.find(at, named, 0));
        let written = paths.iter().filter_map(|named| self.find_inline(at, named));
        used.chain(written).collect()
    }

    /// What a path in the code leads to: its first part may be a name that was imported.
    fn find_inline(&self, at: usize, named: &Named) -> Option<usize> {
        match self.used_as(at, &named.path[0]) {
            Some(used) => self.find(at, &extended(used, &named.path[1..]), 0),
            None => self.find(at, named, 0),
        }
    }

    /// What a path in a `use` line of a file leads to.
    fn find(&self, at: usize, named: &Named, depth: usize) -> Option<usize> {
        let file = &self.files[at];
        let here = [&file.module[..], &named.inside[..]].concat();
        let path = named.path.as_slice();
        let first = path[0].as_str();
        let supers = path.iter().take_while(|part| *part == "super").count();
        let child = [&here[..], &path[..1]].concat();
        let other = first.replace('_', "-");
        if first == "crate" {
            self.walk(&file.krate, &[], &path[1..], depth)
        } else if first == "self" {
            self.walk(&file.krate, &here, &path[1..], depth)
        } else if supers > 0 {
            let base = &here[..here.len().checked_sub(supers)?];
            self.walk(&file.krate, base, &path[supers..], depth)
        } else if self.modules.contains_key(&(file.krate.as_str(), &child[..])) {
            self.walk(&file.krate, &here, path, depth)
        } else if self.files.iter().any(|file| file.krate == other) {
            self.walk(&other, &[], &path[1..], depth)
        } else {
            None
        }
    }

    /// Goes down the modules of a crate as far as they go, through what they import or export
    /// again. The items of a crate's root itself are no import.
    fn walk(&self, krate: &str, base: &[String], rest: &[String], depth: usize) -> Option<usize> {
        let mut module = base.to_vec();
        for (number, part) in rest.iter().enumerate() {
            let child = [&module[..], std::slice::from_ref(part)].concat();
            if self.modules.contains_key(&(krate, &child[..])) {
                module = child;
                continue;
            }
            if depth < REEXPORTS_MAX
                && let Some(&at) = self.modules.get(&(krate, &module[..]))
                && let Some(used) = self.used_as(at, part)
                && let Some(found) = self.find(at, &extended(used, &rest[number + 1..]), depth + 1)
            {
                return Some(found);
            }
            break;
        }
        // Modules inside a file belong to it.
        let file = (0..=module.len())
            .rev()
            .find_map(|end| self.modules.get(&(krate, &module[..end])).copied())?;
        (!self.files[file].is_crate_root()).then_some(file)
    }

    fn used_as(&self, at: usize, name: &str) -> Option<&Named> {
        let uses = &self.names[at].uses;
        uses.iter().find(|(_, used)| used.as_deref() == Some(name)).map(|(named, _)| named)
    }
}

fn extended(named: &Named, rest: &[String]) -> Named {
    Named { path: [&named.path[..], rest].concat(), inside: named.inside.clone() }
}

/// How often a name may be exported again on its way; a longer way is a circle of names.
const REEXPORTS_MAX: usize = 8;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The graph of a made-up tree: crate, path below `src` and text of each file.
    #[track_caller]
    pub(in super::super) fn graph(tree: &[(&str, &str, &str)]) -> Graph {
        let is_there = |krate: &str, path: &str| tree.iter().any(|x| (x.0, x.1) == (krate, path));
        let mut files = Vec::new();
        let mut modules = BTreeSet::new();
        for (krate, path, text) in tree {
            let inside = |dir: &str| tree.iter().any(|x| x.0 == *krate && x.1.starts_with(dir));
            let is_folder = |stem: &str| inside(&format!("{stem}/"));
            files.push(Source::new(krate, path, (*text).to_owned(), is_folder));
            for (end, _) in path.match_indices('/') {
                let (beside, table) =
                    (format!("{}.rs", &path[..end]), format!("{}/mod.rs", &path[..end]));
                if !is_there(krate, &beside) && !is_there(krate, &table) {
                    modules.insert((*krate, table));
                }
            }
        }
        let table =
            |(krate, path): (&str, String)| Source::new(krate, &path, String::new(), |_| false);
        files.extend(modules.into_iter().map(table));
        Graph::new(files).expect("is Rust")
    }

    #[track_caller]
    fn check(tree: &[(&str, &str, &str)], expected: &[&str]) {
        let graph = graph(tree);
        let shown = |(from, to): &(usize, usize)| {
            format!("{} > {}", graph.files[*from].shown(), graph.files[*to].shown())
        };
        assert_eq!(graph.arrows.iter().map(shown).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn paths_lead_to_the_file_that_they_name() {
        let b = "use crate::x::y::Z; fn f() { super::c::g() }";
        check(
            &[
                ("a", "b.rs", b),
                ("a", "c.rs", ""),
                ("a", "x/y.rs", "use super::w;"),
                ("a", "x/w.rs", ""),
            ],
            &["a/b.rs > a/c.rs", "a/b.rs > a/x/y.rs", "a/x/y.rs > a/x/w.rs"],
        );
    }

    #[test]
    fn names_that_were_imported_lead_on() {
        check(
            &[
                ("a", "b.rs", "use crate::x; fn f() { x::y::g() }"),
                ("a", "x/mod.rs", ""),
                ("a", "x/y.rs", ""),
            ],
            &["a/b.rs > a/x/mod.rs", "a/b.rs > a/x/y.rs"],
        );
    }

    #[test]
    fn what_a_crate_exports_again_is_an_import_of_where_it_is() {
        let lib = "pub use x::y::{Z, W as V}; pub struct Own;";
        check(
            &[
                ("dfs-a", "lib.rs", lib),
                ("dfs-a", "x/y.rs", ""),
                ("dfs-b", "c.rs", "use dfs_a::{V, Own};"),
            ],
            &["dfs-b/c.rs > dfs-a/x/y.rs"],
        );
    }

    #[test]
    fn tables_of_contents_and_tests_import_nothing() {
        let b = "#[cfg(test)] mod tests { use crate::c::D; }";
        check(&[("a", "lib.rs", "use c::D; mod b;"), ("a", "b.rs", b), ("a", "c.rs", "")], &[]);
    }

    #[test]
    fn modules_inside_a_file_belong_to_it() {
        let b = "mod inner { use super::super::c::D; }";
        check(
            &[("a", "b.rs", b), ("a", "c.rs", "use crate::b::inner::E;")],
            &["a/b.rs > a/c.rs", "a/c.rs > a/b.rs"],
        );
    }

    #[test]
    fn the_files_with_methods_of_a_type_are_counted() {
        let graph = graph(&[
            ("a", "b.rs", "impl T { } impl T { }"),
            ("a", "c.rs", "impl crate::b::T { }"),
            ("d", "b.rs", "impl T { }"),
        ]);
        let counts: Vec<_> = graph.owners.values().map(BTreeSet::len).collect();
        assert_eq!(counts, [2, 1]);
    }
}
