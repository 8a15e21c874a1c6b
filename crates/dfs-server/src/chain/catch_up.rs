//! Fetching epochs that this node lacks, and giving them to those that ask.

use dfs_core::codec::Canonical;
use dfs_core::id::NodeId;
use dfs_core::layout::epoch::EpochCert;
use dfs_p2p::message::{Call, Priority, Request, Response};

use super::Chain;
use crate::error::Error;

impl Chain {
    /// Fetches the epochs this node lacks from a peer that has them.
    pub(crate) async fn catch_up(&self, from: &NodeId) -> Result<(), Error> {
        let ours = self.replica.layout.epoch();
        let call = Call::new(Priority::Layout, CHAIN_DEADLINE, Request::ChainGet { from: ours });
        let answer = self.replica.net().call(from, call).await;
        let Ok(Ok(Response::Chain { snapshot, certs })) = answer.map(|answer| answer.result) else {
            return Ok(());
        };
        if let Some(state) = snapshot {
            return self.adopt_snapshot(*state, certs).await;
        }
        for cert in certs {
            self.adopt(cert).await?;
        }
        Ok(())
    }

    /// What a peer at epoch `from` lacks.
    pub(crate) async fn chain_after(&self, from: u64) -> Result<Response, Error> {
        let newest = self.replica.layout.newest();
        let Some(newest) = newest.filter(|newest| newest.state.epoch > from) else {
            return Ok(Response::Chain { snapshot: None, certs: Vec::new() });
        };
        let mut certs = Vec::new();
        let mut bytes = 0;
        if from > 0 && newest.state.epoch - from <= CHAIN_CERTS_MAX {
            for epoch in from + 1..=newest.state.epoch {
                let found = self.replica.store.epoch_cert(epoch).await?;
                bytes += found.as_ref().map_or(CHAIN_BYTES_MAX, Vec::len);
                if bytes >= CHAIN_BYTES_MAX {
                    break;
                }
                certs.extend(found.and_then(|cert| EpochCert::from_canonical(cert).ok()));
            }
            if bytes < CHAIN_BYTES_MAX {
                return Ok(Response::Chain { snapshot: None, certs });
            }
        }
        let changes = self.replica.store.voter_certs(from, VOTER_CHANGES_MAX).await?;
        let parse = |cert: Vec<u8>| EpochCert::from_canonical(cert).ok();
        let mut certs: Vec<EpochCert> = changes.into_iter().filter_map(parse).collect();
        certs.retain(|cert| cert.proposal.epoch < newest.state.epoch);
        certs.push(newest.cert.as_ref().clone());
        let snapshot = Some(Box::new(newest.state.as_ref().clone()));
        Ok(Response::Chain { snapshot, certs })
    }
}

/// Fetching epochs is small work; a peer that does not manage is not waited for.
pub(super) const CHAIN_DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);
/// Certificates in one answer; beyond this a snapshot is shorter.
const CHAIN_BYTES_MAX: usize = 128 * 1024;
/// Certificates in one answer, as many as a receiver takes.
const CHAIN_CERTS_MAX: u64 = 64;
/// Voter changes in one answer, beside the newest epoch. There is one for every voter that dies.
const VOTER_CHANGES_MAX: usize = 63;
