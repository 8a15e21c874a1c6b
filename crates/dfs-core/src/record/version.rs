//! Versions of one name: what supersedes what, and what survives when replicas meet.
//!
//! A record is a set of *heads*: versions nobody has superseded. Each version carries the causal
//! context of its writer, so a merge drops exactly what some writer had really seen. Source:
//! dotted version vectors, Preguiça et al. (2010), arXiv:1011.5808, with clock stamps as counters.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::hlc::Hlc;
use crate::id::{BlobId, CertId, RecordKey, Vid};
use crate::paxos::Register;
use crate::record::ballot::{Candidate, Dot, SignedBallot};

/// One writing process, or one write made without a quorum read. Stamps of one actor rise.
pub type Actor = u64;

/// Whether a version is a file or directory, or says that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A tombstone: the name was deleted.
    Dead,
    /// The name exists.
    Live,
}

/// An earlier version that its successor keeps reachable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// The id its blobs are referenced under: the version's own, or one that its content got when
    /// it came into blobs later.
    pub vid: Vid,
    /// Its top reference page, when it has chunks.
    pub refs_root: Option<BlobId>,
    /// How many blobs it references.
    pub chunks: u32,
    /// Its stamp.
    pub hlc: Hlc,
}

/// One signed value of one name. Storage peers see everything here, and nothing that is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The version's own id.
    pub vid: Vid,
    /// Who wrote it.
    pub actor: Actor,
    /// When, by the writer's clock.
    pub hlc: Hlc,
    /// What the writer had seen: for each actor, its highest stamp.
    pub context: BTreeMap<Actor, Hlc>,
    /// Live, or a tombstone.
    pub kind: Kind,
    /// The sealed payload, a kind-5 blob; empty in a tombstone that retains nothing.
    pub sealed: Bytes,
    /// The top reference page, when the version has chunks.
    pub refs_root: Option<BlobId>,
    /// How many blobs the version references.
    pub chunks: u32,
    /// Their size as stored, in bytes.
    pub bytes_stored: u64,
    /// Earlier versions kept reachable.
    pub retained: Vec<Retained>,
    /// The certificate of the writer's key.
    pub writer: CertId,
    /// Ed25519 signature over [`Version::signed_bytes`].
    pub signature: [u8; 64],
}

impl Version {
    /// What the writer signs: every field, bound to the record's key.
    pub fn signed_bytes(&self, key: &RecordKey) -> Vec<u8> {
        let mut out = Writer::default();
        out.fixed(b"dfs-version-v1\0");
        key.encode(&mut out);
        self.encode_facts(&mut out);
        out.fixed(blake3::hash(&self.sealed).as_bytes());
        self.writer.encode(&mut out);
        out.into_vec()
    }

    fn encode_facts(&self, out: &mut Writer) {
        self.vid.encode(out);
        out.u64(self.actor);
        out.u64(self.hlc.0);
        out.count(self.context.len());
        for (actor, hlc) in &self.context {
            out.u64(*actor);
            out.u64(hlc.0);
        }
        out.u8(match self.kind {
            Kind::Dead => 0,
            Kind::Live => 1,
        });
        encode_root(self.refs_root, out);
        out.u32(self.chunks);
        out.u64(self.bytes_stored);
        out.list(&self.retained);
    }

    fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.to_canonical()).as_bytes()
    }

    /// Whether a client may have made this version now: its stamp is near the clock, or ahead of it
    /// because it was lifted above what it had to supersede. Nothing excuses one that is behind.
    pub fn is_plausible(&self, now_unix_ms: u64) -> bool {
        self.is_not_ahead(now_unix_ms) && !self.hlc.is_behind(now_unix_ms)
    }

    /// Whether the stamp is not ahead of the clock, but for being lifted; old ones are fine here.
    pub fn is_not_ahead(&self, now_unix_ms: u64) -> bool {
        let seen = self.context.values().max().copied().unwrap_or_default();
        let is_lifted = seen > Hlc::default() && self.hlc <= seen.next();
        is_lifted || !self.hlc.is_ahead(now_unix_ms)
    }

    /// Whether users see this version rather than `other`: an edit beats a delete, then the later
    /// stamp wins, then the higher id.
    pub fn beats(&self, other: &Self) -> bool {
        (self.kind, self.hlc, self.vid) > (other.kind, other.hlc, other.vid)
    }
}

/// Everything the cluster knows about one name: its heads, in order of their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    heads: BTreeMap<Vid, Version>,
    /// What replicas promised and accepted of a conditional write.
    pub(crate) register: Register<Candidate, SignedBallot>,
}

impl Record {
    /// A record of one version.
    pub fn of(version: Version) -> Self {
        Self::of_all([version])
    }

    /// A record of several versions, as they are: whether some supersede others is not looked at.
    pub fn of_all(versions: impl IntoIterator<Item = Version>) -> Self {
        let heads = versions.into_iter().map(|version| (version.vid, version)).collect();
        Self { heads, register: Register::default() }
    }

    /// The versions nobody has superseded.
    pub fn heads(&self) -> impl Iterator<Item = &Version> {
        self.heads.values()
    }

    /// The record without some of its heads.
    pub(crate) fn without(&self, is_out: impl Fn(&Version) -> bool) -> Self {
        let heads = self.heads.iter().filter(|(_, head)| !is_out(head));
        let heads = heads.map(|(vid, head)| (*vid, head.clone())).collect();
        Self { heads, register: self.register.clone() }
    }

    /// The head with this id.
    pub fn head(&self, vid: &Vid) -> Option<&Version> {
        self.heads.get(vid)
    }

    /// Whether there is nothing to keep: the name was never written, nor is anyone about to.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.register == Register::default()
    }

    /// For each actor, the highest stamp anyone reflected in this record had seen.
    pub fn seen(&self) -> BTreeMap<Actor, Hlc> {
        let mut seen: BTreeMap<Actor, Hlc> = BTreeMap::new();
        for head in self.heads.values() {
            let own = std::iter::once((&head.actor, &head.hlc));
            for (actor, hlc) in head.context.iter().chain(own) {
                let slot = seen.entry(*actor).or_default();
                *slot = (*slot).max(*hlc);
            }
        }
        seen
    }

    /// The highest stamp among the heads.
    pub fn hlc_max(&self) -> Hlc {
        self.heads.values().map(|head| head.hlc).max().unwrap_or_default()
    }

    /// The head users see. The others are conflicts when they are live too.
    pub fn winner(&self) -> Option<&Version> {
        self.heads.values().reduce(|best, head| if head.beats(best) { head } else { best })
    }

    /// How many live heads wait for a decision beside the winner.
    pub fn conflicts(&self) -> usize {
        self.heads.values().filter(|head| head.kind == Kind::Live).count().saturating_sub(1)
    }

    /// Whether blobs referenced under `vid` are needed: it is a head, or kept reachable by one.
    pub fn refers_to(&self, vid: &Vid) -> bool {
        self.heads.contains_key(vid)
            || self.heads.values().any(|head| head.retained.iter().any(|old| old.vid == *vid))
    }

    /// Whether blobs referenced under `vid` are needed, now or once a conditional write that
    /// replicas have accepted is completed.
    pub fn needs(&self, vid: &Vid) -> bool {
        let names = |version: &Version| {
            version.vid == *vid || version.retained.iter().any(|old| old.vid == *vid)
        };
        self.refers_to(vid) || self.candidate().is_some_and(names)
    }

    /// How many blobs the version with this id uses; `None` when no head has it or keeps it, and
    /// replicas have accepted none that does.
    pub fn blobs_of(&self, vid: &Vid) -> Option<u32> {
        self.heads.values().chain(self.candidate()).find_map(|version| {
            let retained = version.retained.iter().find(|old| old.vid == *vid);
            let own = (version.vid == *vid).then_some(version.chunks);
            own.or_else(|| retained.map(|old| old.chunks))
        })
    }

    /// Whether replicas remember anything of conditional writes.
    pub fn is_conditional(&self) -> bool {
        self.register != Register::default()
    }

    /// Whether the version is a head or was superseded by one.
    pub fn reflects(&self, version: &Version) -> bool {
        self.reflects_dot(Dot::of(version))
    }

    /// The same of a version of which only this is known.
    pub fn reflects_dot(&self, dot: Dot) -> bool {
        self.seen().get(&dot.actor).is_some_and(|seen| *seen >= dot.hlc)
    }

    /// A hash of the whole state: equal exactly when two replicas agree.
    pub fn state_hash(&self) -> [u8; 32] {
        let mut hashes: Vec<_> = self.heads.values().map(Version::hash).collect();
        hashes.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        hashes.iter().for_each(|hash| {
            hasher.update(hash);
        });
        if self.register != Register::default() {
            hasher.update(&self.register.to_canonical());
        }
        *hasher.finalize().as_bytes()
    }

    fn take_heads(&mut self, theirs: &Self) {
        for (vid, head) in &theirs.heads {
            match self.heads.get(vid) {
                // One id names one version; should a writer ever reuse it, every replica keeps
                // the same one of the two.
                Some(ours) if ours.hash() <= head.hash() => {}
                _ => {
                    self.heads.insert(*vid, head.clone());
                }
            }
        }
    }
}

/// The versions that survive when two replicas' records of one name meet.
///
/// Keeps a head of either side unless the other side has seen it and let it go, so an acknowledged
/// version that nobody read is never dropped. Commutative, associative, idempotent. `O(n + m)` for
/// `n` and `m` heads, each at most [`HEADS_MAX`].
pub fn merge(ours: &Record, theirs: &Record) -> Record {
    let kept = |from: &Record, other: &Record| {
        let seen = other.seen();
        let heads = from.heads.iter().filter(|(vid, head)| {
            other.heads.contains_key(vid) || seen.get(&head.actor).is_none_or(|hlc| *hlc < head.hlc)
        });
        let heads = heads.map(|(vid, head)| (*vid, head.clone())).collect();
        Record { heads, register: from.register.clone() }
    };
    let mut merged = kept(ours, theirs);
    merged.take_heads(&kept(theirs, ours));
    merged.join_registers(ours, theirs);
    merged
}

impl Record {
    /// Whether the record is small enough to keep and to send. One that is not came from a writer
    /// that floods a name with concurrent versions.
    pub fn is_bounded(&self) -> bool {
        let bytes = |head: &Version| {
            HEAD_BYTES + head.sealed.len() + 16 * head.context.len() + 64 * head.retained.len()
        };
        let versions = self.heads.values().chain(self.candidate());
        self.heads.len() <= HEADS_MAX && versions.map(bytes).sum::<usize>() <= RECORD_BYTES_MAX
    }
}

/// The place in history of a new version: what it supersedes, who says so, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The actor to write under.
    pub actor: Actor,
    /// The stamp to carry.
    pub hlc: Hlc,
    /// What the new version has seen.
    pub context: BTreeMap<Actor, Hlc>,
}

/// Places a new version after everything in `read`.
///
/// `tick` is the writer's next stamp, `own` its actor, `fresh` an actor nobody used. The stamp is
/// lifted above the heads that were read without dragging the writer's clock along, and then takes
/// the fresh actor, because the stamps of one actor must rise. A write whose read met no quorum
/// (`quorum_read` false) takes it too: otherwise a device that writes on both sides of a split
/// would claim to have superseded its own acknowledged write.
pub fn place_after(read: &Record, tick: Hlc, own: Actor, fresh: Actor, quorum_read: bool) -> Place {
    let hlc = if read.heads.is_empty() { tick } else { tick.max(read.hlc_max().next()) };
    let actor = if quorum_read && hlc == tick { own } else { fresh };
    let mut context = read.seen();
    while context.len() > CONTEXT_MAX {
        // Dropping the oldest can at worst bring a long-lost version back as a conflict copy.
        let oldest = context.iter().min_by_key(|(_, hlc)| **hlc).map(|(actor, _)| *actor);
        oldest.map(|actor| context.remove(&actor));
    }
    Place { actor, hlc, context }
}

impl Canonical for Retained {
    fn encode(&self, out: &mut Writer) {
        self.vid.encode(out);
        encode_root(self.refs_root, out);
        out.u32(self.chunks);
        out.u64(self.hlc.0);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            vid: Vid::decode(input)?,
            refs_root: decode_root(input)?,
            chunks: input.u32()?,
            hlc: Hlc(input.u64()?),
        })
    }
}

impl Canonical for Version {
    fn encode(&self, out: &mut Writer) {
        self.encode_facts(out);
        out.bytes(&self.sealed);
        self.writer.encode(out);
        out.fixed(&self.signature);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let (vid, actor, hlc) = (Vid::decode(input)?, input.u64()?, Hlc(input.u64()?));
        let mut context = BTreeMap::new();
        for _ in 0..input.count("context", CONTEXT_MAX)? {
            let actor = input.u64()?;
            let in_order = context.last_key_value().is_none_or(|(last, _)| *last < actor);
            if !in_order || context.insert(actor, Hlc(input.u64()?)).is_some() {
                return Err(DecodeError::Invalid("context"));
            }
        }
        let kind = match input.u8()? {
            0 => Kind::Dead,
            1 => Kind::Live,
            _ => return Err(DecodeError::Invalid("kind")),
        };
        Ok(Self {
            vid,
            actor,
            hlc,
            context,
            kind,
            refs_root: decode_root(input)?,
            chunks: input.u32()?,
            bytes_stored: input.u64()?,
            retained: input.list("retained", RETAINED_MAX)?,
            sealed: input.bytes("sealed", SEALED_BYTES_MAX)?,
            writer: CertId::decode(input)?,
            signature: input.array()?,
        })
    }
}

impl Canonical for Record {
    fn encode(&self, out: &mut Writer) {
        out.u8(RECORD_FORMAT);
        out.count(self.heads.len());
        self.heads.values().for_each(|head| head.encode(out));
        if self.register == Register::default() {
            out.u8(NO_REGISTER);
        } else {
            out.u8(REGISTER);
            self.register.encode(out);
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.u8()? {
            RECORD_FORMAT => {}
            other => return Err(DecodeError::UnknownVersion(other)),
        }
        let mut heads = BTreeMap::new();
        for head in input.list::<Version>("heads", HEADS_MAX)? {
            if heads.last_key_value().is_some_and(|(last, _)| *last >= head.vid) {
                return Err(DecodeError::Invalid("heads"));
            }
            heads.insert(head.vid, head);
        }
        match input.u8()? {
            NO_REGISTER => Ok(Self { heads, register: Register::default() }),
            REGISTER => match Register::decode(input)? {
                // One value has one encoding.
                register if register == Register::default() => {
                    Err(DecodeError::Invalid("register"))
                }
                register => Ok(Self { heads, register }),
            },
            _ => Err(DecodeError::Invalid("register")),
        }
    }
}

fn encode_root(root: Option<BlobId>, out: &mut Writer) {
    root.unwrap_or(NO_ROOT).encode(out);
}

fn decode_root(input: &mut Reader) -> Result<Option<BlobId>, DecodeError> {
    let id = BlobId::decode(input)?;
    Ok((id != NO_ROOT).then_some(id))
}

/// Stands for "no chunks"; no blob hashes to it.
const NO_ROOT: BlobId = BlobId::new([0; BlobId::LEN]);
const RECORD_FORMAT: u8 = 1;
/// Whether a register follows: only in records that someone wrote under a condition.
const NO_REGISTER: u8 = 0;
const REGISTER: u8 = 1;
/// Heads one record may hold: far above any honest conflict, far below a frame.
pub const HEADS_MAX: usize = 256;
/// A whole record: it must fit a frame together with its key.
pub const RECORD_BYTES_MAX: usize = 192 * 1024;
/// What a head takes beside its variable parts.
const HEAD_BYTES: usize = 256;
/// Actors one context may name: one for each process that wrote the name and was not yet covered.
pub const CONTEXT_MAX: usize = 64;
/// Earlier versions one head may keep: the default history of ten and room for conflicts.
pub const RETAINED_MAX: usize = 64;
/// A sealed payload: 16 KiB of inline content, old and new together, 1 KiB of name, and metadata of
/// up to [`RETAINED_MAX`] earlier versions.
pub const SEALED_BYTES_MAX: usize = 64 * 1024;
