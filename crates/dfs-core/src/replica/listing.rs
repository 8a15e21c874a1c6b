//! The names of one directory in order, with what a listing shows of each.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::id::{DirId, Tag, Vid};
use crate::record::attributes::{Mtime, Permissions};
use crate::record::digest::HeadsDigest;

/// A name, and what is shown of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedName {
    /// The name.
    pub name: Box<str>,
    /// The directory it is; `None` for a file.
    pub dir: Option<DirId>,
    /// Bytes of content.
    pub bytes: u64,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// Its permissions, if they are told.
    pub permissions: Option<Permissions>,
    /// When its content was last changed where it came from, if that is told.
    pub mtime: Option<Mtime>,
    /// What a symbolic link says; `None` for anything else.
    pub link: Option<Box<str>>,
    /// The version that is shown.
    pub vid: Vid,
    /// Which heads its record had.
    pub digest: HeadsDigest,
    /// Whether several versions wait for a decision.
    pub in_conflict: bool,
}

impl ListedName {
    /// What it is ordered by: a directory as its name and a slash, so that a walk through trees is
    /// in the order of whole paths.
    pub fn order(&self) -> String {
        format!("{}{}", self.name, self.slash())
    }

    fn slash(&self) -> &'static str {
        if self.dir.is_some() { "/" } else { "" }
    }

    /// Compares with a name and what follows it.
    fn cmp_order(&self, other: &str, slash: &str) -> Ordering {
        let (name, other) = (self.name.as_bytes(), other.as_bytes());
        let common = name.len().min(other.len());
        name[..common].cmp(&other[..common]).then_with(|| {
            let ours = name[common..].iter().chain(self.slash().as_bytes());
            ours.cmp(other[common..].iter().chain(slash.as_bytes()))
        })
    }
}

/// What a directory holds, added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Files, those below its directories not counted.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Names with versions that wait for a decision.
    pub conflicts: u64,
}

/// The names of a directory in byte order.
///
/// Finding a place costs `O(log n)`, a change in place `O(BLOCK)`, finding names by their tags one
/// pass over the tags.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// None is empty.
    blocks: Vec<Block>,
    len: usize,
    totals: Totals,
}

#[derive(Debug, Clone, Default)]
struct Block {
    tags: Vec<Tag>,
    names: Vec<ListedName>,
}

impl Listing {
    /// How many names there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What they add up to.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The directories among them, in order. `O(n)`.
    pub fn dirs(&self) -> impl Iterator<Item = DirId> {
        self.blocks.iter().flat_map(|block| &block.names).filter_map(|name| name.dir)
    }

    /// Which heads each name has. `O(n)`.
    pub fn digests(&self) -> impl Iterator<Item = (Tag, HeadsDigest)> {
        let of = |block: &Block| -> Vec<_> {
            block.tags.iter().copied().zip(block.names.iter().map(|name| name.digest)).collect()
        };
        self.blocks.iter().flat_map(of)
    }

    /// Which heads these names have, those that are there. One pass over the tags.
    pub fn digests_of(&self, tags: &BTreeSet<Tag>) -> BTreeMap<Tag, HeadsDigest> {
        self.found(tags, |name| name.digest)
    }

    /// What is listed under these tags, of those that are there. One pass over the tags.
    pub fn names_of(&self, tags: &BTreeSet<Tag>) -> BTreeMap<Tag, ListedName> {
        self.found(tags, ListedName::clone)
    }

    fn found<T>(&self, tags: &BTreeSet<Tag>, of: impl Fn(&ListedName) -> T) -> BTreeMap<Tag, T> {
        let place = |(block, at): (usize, usize)| {
            let block: &Block = &self.blocks[block];
            (block.tags[at], of(&block.names[at]))
        };
        self.places_of(tags).into_iter().map(place).collect()
    }

    /// At most `limit` names from `from` on that begin with `prefix`, and whether more follow.
    pub fn page(&self, from: Bound<&str>, prefix: &str, limit: usize) -> (Vec<ListedName>, bool) {
        let mut from = from;
        if let Bound::Unbounded = from {
            from = Bound::Included(prefix);
        } else if let Bound::Included(at) | Bound::Excluded(at) = from
            && at < prefix
        {
            from = Bound::Included(prefix);
        }
        let (block, at) = self.lower_bound(from);
        let rest = self.blocks.get(block..).unwrap_or_default();
        let names = rest.iter().flat_map(|block| &block.names).skip(at);
        let mut names = names.take_while(|name| name.name.starts_with(prefix));
        let page: Vec<_> = names.by_ref().take(limit).cloned().collect();
        (page, names.next().is_some())
    }

    /// At most `limit` directories from `from` on, and whether more follow. `O(n)` of the names
    /// that are passed.
    pub fn dirs_page(&self, from: Bound<&str>, limit: usize) -> (Vec<ListedName>, bool) {
        let (block, at) = self.lower_bound(from);
        let rest = self.blocks.get(block..).unwrap_or_default();
        let names = rest.iter().flat_map(|block| &block.names).skip(at);
        let mut dirs = names.filter(|name| name.dir.is_some());
        let page: Vec<_> = dirs.by_ref().take(limit).cloned().collect();
        (page, dirs.next().is_some())
    }

    /// The first place that is not before `from`.
    fn lower_bound(&self, from: Bound<&str>) -> (usize, usize) {
        let is_before = |name: &ListedName| match from {
            Bound::Unbounded => false,
            Bound::Included(order) => name.cmp_order(order, "").is_lt(),
            Bound::Excluded(order) => name.cmp_order(order, "").is_le(),
        };
        let block = self.blocks.partition_point(|block| block.names.last().is_some_and(is_before));
        let at = self.blocks.get(block).map_or(0, |block| block.names.partition_point(is_before));
        (block, at)
    }

    /// Takes in what names are now; `None` takes one out. Many at once are sorted in together.
    pub fn apply(&mut self, changes: Vec<(Tag, Option<ListedName>)>) {
        let tags: BTreeSet<Tag> = changes.iter().map(|(tag, _)| *tag).collect();
        if changes.len() < BLOCK {
            // From the last on, so that the places before stay what they are.
            self.places_of(&tags).into_iter().rev().for_each(|place| self.take_out(place));
            for (tag, name) in changes {
                if let Some(name) = name {
                    self.insert(tag, name);
                }
            }
            return;
        }
        let blocks = std::mem::take(&mut self.blocks);
        let held = blocks.into_iter().flat_map(|block| block.tags.into_iter().zip(block.names));
        let mut all: Vec<_> = held.filter(|(tag, _)| !tags.contains(tag)).collect();
        all.extend(changes.into_iter().filter_map(|(tag, name)| Some((tag, name?))));
        all.sort_by(|(_, a), (_, b)| a.cmp_order(&b.name, b.slash()));
        *self = Self::of_sorted(all);
    }

    fn of_sorted(all: Vec<(Tag, ListedName)>) -> Self {
        let mut listing = Self { len: all.len(), ..Self::default() };
        for (tag, name) in all {
            listing.totals.count_in(&name);
            match listing.blocks.last_mut().filter(|block| block.names.len() < BLOCK) {
                Some(block) => block.push(tag, name),
                None => {
                    let mut block = Block::default();
                    block.push(tag, name);
                    listing.blocks.push(block);
                }
            }
        }
        listing
    }

    /// Where these names stand, in order.
    fn places_of(&self, tags: &BTreeSet<Tag>) -> Vec<(usize, usize)> {
        // Tags are spread evenly: of a few, most can be told from one byte.
        let mut begins = [false; 256];
        tags.iter().for_each(|tag| begins[usize::from(tag.as_bytes()[0])] = true);
        let is_one = |tag: &Tag| begins[usize::from(tag.as_bytes()[0])] && tags.contains(tag);
        let mut places = Vec::new();
        for (block, names) in self.blocks.iter().enumerate() {
            let found = names.tags.iter().enumerate().filter(|(_, tag)| is_one(tag));
            places.extend(found.map(|(at, _)| (block, at)));
        }
        places
    }

    fn take_out(&mut self, (block, at): (usize, usize)) {
        let names = &mut self.blocks[block];
        names.tags.remove(at);
        let gone = names.names.remove(at);
        if names.names.is_empty() {
            self.blocks.remove(block);
        }
        self.len -= 1;
        self.totals.count_out(&gone);
    }

    fn insert(&mut self, tag: Tag, name: ListedName) {
        self.len += 1;
        self.totals.count_in(&name);
        let order = name.order();
        let (mut block, mut at) = self.lower_bound(Bound::Included(&order));
        if block == self.blocks.len() {
            match self.blocks.last() {
                Some(last) => (block, at) = (block - 1, last.names.len()),
                None => self.blocks.push(Block::default()),
            }
        }
        self.blocks[block].tags.insert(at, tag);
        self.blocks[block].names.insert(at, name);
        if self.blocks[block].names.len() > 2 * BLOCK {
            let names = &mut self.blocks[block];
            let (tags, names) = (names.tags.split_off(BLOCK), names.names.split_off(BLOCK));
            self.blocks.insert(block + 1, Block { tags, names });
        }
    }
}

impl Block {
    fn push(&mut self, tag: Tag, name: ListedName) {
        self.tags.push(tag);
        self.names.push(name);
    }
}

impl Totals {
    fn count_in(&mut self, name: &ListedName) {
        self.files += u64::from(name.dir.is_none());
        self.bytes = self.bytes.wrapping_add(name.bytes);
        self.conflicts += u64::from(name.in_conflict);
    }

    fn count_out(&mut self, name: &ListedName) {
        self.files -= u64::from(name.dir.is_none());
        self.bytes = self.bytes.wrapping_sub(name.bytes);
        self.conflicts -= u64::from(name.in_conflict);
    }

    /// Adds what another directory holds.
    pub fn join(&mut self, other: Self) {
        self.files += other.files;
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.conflicts += other.conflicts;
    }
}

/// Names that lie together: what a change moves, and a comparison passes at once.
const BLOCK: usize = 256;

#[cfg(test)]
mod tests;
