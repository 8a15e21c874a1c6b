//! Redeeming an invite: a machine that has no key of a cluster yet proves the secret of its invite
//! to the node that made it, and is given the keys inside the same TLS session.

use std::net::SocketAddr;
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::node::invite::Invite;
use dfs_env::Env;
use ed25519_dalek::SigningKey;
use tokio_util::codec::FramedRead;
use zeroize::Zeroizing;

use crate::error::ConnError;
use crate::frame::FrameCodec;
use crate::greet::{HANDSHAKE_MAX, HELLO_MAX, next, send};
use crate::hello::{self, ConnClass, Credentials};
use crate::secure::{Secured, Tls};
use crate::wire::proto::frame::Kind;

/// Why an invite brought no keys.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// None of its addresses was answered by the node that made it.
    #[error("the node that made the invite does not answer ({0})")]
    Unreachable(String),
    /// The node that made it does not take it.
    #[error("the invite is not taken: {0}")]
    Refused(String),
}

/// Asks the node that made an invite for the keys that it grants, at each of its addresses.
///
/// # Errors
/// [`RedeemError`]; the invite is not used up by that.
pub async fn redeem(env: &Env, invite: &Invite) -> Result<Zeroizing<Vec<u8>>, RedeemError> {
    let mut failed = Vec::new();
    for address in &invite.addrs {
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
            match ask(env, at, invite).await {
                Ok(keys) => return Ok(keys),
                Err(ConnError::Refused { goodbye, .. }) => {
                    return Err(RedeemError::Refused(goodbye.text));
                }
                Err(error) => failed.push(format!("{at}: {error}")),
            }
        }
    }
    if failed.is_empty() {
        failed.push("it names no address".to_owned());
    }
    Err(RedeemError::Unreachable(failed.join("; ")))
}

async fn ask(env: &Env, at: SocketAddr, invite: &Invite) -> Result<Zeroizing<Vec<u8>>, ConnError> {
    let silent = |_| ConnError::Silent;
    let connect = env.timeout(CONNECT_MAX, env.net().connect(at)).await.map_err(silent)?;
    let stream = connect.map_err(ConnError::Tls)?;
    // Only for this session: what is proved is the invite, and the node itself joins later.
    let key = SigningKey::from_bytes(&env.random());
    let tls = Tls::new(&key).map_err(|error| ConnError::Tls(std::io::Error::other(error)))?;
    let handshake = env.timeout(HANDSHAKE_MAX, tls.connect(stream)).await.map_err(silent)?;
    let secured = handshake.map_err(ConnError::Tls)?;
    // Before the greeting: only who made the invite may see what proves it.
    if secured.peer != invite.inviter {
        return Err(ConnError::OtherNode);
    }
    let me = NodeId::new(key.verifying_key().to_bytes());
    env.timeout(HELLO_MAX, exchange(secured, me, invite)).await.map_err(silent)?
}

async fn exchange(
    secured: Secured,
    me: NodeId,
    invite: &Invite,
) -> Result<Zeroizing<Vec<u8>>, ConnError> {
    let Secured { stream, peer, exporter } = secured;
    let (reading, mut out) = tokio::io::split(stream);
    let mut frames = FramedRead::new(reading, FrameCodec::greeting());
    let cluster_key = Zeroizing::default();
    let credentials = Credentials { cluster_key, admin: None, invite: Some(invite.clone()) };
    let hello = hello::greeting(&credentials, &exporter, &me, 1, ConnClass::Control, 1);
    send(&mut out, Kind::Hello(hello)).await?;
    let Kind::Hello(theirs) = next(&mut frames, false).await? else {
        return Err(ConnError::Unexpected);
    };
    // It need not prove the cluster key: nobody else can have its own.
    hello::check(&theirs, &peer, true, &credentials.cluster_key, &exporter, &|_| None)?;
    frames.decoder_mut().allow_calls();
    let Kind::Ready(ready) = next(&mut frames, true).await? else {
        return Err(ConnError::Unexpected);
    };
    match ready.keys.len() {
        1..=INVITE_KEYS_MAX => Ok(Zeroizing::new(ready.keys.to_vec())),
        _ => Err(ConnError::Unexpected),
    }
}

/// Bytes of keys that an invite brings at most.
pub const INVITE_KEYS_MAX: usize = 256;
/// A node on the other side of the world answers within seconds.
const CONNECT_MAX: Duration = Duration::from_secs(10);
