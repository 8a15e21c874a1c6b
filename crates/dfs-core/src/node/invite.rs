//! Invites: one line that brings one machine into a cluster, with no key carried by hand.
//!
//! A gateway makes an invite from the key of its vault and keeps nothing: the secret in the line
//! follows from what the line grants, so every gateway of the vault can check it. The newcomer
//! proves the secret inside one TLS session; the line names the node at the other end. Whoever
//! admits it burns the invite in the same change of the layout.

use std::fmt;
use std::str::FromStr;

use bech32::{Bech32m, Hrp};
use zeroize::{Zeroize, Zeroizing};

use crate::address::Address;
use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::id::{ClusterId, NodeId, TextError};
use crate::layout::epoch::Grant;

/// Makes the secrets of invites: derived from the key of a vault.
pub struct InviteKey(Zeroizing<[u8; 32]>);

impl InviteKey {
    /// Wraps derived bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The secret of the invite into a cluster with this grant; another one has another.
    pub fn secret(&self, cluster: &ClusterId, grant: &Grant) -> Zeroizing<[u8; 32]> {
        let mut out = Writer::default();
        cluster.encode(&mut out);
        grant.encode(&mut out);
        Zeroizing::new(*blake3::keyed_hash(&self.0, &out.into_vec()).as_bytes())
    }
}

impl fmt::Debug for InviteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteKey(secret)")
    }
}

/// Proves the secret of an invite for one node in one TLS session; of no use in any other.
pub fn prove(secret: &[u8; 32], exporter: &[u8; 32], node: &NodeId) -> [u8; 32] {
    let message = [&b"dfs invite v1\0"[..], exporter, node.as_bytes()].concat();
    *blake3::keyed_hash(secret, &message).as_bytes()
}

/// An invite as its line says it.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    /// Into which cluster.
    pub cluster: ClusterId,
    /// The node that must be at the other end.
    pub inviter: NodeId,
    /// Where it listens.
    pub addrs: Vec<Address>,
    /// What the newcomer becomes.
    pub grant: Grant,
    /// What the newcomer proves.
    pub secret: Zeroizing<[u8; 32]>,
}

impl Invite {
    /// The line: `dfsi1...`, with a checksum.
    ///
    /// # Panics
    /// Never for an invite within the limits.
    pub fn to_line(&self) -> Zeroizing<String> {
        let mut out = Writer::default();
        out.u8(LINE_FORMAT);
        self.cluster.encode(&mut out);
        self.inviter.encode(&mut out);
        self.grant.encode(&mut out);
        out.fixed(&self.secret[..]);
        out.u8(u8::try_from(self.addrs.len().min(ADDRS_MAX)).expect("a small number"));
        for addr in self.addrs.iter().take(ADDRS_MAX) {
            out.bytes(addr.to_string().as_bytes());
        }
        let bytes = Zeroizing::new(out.into_vec());
        let prefix = Hrp::parse_unchecked(LINE_PREFIX);
        Zeroizing::new(bech32::encode::<Bech32m>(prefix, &bytes).expect("it fits the code length"))
    }

    fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes.into());
        match input.u8()? {
            LINE_FORMAT => {}
            other => return Err(DecodeError::UnknownVersion(other)),
        }
        let (cluster, inviter) = (ClusterId::decode(&mut input)?, NodeId::decode(&mut input)?);
        let (grant, secret) = (Grant::decode(&mut input)?, Zeroizing::new(input.array()?));
        let count = input.u8()?;
        if usize::from(count) > ADDRS_MAX {
            return Err(DecodeError::TooLong("addresses"));
        }
        let mut addrs = Vec::new();
        for _ in 0..count {
            let text = input.string("address", ADDR_BYTES_MAX)?;
            addrs.push(text.parse().map_err(|_| DecodeError::Invalid("address"))?);
        }
        input.finish()?;
        Ok(Self { cluster, inviter, addrs, grant, secret })
    }
}

impl FromStr for Invite {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let text = text.trim();
        let parsed = bech32::primitives::decode::CheckedHrpstring::new::<Bech32m>(text)
            .map_err(|_| TextError::Checksum)?;
        if parsed.hrp().to_lowercase() != LINE_PREFIX {
            return Err(TextError::Prefix);
        }
        let mut bytes: Vec<u8> = parsed.byte_iter().collect();
        let decoded = Self::decode(bytes.clone());
        bytes.zeroize();
        let invite = decoded.map_err(|_| TextError::Length)?;
        // One text an invite: the last digit may have bits to spare.
        let is_same = invite.to_line().eq_ignore_ascii_case(text);
        if is_same { Ok(invite) } else { Err(TextError::Length) }
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, inviter, grant, .. } = self;
        f.debug_struct("Invite")
            .field("cluster", cluster)
            .field("inviter", inviter)
            .field("grant", grant)
            .finish_non_exhaustive()
    }
}

const LINE_PREFIX: &str = "dfsi";
const LINE_FORMAT: u8 = 1;
/// Addresses in one line: those of one node, which the newcomer tries in turn.
pub const ADDRS_MAX: usize = 4;
/// Bytes of one: a line must stay within the code length of Bech32m.
pub const ADDR_BYTES_MAX: usize = 100;
