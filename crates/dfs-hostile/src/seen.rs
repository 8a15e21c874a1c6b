//! What the hostile member saw before, to show it again when it is old.

use std::collections::BTreeMap;

use bytes::Bytes;
use dfs_core::id::{BlobId, RecordKey};
use dfs_core::record::ballot::{Candidate, SignedBallot};
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::{Record, Version};
use dfs_p2p::message::{Answer, Call, Request, Response};
use parking_lot::Mutex;

/// What it saw; bounded, the first stays.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    records: BTreeMap<RecordKey, Vec<Record>>,
    /// The first that was put forward for a name, and under which ballot.
    accepted: BTreeMap<RecordKey, (SignedBallot, Candidate)>,
    blobs: BTreeMap<BlobId, Bytes>,
    uses: BTreeMap<BlobId, RefRow>,
}

impl Seen {
    /// Notes what a call brings.
    pub fn note_call(&self, call: &Call) {
        let mut inner = self.0.lock();
        match &call.request {
            Request::RecordPut { records, .. } => inner.note_records(records),
            Request::CasAccept { key, ballot, candidate, .. }
                if inner.accepted.len() < KEYS_MAX =>
            {
                let put_forward = || (*ballot, candidate.as_ref().clone());
                inner.accepted.entry(*key).or_insert_with(put_forward);
            }
            Request::RefAdd(rows) => inner.note_uses(rows),
            Request::ChunkPut(id) => inner.note_blob(*id, &call.body),
            _ => {}
        }
    }

    /// Notes what an honest answer has.
    pub fn note_answer(&self, request: &Request, answer: &Answer) {
        let mut inner = self.0.lock();
        match (request, &answer.result) {
            (_, Ok(Response::Records { records, .. })) => inner.note_records(records),
            (_, Ok(Response::Rows { refs, .. })) => inner.note_uses(refs),
            (Request::ChunkGet(id), Ok(_)) => inner.note_blob(*id, &answer.body),
            _ => {}
        }
    }

    /// A record as it was: the `which`-th of those seen, or none at all after the last.
    pub fn record(&self, key: &RecordKey, which: u64) -> Record {
        let inner = self.0.lock();
        let seen = inner.records.get(key).map_or(&[][..], Vec::as_slice);
        let at = usize::try_from(which % (seen.len() as u64 + 1)).unwrap_or_default();
        seen.get(at).cloned().unwrap_or_default()
    }

    /// What was put forward for this name long ago, as its vault signed it.
    pub fn accepted(&self, key: &RecordKey) -> Option<(SignedBallot, Candidate)> {
        self.0.lock().accepted.get(key).cloned()
    }

    /// A version of another name.
    pub fn version_of_other(&self, key: &RecordKey, which: u64) -> Option<Version> {
        let inner = self.0.lock();
        let others: Vec<_> = inner.records.iter().filter(|(other, _)| *other != key).collect();
        let (_, seen) = others.get(pick(others.len(), which)?)?;
        seen.iter().find_map(|record| record.heads().next().cloned())
    }

    /// Some of the names.
    pub fn keys(&self, from: u64, count: usize) -> Vec<RecordKey> {
        some(&self.0.lock().records, from, count)
    }

    /// Some of the blobs.
    pub fn blobs(&self, from: u64, count: usize) -> Vec<BlobId> {
        some(&self.0.lock().uses, from, count)
    }

    /// A blob that is not `id`.
    pub fn other_blob(&self, id: &BlobId, which: u64) -> Option<Bytes> {
        let inner = self.0.lock();
        let others: Vec<_> = inner.blobs.iter().filter(|(other, _)| *other != id).collect();
        let (_, bytes) = others.get(pick(others.len(), which)?)?;
        Some((*bytes).clone())
    }
}

impl Inner {
    fn note_records(&mut self, records: &[(RecordKey, Record)]) {
        for (key, record) in records.iter().filter(|(_, record)| !record.is_empty()) {
            if self.records.len() >= KEYS_MAX && !self.records.contains_key(key) {
                continue;
            }
            let seen = self.records.entry(*key).or_default();
            if seen.len() < STATES_MAX && seen.last() != Some(record) {
                seen.push(record.clone());
            }
        }
    }

    fn note_uses(&mut self, rows: &[RefRow]) {
        for row in rows {
            if self.uses.len() < KEYS_MAX {
                self.uses.insert(row.blob, *row);
            }
        }
    }

    fn note_blob(&mut self, id: BlobId, bytes: &Bytes) {
        if self.blobs.len() < BLOBS_MAX && !bytes.is_empty() {
            self.blobs.insert(id, bytes.clone());
        }
    }
}

fn pick(len: usize, which: u64) -> Option<usize> {
    usize::try_from(which.checked_rem(len as u64)?).ok()
}

/// As many keys as asked for, from anywhere on, around the end.
fn some<K: Copy, V>(map: &BTreeMap<K, V>, from: u64, count: usize) -> Vec<K> {
    let skip = pick(map.len(), from).unwrap_or_default();
    map.keys().cycle().skip(skip).take(count.min(map.len())).copied().collect()
}

/// Names, and blobs, that are remembered.
const KEYS_MAX: usize = 2000;
/// How a name looked at first: later states are told apart from these.
const STATES_MAX: usize = 4;
/// Blobs whose bytes are kept, of at most 1 MiB and a little each.
const BLOBS_MAX: usize = 16;
