//! The greeting: who is there, which protocol, and the proofs of the cluster key, of an admin's key
//! and of an invite.

use dfs_core::codec::Canonical;
use dfs_core::id::{AdminId, NodeId};
use dfs_core::layout::epoch::Grant;
use dfs_core::node::invite::{Invite, prove};
use dfs_core::signature::verify_signature;
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::message::Code;
use crate::wire::proto;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConnClass {
    /// Small calls: gossip, epochs, records. A chunk never delays them.
    Control,
    /// Chunks.
    Bulk,
}

/// What this node proves in its greetings.
pub(crate) struct Credentials {
    pub(crate) cluster_key: Zeroizing<[u8; 32]>,
    /// Of a node that may ask for changes of the layout.
    pub(crate) admin: Option<SigningKey>,
    /// Of a node that was invited.
    pub(crate) invite: Option<Invite>,
}

/// What a peer's greeting says, once it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Greeted {
    pub(crate) incarnation: u64,
    /// The dialler's number of this dial.
    pub(crate) dial: u64,
    pub(crate) class: ConnClass,
    /// Whether it proved the cluster key.
    pub(crate) proved: bool,
    /// The admin whose key it proved to have.
    pub(crate) admin: Option<AdminId>,
    /// What the invite grants that it proved to have.
    pub(crate) grant: Option<Grant>,
}

/// Why a greeting is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unwelcome {
    #[error("it greeted with another id than its TLS key")]
    OtherId,
    #[error("it speaks protocol {min} to {max}, this node {PROTO_MIN} to {PROTO_MAX}")]
    Incompatible { min: u32, max: u32 },
    #[error("its greeting is not valid")]
    Malformed,
    #[error("it has another cluster key")]
    ClusterKey,
    #[error("its invite has lapsed, was used or taken back, or is of another cluster")]
    Invite,
}

impl Unwelcome {
    pub(crate) fn code(self) -> Code {
        match self {
            Self::OtherId | Self::Malformed => Code::Malformed,
            Self::Incompatible { .. } => Code::Incompatible,
            Self::ClusterKey => Code::ClusterMismatch,
            Self::Invite => Code::NotMember,
        }
    }
}

/// The bytes that tie a proof to one TLS session, from its exporter.
pub(crate) type Exporter = [u8; 32];

/// Proves the cluster key inside one TLS session; of no use in any other.
pub(crate) fn join_proof(cluster_key: &[u8; 32], exporter: &Exporter, node: &NodeId) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(cluster_key).expect("HMAC takes keys of any length");
    mac.update(exporter);
    mac.update(node.as_bytes());
    mac.finalize().into_bytes().into()
}

/// What an admin signs for one node in one TLS session; of no use in any other.
fn admin_message(exporter: &Exporter, node: &NodeId) -> Vec<u8> {
    [&b"dfs admin greets v1\0"[..], exporter, node.as_bytes()].concat()
}

/// The admin that a greeting proves, if it says that it has the key of one.
fn proven_admin(
    hello: &proto::Hello,
    peer: &NodeId,
    exporter: &Exporter,
) -> Result<Option<AdminId>, Unwelcome> {
    if hello.admin.is_empty() && hello.admin_proof.is_empty() {
        return Ok(None);
    }
    let admin = AdminId::from_slice(&hello.admin).map_err(|_| Unwelcome::Malformed)?;
    let proof = hello.admin_proof.as_ref().try_into().map_err(|_| Unwelcome::Malformed)?;
    verify_signature(admin.as_bytes(), &admin_message(exporter, peer), proof)
        .map_err(|_| Unwelcome::Malformed)?;
    Ok(Some(admin))
}

/// Names one TLS session, for what is said about it elsewhere; keeps the exporter to itself.
pub(crate) fn challenge(exporter: &Exporter) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(exporter).expect("HMAC takes keys of any length");
    mac.update(b"dfs still runs v1");
    mac.finalize().into_bytes().into()
}

/// Our own greeting.
pub(crate) fn greeting(
    credentials: &Credentials,
    exporter: &Exporter,
    node: &NodeId,
    incarnation: u64,
    class: ConnClass,
    dial: u64,
) -> proto::Hello {
    let signer = credentials.admin.as_ref();
    let admin = signer.map(|key| key.verifying_key().to_bytes().to_vec());
    let proof = signer.map(|key| key.sign(&admin_message(exporter, node)).to_bytes().to_vec());
    let invite = credentials.invite.as_ref();
    let shown = invite.map(|invite| prove(&invite.secret, exporter, node));
    proto::Hello {
        node_id: node.as_bytes().to_vec().into(),
        instance: incarnation,
        dial,
        proto_min: PROTO_MIN,
        proto_max: PROTO_MAX,
        features: 0,
        join_proof: join_proof(&credentials.cluster_key, exporter, node).to_vec().into(),
        admin: admin.unwrap_or_default().into(),
        admin_proof: proof.unwrap_or_default().into(),
        invite: invite.map(|invite| invite.grant.to_canonical()).unwrap_or_default().into(),
        invite_proof: shown.map(|proof| proof.to_vec()).unwrap_or_default().into(),
        conn_class: match class {
            ConnClass::Control => proto::ConnClass::Control as i32,
            ConnClass::Bulk => proto::ConnClass::Bulk as i32,
        },
    }
}

/// What the invite grants that a greeting proves, if it shows one that still admits.
fn proven_grant(
    hello: &proto::Hello,
    peer: &NodeId,
    exporter: &Exporter,
    secret_of: &dyn Fn(&Grant) -> Option<Zeroizing<[u8; 32]>>,
) -> Option<Grant> {
    let grant = Grant::from_canonical(hello.invite.to_vec()).ok()?;
    let expected = prove(&*secret_of(&grant)?, exporter, peer);
    bool::from(expected.ct_eq(hello.invite_proof.as_ref())).then_some(grant)
}

/// Whom a node lets in besides members and those with the cluster's key.
pub(crate) struct Welcome<'a> {
    /// The secrets of invites that admit.
    pub(crate) secret_of: &'a (dyn Fn(&Grant) -> Option<Zeroizing<[u8; 32]>> + Sync),
    /// Who governs the cluster.
    pub(crate) is_admin: &'a (dyn Fn(&AdminId) -> bool + Sync),
}

/// Checks a greeting against the key that TLS proved. Members are known by that key; anyone else
/// must prove the cluster key, an invite, or the key of an admin.
pub(crate) fn check(
    hello: &proto::Hello,
    peer: &NodeId,
    is_member: bool,
    cluster_key: &Zeroizing<[u8; 32]>,
    exporter: &Exporter,
    welcome: &Welcome<'_>,
) -> Result<Greeted, Unwelcome> {
    if hello.node_id.as_ref() != peer.as_bytes() {
        return Err(Unwelcome::OtherId);
    }
    let (min, max) = (hello.proto_min, hello.proto_max);
    if min > PROTO_MAX || max < PROTO_MIN || min > max {
        return Err(Unwelcome::Incompatible { min, max });
    }
    let class = match proto::ConnClass::try_from(hello.conn_class) {
        Ok(proto::ConnClass::Control) => ConnClass::Control,
        Ok(proto::ConnClass::Bulk) => ConnClass::Bulk,
        _ => return Err(Unwelcome::Malformed),
    };
    let expected = join_proof(cluster_key, exporter, peer);
    let proved = bool::from(expected.ct_eq(hello.join_proof.as_ref()));
    let grant = proven_grant(hello, peer, exporter, welcome.secret_of);
    let claims = AdminId::from_slice(&hello.admin);
    let governs = claims.is_ok_and(|admin| (welcome.is_admin)(&admin));
    // Whoever claims to govern shows it below.
    if !proved && !is_member && grant.is_none() && !governs {
        return Err(if hello.invite.is_empty() {
            Unwelcome::ClusterKey
        } else {
            Unwelcome::Invite
        });
    }
    // Last, for it costs most.
    let admin = proven_admin(hello, peer, exporter)?;
    Ok(Greeted { incarnation: hello.instance, dial: hello.dial, class, proved, admin, grant })
}

/// Nobody besides members and those with the cluster's key.
pub(crate) const NOBODY: Welcome<'static> = Welcome { secret_of: &|_| None, is_admin: &|_| false };
/// The oldest protocol spoken here.
pub const PROTO_MIN: u32 = 5;
/// The newest protocol spoken here.
pub const PROTO_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use dfs_core::id::{ClusterId, InviteId};
    use dfs_core::layout::epoch::Role;
    use dfs_core::node::invite::InviteKey;

    use super::*;

    const KEY: [u8; 32] = [1; 32];
    const SESSION: Exporter = [2; 32];

    #[track_caller]
    fn check_hello(
        change: impl FnOnce(&mut proto::Hello),
        session: Exporter,
        is_member: bool,
        expected: Result<bool, Unwelcome>,
    ) {
        let node = NodeId::new([3; 32]);
        let key = Zeroizing::new(KEY);
        let credentials = Credentials { cluster_key: key.clone(), admin: None, invite: None };
        let mut hello = greeting(&credentials, &SESSION, &node, 9, ConnClass::Bulk, 5);
        change(&mut hello);
        let result = check(&hello, &node, is_member, &key, &session, &NOBODY);
        assert_eq!(result.map(|greeted| greeted.proved), expected);
    }

    #[test]
    fn a_proof_holds_in_its_own_session_only() {
        check_hello(|_| (), SESSION, false, Ok(true));
        check_hello(|_| (), [9; 32], false, Err(Unwelcome::ClusterKey));
    }

    #[test]
    fn a_member_needs_no_proof() {
        check_hello(|hello| hello.join_proof.clear(), SESSION, true, Ok(false));
        check_hello(|hello| hello.join_proof.clear(), SESSION, false, Err(Unwelcome::ClusterKey));
    }

    #[test]
    fn an_admin_is_proved_in_its_own_session_by_its_own_node_only() {
        let (node, cluster_key) = (NodeId::new([3; 32]), Zeroizing::new(KEY));
        let admin = SigningKey::from_bytes(&[5; 32]);
        let credentials = Credentials { cluster_key, admin: Some(admin.clone()), invite: None };
        let greet = |session: &Exporter, of: &NodeId, change: &dyn Fn(&mut proto::Hello)| {
            let mut hello = greeting(&credentials, &SESSION, of, 9, ConnClass::Control, 5);
            hello.node_id = node.as_bytes().to_vec().into();
            change(&mut hello);
            let checked = check(&hello, &node, true, &credentials.cluster_key, session, &NOBODY);
            checked.map(|greeted| greeted.admin)
        };
        let id = AdminId::new(admin.verifying_key().to_bytes());
        assert_eq!(greet(&SESSION, &node, &|_| ()), Ok(Some(id)));
        let none = |hello: &mut proto::Hello| {
            hello.admin.clear();
            hello.admin_proof.clear();
        };
        assert_eq!(greet(&SESSION, &node, &none), Ok(None));
        // Passed on from another session or of another node, half told, or of another admin.
        assert_eq!(greet(&[9; 32], &node, &|_| ()), Err(Unwelcome::Malformed));
        assert_eq!(greet(&SESSION, &NodeId::new([4; 32]), &|_| ()), Err(Unwelcome::Malformed));
        let half = |hello: &mut proto::Hello| hello.admin_proof.clear();
        assert_eq!(greet(&SESSION, &node, &half), Err(Unwelcome::Malformed));
        let other = SigningKey::from_bytes(&[6; 32]).verifying_key().to_bytes();
        let other = move |hello: &mut proto::Hello| hello.admin = other.to_vec().into();
        assert_eq!(greet(&SESSION, &node, &other), Err(Unwelcome::Malformed));
    }

    #[test]
    fn whoever_governs_needs_no_cluster_key() {
        let (node, other) = (NodeId::new([3; 32]), Zeroizing::new([9; 32]));
        let key = SigningKey::from_bytes(&[5; 32]);
        let id = AdminId::new(key.verifying_key().to_bytes());
        let credentials = Credentials { cluster_key: other, admin: Some(key), invite: None };
        let ours = Zeroizing::new(KEY);
        let greet = |session: &Exporter, governs: bool| {
            let hello = greeting(&credentials, &SESSION, &node, 9, ConnClass::Control, 5);
            let is_admin = |admin: &AdminId| governs && *admin == id;
            let welcome = Welcome { is_admin: &is_admin, ..NOBODY };
            let checked = check(&hello, &node, false, &ours, session, &welcome);
            checked.map(|greeted| (greeted.proved, greeted.admin))
        };
        assert_eq!(greet(&SESSION, true), Ok((false, Some(id))));
        assert_eq!(greet(&SESSION, false), Err(Unwelcome::ClusterKey));
        assert_eq!(greet(&[9; 32], true), Err(Unwelcome::Malformed), "of another session");
    }

    #[test]
    fn an_invite_lets_in_whoever_proves_it_while_it_admits() {
        let (node, other) = (NodeId::new([3; 32]), Zeroizing::new([9; 32]));
        let key = InviteKey::new(Zeroizing::new([4; 32]));
        let invite = InviteId::new([1; 16]);
        let grant = Grant { invite, role: Role::Storage, cap: 5, expires_ms: 6 };
        let invite = Invite {
            cluster: ClusterId::new([0; 32]),
            inviter: NodeId::new([5; 32]),
            addrs: Vec::new(),
            grant,
            secret: key.secret(&ClusterId::new([0; 32]), &grant),
        };
        let credentials = Credentials { cluster_key: other, admin: None, invite: Some(invite) };
        let ours = Zeroizing::new(KEY);
        let greet = |session: &Exporter, admits: bool, change: &dyn Fn(&mut proto::Hello)| {
            let mut hello = greeting(&credentials, &SESSION, &node, 9, ConnClass::Control, 5);
            change(&mut hello);
            let secret_of =
                |grant: &Grant| admits.then(|| key.secret(&ClusterId::new([0; 32]), grant));
            let welcome = Welcome { secret_of: &secret_of, ..NOBODY };
            let checked = check(&hello, &node, false, &ours, session, &welcome);
            checked.map(|greeted| (greeted.proved, greeted.grant))
        };
        assert_eq!(greet(&SESSION, true, &|_| ()), Ok((false, Some(grant))));
        assert_eq!(greet(&SESSION, false, &|_| ()), Err(Unwelcome::Invite));
        assert_eq!(greet(&[9; 32], true, &|_| ()), Err(Unwelcome::Invite));
        // More than it grants, or without the proof.
        let more = Grant { cap: 6, ..grant }.to_canonical();
        let more = |hello: &mut proto::Hello| hello.invite = more.clone().into();
        assert_eq!(greet(&SESSION, true, &more), Err(Unwelcome::Invite));
        assert_eq!(greet(&SESSION, true, &|h| h.invite_proof.clear()), Err(Unwelcome::Invite));
        assert_eq!(greet(&SESSION, true, &|h| h.invite.clear()), Err(Unwelcome::ClusterKey));
    }

    #[test]
    fn another_id_version_or_class_is_named() {
        let other = |hello: &mut proto::Hello| hello.node_id = vec![4; 32].into();
        check_hello(other, SESSION, true, Err(Unwelcome::OtherId));
        let newer = |hello: &mut proto::Hello| (hello.proto_min, hello.proto_max) = (7, 9);
        check_hello(newer, SESSION, true, Err(Unwelcome::Incompatible { min: 7, max: 9 }));
        let class = |hello: &mut proto::Hello| hello.conn_class = 77;
        check_hello(class, SESSION, true, Err(Unwelcome::Malformed));
    }
}
