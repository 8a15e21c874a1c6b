//! Connections that cannot come up until someone does something: why, and not told with every
//! attempt. What to do about it is the program's to say.

use std::collections::BTreeMap;
use std::fmt;
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
    /// Why.
    pub reason: ApartReason,
}

/// Why a node is kept apart. Displayed as a clause about the node at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApartReason {
    /// It lacks the key of this node's cluster.
    KeyThere,
    /// This node is in no cluster, and lacks the key of the one there.
    KeyHere,
    /// Both are in a cluster, not in the same one.
    OtherCluster,
    /// The two speak no common protocol version.
    Incompatible {
        /// The oldest and the newest that it speaks, if it said so.
        theirs: Option<(u32, u32)>,
    },
    /// It runs from a copy or an older state of a data directory.
    Former,
}

impl fmt::Display for ApartReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyThere => f.write_str("it does not have this cluster's key"),
            Self::KeyHere => f.write_str("the cluster there has another key than this node"),
            Self::OtherCluster => {
                f.write_str("it belongs to another cluster, and clusters do not merge")
            }
            Self::Incompatible { theirs: Some((min, max)) } => {
                write!(f, "{}", Unwelcome::Incompatible { min: *min, max: *max })
            }
            Self::Incompatible { theirs: None } => {
                f.write_str("it speaks no protocol version that this node speaks")
            }
            Self::Former => write!(f, "{}; it takes part in nothing", ConnError::Former),
        }
    }
}

/// What was refused lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// By address; of those who dialled without the port, which is another one each time.
    told: BTreeMap<(SocketAddr, Direction), Told>,
}

#[derive(Debug)]
struct Told {
    reason: ApartReason,
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
        reason: ApartReason,
    ) -> bool {
        let key = key(addr, direction);
        let known = self.told.get(&key);
        if known.is_some_and(|told| told.reason == reason && now - told.at < TELL_AGAIN) {
            return false;
        }
        if known.is_none() && self.told.len() >= REFUSALS_MAX {
            let oldest = self.told.iter().min_by_key(|(_, told)| told.at).map(|(key, _)| *key);
            oldest.map(|key| self.told.remove(&key));
        }
        self.told.insert(key, Told { reason, at: now });
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
            reason: told.reason,
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

/// Why a connection that did not come up will not come up by itself; `None` when it may.
/// `in_cluster` says whether this node is in one: the other way round the key is wrong here.
pub(crate) fn apart_reason(error: &ConnError, in_cluster: bool) -> Option<ApartReason> {
    match error {
        ConnError::Unwelcome(Unwelcome::ClusterKey) => Some(other_key(in_cluster)),
        ConnError::OtherCluster { .. } => Some(ApartReason::OtherCluster),
        ConnError::Refused { goodbye, greeted } => match goodbye.code {
            Code::ClusterMismatch if *greeted => Some(ApartReason::OtherCluster),
            Code::ClusterMismatch => Some(other_key(in_cluster)),
            Code::Incompatible => Some(ApartReason::Incompatible { theirs: None }),
            _ => None,
        },
        ConnError::Unwelcome(Unwelcome::Incompatible { min, max }) => {
            Some(ApartReason::Incompatible { theirs: Some((*min, *max)) })
        }
        ConnError::Former => Some(ApartReason::Former),
        _ => None,
    }
}

fn other_key(in_cluster: bool) -> ApartReason {
    if in_cluster { ApartReason::KeyThere } else { ApartReason::KeyHere }
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
        assert!(refusals.note(start, addr(1), Direction::Dialled, ApartReason::KeyHere));
        assert!(!refusals.note(later(59), addr(1), Direction::Dialled, ApartReason::KeyHere));
        assert!(refusals.note(later(59), addr(1), Direction::Dialled, ApartReason::OtherCluster));
        assert!(refusals.note(later(119), addr(1), Direction::Dialled, ApartReason::OtherCluster));
        // Whoever dials comes from another port each time.
        assert!(refusals.note(start, addr(2), Direction::Accepted, ApartReason::KeyHere));
        assert!(!refusals.note(start, addr(3), Direction::Accepted, ApartReason::KeyHere));
        let apart = refusals.list();
        assert_eq!((apart[0].addr, apart[0].reason), (addr(0), ApartReason::KeyHere));
        assert_eq!((apart[1].addr, apart[1].reason), (addr(1), ApartReason::OtherCluster));
        refusals.forget(addr(1));
        assert_eq!(refusals.list(), apart[..1]);
        for port in 0..200 {
            refusals.note(later(port.into()), addr(port), Direction::Dialled, ApartReason::KeyHere);
        }
        assert_eq!(refusals.list().len(), REFUSALS_MAX);
    }
}
