//! Ballots of conditional writes, as the vault signed them.
//!
//! Replicas tell each other what they promised and accepted, and most of them have no business to
//! open an attempt. So a ballot, and what was put forward under it, carries the signature of the
//! vault that the name belongs to: only who has its key can open one, and a replica can neither
//! make up a high one nor a value that somebody is said to have put forward.

use ed25519_dalek::{Signer, SigningKey};

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::hlc::Hlc;
use crate::id::RecordKey;
use crate::paxos::Ballot;
use crate::record::version::{Actor, Version};
use crate::record::writer::{ForgedError, vault_id};
use crate::signature::verify_signature;

/// A vault's signature, with the key that it is made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proof {
    /// The vault's signing key; its id is the hash of it.
    root: [u8; 32],
    signature: [u8; 64],
}

/// The number of an attempt to write a name under a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignedBallot {
    /// One of before ballots were signed: below all that are, so that it binds nobody for long.
    Unsigned(Ballot),
    /// One that the vault signed.
    Signed(Ballot, Proof),
}

/// What names one version among all of its name: stamps of one actor rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dot {
    /// Who wrote it.
    pub actor: Actor,
    /// When.
    pub hlc: Hlc,
}

impl Dot {
    /// That of a version.
    pub fn of(version: &Version) -> Self {
        Self { actor: version.actor, hlc: version.hlc }
    }
}

/// What was put forward under a ballot: a version, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What it is.
    pub value: Value,
    /// That the vault put it forward under its ballot; none of before ballots were signed.
    pub proof: Option<Proof>,
}

/// What was put forward, as far as it must be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A version that may or may not be chosen.
    Open(Box<Version>),
    /// A version that has become a head, or was superseded since; or none. That this was accepted
    /// under its ballot must be remembered, for what has a lower one was not chosen.
    Settled(Option<Dot>),
}

impl Candidate {
    /// A version to decide on, or that none is, put forward by its vault.
    pub fn sign(
        root: &SigningKey,
        key: &RecordKey,
        ballot: Ballot,
        version: Option<Version>,
    ) -> Self {
        let proof = Proof::of_value(root, key, ballot, version.as_ref().map(Dot::of));
        let open = |version| Value::Open(Box::new(version));
        Self { value: version.map_or(Value::Settled(None), open), proof: Some(proof) }
    }

    /// Whether nothing of it is to be completed any more.
    pub fn is_settled(&self) -> bool {
        matches!(self.value, Value::Settled(_))
    }

    /// The same once nothing of it is to be completed.
    pub fn settled(&self) -> Self {
        let dot = match &self.value {
            Value::Open(version) if self.proof.is_some() => Some(Dot::of(version)),
            Value::Open(_) => None,
            Value::Settled(dot) => *dot,
        };
        Self { value: Value::Settled(dot), proof: self.proof }
    }

    /// Checks that the name's vault opened this ballot and put this forward under it. Two signature
    /// checks, and none where both are of before ballots were signed.
    ///
    /// # Errors
    /// [`ForgedError`] when it did not.
    pub fn verify(&self, key: &RecordKey, ballot: &SignedBallot) -> Result<(), ForgedError> {
        let dot = match &self.value {
            Value::Open(version) => Some(Dot::of(version)),
            Value::Settled(dot) => *dot,
        };
        ballot.verify(key)?;
        match (ballot, &self.proof) {
            (SignedBallot::Unsigned(_), None) => Ok(()),
            (SignedBallot::Signed(ballot, _), Some(proof)) => proof.verify_value(key, *ballot, dot),
            _ => Err(ForgedError::Unsigned),
        }
    }
}

impl SignedBallot {
    /// A ballot of this vault for this name.
    pub fn sign(root: &SigningKey, key: &RecordKey, ballot: Ballot) -> Self {
        Self::Signed(ballot, Proof::of(root, &promise_bytes(key, ballot)))
    }

    /// The number itself.
    pub fn ballot(&self) -> Ballot {
        match self {
            Self::Unsigned(ballot) | Self::Signed(ballot, _) => *ballot,
        }
    }

    /// Checks that the name's vault opened it; one of before they were signed passes. At most one
    /// signature check.
    ///
    /// # Errors
    /// [`ForgedError`] when it did not.
    pub fn verify(&self, key: &RecordKey) -> Result<(), ForgedError> {
        match self {
            Self::Unsigned(_) => Ok(()),
            Self::Signed(ballot, proof) => proof.verify(key, &promise_bytes(key, *ballot)),
        }
    }
}

impl Proof {
    fn of_value(root: &SigningKey, key: &RecordKey, ballot: Ballot, value: Option<Dot>) -> Self {
        Self::of(root, &value_bytes(key, ballot, value))
    }

    fn verify_value(
        &self,
        key: &RecordKey,
        ballot: Ballot,
        value: Option<Dot>,
    ) -> Result<(), ForgedError> {
        self.verify(key, &value_bytes(key, ballot, value))
    }

    fn of(root: &SigningKey, bytes: &[u8]) -> Self {
        Self { root: root.verifying_key().to_bytes(), signature: root.sign(bytes).to_bytes() }
    }

    fn verify(&self, key: &RecordKey, bytes: &[u8]) -> Result<(), ForgedError> {
        if vault_id(&self.root) != key.vault {
            return Err(ForgedError::OtherVault);
        }
        Ok(verify_signature(&self.root, bytes, &self.signature)?)
    }
}

fn promise_bytes(key: &RecordKey, ballot: Ballot) -> Vec<u8> {
    let mut out = Writer::default();
    out.fixed(b"dfs-ballot-v1\0");
    key.encode(&mut out);
    ballot.encode(&mut out);
    out.into_vec()
}

fn value_bytes(key: &RecordKey, ballot: Ballot, value: Option<Dot>) -> Vec<u8> {
    let mut out = Writer::default();
    out.fixed(b"dfs-ballot-value-v1\0");
    key.encode(&mut out);
    ballot.encode(&mut out);
    out.u8(u8::from(value.is_some()));
    if let Some(dot) = value {
        dot.encode(&mut out);
    }
    out.into_vec()
}

impl Canonical for Dot {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.actor);
        out.u64(self.hlc.0);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { actor: input.u64()?, hlc: Hlc(input.u64()?) })
    }
}

impl Canonical for Candidate {
    fn encode(&self, out: &mut Writer) {
        match (&self.value, &self.proof) {
            (Value::Settled(None), None) => out.u8(UNSIGNED_NONE),
            (Value::Open(version), None) => {
                out.u8(UNSIGNED_OPEN);
                version.encode(out);
            }
            (value, proof) => {
                match value {
                    Value::Settled(None) => out.u8(NONE),
                    Value::Settled(Some(dot)) => {
                        out.u8(SETTLED);
                        dot.encode(out);
                    }
                    Value::Open(version) => {
                        out.u8(OPEN);
                        version.encode(out);
                    }
                }
                if let Some(proof) = proof {
                    proof.encode(out);
                }
            }
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let open = |input: &mut Reader| Ok(Value::Open(Box::new(Version::decode(input)?)));
        let value = match input.u8()? {
            UNSIGNED_NONE => return Ok(Self { value: Value::Settled(None), proof: None }),
            UNSIGNED_OPEN => return Ok(Self { value: open(input)?, proof: None }),
            NONE => Value::Settled(None),
            OPEN => open(input)?,
            SETTLED => Value::Settled(Some(Dot::decode(input)?)),
            _ => return Err(DecodeError::Invalid("candidate")),
        };
        Ok(Self { value, proof: Some(Proof::decode(input)?) })
    }
}

impl Canonical for Proof {
    fn encode(&self, out: &mut Writer) {
        out.fixed(&self.root);
        out.fixed(&self.signature);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { root: input.array()?, signature: input.array()? })
    }
}

impl Canonical for SignedBallot {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Unsigned(ballot) => ballot.encode(out),
            Self::Signed(ballot, proof) => {
                out.u32(SIGNED);
                ballot.encode(out);
                proof.encode(out);
            }
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        // One that is not signed begins with its round, which was never as high as this.
        match input.u32()? {
            SIGNED => Ok(Self::Signed(Ballot::decode(input)?, Proof::decode(input)?)),
            round => Ok(Self::Unsigned(Ballot { round, node: Canonical::decode(input)? })),
        }
    }
}

const UNSIGNED_NONE: u8 = 0;
const UNSIGNED_OPEN: u8 = 1;
const NONE: u8 = 2;
const OPEN: u8 = 3;
const SETTLED: u8 = 4;
/// Stands where an unsigned ballot has its round.
const SIGNED: u32 = u32::MAX;
