//! The newest versions of names that this node has seen, so that nobody shows it older ones.

use std::time::Duration;

use bytes::Bytes;
use dfs_core::codec::{Canonical, DecodeError, Reader, Writer};
use dfs_core::hlc::Hlc;
use dfs_core::id::RecordKey;
use dfs_core::record::ballot::Dot;
use dfs_core::record::version::{Kind, Record};
use quick_cache::sync::Cache;

use crate::replica::millis;

/// The heads of names as they were last seen, of as many names as fit.
///
/// A quorum with enough gateways in it cannot be shown less than what was acknowledged. One without
/// can, by a replica that lies while another is away; then what this node remembers is held
/// against it. Kept in memory, and on a gateway over a restart: see [`super::Remembering`].
pub(super) struct Seen(Cache<RecordKey, Mark>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    heads: Vec<Dot>,
    /// Of a deleted name, the time of its deletion: its tombstone may be forgotten everywhere.
    dead_ms: Option<u64>,
}

impl Mark {
    fn is_newer_than(&self, record: &Record) -> bool {
        !self.heads.iter().all(|head| record.reflects_dot(*head))
    }

    /// Whether a record shows less than was seen, and what was seen must still be there: tombstones
    /// are forgotten when they are of this age. `O(heads)`.
    pub(super) fn is_hidden_in(&self, record: &Record, now_ms: u64, purge_age: Duration) -> bool {
        let lapsed = |at_ms: u64| at_ms.saturating_add(millis(purge_age)) <= now_ms;
        !self.dead_ms.is_some_and(lapsed) && self.is_newer_than(record)
    }
}

impl Seen {
    pub(super) fn new() -> Self {
        Self(Cache::new(NAMES_MAX))
    }

    /// What was seen of these names so far.
    pub(super) fn of(&self, keys: &[RecordKey]) -> Vec<Option<Mark>> {
        keys.iter().map(|key| self.0.get(key)).collect()
    }

    /// Notes what a name is now. What was seen stays if this is older, for a read may have begun
    /// before a write; unless enough gateways answered, and nothing else was seen meanwhile.
    pub(super) fn note(&self, key: &RecordKey, record: &Record, before: Option<&Mark>) {
        let known = self.0.get(key);
        if known.as_ref() != before && known.is_some_and(|mark| mark.is_newer_than(record)) {
            return;
        }
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

impl Seen {
    /// All that is remembered, in order, with the hash of it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut marks: Vec<_> = self.0.iter().collect();
        marks.sort_unstable_by_key(|(key, _)| *key);
        marks.truncate(NAMES_MAX);
        let mut out = Writer::default();
        out.fixed(MAGIC);
        out.u8(VERSION);
        out.count(marks.len());
        for (key, mark) in marks {
            key.encode(&mut out);
            mark.encode(&mut out);
        }
        let hash = blake3::hash(out.as_slice());
        out.fixed(hash.as_bytes());
        out.into_vec()
    }

    /// Remembers what an earlier start of this node did. Of what is damaged, or of another version,
    /// nothing: then it begins anew.
    pub(super) fn take_in(&self, bytes: Bytes) -> Option<usize> {
        let body = bytes.slice(..bytes.len().checked_sub(HASH_BYTES)?);
        if blake3::hash(&body).as_bytes()[..] != bytes[body.len()..] {
            return None;
        }
        let mut input = Reader::new(body);
        if input.array().ok()? != *MAGIC || input.u8().ok()? != VERSION {
            return None;
        }
        let count = input.count("names", NAMES_MAX).ok()?;
        let mut marks = Vec::with_capacity(count);
        for _ in 0..count {
            marks.push((RecordKey::decode(&mut input).ok()?, Mark::decode(&mut input).ok()?));
        }
        input.finish().ok()?;
        marks.into_iter().for_each(|(key, mark)| self.0.insert(key, mark));
        Some(count)
    }
}

impl Canonical for Mark {
    fn encode(&self, out: &mut Writer) {
        out.count(self.heads.len());
        for head in &self.heads {
            out.u64(head.actor);
            out.u64(head.hlc.0);
        }
        out.u64(self.dead_ms.unwrap_or_default());
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let mut heads = Vec::new();
        for _ in 0..input.count("heads", HEADS_MAX)? {
            heads.push(Dot { actor: input.u64()?, hlc: Hlc(input.u64()?) });
        }
        let dead_ms = Some(input.u64()?).filter(|ms| *ms > 0);
        Ok(Self { heads, dead_ms })
    }
}

const MAGIC: &[u8; 4] = b"DFSS";
const VERSION: u8 = 1;
const HASH_BYTES: usize = 32;
/// [`NAMES_MAX`] marks of the largest kind, and room.
pub(super) const SEEN_BYTES_MAX: u64 = 16 * 1024 * 1024;
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

    fn is_hidden(seen: &Seen, told: &Record, at_ms: u64) -> bool {
        let mark = seen.of(&[key()]).pop().flatten();
        mark.is_some_and(|mark| mark.is_hidden_in(told, BEGIN + at_ms, AGE))
    }

    fn note(seen: &Seen, record: &Record) {
        let before = seen.of(&[key()]).pop().flatten();
        seen.note(&key(), record, before.as_ref());
    }

    #[test]
    fn what_does_not_reflect_the_newest_seen_is_older() {
        let (seen, live) = (Seen::new(), Kind::Live);
        assert!(!is_hidden(&seen, &Record::default(), 0), "nothing was seen yet");
        note(&seen, &record(20, &[10], live));
        for (told, expected) in [
            (Record::default(), true),
            (record(10, &[], live), true),
            (record(20, &[10], live), false),
            (record(30, &[20], live), false),
            (record(30, &[10], live), true),
        ] {
            assert_eq!(is_hidden(&seen, &told, 50), expected, "{told:?}");
        }
        // What a guarded quorum says counts, whatever was seen before.
        note(&seen, &Record::default());
        assert!(!is_hidden(&seen, &record(10, &[], live), 50));
    }

    #[test]
    fn what_was_seen_is_remembered_over_a_restart_unless_it_is_damaged() {
        let (seen, live) = (Seen::new(), Kind::Live);
        note(&seen, &record(20, &[10], live));
        let bytes = seen.to_bytes();
        let later = Seen::new();
        assert_eq!(later.take_in(bytes.clone().into()), Some(1));
        assert!(is_hidden(&later, &record(10, &[], live), 50));
        assert!(!is_hidden(&later, &record(20, &[10], live), 50));
        assert_eq!(later.to_bytes(), bytes);
        let other = Seen::new();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(other.take_in(damaged.into()), None);
            assert_eq!(other.take_in(bytes[..at].to_vec().into()), None);
        }
        assert!(!is_hidden(&other, &record(10, &[], live), 50));
        // The time of a deletion comes with it.
        note(&seen, &record(30, &[20], Kind::Dead));
        assert_eq!(later.take_in(seen.to_bytes().into()), Some(1));
        assert!(!is_hidden(&later, &record(10, &[], live), 30 + millis(AGE)));
    }

    #[test]
    fn a_read_that_ends_after_a_later_write_takes_nothing_back() {
        let (seen, live) = (Seen::new(), Kind::Live);
        let before = seen.of(&[key()]).pop().flatten();
        note(&seen, &record(20, &[10], live));
        seen.note(&key(), &record(10, &[], live), before.as_ref());
        assert!(is_hidden(&seen, &record(10, &[], live), 50));
    }

    #[test]
    fn a_deletion_is_remembered_as_long_as_its_tombstone_stays() {
        let seen = Seen::new();
        note(&seen, &record(20, &[10], Kind::Dead));
        let old = record(10, &[], Kind::Live);
        assert!(is_hidden(&seen, &old, 19 + millis(AGE)));
        assert!(!is_hidden(&seen, &old, 20 + millis(AGE)));
    }

    const AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
}
