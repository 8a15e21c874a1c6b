//! The names of a round, what was written to them on either side of a cut, and what they may hold
//! after it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::cuts::Cut;
use crate::bed::asking::{Asker, Wrote};
use crate::bed::random::Random;

/// What is done to a name while the network is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Read on every node.
    Kept,
    /// Written on both sides in quorum mode.
    Contested,
    /// Removed on both sides in quorum mode.
    Removed,
    /// Stored with `--if-absent` on every node at once.
    Raced,
    /// Written on both sides in available mode.
    Both,
}

/// One name.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) path: String,
    pub(super) kind: Kind,
    /// Whether it was stored before the cut.
    pub(super) is_old: bool,
    /// Who is to write it.
    pub(super) writers: Vec<usize>,
    pub(super) writes: Vec<(usize, Wrote)>,
}

/// All names of a round.
#[derive(Debug)]
pub(super) struct Names {
    /// Directories that are there before the cut.
    pub(super) dirs: Vec<String>,
    pub(super) all: Vec<Name>,
}

/// What a name holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Nothing,
    /// A content, by its generation.
    Content(u32),
}

/// The generation of what is stored before a cut.
pub(super) const BEFORE: u32 = 0;
/// The generation that settles a conflict.
pub(super) const SETTLING: u32 = 1_000;

/// The generation that a node stores.
pub(super) fn generation(at: usize) -> u32 {
    u32::try_from(at + 1).expect("a few nodes")
}

impl Names {
    /// Names of all kinds in the root and in several directories, each of which has replicas of its
    /// own.
    pub(super) fn draw(number: usize, cut: &Cut, random: &mut Random) -> Self {
        let tag = format!("r{number}-{:04x}", random.below(0x1_0000));
        let mut tops: Vec<String> = (0..DIRS).map(|place| format!("{tag}-d{place}/")).collect();
        // And some in the root itself.
        tops.push(format!("{tag}-"));
        let mut all = Vec::new();
        for top in &tops {
            let mut add = |name: &str, kind: Kind, is_old: bool| {
                let each = |side: &Vec<usize>| side[random.below(side.len())];
                let writers = match kind {
                    Kind::Kept => Vec::new(),
                    Kind::Raced => cut.sides().concat(),
                    Kind::Contested | Kind::Removed | Kind::Both => {
                        cut.sides().iter().map(each).collect()
                    }
                };
                all.push(Name {
                    path: format!("{top}{name}"),
                    kind,
                    is_old,
                    writers,
                    writes: Vec::new(),
                });
            };
            add("kept", Kind::Kept, true);
            add("contested-new", Kind::Contested, false);
            add("contested-old", Kind::Contested, true);
            add("removed", Kind::Removed, true);
            add("raced", Kind::Raced, false);
            add("both-new", Kind::Both, false);
            add("both-old", Kind::Both, true);
            // In directories that both sides make.
            add("new/deep/both", Kind::Both, false);
        }
        tops.pop();
        let dirs = tops.iter().map(|top| top.trim_end_matches('/').to_owned()).collect();
        Self { dirs, all }
    }

    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &Name> {
        self.all.iter().filter(move |name| name.kind == kind)
    }

    /// Removes all there is, so that the next round begins with nothing.
    pub(super) fn remove_all(&self, asker: &Asker<'_>, at: usize) -> Result<()> {
        let listed = asker.list(at)?;
        let tops: BTreeSet<&str> =
            listed.keys().filter_map(|path| path.split('/').next()).collect();
        let tops: Vec<&str> = tops.into_iter().collect();
        asker.must(at, &[&["rm", "-r"], &tops[..]].concat()).map(|_| ())
    }

    /// Stores what is there before the cut.
    pub(super) fn store_before(
        &self,
        asker: &Asker<'_>,
        nodes: usize,
        random: &mut Random,
    ) -> Result<()> {
        for name in self.all.iter().filter(|name| name.is_old) {
            asker.must_put(random.below(nodes), &name.path, BEFORE)?;
        }
        Ok(())
    }
}

impl Name {
    /// Writes that were acknowledged.
    pub(super) fn acknowledged(&self) -> impl Iterator<Item = &(usize, Wrote)> {
        self.writes.iter().filter(|(_, wrote)| wrote.code == 0)
    }

    /// Writes that may have taken effect or not, or may yet.
    fn undecided(&self) -> impl Iterator<Item = &(usize, Wrote)> {
        self.writes.iter().filter(|(_, wrote)| wrote.code == 5)
    }

    /// Whether a name that is written by quorum may still have several versions.
    pub(super) fn may_conflict(&self) -> bool {
        self.undecided().next().is_some()
    }

    /// Checks what all writes of the cut said.
    ///
    /// # Errors
    /// An exit code that may not be, or two sides that both wrote.
    pub(super) fn check_writes(&self, cut: &Cut) -> Result<()> {
        let path = &self.path;
        let allowed: &[i32] = match self.kind {
            Kind::Kept | Kind::Contested => &[0, 5],
            // Whoever comes after the other finds nothing.
            Kind::Removed => &[0, 4, 5],
            Kind::Raced => &[0, 5, 7],
            Kind::Both => &[0],
        };
        for (at, wrote) in &self.writes {
            let (node, code, why) = (at + 1, wrote.code, &wrote.stderr);
            let kind = self.kind;
            ensure!(allowed.contains(&code), "{kind:?}: {path} on node {node}: exit {code}: {why}");
        }
        let mut done: Vec<usize> = self.acknowledged().map(|(at, _)| *at).collect();
        if self.kind == Kind::Raced {
            ensure!(done.len() <= 1, "{path} was stored with --if-absent on nodes {done:?}");
        } else if self.kind != Kind::Both {
            done.dedup_by_key(|at| cut.side_of(*at));
            ensure!(done.len() <= 1, "{path} was written by quorum on both sides, by {done:?}");
        }
        Ok(())
    }

    /// What the name may hold once the sides have met again.
    pub(super) fn allowed(&self) -> Vec<Holds> {
        let written = |at: usize| match self.kind {
            Kind::Removed => Holds::Nothing,
            _ => Holds::Content(generation(at)),
        };
        let before = if self.is_old { Holds::Content(BEFORE) } else { Holds::Nothing };
        let done: Vec<Holds> = self.acknowledged().map(|(at, _)| written(*at)).collect();
        let maybe = self.undecided().map(|(at, _)| written(*at));
        match (done.is_empty(), self.kind) {
            // A condition that was met leaves nothing to the others.
            (false, Kind::Raced) => done,
            (false, _) => done.into_iter().chain(maybe).collect(),
            (true, _) => [before].into_iter().chain(maybe).collect(),
        }
    }
}

/// Directories of a round. Each is on replicas of its own, so that a cut takes a majority of some
/// and leaves others.
const DIRS: usize = 6;
