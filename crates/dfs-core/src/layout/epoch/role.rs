//! What a member may do, and whose word admits it.

use super::{
    ADMINS_MAX, BURNT_MAX, EpochError, EpochOp, EpochState, Member, MemberIdx, MemberState, Row,
    VAULTS_MAX, require,
};
use crate::id::{AdminId, InviteId, NodeId, Partition, VaultId};
use crate::quorum::Tally;

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Has the key of a vault: votes, and asks for changes.
    Gateway,
    /// Holds sealed data for others; an admin vouched for it.
    Storage,
    /// Nobody vouched for it: it holds nothing that counts, and decides nothing. What joined before
    /// there were admins, and whoever is between two changes of one epoch.
    Unvouched,
}

/// What an invite grants, to one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Which invite.
    pub invite: InviteId,
    /// What the machine becomes: a gateway, or a member that stores for others.
    pub role: Role,
    /// Bytes that count of what it offers.
    pub cap: u64,
    /// When the invite lapses, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// An invite that admits nobody any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burnt {
    /// Which.
    pub invite: InviteId,
    /// When it lapses by itself, in milliseconds since 1970.
    pub expires_ms: u64,
}

impl Burnt {
    /// Whether it is remembered still.
    fn counts(&self, now_ms: u64) -> bool {
        self.expires_ms.saturating_add(FORGET_AFTER_MS) >= now_ms
    }
}

impl EpochOp {
    /// A node becomes a member in a role.
    pub fn add(
        node: NodeId,
        idx: MemberIdx,
        zone: String,
        capacity: u64,
        role: Role,
        cap: u64,
    ) -> [Self; 2] {
        let state = MemberState::Active;
        let (unvouched, no_cap) = (Role::Unvouched, NO_CAP);
        let newcomer =
            Member { node_id: node, idx, zone, capacity, state, role: unvouched, cap: no_cap };
        [Self::AddMember(newcomer), Self::SetRole { node, role, cap }]
    }
}

impl EpochState {
    /// Whether the node is a gateway in good standing: one that may ask for what changes the layout
    /// or decides a conditional write.
    pub fn is_gateway(&self, node: &NodeId) -> bool {
        self.member(node)
            .is_some_and(|member| member.state != MemberState::Left && member.role == Role::Gateway)
    }

    /// Whether the node may bring new versions and ask for votes: a gateway may, and every member
    /// of before there were admins.
    pub fn may_write(&self, node: &NodeId) -> bool {
        if self.admins.is_empty() { self.is_member(node) } else { self.is_gateway(node) }
    }

    /// Whether what the node brings of a vault's records, and of what they use, is kept: a gateway
    /// brings what it likes, others what the cluster is for. Anyone can make up a vault, and sign
    /// with its key as much as fills a disk.
    pub fn may_bring(&self, node: &NodeId, vault: &VaultId) -> bool {
        self.vaults.is_empty() || self.vaults.contains(vault) || self.may_write(node)
    }

    /// Whether a member that a partition moves to has all its rows, having pulled them from these
    /// members: see [`Row::has_sources`]. Of the gateways that hold it so many are among them that
    /// one has every guarded write, but for those that are gone: what only these and a liar had
    /// would be hidden from every later quorum.
    pub fn has_sources(&self, row: &Row, pulled: impl Fn(MemberIdx) -> bool) -> bool {
        let stays = |idx: &&MemberIdx| {
            let member = self.members.get(usize::from(**idx));
            member.is_some_and(|member| {
                member.role == Role::Gateway
                    && matches!(member.state, MemberState::Active | MemberState::Draining)
            })
        };
        let gateways: Vec<MemberIdx> = row.current.iter().filter(stays).copied().collect();
        let told = gateways.iter().filter(|idx| pulled(**idx)).count();
        let is_guarded =
            gateways.is_empty() || told >= Tally::<NodeId>::read_majority(gateways.len());
        is_guarded && row.has_sources(pulled)
    }

    /// Of the replicas of a partition the one that asks the others to forget what nobody needs: the
    /// first gateway, or the first where none is.
    pub fn collector(&self, partition: Partition) -> Option<NodeId> {
        let set = self.read_set(partition);
        set.iter().find(|node| self.may_write(node)).or_else(|| set.first()).copied()
    }

    /// Whether the node may ask others to forget records of a partition: a gateway, and any replica
    /// where none is one.
    pub fn may_collect(&self, partition: Partition, node: &NodeId) -> bool {
        let is_led = self.collector(partition).is_some_and(|node| self.may_write(&node));
        self.may_write(node) || (!is_led && self.is_replica(partition, node))
    }

    /// Whether an admin vouched for the member; before there were admins, all counted.
    pub fn is_vouched(&self, member: &Member) -> bool {
        self.admins.is_empty() || member.role != Role::Unvouched
    }

    /// Who must be among the answers of a quorum over `sets` for it to be *guarded*: of each of
    /// these sets as many as of a set. They are the gateways of each set; where a set has none,
    /// each of its members. Then no storage member can hide from one guarded quorum what another
    /// one knows. Empty where every member of every set is a gateway, or before there were admins.
    pub fn guards(&self, sets: &[Vec<NodeId>]) -> Vec<Vec<NodeId>> {
        if self.admins.is_empty() {
            return Vec::new();
        }
        let mut guards = Vec::new();
        for set in sets {
            let gateways: Vec<NodeId> =
                set.iter().copied().filter(|node| self.is_gateway(node)).collect();
            match gateways.len() {
                0 => guards
                    .extend(set.iter().filter(|node| self.is_member(node)).map(|node| vec![*node])),
                all if all == set.len() => {}
                _ => guards.push(gateways),
            }
        }
        guards
    }

    /// Members that did not leave and that someone vouched for: whose word counts.
    pub fn counted(&self) -> impl Iterator<Item = &Member> {
        self.present().filter(|member| self.is_vouched(member))
    }

    /// Active gateways: those that may become voters.
    pub fn electable(&self) -> impl Iterator<Item = &Member> {
        self.active().filter(|member| self.may_write(&member.node_id))
    }

    pub(super) fn set_admins(&mut self, admins: &[AdminId]) -> Result<(), EpochError> {
        let distinct = admins.iter().collect::<std::collections::BTreeSet<_>>().len();
        let valid = !admins.is_empty() && admins.len() <= ADMINS_MAX && distinct == admins.len();
        require(valid, "not a valid set of admins")?;
        self.admins = admins.to_vec();
        Ok(())
    }

    pub(super) fn set_vaults(&mut self, vaults: &[VaultId]) -> Result<(), EpochError> {
        let distinct = vaults.iter().collect::<std::collections::BTreeSet<_>>().len();
        let valid = !vaults.is_empty() && vaults.len() <= VAULTS_MAX && distinct == vaults.len();
        require(valid && !self.admins.is_empty(), "not a valid set of vaults")?;
        self.vaults = vaults.to_vec();
        Ok(())
    }

    /// Whether an invite admits nobody any more.
    pub fn is_burnt(&self, invite: &InviteId) -> bool {
        self.burnt.iter().any(|burnt| burnt.invite == *invite)
    }

    /// How many more invites can be burnt now.
    pub fn room_to_burn(&self, now_ms: u64) -> usize {
        BURNT_MAX.saturating_sub(self.burnt.iter().filter(|burnt| burnt.counts(now_ms)).count())
    }

    pub(super) fn burn_invite(&mut self, burnt: Burnt, now_ms: u64) -> Result<(), EpochError> {
        require(!self.is_burnt(&burnt.invite), "the invite is burnt")?;
        self.burnt.retain(|burnt| burnt.counts(now_ms));
        require(self.burnt.len() < BURNT_MAX, "too many invites are burnt and have not lapsed")?;
        self.burnt.push(burnt);
        Ok(())
    }

    pub(super) fn set_role(
        &mut self,
        node: &NodeId,
        role: Role,
        cap: u64,
    ) -> Result<(), EpochError> {
        let is_voter = self.voters.contains(node);
        require(!is_voter || role == Role::Gateway, "a voter stays a gateway")?;
        let was_active = self.active().next().is_some();
        let member = self.present_member(node)?;
        (member.role, member.cap) = (role, cap);
        member.capacity = member.capacity.min(cap);
        let stays = !was_active || self.active().next().is_some();
        require(stays, "the last active member stays")
    }
}

/// A burnt invite is remembered this much longer than it lives, for clocks differ.
const FORGET_AFTER_MS: u64 = 24 * 60 * 60 * 1000;
/// Everything that a member offers counts.
pub const NO_CAP: u64 = u64::MAX;
