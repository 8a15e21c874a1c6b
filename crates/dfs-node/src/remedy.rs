//! What to do about a node that is kept apart: the commands that the crates below do not know.

use dfs_p2p::ApartReason;
use dfs_server::Client;

/// A sentence of the node about itself; with what to do, if it ends in why it is kept apart.
pub(crate) fn with_remedy(client: &Client, sentence: String) -> String {
    match client.kept_apart().map(|apart| apart.reason) {
        Some(reason) if sentence.ends_with(&reason.to_string()) => {
            format!("{sentence}; {}", remedy(reason))
        }
        _ => sentence,
    }
}

/// What brings the two nodes together.
fn remedy(reason: ApartReason) -> &'static str {
    match reason {
        ApartReason::KeyThere => {
            "to let it join, run 'dfs key export --cluster' here and 'dfs key import --cluster \
             --replace' there, or copy cluster.key from this node's config directory into its own, \
             and restart it"
        }
        ApartReason::KeyHere => {
            "to join it, run 'dfs key export --cluster' there and 'dfs key import --cluster \
             --replace' here, or copy cluster.key from its config directory into this node's, and \
             restart this node"
        }
        ApartReason::OtherCluster => {
            "to have one of the two nodes join the other's cluster, start it with an empty data \
             directory"
        }
        ApartReason::Incompatible { .. } => "update the older of the two",
        ApartReason::Former => "start it with an empty data directory, to join as a new node",
    }
}
