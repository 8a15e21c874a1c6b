//! What it does to others of its own accord: all at once against every node in reach, or one thing
//! after the other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfs_core::id::{BlobId, NodeId, RecordKey};
use dfs_core::node::member::NodeInfo;
use dfs_core::record::refs::RefRow;
use dfs_core::replica::sync::Table;
use dfs_p2p::CallError;
use dfs_p2p::message::{Answer, Call, Gossip, Priority, Request, Response};
use ed25519_dalek::SigningKey;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::Instant;

use crate::adversary::Shared;
use crate::attack::Attack;
use crate::lies::made_up_use;
use crate::member::Member;
use crate::replays::replay_records;
use crate::takeover::{make_up_layouts, use_up_ballots};
use crate::vaults::fill_with_own;

/// How its calls ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    answered: u64,
    refused: u64,
    failed: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered, {} refused, {} failed", self.answered, self.refused, self.failed)
    }
}

impl Tally {
    pub(crate) fn note(&mut self, answer: &Result<Answer, CallError>) {
        match answer {
            Ok(answer) if answer.result.is_ok() => self.answered += 1,
            Ok(_) => self.refused += 1,
            Err(_) => self.failed += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.failed += other.failed;
    }
}

/// One turn of an attack against one node.
type Turn = for<'a> fn(&'a Member, NodeId) -> BoxFuture<'a, Tally>;

const TURNS: [(Attack, Turn); 11] = [
    (Attack::OwnLayouts, |member, node| Box::pin(make_up_layouts(member, node))),
    (Attack::LastBallots, |member, node| Box::pin(use_up_ballots(member, node))),
    (Attack::LargeReads, |member, node| Box::pin(read_one_record(member, node))),
    (Attack::Scans, |member, node| Box::pin(scan_all(member, node))),
    (Attack::MadeUpUses, |member, node| Box::pin(make_up_uses(member, node))),
    (Attack::WrongBlobs, |member, node| Box::pin(put_wrong_blobs(member, node))),
    (Attack::InventedNodes, |member, node| Box::pin(invent_nodes(member, node))),
    (Attack::LaterEpochs, |member, node| Box::pin(claim_epochs(member, node))),
    (Attack::OrdersToForget, |member, node| Box::pin(order_to_forget(member, node))),
    (Attack::ReplayedRecords, |member, node| Box::pin(replay_records(member, node))),
    (Attack::MadeUpVaults, |member, node| Box::pin(fill_with_own(member, node))),
];

/// Does one thing after the other to one node after the other, as chance has it, for ever. Ends at
/// once where none of its attacks is one of its own accord.
pub async fn harm(member: &Member, shared: &Shared) {
    let may = |(attack, _): &&(Attack, Turn)| shared.attacks().contains(attack);
    let turns: Vec<&(Attack, Turn)> = TURNS.iter().filter(may).collect();
    let below = |count: usize| {
        let luck = member.env.random_u64().checked_rem(count as u64)?;
        usize::try_from(luck).ok()
    };
    while !turns.is_empty() {
        let rest = Duration::from_millis(REST_MIN_MS + member.env.random_u64() % REST_MORE_MS);
        member.env.sleep(rest).await;
        let victims = member.victims();
        let (Some(turn), Some(victim)) = (below(turns.len()), below(victims.len())) else {
            continue;
        };
        if shared.asks() {
            let (attack, act) = turns[turn];
            shared.note(*attack);
            if *attack == Attack::OrdersToForget
                && let Some(state) = member.layout().await
            {
                member.claim(state.epoch);
            }
            act(member, victims[victim]).await;
        }
    }
}

/// Runs every attack until the end; gives how the calls of each ended.
pub async fn run_all(member: &Arc<Member>, until: Instant) -> BTreeMap<&'static str, Tally> {
    let silent = member.env.spawn("silent", open_and_say_nothing(member.clone(), until));
    let claiming = async {
        while member.env.mono() < until {
            if let Some(state) = member.layout().await {
                member.claim(state.epoch);
            }
            member.env.sleep(CLAIM_EVERY).await;
        }
    };
    let attacks = TURNS.map(|(attack, turn)| async move {
        let mut tally = Tally::default();
        while member.env.mono() < until {
            let turns = member.victims().into_iter().map(|node| turn(member, node));
            for turn in join_all(turns).await {
                tally.add(turn);
            }
            member.env.sleep(TURN_APART).await;
        }
        (attack.label(), tally)
    });
    let (tallies, ()) = tokio::join!(join_all(attacks), claiming);
    let _ = silent.await;
    tallies.into_iter().collect()
}

/// A call as large as a frame, for one record over and over, many at once.
async fn read_one_record(member: &Member, node: NodeId) -> Tally {
    let mut tally = Tally::default();
    let Some(key) = some_key(member, &node).await else { return tally };
    let calls = (0..CALLS_AT_ONCE).map(|at| {
        let keys = vec![key; KEYS_IN_CALL];
        let get = Request::RecordGet { keys, digest_only: at % 2 == 0 };
        member.ask(&node, Priority::Records, 0, get)
    });
    join_all(calls).await.iter().for_each(|answer| tally.note(answer));
    tally
}

async fn some_key(member: &Member, node: &NodeId) -> Option<RecordKey> {
    for partition in member.partitions(Table::Records, 1) {
        if let Some(key) = member.record_keys(node, partition).await.first() {
            return Some(*key);
        }
    }
    None
}

async fn scan_all(member: &Member, node: NodeId) -> Tally {
    let mut tally = Tally::default();
    for some in member.partitions(Table::Records, 1).chunks(CALLS_AT_ONCE) {
        let scans = some.iter().map(|partition| member.rows(&node, Table::Records, *partition));
        join_all(scans).await.iter().for_each(|answer| tally.note(answer));
    }
    tally
}

/// Each use again, by a record that does not exist: whoever takes the smaller record for the right
/// one throws the blob away.
async fn make_up_uses(member: &Member, node: NodeId) -> Tally {
    let mut tally = Tally::default();
    for partition in member.partitions(Table::Refs, 1) {
        let answer = member.rows(&node, Table::Refs, partition).await;
        let Ok(Ok(Response::Rows { refs, .. })) = answer.map(|answer| answer.result) else {
            continue;
        };
        if refs.is_empty() {
            continue;
        }
        let add = Request::RefAdd(refs.iter().map(made_up_use).collect());
        tally.note(&member.ask(&node, Priority::Records, 0, add).await);
    }
    tally
}

/// Bytes under the ids of blobs that the node has, which are not theirs.
async fn put_wrong_blobs(member: &Member, node: NodeId) -> Tally {
    let mut tally = Tally::default();
    for partition in member.partitions(Table::Refs, 16) {
        let answer = member.rows(&node, Table::Refs, partition).await;
        let Ok(Ok(Response::Rows { refs, .. })) = answer.map(|answer| answer.result) else {
            continue;
        };
        for id in refs.iter().map(|row| row.blob).chain([BlobId::new([7; 32])]).take(4) {
            let put = Call::new(Priority::Chunks, CALL_MAX, Request::ChunkPut(id));
            let put = Call { body: Bytes::from(vec![7; WRONG_BYTES]), ..put };
            tally.note(&member.network.call(&node, put).await);
            let report = Request::ReportCorrupt(id);
            tally.note(&member.ask(&node, Priority::Chunks, 0, report).await);
        }
    }
    tally
}

/// Infos of nodes that do not exist, signed with their own keys, at addresses that do not answer.
async fn invent_nodes(member: &Member, node: NodeId) -> Tally {
    let mut tally = Tally::default();
    let own = member.network.own_info();
    let count = if member.seen.is_some() { NODES_AT_ONCE } else { NODES_IN_CALL };
    let infos = (0..count).map(|at| {
        let key = SigningKey::from_bytes(&member.env.random());
        let node_id = NodeId::new(key.verifying_key().to_bytes());
        let addrs = vec![format!("127.0.0.2:{}", 1 + at)];
        NodeInfo { node_id, addrs, reach: own.reach.clone(), ..own.clone() }.sign(&key)
    });
    let gossip = Gossip { digest: Vec::new(), infos: infos.collect(), want_reply: true };
    tally.note(&member.ask(&node, Priority::Layout, 0, Request::Gossip(gossip)).await);
    tally
}

/// Calls from the future: the node asks for the epochs, and waits in vain.
async fn claim_epochs(member: &Member, node: NodeId) -> Tally {
    let mut tally = Tally::default();
    let calls = (0..CALLS_AT_ONCE).map(|_| {
        let has = Request::ChunkHas(vec![BlobId::new([1; 32])]);
        member.ask(&node, Priority::Records, u64::MAX, has)
    });
    join_all(calls).await.iter().for_each(|answer| tally.note(answer));
    tally
}

async fn order_to_forget(member: &Member, node: NodeId) -> Tally {
    let mut tally = Tally::default();
    for partition in member.partitions(Table::Records, 4) {
        let records = member.rows(&node, Table::Records, partition).await;
        if let Ok(Ok(Response::Rows { hashes, .. })) = records.map(|answer| answer.result) {
            let forget = Request::RecordsForget(hashes);
            tally.note(&member.ask(&node, Priority::Background, 0, forget).await);
        }
    }
    for partition in member.partitions(Table::Refs, 4) {
        let refs = member.rows(&node, Table::Refs, partition).await;
        if let Ok(Ok(Response::Rows { refs, .. })) = refs.map(|answer| answer.result) {
            let forget = Request::RefsForget(refs.iter().map(RefRow::of).collect());
            tally.note(&member.ask(&node, Priority::Background, 0, forget).await);
        }
    }
    tally
}

/// Opens connections and says nothing on them.
async fn open_and_say_nothing(member: Arc<Member>, until: Instant) {
    let mut open = Vec::new();
    while member.env.mono() < until {
        for peer in &member.peers {
            if let Ok(stream) = member.env.net().connect(*peer).await {
                open.push(stream);
            }
        }
        if open.len() > SILENT_MAX {
            open.drain(..SILENT_MAX / 2);
        }
        member.env.sleep(SILENT_APART).await;
    }
}

/// Calls under way at once to each node, of each attack.
const CALLS_AT_ONCE: usize = 24;
/// As many keys as a call may have.
const KEYS_IN_CALL: usize = 4096;
/// As many infos as fit a call.
const NODES_IN_CALL: u16 = 200;
/// As many as one makes up that does one thing after the other.
const NODES_AT_ONCE: u16 = 30;
const WRONG_BYTES: usize = 1 << 20;
const CALL_MAX: Duration = Duration::from_secs(10);
const CLAIM_EVERY: Duration = Duration::from_secs(1);
/// Two turns of an attack: it must leave the machine some room.
const TURN_APART: Duration = Duration::from_millis(50);
/// Connections that say nothing, kept open at once.
const SILENT_MAX: usize = 400;
const SILENT_APART: Duration = Duration::from_millis(20);
/// Between two turns of one that does one thing after the other.
const REST_MIN_MS: u64 = 100;
const REST_MORE_MS: u64 = 3000;
