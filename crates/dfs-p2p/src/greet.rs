//! Greetings: a raw connection is secured, and both ends say and check who they are.

use std::time::Duration;

use bytes::BytesMut;
use dfs_core::codec::Canonical;
use dfs_core::id::{ClusterId, NodeId};
use dfs_core::node::member::NodeInfo;
use dfs_env::Stream;
use futures_util::StreamExt;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio_rustls::TlsStream;
use tokio_util::codec::{Encoder, FramedRead};
use zeroize::Zeroizing;

use crate::error::ConnError;
use crate::frame::{FrameCodec, FrameError};
use crate::heard::Listening;
use crate::hello::{self, ConnClass, Unwelcome, Welcome};
use crate::message::Code;
use crate::peer::{Frames, Greeting, Origin};
use crate::secure::Secured;
use crate::shared::Shared;
use crate::wire::{self, proto, proto::frame::Kind};

/// Secures a raw connection and exchanges greetings.
pub(crate) async fn greet(
    shared: &Shared,
    stream: Stream,
    origin: Origin,
    expected: Option<NodeId>,
    own_info: &NodeInfo,
) -> Result<Greeting, ConnError> {
    let identity = &shared.identity;
    let handshake = async {
        match origin {
            Origin::Dialled(..) => identity.tls.connect(stream).await,
            Origin::Accepted(_) => identity.tls.accept(stream).await,
        }
    };
    let silent = |_| ConnError::Silent;
    let secured = shared.env.timeout(HANDSHAKE_MAX, handshake).await.map_err(silent)?;
    let secured = secured.map_err(ConnError::Tls)?;
    if secured.peer == identity.node {
        return Err(ConnError::Myself);
    }
    // Before the greeting: whoever has that address now must not take this for a wanted connection.
    if expected.is_some_and(|expected| expected != secured.peer) {
        return Err(ConnError::OtherNode);
    }
    let challenge = hello::challenge(&secured.exporter);
    let exchange = exchange(shared, secured, challenge, origin, own_info);
    let greeted = shared.env.timeout(HELLO_MAX, exchange).await.map_err(silent)?;
    greeted.inspect_err(|error| shared.heed(error, &challenge))
}

async fn exchange(
    shared: &Shared,
    secured: Secured,
    challenge: [u8; 32],
    origin: Origin,
    own_info: &NodeInfo,
) -> Result<Greeting, ConnError> {
    let Secured { stream, peer, exporter } = secured;
    let (identity, handler) = (&shared.identity, shared.handler.as_ref());
    let (reading, mut out) = tokio::io::split(stream);
    let reading = Listening::new(&shared.env, shared.traffic.clone(), reading);
    let mut frames = FramedRead::new(reading, FrameCodec::greeting());
    let credentials = &identity.credentials;
    // The acceptor's class is a placeholder: the dialler's counts.
    let (class, dial) = match origin {
        Origin::Dialled(_, class, dial) => (class, dial),
        Origin::Accepted(_) => (ConnClass::Control, 0),
    };
    let hello =
        hello::greeting(credentials, &exporter, &identity.node, identity.incarnation, class, dial);
    send(&mut out, Kind::Hello(hello)).await?;
    let Kind::Hello(theirs) = next(&mut frames, false).await? else {
        return Err(ConnError::Unexpected);
    };
    let key = &credentials.cluster_key;
    let welcome = Welcome {
        secret_of: &|grant| handler.invite_secret(grant),
        is_admin: &|admin| handler.is_admin(admin),
    };
    let is_member = handler.is_member(&peer);
    let checked = hello::check(&theirs, &peer, is_member, key, &exporter, &welcome);
    let mut greeted = match checked {
        Ok(greeted) => greeted,
        Err(why) => {
            let text = match why {
                Unwelcome::Invite => "the invite has lapsed, was used or taken back",
                _ => "the greeting was refused",
            };
            let goodbye = wire::go_away(why.code(), text);
            turn_away(&mut out, &mut frames, goodbye).await;
            return Err(why.into());
        }
    };
    if let Some(later) = shared.later_life(&peer, greeted.incarnation, challenge).await {
        turn_away(&mut out, &mut frames, wire::retired(FORMER, &later)).await;
        return Err(ConnError::Former);
    }
    if let Origin::Dialled(..) = origin {
        (greeted.class, greeted.dial) = (class, dial);
    }
    frames.decoder_mut().allow_calls();
    // Who was let in for an invite, or governs, may lack the keys.
    let governs = !greeted.proved && greeted.admin.is_some_and(|admin| handler.is_admin(&admin));
    let keys = match (origin, greeted.grant) {
        (Origin::Accepted(_), Some(grant)) if !greeted.proved => handler.keys_due(Some(&grant)),
        (Origin::Accepted(_), None) if governs => handler.keys_due(None),
        _ => Zeroizing::default(),
    };
    let ready = ready(handler.cluster_id(), own_info, origin, &keys);
    send(&mut out, Kind::Ready(ready)).await?;
    let Kind::Ready(theirs) = next(&mut frames, true).await? else {
        return Err(ConnError::Unexpected);
    };
    let their_cluster = match theirs.cluster_id.len() {
        0 => None,
        _ => Some(ClusterId::from_slice(&theirs.cluster_id).map_err(|_| ConnError::Unexpected)?),
    };
    if let (Some(ours), Some(theirs)) = (handler.cluster_id(), their_cluster)
        && ours != theirs
    {
        let why = "this node belongs to another cluster";
        turn_away(&mut out, &mut frames, wire::go_away(Code::ClusterMismatch, why)).await;
        return Err(ConnError::OtherCluster { ours, theirs });
    }
    let info = NodeInfo::from_canonical(theirs.info).map_err(|_| ConnError::Unexpected)?;
    let is_its = info.node_id == peer && info.incarnation == greeted.incarnation;
    if !is_its {
        return Err(ConnError::Unexpected);
    }
    let info = info.genuine().map_err(|_| ConnError::Unexpected)?;
    if let Some(later) = shared.before_going_back(&info) {
        turn_away(&mut out, &mut frames, wire::retired(FORMER, &later)).await;
        return Err(ConnError::Former);
    }
    let observed = theirs.observed_addr.parse().ok();
    Ok(Greeting { peer, greeted, info, observed, challenge, frames, out })
}

/// Tells a peer why it is not let in. It may have turned us away first, and be gone.
async fn turn_away(
    out: &mut WriteHalf<TlsStream<Stream>>,
    frames: &mut Frames,
    goodbye: proto::GoAway,
) {
    let _ = send(out, Kind::GoAway(goodbye)).await;
    // Let the peer read why before the connection closes.
    let _ = out.shutdown().await;
    let _ = frames.next().await;
}

fn ready(cluster: Option<ClusterId>, info: &NodeInfo, origin: Origin, keys: &[u8]) -> proto::Ready {
    let observed = match origin {
        Origin::Dialled(addr, ..) | Origin::Accepted(addr) => addr,
    };
    proto::Ready {
        cluster_id: cluster.map(|id| id.as_bytes().to_vec()).unwrap_or_default().into(),
        info: info.to_canonical().into(),
        observed_addr: observed.to_string(),
        keys: keys.to_vec().into(),
    }
}

pub(crate) async fn send(
    out: &mut WriteHalf<TlsStream<Stream>>,
    kind: Kind,
) -> Result<(), ConnError> {
    let mut bytes = BytesMut::new();
    let mut codec = FrameCodec::greeting();
    codec.allow_calls();
    codec.encode((0, kind), &mut bytes)?;
    let written = async {
        out.write_all(&bytes).await?;
        out.flush().await
    };
    written.await.map_err(|error| FrameError::from(error).into())
}

pub(crate) async fn next(frames: &mut Frames, greeted: bool) -> Result<Kind, ConnError> {
    let (_, kind) = frames.next().await.ok_or(ConnError::Closed)??;
    match kind {
        Kind::GoAway(message) => {
            Err(ConnError::Refused { goodbye: wire::parse_go_away(message), greeted })
        }
        other => Ok(other),
    }
}

/// Why a peer is retired.
const FORMER: &str = "a later state of this node is known";
/// A TLS handshake takes two round trips and little work.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Greetings follow at once.
pub(crate) const HELLO_MAX: Duration = Duration::from_secs(5);
