//! Bringing replicas together: comparing rows, handing over foreign ones, publishing how far it is.

use std::sync::Arc;

use dfs_core::id::{NodeId, Partition};
use dfs_core::layout::epoch::{EpochState, Stage};

use crate::chain::Chain;
use crate::records::Records;
use crate::replica::Replica;
use crate::rpc::Rpc;

mod compare;
pub(crate) mod handoff;
mod publish;
mod pull;
mod serve;
mod vouch;

pub(crate) use self::handoff::Handoff;
pub(crate) use self::publish::Publisher;
use self::vouch::Vouching;

/// Compares the rows here with those of other replicas.
pub(crate) struct RowSync {
    replica: Arc<Replica>,
    chain: Arc<Chain>,
    rpc: Arc<Rpc>,
    records: Arc<Records>,
    vouching: Vouching,
}

impl RowSync {
    pub(crate) fn new(chain: Arc<Chain>, rpc: Arc<Rpc>, records: Arc<Records>) -> Self {
        let vouching = Vouching::new(records.clone());
        Self { replica: rpc.replica.clone(), chain, rpc, records, vouching }
    }
}

/// A source to pull from, for a partition that this node receives.
struct Incoming {
    partition: Partition,
    source: NodeId,
    prepare_epoch: u64,
}

/// For every moving partition that `receiver` will hold: each source of the move but itself.
fn incoming(state: &EpochState, receiver: &NodeId) -> Vec<Incoming> {
    let mut incoming = Vec::new();
    for (partition, row) in (0..=Partition::MAX).zip(&state.rows) {
        let receives = row.next.iter().any(|idx| state.node(*idx) == Some(*receiver));
        if row.stage == Stage::Stable || !receives {
            continue;
        }
        let sources = row.current.iter().filter_map(|idx| state.node(*idx));
        let prepare_epoch = row.prepare_epoch;
        incoming.extend(sources.filter(|source| source != receiver).map(|source| Incoming {
            partition,
            source,
            prepare_epoch,
        }));
    }
    incoming
}
