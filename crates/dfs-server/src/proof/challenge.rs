//! One challenge: all replicas are asked at the same moment, and what they show is compared.

use std::collections::BTreeSet;
use std::time::Duration;

use dfs_core::id::{BlobId, NodeId, Partition};
use dfs_core::layout::epoch::{EpochState, Member, MemberState, Role, Stage};
use dfs_core::record::refs::Use;
use dfs_core::replica::conduct::Fault;
use dfs_core::replica::possession::{Finding, Proof, agreed, digest};
use dfs_p2p::CallError;
use dfs_p2p::message::{Code, Priority, Request, Response};
use futures_util::future::join_all;
use tracing::{debug, error, warn};

use super::Prover;
use crate::config::Mode;
use crate::error::Error;
use crate::rpc::{Ask, AskError};

/// What to ask, and of whom.
pub(super) struct Challenge<'a> {
    pub(super) state: &'a EpochState,
    pub(super) partition: Partition,
    pub(super) uses: &'a [Use],
    /// Whether nobody could know beforehand which blobs these are.
    pub(super) random: bool,
    /// The member that claims to hold them, though it did not show them before.
    pub(super) claims: Option<NodeId>,
}

impl<'a> Challenge<'a> {
    pub(super) fn of(state: &'a EpochState, partition: Partition, uses: &'a [Use]) -> Self {
        Self { state, partition, uses, random: false, claims: None }
    }
}

/// What became of asking one replica.
enum Asked {
    Shown(Vec<Proof>),
    /// It is in reach and gave no answer that is one.
    Silent,
    /// It could not answer, and nothing follows from that.
    Hindered,
}

/// The members of a partition at rest that must show its blobs.
pub(super) fn judged(state: &EpochState, partition: Partition) -> BTreeSet<NodeId> {
    let row = state.row(partition);
    let is_judged = |member: &&Member| {
        let takes_part = matches!(member.state, MemberState::Active | MemberState::Draining);
        member.role == Role::Storage && takes_part && row.stage == Stage::Stable
    };
    let members = row.current.iter().filter_map(|idx| state.members.get(usize::from(*idx)));
    members.filter(is_judged).map(|member| member.node_id).collect()
}

impl Prover {
    /// Challenges all replicas and notes what came of it. Returns the members of which something
    /// was found out, silence included.
    pub(super) async fn make(&self, challenge: Challenge<'_>) -> Result<BTreeSet<NodeId>, Error> {
        self.give_way().await;
        let Challenge { state, partition, uses, .. } = challenge;
        let nonce: [u8; 32] = self.replica.env.random();
        let ids: Vec<BlobId> = uses.iter().map(|of| of.blob).collect();
        let holders = state.holders(partition);
        let in_reach = holders.into_iter().filter(|node| self.replica.is_reachable(node));
        let asked = in_reach.map(|node| {
            let ids = ids.clone();
            async move { (node, self.ask(&node, nonce, ids).await) }
        });
        let asked: Vec<(NodeId, Asked)> = join_all(asked).await;
        let mut found: Vec<(NodeId, Vec<(Use, Finding)>)> = Vec::new();
        let judged = judged(state, partition);
        let answered = asked.iter().filter_map(|(node, asked)| match asked {
            Asked::Shown(_) if judged.contains(node) => Some((*node, Vec::new())),
            _ => None,
        });
        found.extend(answered);
        for (at, of) in uses.iter().enumerate() {
            let shown: Vec<(NodeId, Proof)> = asked
                .iter()
                .filter_map(|(node, asked)| match asked {
                    Asked::Shown(proofs) => Some((*node, proofs[at])),
                    Asked::Silent | Asked::Hindered => None,
                })
                .collect();
            self.compare(&challenge, nonce, of, &shown, &mut found).await;
        }
        let silent = asked.iter().filter(|(_, asked)| matches!(asked, Asked::Silent));
        let silent: Vec<NodeId> =
            silent.map(|(node, _)| *node).filter(|node| judged.contains(node)).collect();
        self.note(&challenge, &silent, &found).await?;
        let found = found.into_iter().filter(|(_, of)| !of.is_empty()).map(|(node, _)| node);
        Ok(found.chain(silent).collect())
    }

    async fn ask(&self, node: &NodeId, nonce: [u8; 32], ids: Vec<BlobId>) -> Asked {
        let (count, about) = (ids.len(), nonce);
        let deadline = self.replica.conduct.cadence.answer_within;
        let ask = Ask::new(Priority::Background, Request::ChunkProve { nonce, ids });
        match self.rpc.ask(node, 0, Ask { deadline, ..ask }).await {
            Ok((Response::Proofs(proofs), _)) if proofs.len() == count => Asked::Shown(proofs),
            Ok(_) => {
                let now = self.replica.env.mono();
                self.replica.conduct.fault(now, node, Fault::Nonsense, about);
                Asked::Silent
            }
            Err(AskError::Refused(refusal)) if refusal.code == Code::Retired => Asked::Hindered,
            Err(AskError::Call(CallError::NotConnected | CallError::Busy)) => Asked::Hindered,
            // Also that it has too much to do, or an old layout: said again and again, that is an
            // excuse.
            Err(_) => Asked::Silent,
        }
    }

    /// Finds out who was right about one blob. Nothing is found where its bytes are not to be had.
    async fn compare(
        &self,
        challenge: &Challenge<'_>,
        nonce: [u8; 32],
        of: &Use,
        shown: &[(NodeId, Proof)],
        found: &mut [(NodeId, Vec<(Use, Finding)>)],
    ) {
        let own = shown.iter().find(|(node, _)| *node == self.replica.id);
        let all: Vec<Proof> = shown.iter().map(|(_, proof)| *proof).collect();
        let right = match own {
            Some((_, Proof::Digest(own))) => Some(*own),
            _ => match agreed(&all) {
                Some(right) => Some(right),
                None => self.digest_of_bytes(nonce, of.blob).await,
            },
        };
        let Some(right) = right else { return };
        let mut needed = None;
        for (node, findings) in found {
            let Some((_, proof)) = shown.iter().find(|(shows, _)| shows == node) else { continue };
            let finding = proof.finding(&right, challenge.claims == Some(*node));
            if matches!(finding, Finding::Lacks { .. }) {
                let needed = match needed {
                    Some(known) => known,
                    None => *needed.insert(self.is_needed(of).await),
                };
                // Whoever gave up what no version needs any more is not behind.
                if needed == Some(false) {
                    self.replica.conduct.possession().needless(node, &of.blob);
                }
                if needed != Some(true) {
                    continue;
                }
            }
            findings.push((*of, finding));
        }
    }

    /// The digest of a blob's bytes, from this disk or from whoever has them.
    async fn digest_of_bytes(&self, nonce: [u8; 32], id: BlobId) -> Option<[u8; 32]> {
        match self.blobs.find_blob(id, Priority::Background).await {
            Ok(blob) => Some(self.replica.env.offload(move || digest(&nonce, &blob.bytes)).await),
            Err(error) => {
                debug!(blob = ?id, %error, "nobody can tell what the bytes of a blob are");
                None
            }
        }
    }

    /// Whether a version that exists needs the blob: what only a row says may be long over. `None`
    /// while too few replicas can tell.
    pub(super) async fn is_needed(&self, of: &Use) -> Option<bool> {
        let (record, _) = self.records.read_record(of.key, Mode::Quorum).await.ok()?;
        Some(record.refers_to(&of.vid))
    }

    /// Notes what was found out, keeps it, and tells members what they lack.
    async fn note(
        &self,
        challenge: &Challenge<'_>,
        silent: &[NodeId],
        found: &[(NodeId, Vec<(Use, Finding)>)],
    ) -> Result<(), Error> {
        let (now_ms, conduct) = (self.replica.unix_ms(), &self.replica.conduct);
        for (node, findings) in found {
            let was_trusted = conduct.convicted(node).is_none();
            let random = challenge.random;
            conduct.possession().answered(now_ms, node, findings, random, &conduct.cadence);
            if was_trusted && conduct.convicted(node).is_some() {
                error!(peer = ?node, "a member claims to hold pieces that it cannot show");
                self.replica.wakes.steward.notify_one();
            }
        }
        for node in silent {
            conduct.possession().silent(now_ms, node, &conduct.cadence);
            metrics::counter!("dfs_proofs_total", "result" => "silent").increment(1);
        }
        let failed: Vec<(NodeId, BlobId)> =
            found.iter().flat_map(|(node, of)| self.told(*node, of)).collect();
        if !failed.is_empty() || !silent.is_empty() {
            self.save().await?;
        }
        let reports = failed.into_iter().map(|(node, id)| async move {
            let report = Ask::new(Priority::Background, Request::ReportCorrupt(id));
            let _ = self.rpc.ask(&node, 0, report).await;
        });
        join_all(reports).await;
        Ok(())
    }

    /// Counts and logs what a member showed. Returns what it should be told that it lacks.
    fn told(&self, node: NodeId, findings: &[(Use, Finding)]) -> Vec<(NodeId, BlobId)> {
        let mut failed = Vec::new();
        for (of, finding) in findings {
            let result = match finding {
                Finding::Proved => "proved",
                Finding::Lacks { .. } => "lacks",
                Finding::Wrong => "wrong",
            };
            metrics::counter!("dfs_proofs_total", "result" => result).increment(1);
            if *finding == Finding::Proved {
                continue;
            }
            failed.push((node, of.blob));
            if self.replica.conduct.may_log(self.replica.env.mono(), &node, result) {
                warn!(peer = ?node, blob = ?of.blob, result, "a member did not show a piece");
            }
        }
        failed
    }

    /// Waits while users wait for blobs, a bounded time.
    async fn give_way(&self) {
        let until = self.replica.env.mono() + GIVE_WAY_MAX;
        while self.replica.load.is_busy() && self.replica.env.mono() < until {
            self.replica.env.sleep(GIVE_WAY_STEP).await;
        }
    }
}

/// How long a challenge waits for users.
const GIVE_WAY_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether users wait.
const GIVE_WAY_STEP: Duration = Duration::from_millis(50);
