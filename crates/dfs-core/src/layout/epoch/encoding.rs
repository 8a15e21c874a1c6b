//! The canonical encoding of the types above.
//!
//! What was decided before there were admins, or before vaults were named, keeps its bytes, for its
//! hash is what later epochs build on: a state without admins or vaults, a proposal without an
//! authority.

use super::{
    ADMINS_MAX, Authority, BURNT_MAX, Burnt, EpochCert, EpochOp, EpochProposal, EpochState,
    FORMER_MAX, Grant, MEMBERS_MAX, Member, MemberIdx, MemberState, NO_CAP, Role, Row, Stage,
    VAULTS_MAX, VOTERS_MAX, Vote,
};
use crate::address::TEXT_BYTES_MAX;
use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::id::{AdminId, ClusterId, InviteId, NodeId, PartitionBits};
use crate::paxos::Ballot;

/// A state that names no admins, and no roles of members.
const STATE_BEFORE_ADMINS: u8 = 1;
/// One that names no vaults.
const STATE_BEFORE_VAULTS: u8 = 2;
const STATE_FORMAT: u8 = 3;
/// Where a proposal of before has its generation; one is never so high, for a generation has 2^32
/// epochs of the 2^64.
const SIGNED: u64 = u64::MAX;
const CERT_FORMAT: u8 = 1;
/// Nodes in one replica set.
const SET_MAX: usize = 8;
/// One for each partition, and as many for members.
const OPS_MAX: usize = (1 << 16) + MEMBERS_MAX;

impl Canonical for u16 {
    fn encode(&self, out: &mut Writer) {
        out.u16(*self);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        input.u16()
    }
}

impl Canonical for MemberState {
    fn encode(&self, out: &mut Writer) {
        out.u8(match self {
            Self::Active => 1,
            Self::Draining => 2,
            Self::Out => 3,
            Self::Left => 4,
        });
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.u8()? {
            1 => Ok(Self::Active),
            2 => Ok(Self::Draining),
            3 => Ok(Self::Out),
            4 => Ok(Self::Left),
            _ => Err(DecodeError::Invalid("member state")),
        }
    }
}

impl Canonical for Role {
    fn encode(&self, out: &mut Writer) {
        out.u8(match self {
            Self::Gateway => 1,
            Self::Storage => 2,
            Self::Unvouched => 3,
        });
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.u8()? {
            1 => Ok(Self::Gateway),
            2 => Ok(Self::Storage),
            3 => Ok(Self::Unvouched),
            _ => Err(DecodeError::Invalid("role")),
        }
    }
}

/// A member as it joins; its role is a matter of its own.
impl Canonical for Member {
    fn encode(&self, out: &mut Writer) {
        self.node_id.encode(out);
        out.u16(self.idx);
        out.bytes(self.zone.as_bytes());
        out.u64(self.capacity);
        self.state.encode(out);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            node_id: NodeId::decode(input)?,
            idx: input.u16()?,
            zone: input.string("zone", TEXT_BYTES_MAX)?,
            capacity: input.u64()?,
            state: MemberState::decode(input)?,
            role: Role::Unvouched,
            cap: NO_CAP,
        })
    }
}

/// A member's role, and how many bytes count of what it offers.
#[derive(Clone, Copy)]
struct Standing(Role, u64);

impl Canonical for Standing {
    fn encode(&self, out: &mut Writer) {
        self.0.encode(out);
        out.u64(self.1);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self(Role::decode(input)?, input.u64()?))
    }
}

impl Canonical for Grant {
    fn encode(&self, out: &mut Writer) {
        self.invite.encode(out);
        self.role.encode(out);
        out.u64(self.cap);
        out.u64(self.expires_ms);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let (invite, role) = (InviteId::decode(input)?, Role::decode(input)?);
        if role == Role::Unvouched {
            return Err(DecodeError::Invalid("role"));
        }
        Ok(Self { invite, role, cap: input.u64()?, expires_ms: input.u64()? })
    }
}

impl Canonical for Burnt {
    fn encode(&self, out: &mut Writer) {
        self.invite.encode(out);
        out.u64(self.expires_ms);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { invite: InviteId::decode(input)?, expires_ms: input.u64()? })
    }
}

impl Canonical for Row {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.changed);
        out.list(&self.current);
        out.list(&self.next);
        out.u8(match self.stage {
            Stage::Stable => 1,
            Stage::Prepare => 2,
            Stage::Switch => 3,
        });
        out.u64(self.prepare_epoch);
        out.list(&self.former);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let changed = input.u64()?;
        let current = input.list::<MemberIdx>("current", SET_MAX)?;
        let next = input.list::<MemberIdx>("next", SET_MAX)?;
        let stage = match input.u8()? {
            1 => Stage::Stable,
            2 => Stage::Prepare,
            3 => Stage::Switch,
            _ => return Err(DecodeError::Invalid("stage")),
        };
        if current.is_empty() || (stage == Stage::Stable) != next.is_empty() {
            return Err(DecodeError::Invalid("row"));
        }
        let (prepare_epoch, former) = (input.u64()?, input.list("former", FORMER_MAX)?);
        Ok(Self { changed, current, next, stage, prepare_epoch, former })
    }
}

impl Canonical for EpochState {
    fn encode(&self, out: &mut Writer) {
        out.u8(match (self.admins.is_empty(), self.vaults.is_empty()) {
            (true, _) => STATE_BEFORE_ADMINS,
            (false, true) => STATE_BEFORE_VAULTS,
            (false, false) => STATE_FORMAT,
        });
        out.u64(self.generation);
        out.u64(self.epoch);
        self.cluster_id.encode(out);
        out.u8(self.bits.get());
        out.u8(self.target_copies);
        out.list(&self.members);
        out.list(&self.voters);
        out.list(&self.rows);
        if !self.admins.is_empty() {
            out.list(&self.admins);
            let standing = self.members.iter().map(|member| Standing(member.role, member.cap));
            out.list(&standing.collect::<Vec<_>>());
            out.list(&self.burnt);
            if !self.vaults.is_empty() {
                out.list(&self.vaults);
            }
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let format = input.u8()?;
        if !(STATE_BEFORE_ADMINS..=STATE_FORMAT).contains(&format) {
            return Err(DecodeError::UnknownVersion(format));
        }
        let (generation, epoch) = (input.u64()?, input.u64()?);
        let cluster_id = ClusterId::decode(input)?;
        let bits = PartitionBits::new(input.u8()?)?;
        let target_copies = input.u8()?;
        let mut members: Vec<Member> = input.list("members", MEMBERS_MAX)?;
        let in_order = members.iter().enumerate().all(|(at, m)| usize::from(m.idx) == at);
        let voters = input.list("voters", VOTERS_MAX)?;
        let rows: Vec<Row> = input.list("rows", bits.count())?;
        let known = |row: &Row| {
            let mut all = row.current.iter().chain(&row.next).chain(&row.former);
            all.all(|idx| usize::from(*idx) < members.len())
        };
        if !in_order || rows.len() != bits.count() || !rows.iter().all(known) {
            return Err(DecodeError::Invalid("layout"));
        }
        let (mut admins, mut burnt, mut vaults) = (Vec::new(), Vec::new(), Vec::new());
        if format > STATE_BEFORE_ADMINS {
            admins = input.list("admins", ADMINS_MAX)?;
            let standing: Vec<Standing> = input.list("roles", MEMBERS_MAX)?;
            if admins.is_empty() || standing.len() != members.len() {
                return Err(DecodeError::Invalid("roles"));
            }
            for (member, Standing(role, cap)) in members.iter_mut().zip(standing) {
                (member.role, member.cap) = (role, cap);
            }
            burnt = input.list("burnt invites", BURNT_MAX)?;
        }
        if format > STATE_BEFORE_VAULTS {
            vaults = input.list("vaults", VAULTS_MAX)?;
            if vaults.is_empty() {
                return Err(DecodeError::Invalid("vaults"));
            }
        }
        Ok(Self {
            generation,
            epoch,
            cluster_id,
            bits,
            target_copies,
            members,
            voters,
            admins,
            vaults,
            burnt,
            rows,
        })
    }
}

impl Canonical for EpochOp {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::AddMember(member) => {
                out.u8(1);
                member.encode(out);
            }
            Self::SetVoters(voters) => {
                out.u8(2);
                out.list(voters);
            }
            Self::Prepare { partition, next } => {
                out.u8(3);
                out.u16(*partition);
                out.list(next);
            }
            Self::Switch(partition) => {
                out.u8(4);
                out.u16(*partition);
            }
            Self::Done(partition) => {
                out.u8(5);
                out.u16(*partition);
            }
            Self::Abort(partition) => {
                out.u8(6);
                out.u16(*partition);
            }
            Self::SetState(node, state) => {
                out.u8(7);
                node.encode(out);
                state.encode(out);
            }
            Self::UpdateMember { node, zone, capacity } => {
                out.u8(8);
                node.encode(out);
                out.bytes(zone.as_bytes());
                out.u64(*capacity);
            }
            Self::FormerClean { partition, holder } => {
                out.u8(9);
                out.u16(*partition);
                out.u16(*holder);
            }
            Self::Force(partition) => {
                out.u8(10);
                out.u16(*partition);
            }
            Self::SetAdmins(admins) => {
                out.u8(11);
                out.list(admins);
            }
            Self::SetRole { node, role, cap } => {
                out.u8(12);
                node.encode(out);
                role.encode(out);
                out.u64(*cap);
            }
            Self::BurnInvite { burnt, now_ms } => {
                out.u8(13);
                burnt.encode(out);
                out.u64(*now_ms);
            }
            Self::SetVaults(vaults) => {
                out.u8(14);
                out.list(vaults);
            }
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match input.u8()? {
            1 => Self::AddMember(Member::decode(input)?),
            2 => Self::SetVoters(input.list("voters", VOTERS_MAX)?),
            3 => Self::Prepare { partition: input.u16()?, next: input.list("next", SET_MAX)? },
            4 => Self::Switch(input.u16()?),
            5 => Self::Done(input.u16()?),
            6 => Self::Abort(input.u16()?),
            7 => Self::SetState(NodeId::decode(input)?, MemberState::decode(input)?),
            8 => Self::UpdateMember {
                node: NodeId::decode(input)?,
                zone: input.string("zone", TEXT_BYTES_MAX)?,
                capacity: input.u64()?,
            },
            9 => Self::FormerClean { partition: input.u16()?, holder: input.u16()? },
            10 => Self::Force(input.u16()?),
            11 => Self::SetAdmins(input.list("admins", ADMINS_MAX)?),
            12 => Self::SetRole {
                node: NodeId::decode(input)?,
                role: Role::decode(input)?,
                cap: input.u64()?,
            },
            13 => Self::BurnInvite { burnt: Burnt::decode(input)?, now_ms: input.u64()? },
            14 => Self::SetVaults(input.list("vaults", VAULTS_MAX)?),
            _ => return Err(DecodeError::Invalid("epoch op")),
        })
    }
}

impl Canonical for Vote {
    fn encode(&self, out: &mut Writer) {
        self.voter.encode(out);
        out.fixed(&self.signature);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { voter: NodeId::decode(input)?, signature: input.array()? })
    }
}

impl EpochProposal {
    /// All but the admin's signature: what is hashed, voted on and signed.
    pub(super) fn encode_unsigned(&self, out: &mut Writer) {
        if let Some(authority) = &self.authority {
            out.u64(SIGNED);
            authority.admin.encode(out);
        }
        out.u64(self.generation);
        out.u64(self.epoch);
        out.fixed(&self.previous);
        out.list(&self.ops);
        out.fixed(&self.state_hash);
        self.proposer.encode(out);
    }
}

impl Canonical for EpochProposal {
    fn encode(&self, out: &mut Writer) {
        self.encode_unsigned(out);
        if let Some(authority) = &self.authority {
            out.fixed(&authority.signature);
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let (admin, generation) = match input.u64()? {
            SIGNED => (Some(AdminId::decode(input)?), input.u64()?),
            generation => (None, generation),
        };
        let mut proposal = Self {
            generation,
            epoch: input.u64()?,
            previous: input.array()?,
            ops: input.list("ops", OPS_MAX)?,
            state_hash: input.array()?,
            proposer: NodeId::decode(input)?,
            authority: None,
        };
        if generation == SIGNED {
            return Err(DecodeError::Invalid("generation"));
        }
        if let Some(admin) = admin {
            proposal.authority = Some(Authority { admin, signature: input.array()? });
        }
        Ok(proposal)
    }
}

impl Canonical for EpochCert {
    fn encode(&self, out: &mut Writer) {
        out.u8(CERT_FORMAT);
        self.proposal.encode(out);
        self.ballot.encode(out);
        out.list(&self.votes);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.u8()? {
            CERT_FORMAT => {}
            other => return Err(DecodeError::UnknownVersion(other)),
        }
        Ok(Self {
            proposal: EpochProposal::decode(input)?,
            ballot: Ballot::decode(input)?,
            votes: input.list("votes", VOTERS_MAX)?,
        })
    }
}
