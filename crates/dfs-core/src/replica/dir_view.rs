//! What a gateway knows of one directory, and what it must read before it may list it.
//!
//! The view holds what reads by quorum found. Of each replica it knows up to where in its log it
//! has been told everything ([`ChangeMark`]), and which names that replica last told of otherwise
//! than the view says. A listing asks a quorum what is new, reads by quorum the names that one of
//! them told of otherwise ([`DirView::unsettled`]), and shows the view. Every acknowledged write
//! has a replica in that quorum, which told of it now or before; and what it told is either what
//! the view says, or is read again.

use std::collections::{BTreeMap, BTreeSet};

use super::dir_changes::ChangeMark;
use super::listing::{ListedName, Listing};
use super::listing_log::{ListingLog, NameChange};
use crate::id::Tag;
use crate::record::digest::HeadsDigest;

/// What a replica says of a name: which live heads it has; `None` where nothing is listed.
pub type Told = (Tag, Option<HeadsDigest>);

/// A directory, as one gateway knows it from its replicas, of which each is an `N`.
#[derive(Debug, Clone)]
pub struct DirView<N> {
    listing: Listing,
    replicas: BTreeMap<N, Known>,
    /// What has changed, while somebody watches.
    log: Option<ListingLog>,
}

/// What is known of one replica.
#[derive(Debug, Clone)]
struct Known {
    /// Up to where it has told everything.
    mark: ChangeMark,
    /// Where what it told last is not what the view says.
    differs: BTreeMap<Tag, Option<HeadsDigest>>,
}

impl<N: Ord + Copy> Default for DirView<N> {
    fn default() -> Self {
        Self { listing: Listing::default(), replicas: BTreeMap::new(), log: None }
    }
}

impl<N: Ord + Copy> DirView<N> {
    /// The names, as good as the last reads were.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// What has changed since a log was begun, if one was.
    pub fn log(&self) -> Option<&ListingLog> {
        self.log.as_ref()
    }

    /// Begins a log of what changes, or ends it.
    pub fn keep_log(&mut self, log: Option<ListingLog>) {
        self.log = log;
    }

    /// Since when a replica is to say what has changed; `None` when it is to be compared whole.
    pub fn mark(&self, replica: &N) -> Option<ChangeMark> {
        self.replicas.get(replica).map(|known| known.mark)
    }

    /// Takes in what has changed at a replica since its mark, and where its log stands now. Returns
    /// whether that is enough: else it is to be compared whole. One pass over the names when it
    /// tells anything.
    pub fn told(&mut self, replica: N, mark: ChangeMark, changed: Vec<Told>) -> bool {
        let held = match changed.is_empty() {
            true => BTreeMap::new(),
            false => self.listing.digests_of(&changed.iter().map(|(tag, _)| *tag).collect()),
        };
        let Some(known) = self.replicas.get_mut(&replica) else { return false };
        known.mark = mark;
        for (tag, theirs) in changed {
            known.note(tag, theirs, held.get(&tag).copied());
        }
        let is_enough = known.differs.len() <= DIFFERS_MAX;
        if !is_enough {
            self.replicas.remove(&replica);
        }
        is_enough
    }

    /// Takes in everything that a replica lists, in any order, as it was at `mark` or later.
    pub fn compared(&mut self, replica: N, mark: ChangeMark, all: Vec<(Tag, HeadsDigest)>) {
        let mut theirs: BTreeMap<Tag, HeadsDigest> = all.into_iter().collect();
        let mut differs = BTreeMap::new();
        for (tag, ours) in self.listing.digests() {
            let theirs = theirs.remove(&tag);
            if theirs != Some(ours) {
                differs.insert(tag, theirs);
            }
        }
        differs.extend(theirs.into_iter().map(|(tag, digest)| (tag, Some(digest))));
        self.replicas.insert(replica, Known { mark, differs });
    }

    /// The names to read by quorum before the view says everything that these replicas have
    /// acknowledged.
    pub fn unsettled(&self, replicas: &BTreeSet<N>) -> BTreeSet<Tag> {
        let known = replicas.iter().filter_map(|replica| self.replicas.get(replica));
        known.flat_map(|known| known.differs.keys().copied()).collect()
    }

    /// Takes in what a read found of names. A replica that lags far behind is forgotten, and
    /// compared whole when it is asked the next time.
    pub fn read(&mut self, found: Vec<(Tag, Option<ListedName>)>) {
        if !self.replicas.is_empty() {
            let before = self.listing.digests_of(&found.iter().map(|(tag, _)| *tag).collect());
            for (tag, name) in &found {
                let (before, now) = (before.get(tag).copied(), name.as_ref().map(|n| n.digest));
                for known in self.replicas.values_mut() {
                    // What it told last: where it does not differ, what the view said so far.
                    let theirs = known.differs.get(tag).copied().unwrap_or(before);
                    known.note(*tag, theirs, now);
                }
            }
            self.replicas.retain(|_, known| known.differs.len() <= DIFFERS_MAX);
        }
        self.note_changes(&found);
        self.listing.apply(found);
    }

    fn note_changes(&mut self, found: &[(Tag, Option<ListedName>)]) {
        let Some(log) = &mut self.log else { return };
        if found.len() > LOGGED_AT_ONCE {
            return log.skip();
        }
        let mut listed = self.listing.names_of(&found.iter().map(|(tag, _)| *tag).collect());
        for (tag, now) in found {
            let before = listed.remove(tag);
            if before != *now {
                log.note(NameChange { before, now: now.clone() });
            }
        }
    }

    /// Forgets the replicas that `keep` does not pick: they hold the directory no longer.
    pub fn retain(&mut self, keep: impl Fn(&N) -> bool) {
        self.replicas.retain(|replica, _| keep(replica));
    }
}

impl Known {
    fn note(&mut self, tag: Tag, theirs: Option<HeadsDigest>, ours: Option<HeadsDigest>) {
        if theirs == ours {
            self.differs.remove(&tag);
        } else {
            self.differs.insert(tag, theirs);
        }
    }
}

/// Names that may change at once and are told of one by one.
const LOGGED_AT_ONCE: usize = 512;
/// Names of a replica that may differ for long: those of one that lags more are compared anew.
const DIFFERS_MAX: usize = 4_096;

#[cfg(test)]
mod tests;
