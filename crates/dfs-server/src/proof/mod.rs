//! Having members that only store show what they hold: each gateway challenges all of them, again
//! and again.
//!
//! Whom to ask next and what an answer means is decided in [`dfs_core::replica::possession`]; here
//! blobs are picked, asked for and compared, and what came of it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::codec::Canonical;
use dfs_core::id::NodeId;
use dfs_core::layout::epoch::{EpochState, MemberState, Role};
use dfs_core::record::refs::Use;
use dfs_core::replica::possession::{Next, Possession};
use dfs_p2p::message::{Priority, Request, Response};
use dfs_store::{ReadError, WriteError};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use self::challenge::Challenge;
use crate::blobs::Blobs;
use crate::error::Error;
use crate::records::Records;
use crate::replica::Replica;
use crate::rpc::{Ask, Rpc};

mod challenge;
mod pick;
mod view;

pub use self::view::{ProofState, ProofView};

/// Challenges members, on a gateway.
pub(crate) struct Prover {
    replica: Arc<Replica>,
    records: Arc<Records>,
    blobs: Arc<Blobs>,
    rpc: Arc<Rpc>,
    /// When what came of it was last written to the disk.
    saved: Mutex<Option<Instant>>,
}

impl Prover {
    pub(crate) fn new(records: Arc<Records>, blobs: Arc<Blobs>) -> Self {
        let rpc = records.rpc().clone();
        Self { replica: rpc.replica.clone(), records, blobs, rpc, saved: Mutex::default() }
    }

    /// Takes up what an earlier start found out.
    pub(crate) async fn load(&self) -> Result<(), ReadError> {
        let Some(kept) = self.replica.store.state(PROOFS).await? else { return Ok(()) };
        match Possession::from_canonical(kept) {
            Ok(possession) => *self.replica.conduct.possession() = possession,
            Err(error) => warn!(%error, "what was kept of challenges is not used"),
        }
        Ok(())
    }

    /// Challenges members until shutdown.
    pub(crate) async fn run(self: Arc<Self>) {
        while !self.replica.shutdown.is_cancelled() {
            let wait = match self.step().await {
                Ok(wait) => wait,
                Err(error) => {
                    warn!(%error, "members could not be challenged; trying again later");
                    RETRY_AFTER
                }
            };
            tokio::select! {
                biased;
                () = self.replica.shutdown.cancelled() => {}
                () = self.replica.env.sleep(wait) => {}
            }
        }
    }

    /// Makes the challenge that is due; returns how long to wait then.
    async fn step(&self) -> Result<Duration, Error> {
        let cadence = &self.replica.conduct.cadence;
        let (look_every, pause) =
            (cadence.random_every.min(LOOK_EVERY), cadence.random_every.min(WAIT_MIN));
        let Some(state) = self.replica.joined().ok().filter(|state| self.governs(state)) else {
            return Ok(look_every);
        };
        let now_ms = self.replica.unix_ms();
        let next = {
            let mut possession = self.replica.conduct.possession();
            possession.meet(&storing(&state));
            possession.next(now_ms, cadence)
        };
        match next {
            Next::Wait(wait) => return Ok(wait.min(look_every).max(pause)),
            Next::Random(node) => self.challenge_with_random(&state, node).await?,
            Next::Again(node, of) => self.challenge_again(&state, node, of).await?,
            Next::Cover(after) => {
                let picked = self.pick_after(&state, after).await?;
                if let Some(picked) = &picked
                    && !picked.uses.is_empty()
                {
                    self.make(Challenge::of(&state, picked.partition, &picked.uses)).await?;
                }
                let blobs = self.covered_blobs(&state).await?;
                let (after, now_ms) = (picked.map(|one| one.upto), self.replica.unix_ms());
                self.replica.conduct.possession().covered(now_ms, after, blobs, cadence);
            }
        }
        if self.saved.lock().is_none_or(|saved| self.replica.env.mono() - saved >= SAVE_EVERY) {
            self.save().await?;
        }
        Ok(pause)
    }

    /// Whether this node is one that members must show what they hold.
    fn governs(&self, state: &EpochState) -> bool {
        !state.admins.is_empty() && state.is_gateway(&self.replica.id)
    }

    async fn challenge_with_random(&self, state: &EpochState, node: NodeId) -> Result<(), Error> {
        let picked = match self.replica.is_reachable(&node) {
            true => self.pick_random(state, &node).await?,
            false => None,
        };
        let Some(picked) = picked else {
            self.unasked(&node);
            return Ok(());
        };
        let challenge = Challenge::of(state, picked.partition, &picked.uses);
        let judged = self.make(Challenge { random: true, ..challenge }).await?;
        if !judged.contains(&node) {
            self.unasked(&node);
        }
        Ok(())
    }

    /// Asks for one blob again that a member did not show, and before that whether it claims to
    /// hold it.
    async fn challenge_again(
        &self,
        state: &EpochState,
        node: NodeId,
        of: Use,
    ) -> Result<(), Error> {
        let partition = of.blob.partition(state.bits);
        let needed = self.is_needed(&of).await;
        if !state.is_replica(partition, &node) || needed == Some(false) {
            self.replica.conduct.possession().needless(&node, &of.blob);
            return Ok(());
        }
        if needed.is_none() || !challenge::judged(state, partition).contains(&node) {
            self.unasked(&node);
            return Ok(());
        }
        let ask = Ask::new(Priority::Background, Request::ChunkHas(vec![of.blob]));
        let Ok((Response::Held(held), _)) = self.rpc.ask(&node, 0, ask).await else {
            self.unasked(&node);
            return Ok(());
        };
        let claims = (held == [true]).then_some(node);
        let uses = [of];
        let challenge = Challenge { claims, ..Challenge::of(state, partition, &uses) };
        if !self.make(challenge).await?.contains(&node) {
            self.unasked(&node);
        }
        Ok(())
    }

    fn unasked(&self, node: &NodeId) {
        let (now_ms, conduct) = (self.replica.unix_ms(), &self.replica.conduct);
        conduct.possession().unasked(now_ms, node, &conduct.cadence);
    }

    /// Keeps what is known of members. Durable on return.
    async fn save(&self) -> Result<(), WriteError> {
        let kept = self.replica.conduct.possession().to_canonical();
        self.replica.store.put_state(PROOFS, kept).await?;
        *self.saved.lock() = Some(self.replica.env.mono());
        Ok(())
    }
}

/// Members that only store for others, and that someone vouched for.
fn storing(state: &EpochState) -> BTreeMap<NodeId, MemberState> {
    let storing = state.present().filter(|member| member.role == Role::Storage);
    storing.map(|member| (member.node_id, member.state)).collect()
}

/// What is known of members is kept under this.
const PROOFS: &str = "proofs";
/// How often it is looked who is a member.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The wait between two challenges: no disk is asked for more than 8 MiB in this time by one
/// gateway.
const WAIT_MIN: Duration = Duration::from_millis(500);
/// How far what is on the disk may be behind, but for failures, which are kept at once.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// The wait after this node's own disk refused.
const RETRY_AFTER: Duration = Duration::from_secs(60);
