//! Members that did not take what this node gave them to store, as they answered.

use std::collections::BTreeMap;
use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_p2p::message::Code;
use parking_lot::Mutex;
use tokio::time::Instant;

/// What a member answered instead of storing something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refuses {
    /// It has no room.
    Full,
    /// Its store does not work.
    Fails,
}

/// The last such answer of each member, until it stores something or [`KEPT`] has passed. No more
/// than there are members.
#[derive(Debug, Default)]
pub(crate) struct Refusing(Mutex<BTreeMap<NodeId, (Instant, Refuses)>>);

impl Refusing {
    /// Notes how a member answered something that it was given to store.
    pub(crate) fn note(&self, now: Instant, node: NodeId, answer: Result<(), Code>) {
        let refuses = match answer {
            Ok(()) => None,
            Err(Code::NoSpace) => Some(Refuses::Full),
            Err(Code::Internal) => Some(Refuses::Fails),
            // That it does not answer now says nothing of its disk.
            Err(_) => return,
        };
        let mut known = self.0.lock();
        match refuses {
            Some(refuses) => known.insert(node, (now, refuses)),
            None => known.remove(&node),
        };
    }

    /// What a member answered lately.
    pub(crate) fn of(&self, now: Instant, node: &NodeId) -> Option<Refuses> {
        let known = self.0.lock().get(node).copied();
        known.filter(|(at, _)| now < *at + KEPT).map(|(_, refuses)| refuses)
    }
}

/// How long an answer stands: a node that is full is asked again within this, wherever files are
/// written.
const KEPT: Duration = Duration::from_secs(2 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_stands_until_something_is_stored_or_it_is_old() {
        let (refusing, node, now) = (Refusing::default(), NodeId::new([1; 32]), Instant::now());
        for (answer, expected) in [
            (Err(Code::NoSpace), Some(Refuses::Full)),
            (Err(Code::Overloaded), Some(Refuses::Full)),
            (Err(Code::Internal), Some(Refuses::Fails)),
            (Ok(()), None),
            (Err(Code::Overloaded), None),
            (Err(Code::NoSpace), Some(Refuses::Full)),
        ] {
            refusing.note(now, node, answer);
            assert_eq!(refusing.of(now, &node), expected, "{answer:?}");
        }
        assert_eq!(refusing.of(now + KEPT, &node), None);
    }
}
