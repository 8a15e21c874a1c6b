//! The proof that a node has lived on elsewhere: what it takes to end a start of a node for good.
//!
//! Only the node's own key can make one, so nobody else's word retires a node.

use ed25519_dalek::{Signer, SigningKey};

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::id::NodeId;
use crate::node::member::{IncarnationOrder, NodeInfo, compare_incarnations};
use crate::signature::{BadSignature, verify_signature};

/// Why a start of a node must not take part: it runs from a copy or an older state of its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaterLife {
    /// What a start said that was later, or that had an epoch on its disk which this one lacks.
    Info(Box<NodeInfo>),
    /// An earlier start still runs: this one is a copy.
    StillRuns(StillRuns),
}

/// What a running start of a node says when another one greets a peer under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StillRuns {
    /// The node.
    pub node_id: NodeId,
    /// The start that says so.
    pub incarnation: u64,
    /// Names the connection on which the other start greets; no other one has it.
    pub challenge: [u8; 32],
    /// The node's signature over everything above.
    pub signature: [u8; 64],
}

impl StillRuns {
    /// Signs that the start `incarnation` of this key's node still runs.
    pub fn sign(incarnation: u64, challenge: [u8; 32], key: &SigningKey) -> Self {
        let node_id = NodeId::new(key.verifying_key().to_bytes());
        let unsigned = Self { node_id, incarnation, challenge, signature: [0; 64] };
        let signature = key.sign(&unsigned.signed_bytes()).to_bytes();
        Self { signature, ..unsigned }
    }

    /// Checks that the named node itself said this. One signature check.
    ///
    /// # Errors
    /// [`BadSignature`] when it did not.
    pub fn verify(&self) -> Result<(), BadSignature> {
        verify_signature(self.node_id.as_bytes(), &self.signed_bytes(), &self.signature)
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.fixed(b"dfs-still-runs-v1\0");
        self.node_id.encode(&mut out);
        out.u64(self.incarnation);
        out.fixed(&self.challenge);
        out.into_vec()
    }
}

impl LaterLife {
    /// Whether this proves to the start that published `own` and greeted on the connection named
    /// by `challenge` that it must not go on. One signature check.
    pub fn ends(&self, own: &NodeInfo, challenge: &[u8; 32]) -> bool {
        match self {
            Self::Info(info) => {
                let order = compare_incarnations(Some(info.incarnation), own.incarnation);
                let is_later =
                    order == IncarnationOrder::Former || own.lacks_what_was_durable(info);
                info.node_id == own.node_id && is_later && info.verify().is_ok()
            }
            Self::StillRuns(said) => {
                said.node_id == own.node_id
                    && said.incarnation != own.incarnation
                    && said.challenge == *challenge
                    && said.verify().is_ok()
            }
        }
    }
}

impl Canonical for StillRuns {
    fn encode(&self, out: &mut Writer) {
        self.node_id.encode(out);
        out.u64(self.incarnation);
        out.fixed(&self.challenge);
        out.fixed(&self.signature);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            node_id: NodeId::decode(input)?,
            incarnation: input.u64()?,
            challenge: input.array()?,
            signature: input.array()?,
        })
    }
}

impl Canonical for LaterLife {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Info(info) => {
                out.u8(1);
                info.encode(out);
            }
            Self::StillRuns(said) => {
                out.u8(2);
                said.encode(out);
            }
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.u8()? {
            1 => Ok(Self::Info(Box::new(NodeInfo::decode(input)?))),
            2 => Ok(Self::StillRuns(StillRuns::decode(input)?)),
            _ => Err(DecodeError::Invalid("later life")),
        }
    }
}
