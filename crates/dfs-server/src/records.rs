//! Reading and writing records by quorum, and checking who signed them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dfs_core::codec::Canonical;
use dfs_core::hlc::Hlc;
use dfs_core::id::{CertId, NodeId, Partition, RecordKey, Vid, hex};
use dfs_core::layout::epoch::{EpochState, Stage};
use dfs_core::quorum::Tally;
use dfs_core::record::version::{Kind, Place, Record, Retained, Version, merge, place_after};
use dfs_core::record::writer::WriterCert;
use dfs_env::{Bug, bug};
use dfs_p2p::message::{Origin, Priority, Request, Response};
use ed25519_dalek::Signer;
use tracing::debug;

use crate::config::Mode;
use crate::coordinate::{Ask, Reached, Step, StepError};
use crate::error::Error;
use crate::node::Node;

/// Records as a quorum knows them.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) records: Vec<Record>,
    /// Whether so many answered that every acknowledged write is seen.
    pub(crate) quorum: bool,
}

/// Why a read did not succeed.
enum ReadFailure {
    /// What this replica sent cannot be used.
    Replica(NodeId),
    /// Too few replicas, or an old layout.
    Step(StepError),
}

impl From<StepError> for ReadFailure {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}

/// What a new version says.
pub(crate) struct Draft {
    pub(crate) vid: Vid,
    pub(crate) kind: Kind,
    pub(crate) sealed: bytes::Bytes,
    pub(crate) refs_root: Option<dfs_core::id::BlobId>,
    pub(crate) chunks: u32,
    pub(crate) bytes_stored: u64,
    pub(crate) retained: Vec<Retained>,
}

/// A written version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// Durable copies when it was acknowledged.
    pub(crate) copies: usize,
    /// Copies there should be.
    pub(crate) wanted: usize,
}

impl Node {
    /// Reads records, in the order of the keys. Replicas that differ are brought together first,
    /// so that no later read sees less.
    pub(crate) async fn read_records(
        self: &Arc<Self>,
        keys: &[RecordKey],
        mode: Mode,
    ) -> Result<Read, Error> {
        self.with_layout(|state| self.read_attempt(keys, mode, state)).await
    }

    /// Reads one record.
    pub(crate) async fn read_record(
        self: &Arc<Self>,
        key: RecordKey,
        mode: Mode,
    ) -> Result<(Record, bool), Error> {
        let mut read = self.read_records(&[key], mode).await?;
        Ok((read.records.pop().unwrap_or_default(), read.quorum))
    }

    async fn read_attempt(
        self: &Arc<Self>,
        keys: &[RecordKey],
        mode: Mode,
        state: Arc<EpochState>,
    ) -> Result<Read, StepError> {
        // Keys on the same replicas travel together.
        let mut groups: BTreeMap<Vec<NodeId>, Vec<usize>> = BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            groups.entry(state.read_set(key.partition(state.bits))).or_default().push(at);
        }
        let mut records = vec![Record::default(); keys.len()];
        let mut quorum = true;
        let reads = groups.into_iter().map(|(set, places)| {
            let state = &state;
            async move {
                let wanted = places.iter().map(|at| keys[*at]).collect::<Vec<_>>();
                let read = self.read_group(&wanted, set, mode, state).await?;
                Ok::<_, StepError>((places, read))
            }
        });
        for done in futures_util::future::join_all(reads).await {
            let (places, read) = done?;
            quorum &= read.quorum;
            for (at, record) in places.into_iter().zip(read.records) {
                records[at] = record;
            }
        }
        Ok(Read { records, quorum })
    }

    async fn read_group(
        self: &Arc<Self>,
        keys: &[RecordKey],
        set: Vec<NodeId>,
        mode: Mode,
        state: &Arc<EpochState>,
    ) -> Result<Read, StepError> {
        let mut without = BTreeSet::new();
        loop {
            let read = self.read_without(keys, set.clone(), mode, state, &without).await;
            match read {
                // A replica that answers and then lies or goes away is one replica less.
                Err(ReadFailure::Replica(node)) if without.insert(node) => {}
                Err(ReadFailure::Replica(node)) => {
                    let why = "its records cannot be used".to_owned();
                    return Err(Error::Unavailable(vec![(node, why)]).into());
                }
                Err(ReadFailure::Step(error)) => return Err(error),
                Ok(read) => return Ok(read),
            }
        }
    }

    async fn read_without(
        self: &Arc<Self>,
        keys: &[RecordKey],
        set: Vec<NodeId>,
        mode: Mode,
        state: &Arc<EpochState>,
        without: &BTreeSet<NodeId>,
    ) -> Result<Read, ReadFailure> {
        let needs_quorum = self.is_quorum(mode, state);
        let enough = Tally::<NodeId>::read_majority(set.len());
        let kept_by = Tally::<NodeId>::write_majority(set.len());
        // A replica compares hashes with the others; who holds nothing must see the records.
        let is_replica = set.contains(&self.id);
        // One of two suffices to see every acknowledged write; both, so that no later read at the
        // other one sees less than this.
        let both = set.len() == 2 && set.iter().all(|node| self.is_reachable(node));
        let step = Step {
            sets: vec![set],
            needed: if needs_quorum && !bug(Bug::ReadAsksOne) {
                Tally::<NodeId>::read_majority
            } else {
                Tally::<NodeId>::any
            },
            epoch: state.epoch,
            patient: !needs_quorum || both,
            without: without.clone(),
        };
        let moving =
            keys.iter().any(|key| state.row(key.partition(state.bits)).stage != Stage::Stable);
        let reached = self
            .step(step, |node| {
                let digest_only = is_replica && *node != self.id;
                let request = Request::RecordGet { keys: keys.to_vec(), digest_only };
                Ok(Ask::new(Priority::Records, request))
            })
            .await;
        let reached = match reached {
            // Nobody is in reach: what is kept here for them is all there is to see.
            Err(StepError::Failed(Error::Unavailable(_))) if !needs_quorum => Reached::default(),
            other => other?,
        };
        let quorum = reached.answers.len() >= enough;
        // One of two may hold what was never acknowledged: whoever asks the other would not see it.
        let few = reached.answers.len() < kept_by;
        let (mut records, mut differ) = self.bring_together(keys, reached, state.epoch).await?;
        if !needs_quorum && !is_replica {
            let kept = self.store.records(keys.to_vec()).await.map_err(Error::from);
            for (record, kept) in records.iter_mut().zip(kept.map_err(StepError::from)?) {
                *record = merge(record, &kept);
            }
        }
        if (moving || few) && needs_quorum {
            // That these replicas agree says nothing of the others, or of the set that is read
            // after the switch.
            differ = records.iter().map(|record| !record.is_empty()).collect();
        }
        let apart = keys.iter().zip(&records).zip(&differ).filter(|(_, differs)| **differs);
        let apart = apart.map(|((key, record), _)| (*key, record.clone())).collect();
        self.write_back(apart, needs_quorum, state).await?;
        Ok(Read { records, quorum })
    }

    /// Merges what replicas answered; says for each key whether they differed.
    async fn bring_together(
        self: &Arc<Self>,
        keys: &[RecordKey],
        reached: Reached,
        epoch: u64,
    ) -> Result<(Vec<Record>, Vec<bool>), ReadFailure> {
        let mut merged = vec![Record::default(); keys.len()];
        let mut differ = vec![false; keys.len()];
        let mut is_first = true;
        let mut is_own = false;
        let mut digests = Vec::new();
        for (node, response, _) in reached.answers {
            match response {
                Response::StateHashes(hashes) => digests.push((node, hashes)),
                Response::Records { records, .. } => {
                    let records = self.complete(&node, keys, records, epoch).await;
                    let records = records.map_err(|_| ReadFailure::Replica(node))?;
                    take_in(&mut merged, &mut differ, records, is_first);
                    is_own = is_first && node == self.id;
                    is_first = false;
                }
                _ => return Err(ReadFailure::Replica(node)),
            }
        }
        for (node, hashes) in digests {
            let apart = |(at, record): (usize, &Record)| {
                let empty = Record::default();
                let record = if is_first { &empty } else { record };
                hashes.get(at).is_none_or(|hash| *hash != record.state_hash())
            };
            let places: Vec<_> =
                merged.iter().enumerate().filter(|pair| apart(*pair)).map(|(at, _)| at).collect();
            if places.is_empty() {
                continue;
            }
            if is_own {
                // Where others say something else, rot on this disk may be why.
                for at in &places {
                    let verified = self.verify_record(&self.id, &keys[*at], &merged[*at]).await;
                    verified.map_err(|_| ReadFailure::Replica(self.id))?;
                }
                is_own = false;
            }
            let asked: Vec<_> = places.iter().map(|at| keys[*at]).collect();
            let theirs = self.fetch_records(&node, &asked, epoch).await;
            let theirs = theirs.map_err(|_| ReadFailure::Replica(node))?;
            for (at, record) in places.into_iter().zip(theirs) {
                let both = merge(&merged[at], &record);
                differ[at] |= both != merged[at] || both != record;
                merged[at] = both;
            }
        }
        Ok((merged, differ))
    }

    /// Records of one node, verified, in the order of the keys.
    pub(crate) async fn fetch_records(
        self: &Arc<Self>,
        node: &NodeId,
        keys: &[RecordKey],
        epoch: u64,
    ) -> Result<Vec<Record>, Error> {
        let request = Request::RecordGet { keys: keys.to_vec(), digest_only: false };
        let told = self.ask(node, epoch, Ask::new(Priority::Records, request)).await;
        match told {
            Ok((Response::Records { records, .. }, _)) => {
                self.complete(node, keys, records, epoch).await
            }
            Ok(_) => Err(Error::Unavailable(vec![(*node, "an unexpected answer".to_owned())])),
            Err(error) => Err(Error::Unavailable(vec![(*node, error.to_string())])),
        }
    }

    /// Checks what one node sent, and asks again for what did not fit its answer.
    async fn complete(
        self: &Arc<Self>,
        node: &NodeId,
        keys: &[RecordKey],
        mut sent: Vec<(RecordKey, Record)>,
        epoch: u64,
    ) -> Result<Vec<Record>, Error> {
        while sent.len() < keys.len() {
            let rest = keys[sent.len()..].to_vec();
            let request = Request::RecordGet { keys: rest, digest_only: false };
            let more = self.ask(node, epoch, Ask::new(Priority::Records, request)).await;
            match more {
                Ok((Response::Records { records, .. }, _)) if !records.is_empty() => {
                    sent.extend(records);
                }
                _ => {
                    let why = "it did not send all records".to_owned();
                    return Err(Error::Unavailable(vec![(*node, why)]));
                }
            }
        }
        let mut records = Vec::with_capacity(keys.len());
        for (key, (sent_key, record)) in keys.iter().zip(sent) {
            if *key != sent_key {
                let why = "it sent other records than asked for".to_owned();
                return Err(Error::Unavailable(vec![(*node, why)]));
            }
            // Our own disk holds what was verified before it was stored.
            if *node != self.id {
                self.verify_record(node, key, &record).await?;
            }
            records.push(record);
        }
        Ok(records)
    }

    /// Gives merged records back to their replicas, as many in a call as fit.
    pub(crate) async fn write_back(
        self: &Arc<Self>,
        records: Vec<(RecordKey, Record)>,
        needs_quorum: bool,
        state: &Arc<EpochState>,
    ) -> Result<(), StepError> {
        if bug(Bug::NoWriteBack) {
            return Ok(());
        }
        let mut calls: BTreeMap<Partition, Vec<Vec<(RecordKey, Record)>>> = BTreeMap::new();
        let mut bytes = 0;
        for (key, record) in records {
            let of_partition = calls.entry(key.partition(state.bits)).or_default();
            let len = RecordKey::LEN + record.to_canonical().len();
            bytes += len;
            match of_partition.last_mut() {
                Some(call) if bytes <= WRITE_BACK_BYTES && call.len() < dfs_p2p::KEYS_MAX => {
                    call.push((key, record));
                }
                _ => {
                    bytes = len;
                    of_partition.push(vec![(key, record)]);
                }
            }
        }
        for call in calls.into_values().flatten() {
            let key = call[0].0;
            self.put_records(&key, call, Origin::Repair, needs_quorum, state).await?;
        }
        Ok(())
    }

    async fn put_records(
        self: &Arc<Self>,
        key: &RecordKey,
        records: Vec<(RecordKey, Record)>,
        origin: Origin,
        needs_quorum: bool,
        state: &Arc<EpochState>,
    ) -> Result<Reached, StepError> {
        let sets = state.write_sets(key.partition(state.bits));
        let mut step = Step::write(sets, state.epoch, needs_quorum);
        if bug(Bug::WriteNeedsOne) {
            step.needed = Tally::<NodeId>::any;
        }
        let request = Request::RecordPut { records: records.clone(), origin };
        let done = self.step(step, |_| Ok(Ask::new(Priority::Records, request.clone()))).await;
        match done {
            // No replica of some set is in reach. One copy here is better than none; they get it
            // once they are back.
            Err(StepError::Failed(Error::Unavailable(_))) if !needs_quorum => {
                self.store.merge_records(records).await.map_err(Error::from)?;
                self.handoff.notify_one();
                let answers = vec![(self.id, Response::Done, bytes::Bytes::new())];
                Ok(Reached { answers })
            }
            done => done,
        }
    }

    /// Writes a version that supersedes what was read.
    pub(crate) async fn write_version(
        self: &Arc<Self>,
        key: RecordKey,
        read: &Record,
        quorum_read: bool,
        draft: Draft,
        mode: Mode,
    ) -> Result<Written, Error> {
        let fresh = self.env.random_u64();
        let (now, mut tick, mut own) = (self.env.wall_ms(), self.tick(), self.actors().own());
        if !tick.is_plausible(now) {
            // The clock was set back by more than peers accept: until it has caught up, its stamps
            // do not rise by themselves.
            (tick, own) = (Hlc::from_unix_ms(now), fresh);
        }
        let mut place = place_after(read, tick, own, fresh, quorum_read);
        if quorum_read && place.actor == fresh {
            place.actor = self.actors().lifted(&key, place.hlc, fresh);
        }
        if bug(Bug::StampsGoBack) {
            place.hlc = Hlc::from_unix_ms(now);
        }
        let cert = self.own_cert().await?;
        let version = self.sign(&key, place, draft, cert.id())?;
        let vid = version.vid;
        let name = || hex(&key.to_canonical());
        let (actor, hlc, context) = (version.actor, version.hlc.0, &version.context);
        let dead = version.kind == Kind::Dead;
        debug!(key = %name(), %vid, actor, hlc, dead, ?context, "a version is made");
        let record = Record::of(version);
        let written = self.with_layout(|state| {
            let record = record.clone();
            async move {
                let needs_quorum = self.is_quorum(mode, &state);
                let put = vec![(key, record)];
                let reached =
                    self.put_records(&key, put, Origin::Client, needs_quorum, &state).await?;
                let sets = state.write_sets(key.partition(state.bits));
                let nodes = reached.nodes();
                let by_majority = |set: &Vec<NodeId>| {
                    let have = set.iter().filter(|node| nodes.contains(node)).count();
                    have >= Tally::<NodeId>::write_majority(set.len())
                };
                if !sets.iter().all(by_majority) && !bug(Bug::ActorNeverRenewed) {
                    self.renew_actors();
                }
                Ok(Written {
                    copies: nodes.len(),
                    wanted: sets.iter().map(Vec::len).max().unwrap_or(0),
                })
            }
        });
        let written = written.await?;
        debug!(key = %name(), %vid, "a version is acknowledged");
        Ok(written)
    }

    /// A version that supersedes what was read, for a conditional write. The name's write lock is
    /// held, and whoever accepted an earlier one tells of it before this is made.
    pub(crate) async fn sign_after(
        &self,
        key: &RecordKey,
        read: &Record,
        draft: Draft,
    ) -> Result<Version, Error> {
        let (now, mut tick, fresh) = (self.env.wall_ms(), self.tick(), self.env.random_u64());
        if !tick.is_plausible(now) {
            tick = Hlc::from_unix_ms(now);
        }
        let mut place = place_after(read, tick, fresh, fresh, true);
        place.actor = self.actors().conditional(key, place.hlc, fresh);
        let cert = self.own_cert().await?;
        self.sign(key, place, draft, cert.id())
    }

    /// Makes a chosen version a head on a majority of every write set.
    pub(crate) async fn write_chosen(
        self: &Arc<Self>,
        key: &RecordKey,
        record: Record,
        state: &Arc<EpochState>,
    ) -> Result<Written, StepError> {
        let put = vec![(*key, record)];
        let reached = self.put_records(key, put, Origin::Repair, true, state).await?;
        let sets = state.write_sets(key.partition(state.bits));
        Ok(Written {
            copies: reached.nodes().len(),
            wanted: sets.iter().map(Vec::len).max().unwrap_or(0),
        })
    }

    fn sign(
        &self,
        key: &RecordKey,
        place: Place,
        draft: Draft,
        cert: CertId,
    ) -> Result<Version, Error> {
        let vault = self.vault()?;
        let mut version = Version {
            vid: draft.vid,
            actor: place.actor,
            hlc: place.hlc,
            context: place.context,
            kind: draft.kind,
            sealed: draft.sealed,
            refs_root: draft.refs_root,
            chunks: draft.chunks,
            bytes_stored: draft.bytes_stored,
            retained: draft.retained,
            writer: cert,
            signature: [0; 64],
        };
        version.signature = vault.writer.sign(&version.signed_bytes(key)).to_bytes();
        Ok(version)
    }

    /// Checks every version of a record that came from `node`.
    pub(crate) async fn verify_record(
        self: &Arc<Self>,
        node: &NodeId,
        key: &RecordKey,
        record: &Record,
    ) -> Result<(), Error> {
        for head in record.heads().chain(record.candidate()) {
            let cert = self.cert(node, head.writer).await?;
            cert.verify_version(key, head).map_err(|error| {
                debug!(peer = ?node, %error, "a forged version is refused");
                Error::Unavailable(vec![(*node, error.to_string())])
            })?;
        }
        Ok(())
    }

    /// A certificate: from memory, the disk, or the node that named it.
    pub(crate) async fn cert(
        self: &Arc<Self>,
        node: &NodeId,
        id: CertId,
    ) -> Result<Arc<WriterCert>, Error> {
        if let Some(cert) = self.known_cert(&id) {
            return Ok(cert);
        }
        if let Some(cert) = self.store.cert(id).await?.filter(|cert| cert.id() == id) {
            return Ok(self.remember_cert(cert));
        }
        let unknown = |why: String| Error::Unavailable(vec![(*node, why)]);
        if *node == self.id {
            return Err(unknown("a certificate is missing".to_owned()));
        }
        let ask = Ask::new(Priority::Records, Request::CertGet(id));
        let told = self.ask(node, 0, ask).await.map_err(|error| unknown(error.to_string()))?;
        let (Response::Cert(cert), _) = told else {
            return Err(unknown("an unexpected answer".to_owned()));
        };
        if cert.id() != id || cert.verify().is_err() {
            return Err(unknown("it sent a forged certificate".to_owned()));
        }
        self.store.put_cert(&cert).await?;
        Ok(self.remember_cert(*cert))
    }
}

fn take_in(merged: &mut [Record], differ: &mut [bool], records: Vec<Record>, is_first: bool) {
    for (at, record) in records.into_iter().enumerate() {
        if is_first {
            merged[at] = record;
        } else if merged[at] != record {
            merged[at] = merge(&merged[at], &record);
            differ[at] = true;
        }
    }
}

/// Records given back in one call: half a frame.
const WRITE_BACK_BYTES: usize = 128 * 1024;
