//! Facts that nodes publish about themselves: signed, and replaced only by newer ones.

use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};

use crate::address::TEXT_BYTES_MAX;
use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::hlc::Hlc;
use crate::id::{NodeId, Partition};
use crate::node::liveness::Reach;
use crate::signature::{BadSignature, verify_signature};

/// What one node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// The node.
    pub node_id: NodeId,
    /// Which start of the node: a boot counter in the upper 32 bits, random bits below.
    pub incarnation: u64,
    /// Orders what the node says: a later statement has a higher number, also after a restart.
    pub seq: Hlc,
    /// Where to dial it, most preferred first, as `ip:port`.
    pub addrs: Vec<String>,
    /// Its failure domain.
    pub zone: String,
    /// Bytes it offers.
    pub capacity: u64,
    /// Bytes of blobs it holds.
    pub used: u64,
    /// The program's version.
    pub build: String,
    /// The newest epoch it has on disk.
    pub durable_epoch: u64,
    /// Chunks it should hold and does not yet.
    pub repair_queue: u64,
    /// Of these, those that existing files need and no replica has a good copy of.
    pub lost: u64,
    /// Progress of moves it takes part in: partitions whose rows it has pulled.
    pub synced: Vec<MoveFact>,
    /// Progress of moves: partitions whose referenced chunks it has on disk.
    pub bodies: Vec<MoveFact>,
    /// Partitions it once held and has nothing of any more, with the epoch that last changed each.
    pub emptied: Vec<MoveFact>,
    /// The members it has a connection to.
    pub reach: Reach,
    /// When it last kept no rows for others.
    pub clean: Clean,
    /// The node's signature over everything above.
    pub signature: [u8; 64],
}

/// An info whose signature was checked: the named node said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genuine(NodeInfo);

impl Genuine {
    /// What the node said.
    pub fn into_info(self) -> NodeInfo {
        self.0
    }
}

impl std::ops::Deref for Genuine {
    type Target = NodeInfo;

    fn deref(&self) -> &NodeInfo {
        &self.0
    }
}

/// A moment at which a node held no record and no reference row that others should hold: every
/// write it took in for them had reached them. The default is never, or not now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clean {
    /// When, by its clock.
    pub at: Hlc,
    /// The layout that said who the others are.
    pub epoch: u64,
}

impl Clean {
    /// What to tell of the newest look, `self`, when `told` was told last: at once that there are
    /// rows of others or that another layout was looked at, and every so often that there still are
    /// none.
    #[must_use]
    pub fn to_tell(self, told: Self, every: Duration) -> Self {
        // Also when the clock was set back: what it told while it was ahead says nothing of now.
        let apart_ms = self.at.unix_ms().abs_diff(told.at.unix_ms());
        let is_due = Duration::from_millis(apart_ms) >= every;
        let is_news = [self, told].contains(&Self::default()) || self.epoch != told.epoch;
        if is_news || is_due { self } else { told }
    }
}

/// A range of partitions for which something is done that an epoch asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveFact {
    /// First partition.
    pub first: Partition,
    /// Last partition, included.
    pub last: Partition,
    /// The epoch that prepared the move; of what a former holder cleaned, the one that ended it.
    pub prepare_epoch: u64,
}

impl MoveFact {
    /// Whether the fact speaks of this partition and this move.
    pub fn covers(&self, partition: Partition, prepare_epoch: u64) -> bool {
        (self.first..=self.last).contains(&partition) && self.prepare_epoch == prepare_epoch
    }
}

/// Joins single partitions, in ascending order, into ranges, the first [`FACTS_MAX`] of them: what
/// is left over is told once these are dealt with.
pub fn ranges(done: impl IntoIterator<Item = (Partition, u64)>) -> Vec<MoveFact> {
    let mut facts: Vec<MoveFact> = Vec::new();
    for (partition, prepare_epoch) in done {
        match facts.last_mut() {
            Some(fact)
                if fact.prepare_epoch == prepare_epoch
                    && fact.last.checked_add(1) == Some(partition) =>
            {
                fact.last = partition;
            }
            _ => facts.push(MoveFact { first: partition, last: partition, prepare_epoch }),
        }
    }
    facts.truncate(FACTS_MAX);
    facts
}

impl NodeInfo {
    /// Signs the info with the node's own key.
    pub fn sign(mut self, key: &SigningKey) -> Self {
        self.signature = key.sign(&self.signed_bytes()).to_bytes();
        self
    }

    /// Checks that the named node itself said this. One signature check.
    ///
    /// # Errors
    /// [`BadSignature`] when it did not.
    pub fn verify(&self) -> Result<(), BadSignature> {
        verify_signature(self.node_id.as_bytes(), &self.signed_bytes(), &self.signature)
    }

    /// The same, once the named node is known to have said it. One signature check.
    ///
    /// # Errors
    /// [`BadSignature`] when it did not.
    pub fn genuine(self) -> Result<Genuine, BadSignature> {
        self.verify()?;
        Ok(Genuine(self))
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.fixed(b"dfs-node-info-v1\0");
        self.encode_facts(&mut out);
        out.into_vec()
    }

    fn encode_facts(&self, out: &mut Writer) {
        self.node_id.encode(out);
        out.u64(self.incarnation);
        out.u64(self.seq.0);
        out.count(self.addrs.len());
        self.addrs.iter().for_each(|addr| out.bytes(addr.as_bytes()));
        out.bytes(self.zone.as_bytes());
        out.u64(self.capacity);
        out.u64(self.used);
        out.bytes(self.build.as_bytes());
        out.u64(self.durable_epoch);
        out.u64(self.repair_queue);
        out.u64(self.lost);
        out.list(&self.synced);
        out.list(&self.bodies);
        out.list(&self.emptied);
        self.reach.encode(out);
        out.u64(self.clean.at.0);
        out.u64(self.clean.epoch);
    }
}

impl Canonical for MoveFact {
    fn encode(&self, out: &mut Writer) {
        out.u16(self.first);
        out.u16(self.last);
        out.u64(self.prepare_epoch);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { first: input.u16()?, last: input.u16()?, prepare_epoch: input.u64()? })
    }
}

impl Canonical for NodeInfo {
    fn encode(&self, out: &mut Writer) {
        out.u8(INFO_FORMAT);
        self.encode_facts(out);
        out.fixed(&self.signature);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.u8()? {
            INFO_FORMAT => {}
            other => return Err(DecodeError::UnknownVersion(other)),
        }
        let (node_id, incarnation, seq) = (NodeId::decode(input)?, input.u64()?, Hlc(input.u64()?));
        let addrs = (0..input.count("addrs", ADDRS_MAX)?)
            .map(|_| input.text("addr", TEXT_BYTES_MAX))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            node_id,
            incarnation,
            seq,
            addrs,
            zone: input.text("zone", TEXT_BYTES_MAX)?,
            capacity: input.u64()?,
            used: input.u64()?,
            build: input.text("build", TEXT_BYTES_MAX)?,
            durable_epoch: input.u64()?,
            repair_queue: input.u64()?,
            lost: input.u64()?,
            synced: input.list("synced", FACTS_MAX)?,
            bodies: input.list("bodies", FACTS_MAX)?,
            emptied: input.list("emptied", FACTS_MAX)?,
            reach: Reach::decode(input)?,
            clean: Clean { at: Hlc(input.u64()?), epoch: input.u64()? },
            signature: input.array()?,
        })
    }
}

/// How one incarnation of a node stands to the newest known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncarnationOrder {
    /// Later than any known, or the first.
    Newer,
    /// The one that is known.
    Same,
    /// An earlier one, or a copy of it: what it holds may be older than what it once promised.
    Former,
}

/// Compares a [`NodeInfo::incarnation`] with the newest known of the same node. Two with one boot
/// counter and other random bits began from copies of one data directory: the one that was known
/// first stands.
pub fn compare_incarnations(known: Option<u64>, said: u64) -> IncarnationOrder {
    match known {
        Some(known) if known == said => IncarnationOrder::Same,
        Some(known) if known >> 32 >= said >> 32 => IncarnationOrder::Former,
        _ => IncarnationOrder::Newer,
    }
}

impl NodeInfo {
    /// Whether this start of the node lacks an epoch that an earlier one had on disk: then its disk
    /// is an older state of what it was, although its boot counter is higher.
    pub fn lacks_what_was_durable(&self, earlier: &Self) -> bool {
        self.incarnation != earlier.incarnation && self.durable_epoch < earlier.durable_epoch
    }
}

const INFO_FORMAT: u8 = 3;
/// Addresses one node may advertise: a few interfaces, IPv4 and IPv6.
pub const ADDRS_MAX: usize = 16;
/// Ranges one node may report: scattered progress is reported in part and completed later.
pub const FACTS_MAX: usize = 512;
