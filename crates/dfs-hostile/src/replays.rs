//! Bringing others records that are none any more, or never were.

use dfs_core::id::NodeId;
use dfs_core::record::version::Record;
use dfs_p2p::message::{Origin, Priority, Request};

use crate::attacks::Tally;
use crate::lies::forged;
use crate::member::Member;

/// Records as they were once, each again as a repair and as news, and forged ones.
pub(crate) async fn replay_records(member: &Member, node: NodeId) -> Tally {
    let mut tally = Tally::default();
    let Some(seen) = &member.seen else { return tally };
    for key in seen.keys(member.env.random_u64(), RECORDS_AT_ONCE) {
        let luck = member.env.random_u64();
        let old = Record::of_all(seen.record(&key, luck).heads().cloned());
        let forged = forged(&key, &old, seen, luck);
        for (record, origin) in
            [(old.clone(), Origin::Repair), (old, Origin::Client), (forged, Origin::Repair)]
        {
            let put = Request::RecordPut { records: vec![(key, record)], origin };
            tally.note(&member.ask(&node, Priority::Records, 0, put).await);
        }
    }
    tally
}

/// Records brought in one turn.
const RECORDS_AT_ONCE: usize = 4;
