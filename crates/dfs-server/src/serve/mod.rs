//! Answering peers: every request is held against membership, then given to the part it is about.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use dfs_core::id::{AdminId, BlobId, ClusterId, NodeId};
use dfs_core::layout::epoch::{EpochState, Grant};
use dfs_core::node::member::NodeInfo;
use dfs_env::{BoxFuture, Bug, bug};
use dfs_p2p::message::{Answer, Call, Code, Origin, Priority, Refusal, Request, Response};
use dfs_p2p::{Caller, Handler};
use zeroize::Zeroizing;

use crate::blobs::Blobs;
use crate::chain::Chain;
use crate::gc::Gc;
use crate::layout::{Invites, Steward, Voting};
use crate::records::Records;
use crate::replica::Replica;
use crate::rpc::answer::{Told, done, read_refused, refusal};
use crate::rpc::fence::Fence;
use crate::sync::RowSync;

/// All that answers.
pub(crate) struct Service {
    pub(crate) replica: Arc<Replica>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) records: Arc<Records>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) sync: Arc<RowSync>,
    pub(crate) gc: Arc<Gc>,
    pub(crate) steward: Arc<Steward>,
    pub(crate) voting: Voting,
    pub(crate) invites: Arc<Invites>,
}

/// A service, as the network and this node itself call it. It does not keep the service alive.
pub(crate) struct Answering(Weak<Service>);

impl Answering {
    pub(crate) fn new(service: Weak<Service>) -> Self {
        Self(service)
    }
}

impl Handler for Answering {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            match self.0.upgrade() {
                Some(service) => service.respond(from, call).await,
                None => Answer::new(Err(refusal(Code::Internal, "shutting down")), 0),
            }
        })
    }

    fn is_member(&self, node: &NodeId) -> bool {
        let state = self.0.upgrade().and_then(|service| service.replica.layout.current());
        state.is_some_and(|state| state.is_member(node))
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        let state = self.0.upgrade().and_then(|service| service.replica.layout.current());
        state.map(|state| state.cluster_id)
    }

    fn invite_secret(&self, grant: &Grant) -> Option<Zeroizing<[u8; 32]>> {
        self.0.upgrade()?.invites.secret(grant)
    }

    fn is_admin(&self, admin: &AdminId) -> bool {
        let state = self.0.upgrade().and_then(|service| service.replica.layout.current());
        state.is_some_and(|state| state.admins.contains(admin))
    }

    fn keys_due(&self, grant: Option<&Grant>) -> Zeroizing<Vec<u8>> {
        self.0.upgrade().map(|service| service.invites.due(grant)).unwrap_or_default()
    }

    fn peer_changed(&self, node: NodeId, connected: bool) {
        let Some(service) = self.0.upgrade() else { return };
        let replica = &service.replica;
        replica.missing.count_again();
        if connected {
            replica.owed.owe(node);
            replica.wakes.handoff.notify_one();
            replica.missing.retry_all();
        }
        replica.wakes.join.notify_one();
        replica.wakes.reachability.notify_one();
        replica.wakes.steward.notify_one();
    }

    fn retired(&self, why: &str) {
        if let Some(service) = self.0.upgrade() {
            service.replica.retire(why);
        }
    }

    fn info_changed(&self, info: &NodeInfo) {
        let Some(service) = self.0.upgrade() else { return };
        let replica = &service.replica;
        if info.durable_epoch > replica.layout.epoch() {
            replica.owed.catch_up_from(info.node_id);
            replica.wakes.join.notify_one();
        }
        replica.wakes.reachability.notify_one();
        replica.wakes.steward.notify_one();
    }
}

/// What a machine that only stores for others has no business to ask: votes, on layouts and on
/// conditional writes, are asked for by those who may propose, and proofs by those who distrust.
fn needs_gateway(request: &Request) -> bool {
    match request {
        Request::EpochPrepare { .. } | Request::EpochAccept { .. } => {
            !bug(Bug::AnyoneAsksForVotes) && !bug(Bug::UnsignedEpochTaken)
        }
        Request::CasPrepare { .. } | Request::CasAccept { .. } => !bug(Bug::UnsignedBallotTaken),
        Request::RecordPut { origin: Origin::Client, .. } | Request::ChunkProve { .. } => true,
        _ => false,
    }
}

impl Service {
    /// Carries out one call, of a peer or of this node itself.
    async fn respond(&self, from: Caller, call: Call) -> Answer {
        let _waited =
            self.is_waited_for(&from.node, call.priority).then(|| self.replica.load.begin());
        let result = self.answer(from, call).await;
        let epoch = self.replica.layout.epoch();
        match result {
            Ok((response, body)) => Answer { result: Ok(response), epoch, body },
            Err(refusal) => Answer::new(Err(refusal), epoch),
        }
    }

    /// Whether a user waits for a call, so that background work gives way: what a machine that only
    /// stores for others asks for is no user's, whatever it says.
    fn is_waited_for(&self, from: &NodeId, priority: Priority) -> bool {
        let serves_users = || {
            let state = self.replica.layout.current();
            let may_write = state.is_some_and(|state| state.may_write(from));
            *from == self.replica.id || may_write || bug(Bug::AnyonesCallsCount)
        };
        priority == Priority::Chunks && serves_users()
    }

    async fn answer(&self, from: Caller, call: Call) -> Told {
        let replica = &self.replica;
        if let Some(why) = replica.retirement.why() {
            return Err(refusal(Code::Retired, why));
        }
        if let Some(told) = self.answer_anyone(from, &call.request).await {
            return told.map(|response| (response, Bytes::new()));
        }
        // A caller that knows more than this node is asked for it before anything else.
        if call.epoch > replica.layout.epoch() && from.node != replica.id {
            let caught_up = self.chain.catch_up(&from.node).await;
            caught_up.map_err(|error| refusal(Code::Internal, error.to_string()))?;
            if call.epoch > replica.layout.epoch() {
                return Err(refusal(Code::Internal, "this node could not catch up yet"));
            }
        }
        let state = replica.layout.current();
        let state = state.ok_or_else(|| refusal(Code::NotMember, "this node is no member yet"))?;
        if from.node != replica.id && !state.is_member(&from.node) {
            return Err(refusal(Code::NotMember, "members only"));
        }
        if needs_gateway(&call.request) && from.node != replica.id && !state.may_write(&from.node) {
            return Err(refusal(Code::NotMember, "gateways only"));
        }
        self.answer_member(from, call, Fence::new(&state, replica.id)).await
    }

    /// Answers what a node that is not yet a member may ask; `None` for everything else.
    async fn answer_anyone(
        &self,
        from: Caller,
        request: &Request,
    ) -> Option<Result<Response, Refusal>> {
        let internal = |error: crate::Error| refusal(Code::Internal, error.to_string());
        Some(match request {
            Request::Gossip(gossip) => Ok(self.replica.net().on_gossip(from, gossip.clone())),
            Request::StillRuns { challenge } => Ok(self.replica.net().on_still_runs(*challenge)),
            Request::Join(info) => self.steward.on_join(from, info),
            Request::ChainGet { from } => self.chain.chain_after(*from).await.map_err(internal),
            Request::GenesisOffer(nodes) => self.chain.on_genesis_offer(from, nodes).await,
            Request::GenesisWithdraw => self.chain.on_genesis_withdraw(from),
            Request::EpochDecided(cert) => {
                let adopted = self.chain.adopt(cert.as_ref().clone()).await.map_err(internal);
                if cert.proposal.epoch > self.replica.layout.epoch() {
                    self.replica.owed.catch_up_from(from.node);
                }
                adopted.map(|()| Response::Done)
            }
            _ => return None,
        })
    }

    /// Refuses a blob that a storage member brings and that nothing here uses: it would only fill
    /// the disk until it is collected.
    async fn need_used(
        &self,
        from: &NodeId,
        id: &BlobId,
        state: &EpochState,
    ) -> Result<(), Refusal> {
        let store = &self.replica.store;
        let is_free = *from == self.replica.id || state.may_write(from);
        if is_free || store.are_used(vec![*id]).await.map_err(read_refused)? == [true] {
            return Ok(());
        }
        Err(refusal(Code::NotMember, "no version uses this blob here"))
    }

    async fn answer_member(&self, from: Caller, call: Call, fence: Fence<'_>) -> Told {
        let fence = fence.at(call.epoch);
        let (records, blobs, gc) = (&self.records, &self.blobs, &self.gc);
        match call.request {
            Request::RecordGet { keys, digest_only } => {
                records.on_get(fence, keys, digest_only).await
            }
            Request::RecordPut { records: sent, origin } => {
                records.on_put(fence, from, sent, origin).await
            }
            Request::DirScan { vault, dir, after } => {
                records.on_dir_scan(fence, vault, dir, after).await
            }
            Request::DirChanges { dir, since } => records.on_dir_changes(fence, dir, since).await,
            Request::DirDigests { dir, after } => records.on_dir_digests(fence, dir, after).await,
            Request::CertGet(id) => records.on_cert_get(id).await,
            Request::CasPrepare { key, ballot } => records.on_cas_prepare(fence, key, ballot).await,
            Request::CasAccept { key, ballot, candidate, found } => {
                records.on_cas_accept(fence, from, key, (ballot, *candidate), found).await
            }
            Request::RefAdd(mut rows) => {
                fence.blobs(rows.iter().map(|row| &row.blob))?;
                let counting = self.sync.counting(&from.node, &mut rows).await?;
                blobs.on_ref_add(fence, rows, &counting).await
            }
            Request::ChunkPut(id) => {
                self.need_used(&from.node, &id, fence.state).await?;
                blobs.on_put(fence, id, call.body).await
            }
            Request::ChunkGet(id) => blobs.on_get(from, id).await,
            Request::ChunkHas(ids) => blobs.on_has(ids).await,
            Request::ChunkProve { nonce, ids } => blobs.challenged.on_prove(from, nonce, ids).await,
            Request::ReportCorrupt(id) => blobs.on_report(id).await,
            Request::RefsEnded(uses) => gc.on_refs_ended(fence, uses).await,
            Request::RefsForget(uses) => gc.on_refs_forget(fence, uses).await,
            Request::ChunksNeeded(ids) => gc.on_blobs_needed(fence, ids).await,
            Request::RecordsForget(asked) => gc.on_records_forget(fence, &from.node, asked).await,
            Request::SyncRoots { table, roots } => {
                self.sync.on_roots(fence.state, from, table, roots).await
            }
            Request::SyncScan { table, partition, after } => {
                self.sync.on_scan(fence.state, table, partition, after).await
            }
            Request::EpochPrepare { epoch, ballot } => {
                done(self.voting.on_epoch_prepare(epoch, ballot).await?)
            }
            Request::EpochAccept { ballot, proposal } => {
                done(self.voting.on_epoch_accept(ballot, *proposal).await?)
            }
            Request::Gossip(_)
            | Request::StillRuns { .. }
            | Request::Join(_)
            | Request::GenesisOffer(_)
            | Request::GenesisWithdraw
            | Request::ChainGet { .. }
            | Request::EpochDecided(_) => done(Response::Done),
        }
    }
}

#[cfg(test)]
mod tests;
