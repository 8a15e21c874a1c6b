//! The layout as a chain of decided epochs: members, voters, and which nodes hold each partition.
//!
//! Epoch `e + 1` is decided by a majority of the voters named in epoch `e`, and carries their
//! signatures, so anyone may pass it on. A partition moves in three epochs, *prepare* (write both
//! sets, read the old), *switch* (write both, read the new), *done* (the new set alone).

mod authority;
mod encoding;
mod moving;
mod proof;
mod recovery;
mod role;

pub use authority::{Authority, Deciders};
use moving::end_move;
pub use proof::deciders_after;
pub use recovery::{Heir, Loss, begins_with};
pub use role::{Burnt, Grant, NO_CAP, Role};

use ed25519_dalek::SigningKey;

use crate::codec::{Canonical, Writer};
use crate::id::{AdminId, ClusterId, NodeId, Partition, PartitionBits, VaultId};
use crate::paxos::Ballot;

/// A member's short number inside the table; never given out twice.
pub type MemberIdx = u16;

/// What a member is to the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// May hold partitions.
    Active,
    /// Gives its partitions away.
    Draining,
    /// Dead for long: treated as draining, and not waited for.
    Out,
    /// Gone for good; the id never comes back.
    Left,
}

/// A node as the layout knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node_id: NodeId,
    /// Its number in the rows.
    pub idx: MemberIdx,
    /// Its failure domain.
    pub zone: String,
    /// Bytes it offers, never more than `cap`.
    pub capacity: u64,
    /// Its standing.
    pub state: MemberState,
    /// What it may do.
    pub role: Role,
    /// Bytes that count of what it offers.
    pub cap: u64,
}

/// How far the move of a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No move: write and read `current`.
    Stable,
    /// Write `current` and `next`, read `current`.
    Prepare,
    /// Write `current` and `next`, read `next`.
    Switch,
}

/// Where one partition lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The epoch that last changed this row: older requests are refused.
    pub changed: u64,
    /// The replica set.
    pub current: Vec<MemberIdx>,
    /// The set it moves to; empty when stable.
    pub next: Vec<MemberIdx>,
    /// How far the move is.
    pub stage: Stage,
    /// The epoch that prepared the move; 0 when stable.
    pub prepare_epoch: u64,
    /// Nodes that may still hold data of this partition.
    pub former: Vec<MemberIdx>,
}

/// One decided layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochState {
    /// Raised only by manual recovery; epochs compare as (generation, number).
    pub generation: u64,
    /// The number, from 1.
    pub epoch: u64,
    /// The hash of the first epoch.
    pub cluster_id: ClusterId,
    /// How many bits of a hash select the partition.
    pub bits: PartitionBits,
    /// How many copies are wanted.
    pub target_copies: u8,
    /// Every member that ever joined, in order of `idx`.
    pub members: Vec<Member>,
    /// Who decides the next epoch.
    pub voters: Vec<NodeId>,
    /// Whose signature every change needs; none only in a cluster of the time before there were
    /// admins, until it names its own.
    pub admins: Vec<AdminId>,
    /// Whose records members keep for each other; of any vault where none is named, as in a cluster
    /// of the time before they were.
    pub vaults: Vec<VaultId>,
    /// Invites that admit nobody any more, until they lapse by themselves.
    pub burnt: Vec<Burnt>,
    /// One row for each partition.
    pub rows: Vec<Row>,
}

/// A change to the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EpochOp {
    /// A node becomes a member; its `idx` is the next free one.
    AddMember(Member),
    /// Who decides from the next epoch on: gateways.
    SetVoters(Vec<NodeId>),
    /// Whose signature every later change needs.
    SetAdmins(Vec<AdminId>),
    /// Whose records members keep for each other.
    SetVaults(Vec<VaultId>),
    /// What a member may do, and how many bytes count of what it offers.
    SetRole {
        /// Which.
        node: NodeId,
        /// What it may do.
        role: Role,
        /// Bytes that count.
        cap: u64,
    },
    /// An invite admits nobody any more, for it did or was taken back; invites that have lapsed
    /// since are forgotten.
    BurnInvite {
        /// Which, and when it lapses by itself.
        burnt: Burnt,
        /// The time, in milliseconds since 1970.
        now_ms: u64,
    },
    /// A partition begins to move to `next`.
    Prepare {
        /// The partition.
        partition: Partition,
        /// The set it moves to.
        next: Vec<MemberIdx>,
    },
    /// A prepared partition is read from its next set.
    Switch(Partition),
    /// A switched partition lives on its next set alone.
    Done(Partition),
    /// A prepared move is given up.
    Abort(Partition),
    /// A member's standing changes.
    SetState(NodeId, MemberState),
    /// A former holder has nothing of a partition any more.
    FormerClean {
        /// The partition.
        partition: Partition,
        /// The former holder.
        holder: MemberIdx,
    },
    /// A partition goes on with those of its replicas that did not leave, whatever they lack.
    Force(Partition),
    /// A member is in another zone now, or offers another number of bytes.
    UpdateMember {
        /// Which.
        node: NodeId,
        /// Its failure domain.
        zone: String,
        /// Bytes it offers.
        capacity: u64,
    },
}

/// What voters decide: the next epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochProposal {
    /// See [`EpochState::generation`].
    pub generation: u64,
    /// The number of the epoch to be.
    pub epoch: u64,
    /// The hash of the proposal decided before; random bytes in the first.
    pub previous: [u8; 32],
    /// The changes.
    pub ops: Vec<EpochOp>,
    /// The hash of the state they lead to.
    pub state_hash: [u8; 32],
    /// Who proposes.
    pub proposer: NodeId,
    /// The admin's signature under all of it; none only in epochs of the time before admins.
    pub authority: Option<Authority>,
}

/// One voter's signature under one ballot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// The voter.
    pub voter: NodeId,
    /// Its signature over the cluster, the slot, the ballot and the hash of the proposal.
    pub signature: [u8; 64],
}

/// A decided epoch, with the votes that prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochCert {
    /// What was decided.
    pub proposal: EpochProposal,
    /// Under which ballot.
    pub ballot: Ballot,
    /// By whom.
    pub votes: Vec<Vote>,
}

/// Why an epoch cannot follow another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// Not the next number, or built on another predecessor.
    #[error("the epoch does not follow the one known here")]
    NotNext,
    /// No admin of the cluster signed it.
    #[error("the epoch lacks the signature of an admin")]
    NotAuthorized,
    /// Too few genuine votes.
    #[error("the epoch lacks the votes of a majority of voters")]
    NotDecided,
    /// The ops do not lead to the state they claim.
    #[error("the epoch's changes lead to another state than it claims")]
    OtherState,
    /// An op makes no sense in this state.
    #[error("the epoch holds a change that is not allowed: {0}")]
    BadOp(&'static str),
}

impl EpochState {
    /// The first epoch of a new cluster: one gateway, which alone votes and holds every partition.
    /// `key` is the node's, `admin` that of whoever governs the cluster, `vault` whose files it is
    /// for.
    pub fn genesis(
        member: Member,
        nonce: [u8; 32],
        key: &SigningKey,
        admin: &SigningKey,
        vault: VaultId,
    ) -> (Self, EpochCert) {
        let node = member.node_id;
        let (admins, vaults) = (vec![AdminId::of(admin)], vec![vault]);
        let row = Row {
            changed: 1,
            current: vec![member.idx],
            next: Vec::new(),
            stage: Stage::Stable,
            prepare_epoch: 0,
            former: Vec::new(),
        };
        let newcomer = Member { role: Role::Unvouched, cap: NO_CAP, ..member };
        let ops = vec![
            EpochOp::AddMember(newcomer.clone()),
            EpochOp::SetAdmins(admins.clone()),
            EpochOp::SetVaults(vaults.clone()),
            EpochOp::SetRole { node, role: Role::Gateway, cap: NO_CAP },
            EpochOp::SetVoters(vec![node]),
        ];
        let mut state = Self {
            generation: 0,
            epoch: 1,
            cluster_id: ClusterId::new([0; 32]),
            bits: PartitionBits::GENESIS,
            target_copies: TARGET_COPIES,
            members: vec![Member { role: Role::Gateway, ..newcomer }],
            voters: vec![node],
            admins,
            vaults,
            burnt: Vec::new(),
            rows: vec![row; PartitionBits::GENESIS.count()],
        };
        let proposal = EpochProposal {
            generation: 0,
            epoch: 1,
            previous: nonce,
            ops,
            // The cluster's id is the hash of this proposal, so the state hashed here has none yet.
            state_hash: state.hash(),
            proposer: node,
            authority: None,
        };
        let proposal = proposal.authorized(admin, |proposal| ClusterId::new(proposal.hash()));
        state.cluster_id = ClusterId::new(proposal.hash());
        let cert = proposal.sign_alone(state.cluster_id, key);
        (state, cert)
    }

    /// A hash of the whole layout, without the cluster's id.
    pub fn hash(&self) -> [u8; 32] {
        let anonymous = Self { cluster_id: ClusterId::new([0; 32]), ..self.clone() };
        *blake3::hash(&anonymous.to_canonical()).as_bytes()
    }

    /// The member with this id.
    pub fn member(&self, node: &NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node_id == *node)
    }

    /// Whether the node is a member in good standing.
    pub fn is_member(&self, node: &NodeId) -> bool {
        self.member(node).is_some_and(|member| member.state != MemberState::Left)
    }

    /// Members that did not leave: whoever may hold data or keep it for others.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.state != MemberState::Left)
    }

    /// Whether any partition names the member: as a replica, now or once its move is done, or as
    /// one that may still hold something.
    pub fn is_named(&self, idx: MemberIdx) -> bool {
        self.holds(idx) || self.rows.iter().any(|row| row.former.contains(&idx))
    }

    /// Whether the member is a replica of any partition, now or once its move is done.
    pub fn holds(&self, idx: MemberIdx) -> bool {
        self.rows.iter().any(|row| row.current.contains(&idx) || row.next.contains(&idx))
    }

    /// Members that may hold partitions.
    pub fn active(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| self.may_hold(member))
    }

    pub(super) fn may_hold(&self, member: &Member) -> bool {
        member.state == MemberState::Active && self.is_vouched(member)
    }

    /// The node behind a row's number.
    pub fn node(&self, idx: MemberIdx) -> Option<NodeId> {
        self.members.get(usize::from(idx)).map(|member| member.node_id)
    }

    fn nodes(&self, set: &[MemberIdx]) -> Vec<NodeId> {
        set.iter().filter_map(|idx| self.node(*idx)).collect()
    }

    /// The row of a partition.
    ///
    /// # Panics
    /// When `partition` is not below the partition count; [`PartitionBits`] makes only such ones.
    pub fn row(&self, partition: Partition) -> &Row {
        &self.rows[usize::from(partition)]
    }

    /// The sets a write must reach a majority of, each.
    pub fn write_sets(&self, partition: Partition) -> Vec<Vec<NodeId>> {
        let row = self.row(partition);
        match row.stage {
            Stage::Stable => vec![self.nodes(&row.current)],
            Stage::Prepare | Stage::Switch => {
                vec![self.nodes(&row.current), self.nodes(&row.next)]
            }
        }
    }

    /// The set a read asks.
    pub fn read_set(&self, partition: Partition) -> Vec<NodeId> {
        let row = self.row(partition);
        match row.stage {
            Stage::Stable | Stage::Prepare => self.nodes(&row.current),
            Stage::Switch => self.nodes(&row.next),
        }
    }

    /// Everyone that may hold data of a partition and can be asked for it, likeliest first, each
    /// once.
    pub fn holders(&self, partition: Partition) -> Vec<NodeId> {
        let row = self.row(partition);
        let mut nodes: Vec<NodeId> = Vec::new();
        for idx in row.next.iter().chain(&row.current).chain(&row.former) {
            let Some(member) = self.members.get(usize::from(*idx)) else { continue };
            if member.state != MemberState::Left && !nodes.contains(&member.node_id) {
                nodes.push(member.node_id);
            }
        }
        nodes
    }

    /// Whether the node should hold a partition, now or once its move is done.
    pub fn is_replica(&self, partition: Partition, node: &NodeId) -> bool {
        let row = self.row(partition);
        row.current.iter().chain(&row.next).any(|idx| self.node(*idx) == Some(*node))
    }

    /// The partitions that a node should hold, now or once their moves are done. `O(partitions)`.
    pub fn partitions_of(&self, node: &NodeId) -> Vec<Partition> {
        let all = (0..=Partition::MAX).take(self.bits.count());
        all.filter(|partition| self.is_replica(*partition, node)).collect()
    }

    /// How many copies every partition has once the cluster is at rest: members that offer no
    /// space hold none, unless none offers any.
    pub fn copies_at_rest(&self) -> usize {
        let offering = self.active().filter(|member| member.capacity > 0).count();
        let holders = if offering == 0 { self.active().count() } else { offering };
        usize::from(self.target_copies).min(holders)
    }

    /// Partitions that move, or must: they have fewer copies than the members allow, or one on a
    /// member that is on its way out.
    pub fn moving(&self) -> usize {
        let at_rest = self.copies_at_rest();
        let stays = |idx: &MemberIdx| {
            let member = self.members.get(usize::from(*idx));
            member.is_some_and(|member| self.may_hold(member))
        };
        let unsettled = |row: &&Row| {
            let all_stay = row.current.iter().all(stays);
            row.stage != Stage::Stable || row.current.len() < at_rest || !all_stay
        };
        self.rows.iter().filter(unsettled).count()
    }

    /// The proposal of `ops` on top of this state, which an admin has yet to sign, and the state it
    /// leads to.
    ///
    /// # Errors
    /// [`EpochError::BadOp`] when an op is not allowed here.
    pub fn propose(
        &self,
        previous: [u8; 32],
        ops: Vec<EpochOp>,
        proposer: NodeId,
    ) -> Result<(Self, EpochProposal), EpochError> {
        let state = self.apply(&ops)?;
        let proposal = EpochProposal {
            generation: state.generation,
            epoch: state.epoch,
            previous,
            ops,
            state_hash: state.hash(),
            proposer,
            authority: None,
        };
        Ok((state, proposal))
    }

    /// The state after a decided epoch, once every part of its proof holds.
    ///
    /// `previous` is the hash of the proposal that led to `self`.
    ///
    /// # Errors
    /// [`EpochError`] says what does not hold; `self` stays the newest.
    pub fn follow(&self, previous: [u8; 32], cert: &EpochCert) -> Result<Self, EpochError> {
        if !self.is_next(previous, &cert.proposal) {
            return Err(EpochError::NotNext);
        }
        cert.verify_votes(self.cluster_id, &self.voters)?;
        self.check(previous, &cert.proposal)
    }

    /// The state after a proposal, if it may follow this one: what a voter looks at before it
    /// accepts. `previous` is the hash of the proposal that led to `self`.
    ///
    /// # Errors
    /// [`EpochError`] says why it may not.
    pub fn check(&self, previous: [u8; 32], proposal: &EpochProposal) -> Result<Self, EpochError> {
        if !self.is_next(previous, proposal) {
            return Err(EpochError::NotNext);
        }
        proposal.verify_authority(self.cluster_id, &self.admins)?;
        let state = self.apply(&proposal.ops)?;
        if state.hash() != proposal.state_hash {
            return Err(EpochError::OtherState);
        }
        Ok(state)
    }

    fn is_next(&self, previous: [u8; 32], proposal: &EpochProposal) -> bool {
        proposal.generation == self.generation
            && Some(proposal.epoch) == self.epoch.checked_add(1)
            && proposal.previous == previous
    }

    fn apply(&self, ops: &[EpochOp]) -> Result<Self, EpochError> {
        // A state from a hostile peer may claim to be the last one there can be.
        let next = self.epoch.checked_add(1);
        self.apply_as(next.ok_or(EpochError::BadOp("there is no later epoch"))?, ops)
    }

    fn apply_as(&self, epoch: u64, ops: &[EpochOp]) -> Result<Self, EpochError> {
        let mut state = Self { epoch, ..self.clone() };
        for op in ops {
            state.apply_one(op)?;
        }
        Ok(state)
    }

    fn apply_one(&mut self, op: &EpochOp) -> Result<(), EpochError> {
        match op {
            EpochOp::AddMember(member) => {
                let fresh = self.member(&member.node_id).is_none()
                    && usize::from(member.idx) == self.members.len()
                    && self.members.len() < MEMBERS_MAX
                    && member.state == MemberState::Active
                    && (member.role, member.cap) == (Role::Unvouched, NO_CAP);
                require(fresh, "the member is not new")?;
                self.members.push(member.clone());
            }
            EpochOp::SetVoters(voters) => {
                let known = voters.iter().all(|voter| self.may_write(voter));
                let distinct = voters.iter().collect::<std::collections::BTreeSet<_>>().len();
                let odd = voters.len() % 2 == 1 && voters.len() <= VOTERS_MAX;
                require(known && odd && distinct == voters.len(), "not a valid set of voters")?;
                self.voters.clone_from(voters);
            }
            EpochOp::SetAdmins(admins) => self.set_admins(admins)?,
            EpochOp::SetVaults(vaults) => self.set_vaults(vaults)?,
            EpochOp::SetRole { node, role, cap } => self.set_role(node, *role, *cap)?,
            EpochOp::BurnInvite { burnt, now_ms } => self.burn_invite(*burnt, *now_ms)?,
            EpochOp::SetState(node, to) => {
                self.present_member(node)?.state = *to;
                require(self.active().next().is_some(), "the last active member stays")?;
            }
            EpochOp::FormerClean { partition, holder } => {
                let row = self.rows.get_mut(usize::from(*partition));
                let row = row.ok_or(EpochError::BadOp("no such partition"))?;
                require(row.former.contains(holder), "no former holder of the partition")?;
                row.former.retain(|idx| idx != holder);
            }
            EpochOp::UpdateMember { node, zone, capacity } => {
                let member = self.present_member(node)?;
                member.zone.clone_from(zone);
                member.capacity = (*capacity).min(member.cap);
            }
            EpochOp::Force(partition) => self.force(*partition)?,
            EpochOp::Prepare { partition, next } => self.prepare(*partition, next)?,
            EpochOp::Switch(partition) => {
                let row = self.moving_row(*partition, Stage::Prepare)?;
                row.stage = Stage::Switch;
            }
            EpochOp::Done(partition) => {
                let row = self.moving_row(*partition, Stage::Switch)?;
                let next = std::mem::take(&mut row.next);
                let old = std::mem::replace(&mut row.current, next);
                end_move(row, &old)?;
            }
            EpochOp::Abort(partition) => {
                let row = self.moving_row(*partition, Stage::Prepare)?;
                let aborted = std::mem::take(&mut row.next);
                end_move(row, &aborted)?;
            }
        }
        Ok(())
    }

    fn present_member(&mut self, node: &NodeId) -> Result<&mut Member, EpochError> {
        let member = self.members.iter_mut().find(|member| member.node_id == *node);
        let member = member.ok_or(EpochError::BadOp("no such member"))?;
        require(member.state != MemberState::Left, "a member that left stays away")?;
        Ok(member)
    }
}

fn require(holds: bool, why: &'static str) -> Result<(), EpochError> {
    if holds { Ok(()) } else { Err(EpochError::BadOp(why)) }
}

impl EpochProposal {
    /// The hash that votes, the next epoch and the admin's signature refer to: of all but that
    /// signature.
    pub fn hash(&self) -> [u8; 32] {
        let mut out = Writer::default();
        self.encode_unsigned(&mut out);
        *blake3::hash(&out.into_vec()).as_bytes()
    }

    /// Whether it says who may decide from the next epoch on.
    pub fn changes_deciders(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, EpochOp::SetVoters(_) | EpochOp::SetAdmins(_)))
    }
}

/// Copies a new cluster keeps of everything: any one node may be lost without a gap in service.
pub const TARGET_COPIES: u8 = 3;
/// Members a chain may ever name: a snapshot must fit one frame.
pub const MEMBERS_MAX: usize = 1000;
/// Nodes that may still hold data of one partition and have not been cleaned.
pub const FORMER_MAX: usize = 64;
/// More voters decide no better and slower.
pub const VOTERS_MAX: usize = 7;
/// Admins of one cluster: each is a vault, of a household or a small firm.
pub const ADMINS_MAX: usize = 16;
/// Vaults whose files one cluster keeps.
pub const VAULTS_MAX: usize = ADMINS_MAX;
/// Invites that were used or taken back and have not lapsed: a snapshot must fit one frame.
pub const BURNT_MAX: usize = 1000;
