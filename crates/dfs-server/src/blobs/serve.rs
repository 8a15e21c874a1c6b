//! Answering peers that ask for blobs, bring some, or note who uses them.

use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::BlobId;
use dfs_core::record::refs::RefRow;
use dfs_env::{Bug, bug};
use dfs_p2p::Caller;
use dfs_p2p::message::{Refusal, Response};
use dfs_store::{ReadError, WriteError};

use super::{Blobs, bound_holds};
use crate::rpc::answer::{Told, done, read_refused, write_refused};
use crate::rpc::fence::Fence;

impl Blobs {
    /// Notes uses of blobs, those that count; answers which of the blobs are held. Of a use that
    /// has ended nothing is missing.
    pub(crate) async fn on_ref_add(
        &self,
        fence: Fence<'_>,
        mut rows: Vec<RefRow>,
        counting: &[bool],
    ) -> Told {
        let mut counts = counting.iter();
        rows.retain(|_| counts.next() == Some(&true));
        let ids: Vec<BlobId> = rows.iter().map(|row| row.blob).collect();
        fence.blobs(ids.iter())?;
        bound_holds(&self.replica, &mut rows);
        let before = self.replica.store.has_blobs(ids.clone()).await.map_err(read_refused)?;
        for (row, _) in rows.iter().zip(before).filter(|(_, held)| !held) {
            // Its bytes should follow at once; if not, this node fetches them. Noted before the
            // row is kept, for the caller may give up, and this end with it, in between.
            if !bug(Bug::ReferenceNotWanted) {
                let at = self.replica.env.mono() + BODY_GRACE;
                self.replica.missing.want_later(row.blob, at);
            }
        }
        let held = self.replica.store.add_refs(rows).await.map_err(write_refused)?;
        fence.again(&self.replica, |fence| fence.blobs(ids.iter()))?;
        let mut held = held.into_iter();
        let of_each = |counts: &bool| !counts || held.next() == Some(true);
        done(Response::Held(counting.iter().map(of_each).collect()))
    }

    /// Keeps a blob.
    pub(crate) async fn on_put(&self, fence: Fence<'_>, id: BlobId, bytes: Bytes) -> Told {
        fence.blobs([id].iter())?;
        // Before the disk is asked, or it might be found there and then go.
        self.spare(id, &bytes).await?;
        if !bug(Bug::BlobAckedUnwritten) {
            self.replica.store.put_blob(id, bytes).await.map_err(write_refused)?;
        }
        self.replica.missing.found(&id);
        fence.again(&self.replica, |fence| fence.blobs([id].iter()))?;
        done(Response::Done)
    }

    /// Counts a blob as needed again, if it may go soon and these are its bytes: whoever has others
    /// keeps nothing here.
    async fn spare(&self, id: BlobId, bytes: &Bytes) -> Result<(), Refusal> {
        if !self.replica.unwanted.is_marked(&id) {
            return Ok(());
        }
        let bytes = bytes.clone();
        let is_it = self.replica.env.offload(move || BlobId::of(&bytes)).await == id;
        if !is_it && !bug(Bug::MarksClearedUnchecked) {
            return Err(write_refused(WriteError::WrongId(id)));
        }
        self.replica.unwanted.spare(&id);
        Ok(())
    }

    /// Answers with a blob, verified as it is read.
    pub(crate) async fn on_get(&self, from: Caller, id: BlobId) -> Told {
        self.challenged.refuse(from, &id)?;
        let found = self.replica.store.get_blob(id).await;
        if let Err(ReadError::Corrupt(_)) = &found {
            self.replica.missing.want_now(id);
        }
        Ok((Response::Done, found.map_err(read_refused)?.bytes))
    }

    /// Answers which blobs are held.
    pub(crate) async fn on_has(&self, ids: Vec<BlobId>) -> Told {
        done(Response::Held(self.replica.store.has_blobs(ids).await.map_err(read_refused)?))
    }

    /// Looks at a blob that a peer calls corrupt or missing.
    pub(crate) async fn on_report(&self, id: BlobId) -> Told {
        match self.replica.store.get_blob(id).await {
            Err(ReadError::Corrupt(_)) => self.replica.missing.want_now(id),
            Err(ReadError::NotHeld(_)) if self.should_hold(id).await => {
                self.replica.missing.want_now(id);
            }
            _ => {}
        }
        done(Response::Done)
    }

    /// Whether rows here, and not a peer's word, say that a blob belongs on this disk.
    async fn should_hold(&self, id: BlobId) -> bool {
        let state = self.replica.layout.current();
        let is_ours =
            state.is_some_and(|state| state.is_replica(id.partition(state.bits), &self.replica.id));
        let rows = self.replica.store.refs_of(id, None, ROWS_LOOKED_AT);
        is_ours && rows.await.is_ok_and(|rows| rows.iter().any(|row| !row.dropped))
    }
}

/// Rows of one blob that are looked at for a use: a blob is rarely of more versions.
const ROWS_LOOKED_AT: usize = 16;
/// How long a noted blob may take to arrive before this node fetches it itself.
const BODY_GRACE: Duration = Duration::from_secs(10);
