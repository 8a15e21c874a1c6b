//! The newest versions of names that this node has seen, so that nobody shows it older ones.

use dfs_core::id::RecordKey;
use dfs_core::record::ballot::Dot;
use dfs_core::record::version::{Kind, Record};
use dfs_core::replica::purge::AGE_MIN;
use quick_cache::sync::Cache;

use crate::replica::millis;

/// The heads of names as they were last seen, of as many names as fit.
///
/// A quorum with enough gateways in it cannot be shown less than what was acknowledged. One without
/// can, by a replica that lies while another is away; then what this node remembers is held
/// against it. Kept in memory: after a restart it begins anew.
pub(super) struct Seen(Cache<RecordKey, Mark>);

#[derive(Debug, Clone)]
struct Mark {
    heads: Vec<Dot>,
    /// Of a deleted name, the time of its deletion: its tombstone may be forgotten everywhere.
    dead_ms: Option<u64>,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self(Cache::new(NAMES_MAX))
    }

    /// Whether a record is older than what was seen of its name. `O(heads)`.
    pub(super) fn is_older(&self, key: &RecordKey, record: &Record, now_ms: u64) -> bool {
        let Some(mark) = self.0.get(key) else { return false };
        let lapsed = |at_ms: u64| at_ms.saturating_add(millis(AGE_MIN)) <= now_ms;
        !mark.dead_ms.is_some_and(lapsed)
            && !mark.heads.iter().all(|head| record.reflects_dot(*head))
    }

    /// Notes what a name is now, in place of what it was.
    pub(super) fn note(&self, key: &RecordKey, record: &Record) {
        if record.heads().next().is_none() {
            self.0.remove(key);
            return;
        }
        let heads = record.heads().take(HEADS_MAX).map(Dot::of).collect();
        let winner = record.winner().filter(|winner| winner.kind == Kind::Dead);
        let dead_ms = winner.map(|winner| winner.hlc.unix_ms());
        self.0.insert(*key, Mark { heads, dead_ms });
    }
}

/// Names remembered: about 8 MiB.
const NAMES_MAX: usize = 65_536;
/// Heads remembered of one name: more than one only where a conflict waits.
const HEADS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_core::hlc::Hlc;
    use dfs_core::id::{CertId, DirId, Tag, VaultId, Vid};
    use dfs_core::record::version::Version;

    const BEGIN: u64 = 1_800_000_000_000;

    fn key() -> RecordKey {
        RecordKey {
            vault: VaultId::new([1; VaultId::LEN]),
            dir: DirId::new([2; DirId::LEN]),
            tag: Tag::new([3; Tag::LEN]),
        }
    }

    fn record(at_ms: u64, after: &[u64], kind: Kind) -> Record {
        let stamp = |ms: u64| Hlc::from_unix_ms(BEGIN + ms);
        Record::of(Version {
            vid: Vid::new([u8::try_from(at_ms % 251).unwrap(); Vid::LEN]),
            actor: at_ms,
            hlc: stamp(at_ms),
            context: after.iter().map(|ms| (*ms, stamp(*ms))).collect(),
            kind,
            sealed: Default::default(),
            refs_root: None,
            chunks: 0,
            bytes_stored: 0,
            retained: Vec::new(),
            writer: CertId::new([0; CertId::LEN]),
            signature: [0; 64],
        })
    }

    #[test]
    fn what_does_not_reflect_the_newest_seen_is_older() {
        let (seen, live) = (Seen::new(), Kind::Live);
        assert!(!seen.is_older(&key(), &Record::default(), 0), "nothing was seen yet");
        seen.note(&key(), &record(20, &[10], live));
        for (told, is_older) in [
            (Record::default(), true),
            (record(10, &[], live), true),
            (record(20, &[10], live), false),
            (record(30, &[20], live), false),
            (record(30, &[10], live), true),
        ] {
            assert_eq!(seen.is_older(&key(), &told, BEGIN + 50), is_older, "{told:?}");
        }
        // What a guarded quorum says counts, whatever was seen before.
        seen.note(&key(), &Record::default());
        assert!(!seen.is_older(&key(), &record(10, &[], live), BEGIN + 50));
    }

    #[test]
    fn a_deletion_is_remembered_as_long_as_its_tombstone_stays() {
        let seen = Seen::new();
        seen.note(&key(), &record(20, &[10], Kind::Dead));
        let old = record(10, &[], Kind::Live);
        assert!(seen.is_older(&key(), &old, BEGIN + 20 + millis(AGE_MIN) - 1));
        assert!(!seen.is_older(&key(), &old, BEGIN + 20 + millis(AGE_MIN)));
    }
}
