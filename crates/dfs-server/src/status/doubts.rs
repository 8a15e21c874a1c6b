//! Members that this node has reason to doubt.

use dfs_core::id::{NodeId, hex};
use dfs_core::layout::epoch::EpochState;
use dfs_core::replica::possession::Account;

use super::Status;
use super::types::Doubt;

impl Status {
    /// Members that did not show what they should hold, or are distrusted; distrusted ones first.
    pub(super) fn doubts(&self, state: &EpochState) -> Vec<Doubt> {
        let conduct = &self.replica.conduct;
        let doubt = |node: NodeId| {
            let (short, since_ms) = (node.short(), conduct.convicted(&node));
            if let Some(why) = conduct.distrusted(&node) {
                let why = why.to_owned();
                return Some(Doubt { node: short, distrusted: true, why, since_ms });
            }
            let possession = conduct.possession();
            let (why, since_ms) = behind(possession.account(&node)?)?;
            Some(Doubt { node: short, distrusted: false, why, since_ms: Some(since_ms) })
        };
        let mut doubts: Vec<Doubt> =
            state.present().filter_map(|member| doubt(member.node_id)).collect();
        doubts.sort_by_key(|doubt| !doubt.distrusted);
        doubts.truncate(DOUBTS_SHOWN);
        doubts
    }
}

/// What a member owes, and since when.
fn behind(account: &Account) -> Option<(String, u64)> {
    if let Some(silent) = account.silent.filter(|_| account.is_suspect()) {
        let why = "is in reach and does not show what it should hold".to_owned();
        return Some((why, silent.since_ms));
    }
    let first = account.lacking.iter().min_by_key(|lacking| lacking.since_ms)?;
    let piece = hex(&first.of.blob.as_bytes()[..8]);
    let why = match account.lacking.len() {
        1 => format!("lacks piece {piece} that it should hold, and was told to fetch it"),
        more => {
            format!("lacks {more} pieces that it should hold ({piece} and others), and was told")
        }
    };
    Some((why, first.since_ms))
}

/// Members that are named.
const DOUBTS_SHOWN: usize = 8;
