//! Answering peers: every request is checked against membership and layout, then carried out.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use dfs_core::codec::Canonical;
use dfs_core::id::{BlobId, ClusterId, NodeId, Partition, RecordKey};
use dfs_core::layout::epoch::EpochState;
use dfs_core::layout::steward::Joiner;
use dfs_core::node::member::NodeInfo;
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::Record;
use dfs_core::replica::sync::{Table, differing};
use dfs_env::{BoxFuture, Bug, bug};
use dfs_p2p::message::{Answer, Call, Code, Origin, Priority, Refusal, Request, Response};
use dfs_p2p::{Caller, Handler};
use dfs_store::{ReadError, WriteError};
use tracing::{error, warn};

use crate::node::Node;

/// A node, as its peers see it. The network does not keep the node alive.
pub(crate) struct Answering(pub(crate) Weak<Node>);

pub(crate) type Told = Result<(Response, Bytes), Refusal>;

impl Handler for Answering {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            match self.0.upgrade() {
                Some(node) => node.respond(from, call).await,
                None => Answer::new(Err(refusal(Code::Internal, "shutting down")), 0),
            }
        })
    }

    fn is_member(&self, node: &NodeId) -> bool {
        let state = self.0.upgrade().and_then(|this| this.layout.current());
        state.is_some_and(|state| state.is_member(node))
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        let state = self.0.upgrade().and_then(|this| this.layout.current());
        state.map(|state| state.cluster_id)
    }

    fn peer_changed(&self, node: NodeId, connected: bool) {
        let Some(this) = self.0.upgrade() else { return };
        this.repair.count_again();
        if connected {
            this.sync.owe(node);
            this.handoff.notify_one();
            this.repair.retry_all();
        }
        this.joining.wake.notify_one();
        this.liveness.wake.notify_one();
        this.facts_changed.notify_one();
    }

    fn retired(&self, why: &str) {
        if let Some(this) = self.0.upgrade() {
            this.retire(why);
        }
    }

    fn info_changed(&self, info: &NodeInfo) {
        let Some(this) = self.0.upgrade() else { return };
        if info.durable_epoch > this.layout.epoch() {
            this.sync.catch_up_from(info.node_id);
            this.joining.wake.notify_one();
        }
        this.liveness.wake.notify_one();
        this.facts_changed.notify_one();
    }
}

pub(crate) fn refusal(code: Code, message: impl Into<String>) -> Refusal {
    Refusal::new(code, message)
}

pub(crate) fn read_refused(error: ReadError) -> Refusal {
    match error {
        ReadError::NotHeld(_) => refusal(Code::NotFound, "not held here"),
        ReadError::Corrupt(_) => refusal(Code::Corrupt, "the copy here is corrupt"),
        ReadError::Io(..) | ReadError::Index(_) => {
            error!(%error, "the store could not be read");
            refusal(Code::Internal, "the store could not be read")
        }
    }
}

pub(crate) fn write_refused(error: WriteError) -> Refusal {
    match error {
        WriteError::NoSpace => refusal(Code::NoSpace, "no space left"),
        WriteError::TooManyVersions => {
            refusal(Code::Overloaded, "the name has too many concurrent versions")
        }
        WriteError::WrongId(_) => refusal(Code::Corrupt, "the bytes do not match their id"),
        WriteError::Io(_) | WriteError::Failed(_) | WriteError::Damaged | WriteError::Closed => {
            error!(%error, "the store could not be written");
            refusal(Code::Internal, "the store could not be written")
        }
    }
}

pub(crate) fn done(response: Response) -> Told {
    Ok((response, Bytes::new()))
}

impl Node {
    /// Carries out one call, of a peer or of this node itself.
    pub(crate) fn respond(self: &Arc<Self>, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        // In a box, because answering may ask in turn: a certificate, or the layout.
        Box::pin(async move {
            let is_waited_for = call.priority == Priority::Chunks;
            let _waited = is_waited_for.then(|| self.foreground.begin());
            let result = self.answer(from, call).await;
            let epoch = self.layout.epoch();
            match result {
                Ok((response, body)) => Answer { result: Ok(response), epoch, body },
                Err(refusal) => Answer::new(Err(refusal), epoch),
            }
        })
    }

    async fn answer(self: &Arc<Self>, from: Caller, call: Call) -> Told {
        if let Some(why) = self.retired.get() {
            return Err(refusal(Code::Retired, why));
        }
        match &call.request {
            // What a node that is not yet a member may ask.
            Request::Gossip(gossip) => return done(self.network().on_gossip(gossip.clone())),
            Request::Join(info) => return self.on_join(from, info),
            Request::ChainGet { from } => {
                let chain = self.chain_after(*from).await;
                return done(chain.map_err(|error| refusal(Code::Internal, error.to_string()))?);
            }
            Request::GenesisOffer(nodes) => return self.on_genesis_offer(from, nodes).await,
            Request::GenesisWithdraw => return self.on_genesis_withdraw(from).await,
            Request::EpochDecided(cert) => {
                let adopted = self.adopt(cert.as_ref().clone()).await;
                adopted.map_err(|error| refusal(Code::Internal, error.to_string()))?;
                if cert.proposal.epoch > self.layout.epoch() {
                    self.sync.catch_up_from(from.node);
                }
                return done(Response::Done);
            }
            _ => {}
        }
        // A caller that knows more than this node is asked for it before anything else.
        if call.epoch > self.layout.epoch() && from.node != self.id {
            let caught_up = self.catch_up(&from.node).await;
            caught_up.map_err(|error| refusal(Code::Internal, error.to_string()))?;
            if call.epoch > self.layout.epoch() {
                return Err(refusal(Code::Internal, "this node could not catch up yet"));
            }
        }
        let state = self.layout.current();
        let state = state.ok_or_else(|| refusal(Code::NotMember, "this node is no member yet"))?;
        if from.node != self.id && !state.is_member(&from.node) {
            return Err(refusal(Code::NotMember, "members only"));
        }
        self.answer_member(from, call, &state).await
    }

    async fn answer_member(
        self: &Arc<Self>,
        from: Caller,
        call: Call,
        state: &Arc<EpochState>,
    ) -> Told {
        let epoch = call.epoch;
        match call.request {
            Request::RecordGet { keys, digest_only } => {
                self.need_keys(state, epoch, &keys)?;
                self.on_record_get(keys, digest_only).await
            }
            Request::RecordPut { records, origin } => {
                let keys: Vec<_> = records.iter().map(|(key, _)| *key).collect();
                self.need_keys(state, epoch, &keys)?;
                let told = self.on_record_put(from, records, origin).await?;
                self.still(epoch, |state| self.need_keys(state, epoch, &keys))?;
                Ok(told)
            }
            Request::DirScan { vault, dir, after } => {
                let partition = dfs_core::id::dir_partition(&vault, &dir, state.bits);
                self.need_replica(state, epoch, partition)?;
                let scanned = self.store.scan_dir(vault, dir, after, PAGE_ROWS_MAX).await;
                done(page_of_records(scanned.map_err(read_refused)?))
            }
            Request::CertGet(id) => match self.store.cert(id).await.map_err(read_refused)? {
                Some(cert) => done(Response::Cert(Box::new(cert))),
                None => Err(refusal(Code::NotFound, "no such certificate")),
            },
            Request::RefAdd(rows) => {
                self.need_blobs(state, epoch, rows.iter().map(|row| &row.blob))?;
                let partitions: Vec<_> =
                    rows.iter().map(|row| row.blob.partition(state.bits)).collect();
                let told = self.on_ref_add(rows).await?;
                self.still(epoch, |state| {
                    partitions.iter().try_for_each(|p| self.need_replica(state, epoch, *p))
                })?;
                Ok(told)
            }
            Request::ChunkPut(id) => {
                self.need_replica(state, epoch, id.partition(state.bits))?;
                // Before the disk is asked, or it might be found there and then go.
                self.unwanted.spare(&id);
                if !bug(Bug::BlobAckedUnwritten) {
                    self.store.put_blob(id, call.body).await.map_err(write_refused)?;
                }
                self.repair.found(&id);
                self.still(epoch, |state| {
                    self.need_replica(state, epoch, id.partition(state.bits))
                })?;
                done(Response::Done)
            }
            Request::ChunkGet(id) => {
                let found = self.store.get_blob(id).await;
                if let Err(ReadError::Corrupt(_)) = &found {
                    self.repair.want_now(id);
                }
                Ok((Response::Done, found.map_err(read_refused)?.bytes))
            }
            Request::ChunkHas(ids) => {
                done(Response::Held(self.store.has_blobs(ids).await.map_err(read_refused)?))
            }
            Request::ReportCorrupt(id) => self.on_report(id).await,
            Request::RefsEnded(uses) => {
                self.need_blobs(state, epoch, uses.iter().map(|(id, _)| id))?;
                done(Response::Held(self.store.are_dropped(uses).await.map_err(read_refused)?))
            }
            Request::RefsForget(uses) => {
                self.need_blobs(state, epoch, uses.iter().map(|(id, _)| id))?;
                done(Response::Held(self.store.forget_dropped(uses).await.map_err(write_refused)?))
            }
            Request::ChunksNeeded(ids) => {
                self.need_blobs(state, epoch, ids.iter())?;
                let used = self.store.are_used(ids.clone()).await.map_err(read_refused)?;
                let held = self.store.has_blobs(ids).await.map_err(read_refused)?;
                let needed = used.into_iter().zip(held).map(|(used, held)| used && !held);
                done(Response::Held(needed.collect()))
            }
            Request::RecordsForget(records) => {
                let keys: Vec<_> = records.iter().map(|(key, _)| *key).collect();
                self.need_keys(state, epoch, &keys)?;
                done(Response::Held(self.forget_tombstones(records, state).await?))
            }
            Request::SyncRoots { table, roots } => {
                let ours = self.store.roots(table, state.bits).await.map_err(read_refused)?;
                let mut differ = differing(&ours, &roots);
                differ.retain(|partition| state.is_replica(*partition, &self.id));
                if !differ.is_empty() && from.node != self.id {
                    self.sync.owe(from.node);
                }
                done(Response::Differing(differ))
            }
            Request::SyncScan { table, partition, after } => {
                if usize::from(partition) >= state.bits.count() {
                    return Err(refusal(Code::Malformed, "no such partition"));
                }
                self.on_sync_scan(table, partition, after.to_vec(), state).await
            }
            Request::EpochPrepare { epoch, ballot } => {
                done(self.on_epoch_prepare(epoch, ballot).await?)
            }
            Request::EpochAccept { ballot, proposal } => {
                done(self.on_epoch_accept(ballot, *proposal).await?)
            }
            Request::CasPrepare { key, ballot } => {
                self.need_keys(state, epoch, &[key])?;
                let promise = move |record: &Record| {
                    let mut record = record.clone();
                    record.prepare(ballot);
                    record
                };
                self.on_cas(epoch, key, promise).await
            }
            Request::CasAccept { key, ballot, version } => {
                self.need_keys(state, epoch, &[key])?;
                if let Some(version) = &version {
                    let record = Record::of(version.as_ref().clone());
                    self.need_genuine(from, &key, &record).await?;
                    // Whoever completes another's write may come late.
                    if !version.is_not_ahead(self.env.wall_ms()) {
                        let why = "the stamp is ahead of the clock here";
                        return Err(refusal(Code::ClockSkew, why));
                    }
                }
                let accept = move |record: &Record| {
                    let mut record = record.clone();
                    record.accept(ballot, version.map(|version| *version));
                    record
                };
                self.on_cas(epoch, key, accept).await
            }
            Request::Gossip(_)
            | Request::Join(_)
            | Request::GenesisOffer(_)
            | Request::GenesisWithdraw
            | Request::ChainGet { .. }
            | Request::EpochDecided(_) => done(Response::Done),
        }
    }

    /// Checks again after a write: a layout that came into force meanwhile may have let others read
    /// this node's rows before the write was among them. What was written stays, and does not count.
    fn still(
        &self,
        epoch: u64,
        check: impl FnOnce(&EpochState) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match self.layout.current() {
            Some(state) if epoch != 0 && state.epoch > epoch => check(&state),
            _ => Ok(()),
        }
    }

    /// Refuses what an old layout asks for, and what this node does not hold. Epoch 0 is a request
    /// that does not count for a quorum.
    fn need_replica(
        &self,
        state: &EpochState,
        epoch: u64,
        partition: Partition,
    ) -> Result<(), Refusal> {
        if epoch != 0 && state.row(partition).is_newer_than(epoch) && !bug(Bug::StaleLayoutAccepted)
        {
            return Err(refusal(Code::StaleEpoch, "the partition has moved"));
        }
        if !state.is_replica(partition, &self.id) {
            return Err(refusal(Code::NotReplica, "this node does not hold the partition"));
        }
        Ok(())
    }

    fn need_keys(&self, state: &EpochState, epoch: u64, keys: &[RecordKey]) -> Result<(), Refusal> {
        keys.iter().try_for_each(|key| self.need_replica(state, epoch, key.partition(state.bits)))
    }

    fn need_blobs<'a>(
        &self,
        state: &EpochState,
        epoch: u64,
        mut ids: impl Iterator<Item = &'a BlobId>,
    ) -> Result<(), Refusal> {
        ids.try_for_each(|id| self.need_replica(state, epoch, id.partition(state.bits)))
    }

    fn on_join(&self, from: Caller, info: &NodeInfo) -> Told {
        if !from.proved || info.node_id != from.node || info.verify().is_err() {
            return Err(refusal(Code::BadSignature, "the request to join is not genuine"));
        }
        let state = self.layout.current();
        if state.is_none_or(|state| !state.voters.contains(&self.id)) {
            return Err(refusal(Code::NotMember, "this node does not decide who joins"));
        }
        if info.zone.len() > ZONE_BYTES_MAX {
            return Err(refusal(Code::Malformed, "the zone's name is too long"));
        }
        self.layout.ask_to_join(Joiner {
            node_id: info.node_id,
            zone: info.zone.clone(),
            capacity: info.capacity,
        });
        self.facts_changed.notify_one();
        done(Response::Done)
    }

    async fn on_record_get(&self, keys: Vec<RecordKey>, digest_only: bool) -> Told {
        let records = self.store.records(keys.clone()).await.map_err(read_refused)?;
        if digest_only {
            let hashes = records.iter().map(Record::state_hash).collect();
            return done(Response::StateHashes(hashes));
        }
        done(page_of_records(keys.into_iter().zip(records).collect()))
    }

    async fn on_record_put(
        self: &Arc<Self>,
        from: Caller,
        records: Vec<(RecordKey, Record)>,
        origin: Origin,
    ) -> Told {
        for (key, record) in &records {
            self.need_genuine(from, key, record).await?;
            if origin == Origin::Client {
                self.need_current(from, record).await?;
            }
        }
        self.store.merge_records(records).await.map_err(write_refused)?;
        done(Response::Done)
    }

    /// Refuses forged versions. Our own were signed a moment ago, what we repair with was verified.
    async fn need_genuine(
        self: &Arc<Self>,
        from: Caller,
        key: &RecordKey,
        record: &Record,
    ) -> Result<(), Refusal> {
        if from.node == self.id {
            return Ok(());
        }
        let verified = self.verify_record(&from.node, key, record).await;
        verified.map_err(|error| refusal(Code::BadSignature, error.to_string()))
    }

    /// Refuses new versions whose stamp or certificate does not fit the time here.
    async fn need_current(self: &Arc<Self>, from: Caller, record: &Record) -> Result<(), Refusal> {
        let now = self.env.wall_ms();
        if !record.heads().all(|head| head.is_plausible(now)) {
            warn!(peer = ?from.node, "a version's stamp is far from the clock here");
            return Err(refusal(Code::ClockSkew, "the stamp is far from the clock here"));
        }
        for head in record.heads() {
            let cert = self.cert(&from.node, head.writer).await;
            if cert.is_ok_and(|cert| cert.not_after_unix_ms < now) {
                return Err(refusal(Code::BadSignature, "the certificate has ended"));
            }
        }
        Ok(())
    }

    /// Changes the register of a record, and answers what the record is then.
    async fn on_cas(
        &self,
        epoch: u64,
        key: RecordKey,
        change: impl FnOnce(&Record) -> Record + Send + 'static,
    ) -> Told {
        let record = self.store.change_record(key, change).await.map_err(write_refused)?;
        self.still(epoch, |state| self.need_keys(state, epoch, &[key]))?;
        done(Response::Records { records: vec![(key, record)], more: false })
    }

    async fn on_ref_add(&self, mut rows: Vec<RefRow>) -> Told {
        self.bound_holds(&mut rows);
        let ids = rows.iter().map(|row| row.blob).collect();
        let before = self.store.has_blobs(ids).await.map_err(read_refused)?;
        for (row, _) in rows.iter().zip(before).filter(|(_, held)| !held) {
            // Its bytes should follow at once; if not, this node fetches them. Noted before the
            // row is kept, for the caller may give up, and this end with it, in between.
            if !bug(Bug::ReferenceNotWanted) {
                self.repair.want_later(row.blob, self.env.mono() + BODY_GRACE);
            }
        }
        let held = self.store.add_refs(rows).await.map_err(write_refused)?;
        done(Response::Held(held))
    }

    async fn on_report(&self, id: BlobId) -> Told {
        if let Err(ReadError::Corrupt(_)) = self.store.get_blob(id).await {
            self.repair.want_now(id);
        }
        done(Response::Done)
    }

    async fn on_sync_scan(
        &self,
        table: Table,
        partition: Partition,
        after: Vec<u8>,
        state: &EpochState,
    ) -> Told {
        let bits = state.bits;
        let limit = SYNC_ROWS_MAX;
        let response = match table {
            Table::Records => {
                let rows = self.store.scan_records(partition, bits, after, limit).await;
                let rows = rows.map_err(read_refused)?;
                let last = rows.last().map(|(key, _)| dfs_store::disk::store::record_row(key));
                let hashes = rows.iter().map(|(key, record)| (*key, record.state_hash()));
                Response::Rows {
                    more: rows.len() == limit,
                    hashes: hashes.collect(),
                    refs: Vec::new(),
                    last: last.unwrap_or_default().into(),
                }
            }
            Table::Refs => {
                let rows = self.store.scan_refs(partition, bits, after, limit).await;
                let rows = rows.map_err(read_refused)?;
                let last =
                    rows.last().map(|row| dfs_store::disk::store::ref_row(&row.blob, &row.vid));
                Response::Rows {
                    hashes: Vec::new(),
                    more: rows.len() == limit,
                    refs: rows,
                    last: last.unwrap_or_default().into(),
                }
            }
        };
        done(response)
    }
}

/// As many records, in order, as fit one answer; at least one.
fn page_of_records(records: Vec<(RecordKey, Record)>) -> Response {
    let count = records.len();
    let mut bytes = 0;
    let mut page = Vec::new();
    for (key, record) in records {
        bytes += record.to_canonical().len() + RecordKey::LEN;
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            return Response::Records { records: page, more: true };
        }
        page.push((key, record));
    }
    Response::Records { records: page, more: count == PAGE_ROWS_MAX }
}

/// A zone's name as the layout keeps it: a snapshot of many members must fit a frame.
pub(crate) const ZONE_BYTES_MAX: usize = 64;
/// Bytes of records in one answer: within a frame, with room for one record of any size.
const PAGE_BYTES_MAX: usize = 128 * 1024;
/// Records looked at for one page of a directory.
const PAGE_ROWS_MAX: usize = 256;
/// Rows of one page of a comparison: 90 to 150 bytes each.
const SYNC_ROWS_MAX: usize = 1000;
/// How long a noted blob may take to arrive before this node fetches it itself.
const BODY_GRACE: Duration = Duration::from_secs(10);
