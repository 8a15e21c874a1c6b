//! Governing the cluster: layouts that it makes up, and ballots that leave no room for others.

use dfs_core::id::{AdminId, NodeId, RecordKey};
use dfs_core::layout::epoch::{EpochCert, EpochOp, EpochProposal, EpochState, MemberState, Vote};
use dfs_core::paxos::Ballot;
use dfs_core::record::ballot::SignedBallot;
use dfs_core::replica::sync::Table;
use dfs_p2p::message::{Priority, Request, Response};
use ed25519_dalek::SigningKey;

use crate::attacks::Tally;
use crate::lies::{last_ballot, last_ballot_of_record};
use crate::member::Member;

/// Takes every other member out and votes alone: proposed, accepted and told as decided, signed
/// with a key of its own, in every form that the protocol has.
pub(crate) async fn make_up_layouts(member: &Member, node: NodeId) -> Tally {
    let mut tally = Tally::default();
    let me = member.network.node_id();
    let Some((state, cert)) = newest(member, &node).await else { return tally };
    let admin = SigningKey::from_bytes(&member.env.random());
    let others = state.present().map(|member| member.node_id).filter(|other| *other != me);
    let left = |node| EpochOp::SetState(node, MemberState::Left);
    let own = EpochOp::SetAdmins(vec![AdminId::of(&admin)]);
    for ops in [others.take(1).map(left).collect(), vec![own], Vec::new()] {
        let previous = cert.proposal.hash();
        let Ok((_, unsigned)) = state.propose(previous, ops, me) else { continue };
        let signed = unsigned.clone().authorized(&admin, |_| state.cluster_id);
        let authority = cert.proposal.authority.clone();
        let stolen = EpochProposal { authority, ..unsigned.clone() };
        for proposal in [unsigned, signed, stolen] {
            let decided = proposal.clone().sign_alone(state.cluster_id, member.key());
            let elected = elect(member, &state, &proposal, &mut tally).await;
            for cert in [decided, elected] {
                for node in member.victims() {
                    let decided = Request::EpochDecided(Box::new(cert.clone()));
                    tally.note(&member.ask(&node, Priority::Layout, state.epoch, decided).await);
                }
            }
            let prepare = Request::EpochPrepare { epoch: proposal.epoch, ballot: last_ballot() };
            tally.note(&member.ask(&node, Priority::Layout, state.epoch, prepare).await);
        }
    }
    tally
}

/// Has all who vote accept a proposal, as an honest proposer would; gives what they signed.
async fn elect(
    member: &Member,
    state: &EpochState,
    proposal: &EpochProposal,
    tally: &mut Tally,
) -> EpochCert {
    let ballot = Ballot { round: 1 << 16, node: NodeId::new(member.env.random()) };
    let mut votes = Vec::new();
    for voter in member.victims() {
        let prepare = Request::EpochPrepare { epoch: proposal.epoch, ballot };
        tally.note(&member.ask(&voter, Priority::Layout, state.epoch, prepare).await);
        let accept = Request::EpochAccept { ballot, proposal: Box::new(proposal.clone()) };
        let answer = member.ask(&voter, Priority::Layout, state.epoch, accept).await;
        tally.note(&answer);
        if let Ok(Ok(Response::EpochRegister { signature: Some(signature), .. })) =
            answer.map(|answer| answer.result)
        {
            votes.push(Vote { voter, signature });
        }
    }
    EpochCert { proposal: proposal.clone(), ballot, votes }
}

/// Promises of the highest ballot, for names that exist: nobody could decide about them any more.
pub(crate) async fn use_up_ballots(member: &Member, node: NodeId) -> Tally {
    let mut tally = Tally::default();
    let ballot = last_ballot_of_record();
    let vault = SigningKey::from_bytes(&member.env.random());
    for key in some_keys(member, &node).await {
        for ballot in [SignedBallot::Unsigned(ballot), SignedBallot::sign(&vault, &key, ballot)] {
            let prepare = Request::CasPrepare { key, ballot };
            tally.note(&member.ask(&node, Priority::Records, 0, prepare).await);
        }
    }
    tally
}

async fn newest(member: &Member, node: &NodeId) -> Option<(EpochState, EpochCert)> {
    let get = Request::ChainGet { from: 0 };
    let answer = member.ask(node, Priority::Layout, 0, get).await.ok()?;
    match answer.result {
        Ok(Response::Chain { snapshot: Some(state), mut certs }) => Some((*state, certs.pop()?)),
        _ => None,
    }
}

async fn some_keys(member: &Member, node: &NodeId) -> Vec<RecordKey> {
    let mut keys = Vec::new();
    for partition in member.partitions(Table::Records, 32) {
        keys.extend(member.record_keys(node, partition).await);
    }
    keys
}
