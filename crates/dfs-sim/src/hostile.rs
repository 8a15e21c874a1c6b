//! What is asked of a cluster with a hostile member beside what is asked of every cluster: that
//! work goes on while only that one does harm, that it is noticed, that it can be taken out, and
//! that nothing is lost with it.

use std::time::Duration;

use dfs_core::id::NodeId;
use dfs_core::name::FilePath;
use dfs_core::record::conditional::Condition;
use dfs_hostile::attack::Attack;
use dfs_server::{Error, Mode, PeerState, PeerView, Running};
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, Handle};
use crate::disk::CrashPolicy;
use crate::loss::{remove, replace_a_disk};
use crate::net::Host;
use crate::options::Options;
use crate::racing::{Claims, RACING_NAMES, racing_name, replace};
use crate::rng::Rng;
use crate::workload::{History, outcome, read};

/// What came of a hostile member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noticed {
    /// Whether it lied about what it holds for others.
    pub lied: bool,
    /// Whether an honest node names it.
    pub named: bool,
}

/// Looks at a cluster while no fault is left but the hostile member, then takes that out. Whatever
/// was acknowledged must be there without it.
pub async fn withstand(
    cluster: &mut Cluster,
    options: &Options,
    history: &History,
) -> Option<Noticed> {
    let host = options.hostile_machine()?;
    let shared = cluster.hostile()?.clone();
    meet(cluster, history).await;
    calm(cluster, history).await;
    decide(cluster, history).await;
    // An attack whose name is not here is one of those that the node never had the chance for.
    for (attack, count) in shared.done() {
        cluster.trace.fired_often(attack.label(), count);
    }
    let lied = shared.done().keys().any(|attack: &Attack| attack.lies_about_data());
    let noticed = Noticed { lied, named: lied && is_named(cluster, host).await };
    watch_books(cluster, history);
    if options.replaces {
        let rng = &mut Rng::new(options.seed).fork(15);
        shared.set_only_answers(true);
        if let Err(why) = replace_a_disk(cluster, rng).await {
            history.violation(why);
        }
        shared.set_only_answers(false);
    }
    if let Err(why) = take_out(cluster, host, &mut Rng::new(options.seed).fork(12)).await {
        history.violation(format!("the hostile member cannot be taken out: {why}"));
    }
    history.need_guards(false);
    Some(noticed)
}

/// Whether the status of an honest node names this one among those it doubts, within the time in
/// which each was challenged some times.
async fn is_named(cluster: &Cluster, host: Host) -> bool {
    let id = cluster.id(host).and_then(|id| id.parse::<NodeId>().ok());
    let Some(id) = id.map(|id| id.short()) else { return false };
    let end = Instant::now() + NAMED_MAX;
    while Instant::now() < end {
        for handle in (0..cluster.honest()).filter_map(|honest| cluster.handle(honest)) {
            let doubts = match timeout(ASK_MAX, handle.client.health()).await {
                Ok(Ok(health)) => health.doubts,
                _ => Vec::new(),
            };
            if doubts.iter().any(|doubt| doubt.node == id) {
                return true;
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    false
}

/// Waits until the honest nodes have found each other after the faults: which rows a node can write
/// before that is a matter of which others it has found.
async fn meet(cluster: &Cluster, history: &History) {
    tokio::time::sleep(VANISHED_KNOWN).await;
    let end = Instant::now() + CALM_MAX;
    let honest = || (0..cluster.honest()).filter(|host| cluster.handle(*host).is_some());
    let ids: Vec<String> = honest().filter_map(|host| cluster.id(host)).collect();
    for (host, handle) in honest().filter_map(|host| Some((host, cluster.handle(host)?))) {
        let has_met = |id: &String| {
            let is = |peer: &PeerView| peer.id == *id && peer.state == PeerState::Alive;
            handle.client.peers().iter().any(is)
        };
        while !ids.iter().all(has_met) {
            if Instant::now() >= end {
                history.violation(format!("node {host} does not find the honest ones again"));
                return;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

/// Every node that can stores, reads, and writes under a condition: within a bound at first, and
/// from then on at once each time.
async fn calm(cluster: &Cluster, history: &History) {
    for host in (0..cluster.honest()).filter(|host| cluster.has_vault(*host)) {
        let Some(handle) = cluster.handle(host) else { continue };
        for (what, number) in [("store", CALM_FIRST), ("write under a condition", CALM_FIRST + 1)] {
            let calm = Calm { handle: &handle, history, is_plain: number == CALM_FIRST };
            if let Err(why) = calm.goes_on(&format!("{}-{host}", history.name(number))).await {
                history.violation(format!("node {host} does not {what}: {why}"));
            }
        }
    }
}

/// Names that were raced for can be written still: nobody has spoiled them for the others.
async fn decide(cluster: &Cluster, history: &History) {
    let handle = (0..cluster.honest()).filter(|host| cluster.has_vault(*host));
    let Some(handle) = handle.filter_map(|host| cluster.handle(host)).next() else { return };
    for name in (0..RACING_NAMES).map(|number| racing_name(history, number)) {
        let (claims, end) = (Claims::default(), Instant::now() + CALM_MAX);
        while !replace(&handle, history, &claims, &name).await {
            if Instant::now() >= end {
                history.violation(format!("{name:.9} cannot be written any more"));
                break;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

/// One node at work while nothing but the hostile member does harm.
struct Calm<'a> {
    handle: &'a Handle,
    history: &'a History,
    is_plain: bool,
}

impl Calm<'_> {
    /// Writes a new name until that is acknowledged, and reads it back; then some more.
    async fn goes_on(&self, name: &str) -> Result<(), String> {
        let end = Instant::now() + CALM_MAX;
        let mut done = 0;
        for attempt in 0.. {
            // A new one each time: what an attempt that failed left behind does not matter then.
            match self.written_and_read(&format!("{name}-{attempt}")).await {
                Some(Ok(())) if done == CALM_ROUNDS => break,
                Some(Ok(())) => done += 1,
                Some(Err(error)) if done > 0 || Instant::now() >= end => {
                    return Err(format!("{error} (after {done} that were acknowledged)"));
                }
                Some(Err(error)) => {
                    self.history.note_error(&error);
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                None => return Err("it takes too long".to_owned()),
            }
        }
        Ok(())
    }

    async fn written_and_read(&self, name: &str) -> Option<Result<(), Error>> {
        let Self { handle, history, is_plain } = *self;
        let (_, content) = history.new_content(CALM_BYTES);
        if let Err(error) = outcome(handle, history, self.store(name, &content)).await? {
            return Some(Err(error));
        }
        history.acknowledge();
        match outcome(handle, history, read(&handle.client, name, Mode::Quorum)).await? {
            Ok((found, _)) if found == content => {}
            Ok(_) => history.violation("something else is read than was just written".to_owned()),
            Err(error) => return Some(Err(error)),
        }
        if !is_plain {
            match outcome(handle, history, self.store(name, &content)).await? {
                Err(Error::Condition) => {}
                Err(error) => return Some(Err(error)),
                Ok(()) => {
                    history.violation("a name that exists was written as a new one".to_owned());
                }
            }
        }
        Some(Ok(()))
    }

    async fn store(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let (client, path) = (&self.handle.client, FilePath::parse(name)?);
        match self.is_plain {
            true => client.store(&path, content, Mode::Quorum).await.map(|_| ()),
            false => client.store_if(&path, content, Condition::Absent).await.map(|_| ()),
        }
    }
}

/// However many nodes are made up, the books of honest ones are bounded.
fn watch_books(cluster: &Cluster, history: &History) {
    for host in 0..cluster.honest() {
        let known = cluster.handle(host).map_or(0, |handle| handle.client.peers().len());
        if known > cluster.len() + STRANGERS_MAX {
            history.violation(format!("node {host} knows of {known} nodes"));
        }
    }
}

/// Takes the hostile machine out: while it runs, or once it is silent.
async fn take_out(cluster: &mut Cluster, host: Host, rng: &mut Rng) -> Result<(), String> {
    let id = cluster.id(host).ok_or("it does not run")?;
    let is_silent = rng.flip();
    if is_silent {
        cluster.trace.fired("hostile: falls silent");
        cluster.kill(host, CrashPolicy::KeepAll, rng.flip()).await;
    }
    let running = if is_silent { Running::Stays } else { Running::Evicted };
    let end = Instant::now() + OUT_MAX;
    let mut why = String::new();
    'asking: while Instant::now() < end {
        let honest = (0..cluster.honest()).filter(|host| cluster.has_vault(*host));
        for handle in honest.filter_map(|host| cluster.handle(host)) {
            match timeout(ASK_MAX, remove(&handle, &id, running, false)).await {
                Ok(Ok(())) => {
                    why.clear();
                    break 'asking;
                }
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => why = "no answer".to_owned(),
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    if !is_silent && why.is_empty() {
        // It goes on while the others do without it.
        tokio::time::sleep(GOES_ON).await;
        cluster.trace.fired("hostile: evicted");
    }
    cluster.take_away(host).await;
    if why.is_empty() { Ok(()) } else { Err(why) }
}

/// The numbers of the names of a calm stretch begin here.
const CALM_FIRST: usize = 2000;
/// Inline, and a chunk.
const CALM_BYTES: usize = 20_000;
/// When both ends know that a connection has vanished in the midst of a fault (seed 47).
const VANISHED_KNOWN: Duration = Duration::from_secs(20);
/// How long a write may take to be acknowledged and read, attempts that fail included.
const CALM_MAX: Duration = Duration::from_secs(60);
/// Writes after the first that succeeds.
const CALM_ROUNDS: usize = 5;
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Nodes that are no members and that a book has places for.
const STRANGERS_MAX: usize = 256;
/// How long it may take until it is taken out.
const OUT_MAX: Duration = Duration::from_secs(120);
/// How long one node is asked.
const ASK_MAX: Duration = Duration::from_secs(10);
/// How long one that was evicted still does harm.
const GOES_ON: Duration = Duration::from_secs(20);
/// How long nodes have to name it: some rounds of challenges.
const NAMED_MAX: Duration = Duration::from_secs(120);
