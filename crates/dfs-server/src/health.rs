//! What `status` and `peers` say: computed from what this node verified or was told just now.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dfs_core::id::{NodeId, Partition, hex};
use dfs_core::layout::epoch::{EpochState, Member, MemberState};
use dfs_core::layout::voters::limiting_zone;
use dfs_core::quorum::Tally;
use dfs_core::replica::sync::Table;
use dfs_p2p::{Direction, KeptApart};
use serde::Serialize;
use tokio::time::Instant;
use tracing::debug;

use crate::client::{Client, peer_state, short};
use crate::config::Mode;
use crate::disaster::shown;
use crate::error::Error;
use crate::node::Node;
use crate::views::{PeerState, PeerView};

pub use self::outlook::{Copying, CostName, NextFailure};

mod outlook;

/// One word for how things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Every copy that should be there is there.
    Ok,
    /// Something is missing or under way; nothing is in danger.
    Degraded,
    /// One more failure may make something unreadable.
    AtRisk,
    /// Something is unreadable.
    Lost,
}

/// How the cluster is, seen from one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The cluster's id; empty before the node has joined.
    pub cluster: String,
    /// The newest layout.
    pub epoch: u64,
    /// One word.
    pub health: Level,
    /// One sentence.
    pub message: String,
    /// Members.
    pub nodes: usize,
    /// Members that answer.
    pub alive: usize,
    /// Files; on a node without the vault's key, 0.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pieces known to have fewer copies than they should.
    pub under_replicated: u64,
    /// Pieces of existing files without a good copy.
    pub unrecoverable: u64,
    /// Blobs that nodes are fetching.
    pub repair_queue: u64,
    /// What this node fetches, and how long it will take; `None` when nothing is missing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copying: Option<Copying>,
    /// Whether someone asked this node to fetch nothing.
    pub repair_paused: bool,
    /// What the failure of one more node would cost.
    pub next_failure: NextFailure,
    /// Pieces and rows on this node's disk that could not be read when it was last read back.
    pub unreadable: u64,
    /// Partitions that move or have too few members.
    pub moving: usize,
    /// Who decides about the layout.
    pub voters: Vec<String>,
    /// The zone whose members offer least, where that limits what the cluster can hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limiting_zone: Option<String>,
    /// Names with versions that wait for a decision.
    pub conflicts: u64,
    /// Whether the vault's key was written down and read back.
    pub key_backup: bool,
}

/// Counts that are expensive, kept while nothing changes.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Option<Counted>>);

#[derive(Debug, Clone, Copy)]
struct Counted {
    fingerprint: [u8; 32],
    at: Instant,
    files: u64,
    bytes: u64,
    conflicts: u64,
}

pub(crate) fn peers(node: &Node) -> Vec<PeerView> {
    let state = node.joined().ok();
    let own = node.network().own_info();
    let view = |info: &dfs_core::node::member::NodeInfo, state: PeerState, is_self| PeerView {
        id: info.node_id.to_string(),
        addr: info.addrs.first().cloned().unwrap_or_default(),
        zone: info.zone.clone(),
        state,
        is_self,
        bytes: info.used,
        capacity: info.capacity,
    };
    let mut own = view(&own, PeerState::Alive, true);
    if own.addr.is_empty() {
        own.addr = node.network().listen_addr().to_string();
    }
    let mut peers = vec![own];
    let Some(state) = state else { return peers };
    for peer in node.network().peers() {
        let shown =
            peer_state(Some(&state), &peer.info.node_id, node.shown_down_for(&peer.info.node_id));
        // Someone who once wanted to join and went away is nobody's concern.
        if shown != PeerState::Joining || peer.down_for.is_none() {
            peers.push(view(&peer.info, shown, false));
        }
    }
    peers.sort_by(|a, b| a.id.cmp(&b.id));
    peers
}

pub(crate) fn not_ready(node: &Node) -> Vec<String> {
    let mut reasons = Vec::new();
    match node.joined() {
        Err(_) => reasons.push(not_joined(node)),
        Ok(state) => {
            let (nodes, alive) = (state.active().count(), alive(node, &state));
            let out = out_of_reach(node, &state);
            if out > 0 {
                let all = state.rows.len();
                reasons.push(format!(
                    "{out} of {all} partitions have too few replicas in reach \
                     ({alive} of {nodes} members answer)"
                ));
            }
        }
    }
    if node.store.has_failed() {
        reasons.push("the disk failed; the node takes no writes".to_owned());
    }
    reasons
}

/// That this node is in no cluster yet, and why.
fn not_joined(node: &Node) -> String {
    let left = || node.left(&*node.layout.current()?);
    if let Some(why) = node.retired.get().cloned().or_else(left) {
        return format!(
            "this node is retired: {why}; it takes part in nothing; start it with an empty data \
             directory to join as a new node"
        );
    }
    let why = match kept_apart(node) {
        Some(peer) => format!("{}: {}", peer.addr, peer.reason),
        None => node.joining.why(),
    };
    format!("this node has not joined a cluster yet: {why}")
}

/// A node that this one dials in vain until someone does something.
pub(crate) fn kept_apart(node: &Node) -> Option<KeptApart> {
    let all = node.network().kept_apart();
    all.into_iter().find(|peer| peer.direction == Direction::Dialled)
}

/// Partitions that cannot be read and written now, as the default mode asks.
fn out_of_reach(node: &Node, state: &EpochState) -> usize {
    let quorum = node.is_quorum(Mode::Default, state);
    let reaches = |set: &[NodeId], needed: fn(usize) -> usize| {
        let needed = if quorum { needed(set.len()) } else { 1 };
        set.iter().filter(|replica| node.is_reachable(replica)).count() >= needed
    };
    let all = (0..=Partition::MAX).take(state.rows.len());
    let out = all.filter(|partition| {
        let readable = reaches(&state.read_set(*partition), Tally::<NodeId>::read_majority);
        let mut sets = state.write_sets(*partition).into_iter();
        !readable || !sets.all(|set| reaches(&set, Tally::<NodeId>::write_majority))
    });
    out.count()
}

fn alive(node: &Node, state: &EpochState) -> usize {
    state.active().filter(|member| node.is_reachable(&member.node_id)).count()
}

pub(crate) async fn health(client: &Client) -> Result<Health, Error> {
    let node = &client.0;
    let key_backup = node.store.state(KEY_BACKUP).await?.is_some();
    let Ok(state) = node.joined() else {
        return Ok(Health {
            cluster: String::new(),
            epoch: node.layout.epoch(),
            health: Level::Degraded,
            message: not_joined(node),
            nodes: 1,
            alive: 1,
            files: 0,
            bytes: 0,
            under_replicated: 0,
            unrecoverable: 0,
            repair_queue: 0,
            copying: None,
            repair_paused: node.repair.is_paused(),
            next_failure: NextFailure::alone(),
            unreadable: 0,
            moving: 0,
            voters: Vec::new(),
            limiting_zone: None,
            conflicts: 0,
            key_backup,
        });
    };
    let nodes = state.active().count();
    let down: Vec<NodeId> = state
        .active()
        .map(|member| member.node_id)
        .filter(|member| !node.is_reachable(member))
        .collect();
    let counted = count(client, &state).await?;
    let told_by_peers = node
        .network()
        .peers()
        .iter()
        // What one said before it was lost is no work for anyone.
        .filter(|peer| is_heard(&state, &peer.info.node_id))
        .fold(0u64, |sum, peer| sum.saturating_add(peer.info.repair_queue));
    let missing_here = node.missing_here();
    let repair_queue = missing_here.saturating_add(told_by_peers);
    let (bytes_per_second, left) = node.repair.outlook(node.env.mono(), missing_here);
    let is_missing = repair_queue > 0 || !node.repair.knows_all();
    let by_majority = node.is_quorum(Mode::Default, &state);
    let scrubbed = client.scrub();
    let behind = rows_behind(node, &state, &down).await.saturating_add(node.strays(&state).await?);
    let pieces_down = pieces_on(node, &state, &down).await?;
    let mut health = Health {
        cluster: hex(&state.cluster_id.as_bytes()[..8]),
        epoch: state.epoch,
        health: Level::Ok,
        message: String::new(),
        nodes,
        alive: nodes - down.len(),
        files: counted.files,
        bytes: counted.bytes,
        under_replicated: repair_queue.saturating_add(behind).saturating_add(pieces_down),
        unrecoverable: lost(node, &state),
        repair_queue,
        copying: Copying::new(missing_here, bytes_per_second, left),
        repair_paused: node.repair.is_paused(),
        next_failure: NextFailure::of(&state, &down, is_missing, by_majority),
        unreadable: scrubbed.unread.saturating_add(scrubbed.rows_damaged),
        moving: state.moving(),
        voters: state.voters.iter().map(short).collect(),
        limiting_zone: limiting_zone(&state).map(|(zone, _)| zone),
        conflicts: counted.conflicts,
        key_backup,
    };
    (health.health, health.message) = judge(&health, &state, &down, node.store.has_failed());
    if let Some(message) = went_on_without(node) {
        (health.health, health.message) = (health.health.max(Level::AtRisk), message);
    }
    if health.health == Level::Ok && !node.repair.knows_all() {
        let message = "this node looks for what it should hold and does not".to_owned();
        (health.health, health.message) = (Level::Degraded, message);
    }
    Ok(health)
}

/// What to do when others went on by hand without members that this node counts on.
fn went_on_without(node: &Node) -> Option<String> {
    let lost = node.layout.untold()?.lost;
    if lost.contains(&node.id) {
        let what = "others went on by hand and count this node as lost; ask whoever runs them before \
                    you do anything to it";
        return Some(what.to_owned());
    }
    let lost = shown(lost.iter());
    let what = "others went on by hand without nodes that this one counts on; if that is right";
    Some(format!("{what}, 'dfs layout recover {lost}' follows them"))
}

/// Pieces that are lost, as whoever in reach knows of most of them says: the same piece is looked for
/// by all its replicas.
fn lost(node: &Node, state: &EpochState) -> u64 {
    let peers = node.network().peers();
    let heard = peers.iter().map(|peer| &peer.info).filter(|info| is_heard(state, &info.node_id));
    let in_reach = heard.filter(|info| node.is_reachable(&info.node_id));
    in_reach.map(|info| info.lost).fold(node.repair.lost_len(), u64::max)
}

/// Whether what a node says of its pieces counts: it has some to look after.
fn is_heard(state: &EpochState, node: &NodeId) -> bool {
    let member = state.member(node).map(|member| member.state);
    matches!(member, Some(MemberState::Active | MemberState::Draining))
}

/// The word and the sentence.
fn judge(health: &Health, state: &EpochState, down: &[NodeId], failed: bool) -> (Level, String) {
    let copies = state.copies_at_rest();
    let holders = state.rows.iter().map(|row| {
        let up = |idx: &u16| state.node(*idx).is_some_and(|node| !down.contains(&node));
        row.current.iter().filter(|idx| up(idx)).count()
    });
    let fewest = holders.min().unwrap_or(0);
    let away = down.iter().map(short).collect::<Vec<_>>().join(", ");
    if health.unrecoverable > 0 {
        let message = format!("{} pieces of files have no good copy left", health.unrecoverable);
        return (Level::Lost, message);
    }
    if failed {
        let message =
            "this node's disk failed; it takes no writes until it is restarted".to_owned();
        return (Level::AtRisk, message);
    }
    if fewest == 0 {
        return (Level::AtRisk, format!("some files are out of reach: {away} do not answer"));
    }
    if fewest == 1 && copies > 1 {
        return (Level::AtRisk, format!("some files are on one node only: {away} do not answer"));
    }
    if !down.is_empty() && health.next_failure.cost == CostName::Files {
        let message = format!(
            "some pieces may be on one node only, and are being copied: {away} do not answer"
        );
        return (Level::AtRisk, message);
    }
    if !down.is_empty() {
        let message = format!(
            "{} of {} nodes are away ({away}); everything is readable and kept on {fewest} nodes",
            down.len(),
            health.nodes
        );
        return (Level::Degraded, message);
    }
    if health.moving > 0 {
        return (Level::Degraded, format!("{} partitions are moving", health.moving));
    }
    if health.under_replicated > 0 {
        let message = format!("{} pieces are being copied", health.under_replicated);
        return (Level::Degraded, message);
    }
    if health.unreadable > 0 {
        let message = format!(
            "{} pieces or rows on this node's disk could not be read back; see 'dfs scrub status'",
            health.unreadable
        );
        return (Level::Degraded, message);
    }
    let message = match copies {
        1 => "one node holds everything; add nodes for more copies".to_owned(),
        copies => format!("every file has {copies} copies"),
    };
    (Level::Ok, message)
}

/// Partitions in which a replica that is not `down` holds other rows than this node.
async fn rows_behind(node: &Arc<Node>, state: &Arc<EpochState>, down: &[NodeId]) -> u64 {
    let ours = node.partitions_of(state, &node.id);
    let mut behind = 0;
    let may_differ =
        |member: &&Member| member.node_id != node.id && member.state != MemberState::Out;
    for member in state.present().filter(may_differ) {
        let id = member.node_id;
        // Not whether it can be reached now: whoever was not counted as away must answer.
        if down.contains(&id) {
            continue;
        }
        let theirs = node.partitions_of(state, &id);
        let shared: Vec<Partition> =
            ours.iter().copied().filter(|partition| theirs.contains(partition)).collect();
        for table in [Table::Records, Table::Refs] {
            let asked = node.differing_with(&id, table, &shared, state);
            let answered = tokio::time::timeout(COMPARE_MAX, asked).await;
            // Who does not answer cannot be called up to date.
            behind += match answered {
                Ok(Ok(differ)) => differ.len() as u64,
                Ok(Err(_)) | Err(_) => 1,
            };
        }
    }
    behind
}

/// Rows known here that members which are away should hold as well.
async fn pieces_on(node: &Node, state: &EpochState, down: &[NodeId]) -> Result<u64, Error> {
    if down.is_empty() {
        return Ok(0);
    }
    let mut pieces = 0;
    for table in [Table::Records, Table::Refs] {
        let roots = node.store.roots(table, state.bits).await?;
        for (partition, root) in (0..=Partition::MAX).zip(roots) {
            if down.iter().any(|away| state.is_replica(partition, away)) {
                pieces = u64::saturating_add(pieces, root.count);
            }
        }
    }
    Ok(pieces)
}

async fn count(client: &Client, state: &EpochState) -> Result<Counted, Error> {
    let node = &client.0;
    let now = node.env.mono();
    let mut counted = Counted { fingerprint: [0; 32], at: now, files: 0, bytes: 0, conflicts: 0 };
    if node.vault.is_none() {
        return Ok(counted);
    }
    let mut hasher = blake3::Hasher::new();
    for root in node.store.roots(Table::Records, state.bits).await? {
        hasher.update(&root.sum);
    }
    counted.fingerprint = *hasher.finalize().as_bytes();
    // On a node that holds every record the fingerprint says it all.
    let holds_all = node.partitions_of(state, &node.id).len() == state.bits.count();
    let known = *node.health.0.lock().expect("no holder of this lock panics");
    if let Some(known) = known
        && known.fingerprint == counted.fingerprint
        && (holds_all || now - known.at < RECOUNT_AFTER)
    {
        return Ok(known);
    }
    match client.count_files().await {
        Ok(found) => (counted.files, counted.bytes, counted.conflicts) = found,
        // Whoever asks now wants the rest of the answer all the more: the last count will do.
        Err(error) => {
            debug!(%error, "files could not be counted");
            return Ok(known.unwrap_or(counted));
        }
    }
    *node.health.0.lock().expect("no holder of this lock panics") = Some(counted);
    Ok(counted)
}

/// The note that the vault's key was written down and read back.
pub(crate) const KEY_BACKUP: &str = "key-backup";
/// How long a comparison for `status` may take for each peer.
const COMPARE_MAX: Duration = Duration::from_secs(2);
/// How old a count may be on a node that does not hold every record.
const RECOUNT_AFTER: Duration = Duration::from_secs(10);
