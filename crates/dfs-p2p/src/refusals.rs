//! Connections that cannot come up until someone does something: said with the remedy, and not with
//! every attempt.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::ConnError;
use crate::hello::Unwelcome;
use crate::message::Code;

/// A node that someone must do something about before it can be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptApart {
    /// Where it was dialled, or where it dialled from, then with port 0.
    pub addr: SocketAddr,
    /// Who dialled.
    pub direction: Direction,
    /// Why, and what to do.
    pub why: String,
}

/// What was refused lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// By address; of those who dialled without the port, which is another one each time.
    told: BTreeMap<(SocketAddr, Direction), Told>,
}

#[derive(Debug)]
struct Told {
    why: String,
    at: Instant,
}

/// Who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// This node.
    Dialled,
    /// The peer.
    Accepted,
}

impl Refusals {
    /// Notes a refusal; whether to log it now.
    pub(crate) fn note(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        direction: Direction,
        why: &str,
    ) -> bool {
        let key = key(addr, direction);
        let known = self.told.get(&key);
        if known.is_some_and(|told| told.why == why && now - told.at < TELL_AGAIN) {
            return false;
        }
        if known.is_none() && self.told.len() >= REFUSALS_MAX {
            let oldest = self.told.iter().min_by_key(|(_, told)| told.at).map(|(key, _)| *key);
            oldest.map(|key| self.told.remove(&key));
        }
        self.told.insert(key, Told { why: why.to_owned(), at: now });
        true
    }

    /// A connection came up after all, or the dial failed for an ordinary reason.
    pub(crate) fn forget(&mut self, addr: SocketAddr) {
        self.told.remove(&key(addr, Direction::Dialled));
    }

    /// Everyone kept apart.
    pub(crate) fn list(&self) -> Vec<KeptApart> {
        let apart = |((addr, direction), told): (&(SocketAddr, Direction), &Told)| KeptApart {
            addr: *addr,
            direction: *direction,
            why: told.why.clone(),
        };
        self.told.iter().map(apart).collect()
    }
}

fn key(addr: SocketAddr, direction: Direction) -> (SocketAddr, Direction) {
    match direction {
        Direction::Dialled => (addr, direction),
        Direction::Accepted => (SocketAddr::new(addr.ip(), 0), direction),
    }
}

/// What to do about a connection that does not come up; `None` for what passes by itself.
/// `in_cluster` says whether this node is in one: the other way round the key is wrong here.
pub(crate) fn remedy(error: &ConnError, in_cluster: bool) -> Option<String> {
    match error {
        ConnError::Unwelcome(Unwelcome::ClusterKey)
        | ConnError::Refused { code: Code::ClusterMismatch, greeted: false, .. } => {
            Some(key_remedy(in_cluster).to_owned())
        }
        ConnError::OtherCluster { .. }
        | ConnError::Refused { code: Code::ClusterMismatch, greeted: true, .. } => Some(
            "it belongs to another cluster, and clusters do not merge; to have one of the two nodes \
             join the other's cluster, start it with an empty data directory"
                .to_owned(),
        ),
        ConnError::Unwelcome(Unwelcome::Incompatible { .. })
        | ConnError::Refused { code: Code::Incompatible, .. } => {
            Some(format!("{error}; update the older of the two"))
        }
        ConnError::Former => Some(format!(
            "{error}; it takes part in nothing; start it with an empty data directory, to join as \
             a new node"
        )),
        _ => None,
    }
}

fn key_remedy(in_cluster: bool) -> &'static str {
    if in_cluster {
        "it does not have this cluster's key; to let it join, run 'dfs key export --cluster' here \
         and 'dfs key import --cluster --replace' there, or copy cluster.key from this node's \
         config directory into its own, and restart it"
    } else {
        "the cluster there has another key than this node; to join it, run 'dfs key export \
         --cluster' there and 'dfs key import --cluster --replace' here, or copy cluster.key from \
         its config directory into this node's, and restart this node"
    }
}

/// Peers remembered; the oldest is forgotten first.
const REFUSALS_MAX: usize = 64;
/// How often the same refusal is logged while attempts go on.
const TELL_AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use dfs_env::{Env, MemoryNet};

    use super::*;

    #[test]
    fn a_refusal_is_told_once_a_minute_and_kept_until_it_is_over() {
        let start = Env::in_memory(0, MemoryNet::default()).mono();
        let mut refusals = Refusals::default();
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let later = |seconds| start + Duration::from_secs(seconds);
        assert!(refusals.note(start, addr(1), Direction::Dialled, "key"));
        assert!(!refusals.note(later(59), addr(1), Direction::Dialled, "key"));
        assert!(refusals.note(later(59), addr(1), Direction::Dialled, "cluster"));
        assert!(refusals.note(later(119), addr(1), Direction::Dialled, "cluster"));
        // Whoever dials comes from another port each time.
        assert!(refusals.note(start, addr(2), Direction::Accepted, "key"));
        assert!(!refusals.note(start, addr(3), Direction::Accepted, "key"));
        let apart = refusals.list();
        assert_eq!((apart[0].addr, &apart[0].why[..]), (addr(0), "key"));
        assert_eq!((apart[1].addr, &apart[1].why[..]), (addr(1), "cluster"));
        refusals.forget(addr(1));
        assert_eq!(refusals.list(), apart[..1]);
        for port in 0..200 {
            refusals.note(later(port.into()), addr(port), Direction::Dialled, "key");
        }
        assert_eq!(refusals.list().len(), REFUSALS_MAX);
    }
}
