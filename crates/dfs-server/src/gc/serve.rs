//! Answering replicas that want to forget something, or ask who still needs it.

use dfs_core::id::{BlobId, NodeId, Partition, RecordKey};
use dfs_core::record::refs::Use;
use dfs_core::record::version::Record;
use dfs_core::replica::purge::may_purge;
use dfs_p2p::message::{Code, Refusal, Response};

use super::Gc;
use super::evidence::{Evident, KeyedHash};
use crate::rpc::answer::{Told, done, read_refused, refusal, write_refused};
use crate::rpc::fence::Fence;

impl Gc {
    /// Answers which uses have ended as far as this node found out.
    pub(crate) async fn on_refs_ended(&self, fence: Fence<'_>, uses: Vec<Use>) -> Told {
        fence.blobs(uses.iter().map(|of| &of.blob))?;
        let ended = self.replica.store.are_dropped(uses).await.map_err(read_refused)?;
        done(Response::Held(ended))
    }

    /// Forgets uses that all replicas found to have ended; answers which are gone.
    pub(crate) async fn on_refs_forget(&self, fence: Fence<'_>, uses: Vec<Use>) -> Told {
        fence.blobs(uses.iter().map(|of| &of.blob))?;
        let gone = self.replica.store.forget_dropped(uses).await.map_err(write_refused)?;
        done(Response::Held(gone))
    }

    /// Answers which blobs a row here needs and this disk lacks.
    pub(crate) async fn on_blobs_needed(&self, fence: Fence<'_>, ids: Vec<BlobId>) -> Told {
        fence.blobs(ids.iter())?;
        let used = self.replica.store.are_used(ids.clone()).await.map_err(read_refused)?;
        let held = self.replica.store.has_blobs(ids).await.map_err(read_refused)?;
        let needed = used.into_iter().zip(held).map(|(used, held)| used && !held);
        done(Response::Held(needed.collect()))
    }

    /// Forgets tombstones for another replica, which says that all confirm them; answers which are
    /// gone. What can be checked here is: nobody has this node forget what is not an old tombstone.
    pub(crate) async fn on_records_forget(
        &self,
        fence: Fence<'_>,
        from: &NodeId,
        asked: Vec<KeyedHash>,
    ) -> Told {
        let keys: Vec<_> = asked.iter().map(|(key, _)| *key).collect();
        fence.keys(keys.iter())?;
        need_collector(fence, from, keys.iter().map(|key| key.partition(fence.state.bits)))?;
        let (state, replica) = (fence.state, &self.replica);
        let published = self.evidence.published(state);
        let known = Evident { published: &published, confirmed: None, at_rest: true };
        let (now, age) = (replica.unix_ms(), replica.grace.purge_age());
        let may_go = |key: &RecordKey, record: &Record| {
            let partition = key.partition(state.bits);
            may_purge(record, partition, state, now, age, &known).is_ok()
                && self.evidence.has_all_before(partition, record.hlc_max(), state)
        };
        let mut gone = Vec::with_capacity(asked.len());
        for some in asked.chunks(RECORDS_AT_ONCE) {
            let keys: Vec<_> = some.iter().map(|(key, _)| *key).collect();
            let records = replica.store.records(keys.clone()).await.map_err(read_refused)?;
            let allowed = some.iter().zip(records).filter(|((key, _), r)| may_go(key, r));
            let allowed = allowed.map(|(hash, _)| *hash).collect();
            replica.store.purge_records(allowed).await.map_err(write_refused)?;
            let left = replica.store.records(keys).await.map_err(read_refused)?;
            gone.extend(left.iter().map(Record::is_empty));
        }
        done(Response::Held(gone))
    }
}

/// Refuses a storage member that wants rows forgotten of which a gateway holds a copy: it need not
/// have asked anyone.
fn need_collector(
    fence: Fence<'_>,
    from: &NodeId,
    mut partitions: impl Iterator<Item = Partition>,
) -> Result<(), Refusal> {
    if partitions.all(|partition| fence.state.may_collect(partition, from)) {
        return Ok(());
    }
    Err(refusal(Code::NotMember, "gateways only"))
}

/// Records in memory at once while some are forgotten: of the largest 6 MiB.
const RECORDS_AT_ONCE: usize = 32;
