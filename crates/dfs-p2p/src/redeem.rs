//! Coming to the keys of a cluster: a machine that has none yet proves its invite to the node that
//! made it, or an admin's key to any member, and is given what is due to it in the same TLS
//! session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::address::Address;
use dfs_core::id::NodeId;
use dfs_core::node::invite::Invite;
use dfs_env::Env;
use ed25519_dalek::SigningKey;
use tokio_util::codec::FramedRead;
use zeroize::Zeroizing;

use crate::error::ConnError;
use crate::frame::FrameCodec;
use crate::greet::{HANDSHAKE_MAX, HELLO_MAX, next, send};
use crate::heard::Listening;
use crate::hello::{self, ConnClass, Credentials, NOBODY};
use crate::message::Code;
use crate::secure::{Secured, Tls};
use crate::wire::proto::frame::Kind;

/// Why no keys came.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// None of the addresses was answered by a node that could give them.
    #[error("no node that could give the keys answers ({0})")]
    Unreachable(String),
    /// A node does not take what was proved.
    #[error("it is not taken: {0}")]
    Refused(String),
}

/// Asks the node that made an invite for the keys that it grants, at each of its addresses.
///
/// # Errors
/// [`RedeemError`]; the invite is not used up by that.
pub async fn redeem(env: &Env, invite: &Invite) -> Result<Zeroizing<Vec<u8>>, RedeemError> {
    let credentials = Credentials {
        cluster_key: Zeroizing::default(),
        admin: None,
        invite: Some(invite.clone()),
    };
    ask_all(env, &invite.addrs, &credentials, Some(invite.inviter)).await
}

/// Asks the members of a cluster for its key, with the key of an admin who governs it: all that is
/// left of it where every gateway is gone.
///
/// Who answers is not known. A wrong key from someone else leads nowhere: a node with a vault's key
/// joins no cluster that it does not govern.
///
/// # Errors
/// [`RedeemError`].
pub async fn recall(
    env: &Env,
    addrs: &[Address],
    admin: &SigningKey,
) -> Result<Zeroizing<Vec<u8>>, RedeemError> {
    let cluster_key = Zeroizing::default();
    let credentials = Credentials { cluster_key, admin: Some(admin.clone()), invite: None };
    ask_all(env, addrs, &credentials, None).await
}

async fn ask_all(
    env: &Env,
    addrs: &[Address],
    credentials: &Credentials,
    expected: Option<NodeId>,
) -> Result<Zeroizing<Vec<u8>>, RedeemError> {
    let (mut failed, mut refused) = (Vec::new(), None);
    for address in addrs {
        let resolve = env.net().resolve(address.dial_host(), address.port);
        let found = match env.timeout(CONNECT_MAX, resolve).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                failed.push(format!("{address}: {error}"));
                continue;
            }
            Err(_) => {
                failed.push(format!("{address}: its name was not found in time"));
                continue;
            }
        };
        for at in found {
            match ask(env, at, credentials, expected).await {
                Ok(keys) => return Ok(keys),
                Err(ConnError::Refused { goodbye, .. }) if is_final(goodbye.code) => {
                    refused = Some(goodbye.text);
                }
                // What the system says of it tells more than where it was said.
                Err(ConnError::Tls(error)) => failed.push(format!("{at}: {error}")),
                Err(error) => failed.push(format!("{at}: {error}")),
            }
        }
    }
    if addrs.is_empty() {
        failed.push("no address is known".to_owned());
    }
    Err(match refused {
        Some(why) => RedeemError::Refused(why),
        None => RedeemError::Unreachable(failed.join("; ")),
    })
}

/// Whether a node that says so will say so again: one that stops or has no room may not.
fn is_final(code: Code) -> bool {
    matches!(code, Code::NotMember | Code::ClusterMismatch | Code::Incompatible | Code::Malformed)
}

async fn ask(
    env: &Env,
    at: SocketAddr,
    credentials: &Credentials,
    expected: Option<NodeId>,
) -> Result<Zeroizing<Vec<u8>>, ConnError> {
    let silent = |_| ConnError::Silent;
    let connect = env.timeout(CONNECT_MAX, env.net().connect(at)).await.map_err(silent)?;
    let stream = connect.map_err(ConnError::Tls)?;
    // Only for this session: the node itself joins later.
    let key = SigningKey::from_bytes(&env.random());
    let tls = Tls::new(&key).map_err(|error| ConnError::Tls(std::io::Error::other(error)))?;
    let handshake = env.timeout(HANDSHAKE_MAX, tls.connect(stream)).await.map_err(silent)?;
    let secured = handshake.map_err(ConnError::Tls)?;
    // Before the greeting: only who made an invite may see what proves it.
    if expected.is_some_and(|expected| expected != secured.peer) {
        return Err(ConnError::OtherNode);
    }
    let me = NodeId::new(key.verifying_key().to_bytes());
    env.timeout(HELLO_MAX, exchange(env, secured, me, credentials)).await.map_err(silent)?
}

async fn exchange(
    env: &Env,
    secured: Secured,
    me: NodeId,
    credentials: &Credentials,
) -> Result<Zeroizing<Vec<u8>>, ConnError> {
    let Secured { stream, peer, exporter } = secured;
    let (reading, mut out) = tokio::io::split(stream);
    let reading = Listening::new(env, Arc::default(), reading);
    let mut frames = FramedRead::new(reading, FrameCodec::greeting());
    let hello = hello::greeting(credentials, &exporter, &me, 1, ConnClass::Control, 1);
    send(&mut out, Kind::Hello(hello)).await?;
    let Kind::Hello(theirs) = next(&mut frames, false).await? else {
        return Err(ConnError::Unexpected);
    };
    // It cannot prove the cluster key to one who lacks it.
    hello::check(&theirs, &peer, true, &credentials.cluster_key, &exporter, &NOBODY)?;
    frames.decoder_mut().allow_calls();
    let Kind::Ready(ready) = next(&mut frames, true).await? else {
        return Err(ConnError::Unexpected);
    };
    match ready.keys.len() {
        1..=KEYS_BYTES_MAX => Ok(Zeroizing::new(ready.keys.to_vec())),
        _ => Err(ConnError::Unexpected),
    }
}

/// Bytes of keys that are given at most.
pub const KEYS_BYTES_MAX: usize = 256;
/// A node on the other side of the world answers within seconds.
const CONNECT_MAX: Duration = Duration::from_secs(10);
