//! False answers, made of honest ones and of what was seen before. `luck` says which of several.

use bytes::Bytes;
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, DirId, NodeId, RecordKey, Tag, VaultId, Vid};
use dfs_core::paxos::Ballot;
use dfs_core::record::ballot::SignedBallot;
use dfs_core::record::digest::HeadsDigest;
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::{Record, Version};
use dfs_p2p::message::{Answer, Call, Code, Refusal, Request, Response};
use ed25519_dalek::SigningKey;

use crate::seen::Seen;

/// A refusal for some reason.
pub fn refusal(luck: u64) -> Refusal {
    let codes = [
        Code::NotFound,
        Code::NotReplica,
        Code::NotMember,
        Code::Retired,
        Code::PreconditionFailed,
        Code::ClockSkew,
        Code::NoSpace,
        Code::Overloaded,
        Code::Corrupt,
        Code::BadSignature,
        Code::QuorumUnavailable,
        Code::Internal,
        Code::Malformed,
    ];
    let at = usize::try_from(luck % codes.len() as u64).unwrap_or_default();
    Refusal::new(codes[at], "for no reason")
}

/// That everything was done; nothing was.
pub fn false_ack(call: &Call) -> Answer {
    let response = match &call.request {
        Request::RefAdd(rows) => Response::Held(vec![true; rows.len()]),
        _ => Response::Done,
    };
    Answer::new(Ok(response), call.epoch)
}

/// That nothing is needed any more, and that everything is there.
pub fn false_evidence(call: &Call) -> Answer {
    let held = match &call.request {
        Request::RefsEnded(uses) | Request::RefsForget(uses) => vec![true; uses.len()],
        Request::RecordsForget(rows) => vec![true; rows.len()],
        Request::ChunkHas(ids) => vec![true; ids.len()],
        Request::ChunksNeeded(ids) => vec![false; ids.len()],
        _ => Vec::new(),
    };
    Answer::new(Ok(Response::Held(held)), call.epoch)
}

/// A blob that has its length and not its bytes.
pub fn wrong_bytes(answer: &mut Answer, luck: u64) {
    let mut bytes = answer.body.to_vec();
    if let Ok(len @ 1..) = u64::try_from(bytes.len()) {
        let at = usize::try_from(luck % len).unwrap_or_default();
        bytes[at] ^= 1;
    }
    answer.body = Bytes::from(bytes);
}

/// Another blob than the one that was asked for.
pub fn other_blob(answer: &mut Answer, id: &BlobId, seen: &Seen, luck: u64) {
    if let Some(other) = seen.other_blob(id, luck) {
        answer.body = other;
    }
}

/// Records as they were once, or hidden.
pub fn old_records(answer: &mut Answer, request: &Request, seen: &Seen, luck: u64) {
    match (&mut answer.result, request) {
        (Ok(Response::Records { records, .. }), Request::DirScan { .. })
            if luck.is_multiple_of(2) =>
        {
            records.clear();
        }
        (Ok(Response::Records { records, .. }), _) => {
            records.iter_mut().for_each(|(key, record)| *record = seen.record(key, luck));
        }
        (Ok(Response::Listed { digests, next }), _) => {
            digests.clear();
            *next = None;
        }
        (Ok(Response::Changed { changed, .. }), _) => *changed = Some(Vec::new()),
        (Ok(Response::StateHashes(hashes)), Request::RecordGet { keys, .. }) => {
            let old = |key: &RecordKey| seen.record(key, luck).state_hash();
            hashes.iter_mut().zip(keys).for_each(|(hash, key)| *hash = old(key));
        }
        _ => {}
    }
}

/// Records whose signatures are broken or are those of another name, hashes of nothing, and names
/// that there are not.
pub fn forged_records(answer: &mut Answer, seen: &Seen, luck: u64) {
    match &mut answer.result {
        Ok(Response::Records { records, .. }) => {
            for (key, record) in records {
                *record = forged(key, record, seen, luck);
            }
        }
        Ok(Response::StateHashes(hashes)) => hashes.iter_mut().for_each(|hash| hash[0] ^= 1),
        Ok(Response::Listed { digests, .. }) => digests.extend(made_up_names(luck)),
        Ok(Response::Changed { changed, .. }) => {
            let made_up = made_up_names(luck).map(|(tag, digest)| (tag, Some(digest)));
            *changed = Some(made_up.collect());
        }
        _ => {}
    }
}

/// Names that nobody wrote, more than are believed without a question.
fn made_up_names(luck: u64) -> impl Iterator<Item = (Tag, HeadsDigest)> {
    (0..1_000u64).map(move |at| {
        let spread = u128::from(luck.rotate_left(7) ^ at).wrapping_mul(u128::MAX / 5);
        (Tag::new(spread.to_be_bytes()), HeadsDigest::new(luck.to_be_bytes()))
    })
}

/// A record as nobody wrote it.
pub fn forged(key: &RecordKey, record: &Record, seen: &Seen, luck: u64) -> Record {
    if let Some(version) = seen.version_of_other(key, luck).filter(|_| luck.is_multiple_of(3)) {
        return Record::of(version);
    }
    let changed = |version: &Version| {
        let mut version = version.clone();
        match luck % 2 {
            0 => version.signature[7] ^= 1,
            // Its own, under an id of its own, newer than any.
            _ => {
                version.vid = Vid::new([luck.to_be_bytes()[7]; 16]);
                version.hlc = Hlc::from_unix_ms(u64::MAX >> 20);
            }
        }
        version
    };
    Record::of_all(record.heads().map(changed))
}

/// A promise of the highest ballot there can be, signed by nobody or by the vault `made_up`.
pub fn high_ballot(answer: &mut Answer, made_up: &SigningKey) {
    let Ok(Response::Records { records, .. }) = &mut answer.result else { return };
    for (key, record) in records {
        record.prepare(SignedBallot::sign(made_up, key, last_ballot_of_record()));
    }
}

/// The ballot of a layout above which there is none.
pub fn last_ballot() -> Ballot {
    Ballot { round: u32::MAX, node: NodeId::new([0xff; 32]) }
}

/// The same of a record, which has one round less.
pub fn last_ballot_of_record() -> Ballot {
    Ballot { round: u32::MAX - 1, ..last_ballot() }
}

/// A promise or an acceptance that binds nobody, for nothing is kept of it.
pub fn false_ballot(call: &Call, seen: &Seen, luck: u64) -> Answer {
    let (key, record) = match &call.request {
        Request::CasPrepare { key, ballot } => {
            let mut record = Record::of_all(seen.record(key, luck >> 8).heads().cloned());
            // What was open long ago and may seem to have been chosen, or not to be open any more.
            match seen.accepted(key).filter(|_| !luck.is_multiple_of(3)) {
                Some((below, open)) if luck % 3 == 1 => record.accept(below, open),
                Some((below, open)) => record.accept(below, open.settled()),
                None => {}
            }
            record.prepare(*ballot);
            (*key, record)
        }
        Request::CasAccept { key, ballot, candidate, .. } => {
            let mut record = Record::default();
            record.accept(*ballot, candidate.as_ref().clone());
            (*key, record)
        }
        _ => return Answer::new(Err(refusal(luck)), call.epoch),
    };
    Answer::new(Ok(Response::Records { records: vec![(key, record)], more: false }), call.epoch)
}

/// A comparison that says what it likes.
pub fn false_rows(answer: &mut Answer, request: &Request, luck: u64) {
    let Ok(response) = &mut answer.result else { return };
    match (response, request) {
        (Response::Differing { partitions, floors }, Request::SyncRoots { roots, .. }) => {
            let asked = || roots.iter().map(|(partition, _)| *partition);
            match luck % 2 {
                0 => partitions.clear(),
                _ => *partitions = asked().collect(),
            }
            // As if everything that others lack had been deleted long ago.
            *floors = asked().map(|partition| (partition, Hlc(u64::MAX))).collect();
        }
        (Response::Rows { hashes, refs, last, more }, _) => match luck % 4 {
            0 => {
                hashes.clear();
                refs.clear();
            }
            1 => {
                hashes.iter_mut().for_each(|(_, hash)| hash[0] ^= 1);
                refs.iter_mut().for_each(|row| *row = made_up_use(row));
            }
            2 => {
                *more = true;
                *last = Bytes::new();
            }
            _ => {
                *more = true;
                *last = Bytes::from(vec![0xff; 64]);
            }
        },
        _ => {}
    }
}

/// The same use by a record that does not exist, which is said to have ended.
pub fn made_up_use(row: &RefRow) -> RefRow {
    let key = RecordKey {
        vault: VaultId::new([0; 16]),
        dir: DirId::new([0; 16]),
        tag: Tag::new([0; 16]),
    };
    RefRow { key, hold_until: Hlc::default(), dropped: true, ..*row }
}
