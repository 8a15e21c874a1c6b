//! The actors that this process writes under.
//!
//! The stamps of one actor must rise, name by name, and each of its versions must have seen the
//! ones before. Stamps of this process's clock rise by themselves. A stamp that was lifted above
//! another node's need not, so such versions have an actor of their own, with the last stamp of
//! each name; so have conditional writes, which see each other through the register and not the
//! plain ones. An actor for each version would do as well, but a context has room for a few only,
//! and what it lets go of may come back from a replica that was away.

use std::collections::BTreeMap;

use dfs_core::hlc::Hlc;
use dfs_core::id::RecordKey;
use dfs_core::record::version::Actor;

/// The actors of one process.
#[derive(Debug)]
pub(crate) struct Actors {
    own: Actor,
    lifted: Rising,
    conditional: Rising,
}

impl Actors {
    /// Three actors that nobody used.
    pub(crate) fn new(fresh: [Actor; 3]) -> Self {
        let [own, lifted, conditional] = fresh;
        Self { own, lifted: Rising::new(lifted), conditional: Rising::new(conditional) }
    }

    /// The actor for stamps of this process's clock.
    pub(crate) fn own(&self) -> Actor {
        self.own
    }

    /// The actor for a stamp that is not of this process's clock: `fresh`, which nobody used, when
    /// the name had a later one.
    pub(crate) fn lifted(&mut self, key: &RecordKey, stamp: Hlc, fresh: Actor) -> Actor {
        self.lifted.actor_for(key, stamp, fresh)
    }

    /// The actor for a conditional write; `fresh` as above.
    pub(crate) fn conditional(&mut self, key: &RecordKey, stamp: Hlc, fresh: Actor) -> Actor {
        self.conditional.actor_for(key, stamp, fresh)
    }
}

/// An actor, and the last stamp of each name under it.
#[derive(Debug)]
struct Rising {
    actor: Actor,
    stamps: BTreeMap<RecordKey, Hlc>,
}

impl Rising {
    fn new(actor: Actor) -> Self {
        Self { actor, stamps: BTreeMap::new() }
    }

    fn actor_for(&mut self, key: &RecordKey, stamp: Hlc, fresh: Actor) -> Actor {
        match self.stamps.get(key) {
            Some(last) if *last >= stamp => return fresh,
            Some(_) => {}
            // What was forgotten must not count: from here on it is another actor.
            None if self.stamps.len() >= NAMES_MAX => *self = Self::new(fresh),
            None => {}
        }
        self.stamps.insert(*key, stamp);
        self.actor
    }
}

/// Names whose last stamp is remembered.
const NAMES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use dfs_core::id::{DirId, Tag, VaultId};

    use super::*;

    fn key(number: usize) -> RecordKey {
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let (vault, dir) = (VaultId::new([1; 16]), DirId::new([2; 16]));
        RecordKey { vault, dir, tag: Tag::new(tag) }
    }

    #[test]
    fn stamps_share_an_actor_while_those_of_each_name_rise() {
        let mut actors = Actors::new([1, 2, 3]);
        assert_eq!(actors.lifted(&key(0), Hlc(9), 100), 2);
        assert_eq!(actors.lifted(&key(1), Hlc(5), 101), 2, "another name has its own order");
        assert_eq!(actors.lifted(&key(0), Hlc(10), 102), 2);
        assert_eq!(actors.lifted(&key(0), Hlc(10), 103), 103);
        assert_eq!(actors.lifted(&key(0), Hlc(11), 104), 2);
        assert_eq!(actors.conditional(&key(0), Hlc(11), 105), 3);
    }

    #[test]
    fn a_name_that_was_forgotten_has_another_actor() {
        let mut actors = Actors::new([1, 2, 3]);
        (0..NAMES_MAX).for_each(|name| assert_eq!(actors.lifted(&key(name), Hlc(9), 100), 2));
        assert_eq!(actors.lifted(&key(NAMES_MAX), Hlc(9), 101), 101);
        assert_eq!(actors.lifted(&key(0), Hlc(3), 102), 101);
    }
}
