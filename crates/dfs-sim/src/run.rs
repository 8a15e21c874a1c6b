//! One seed from beginning to end: form a cluster, work under faults, heal, compare, look at the
//! disks, restart, compare and look again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dfs_server::{Mode, PeerView, ScrubState};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::audit::audit;
use crate::checker::{Action, Operation, is_linearizable, values_agree, zones_agree};
use crate::churn::{Churn, long_absence};
use crate::cluster::{Cluster, Handle};
use crate::faults::Injector;
use crate::fs::{DiskFaults, contains};
use crate::growth::Growth;
use crate::hostile::{Noticed, withstand};
use crate::lineage::Lineage;
use crate::log::{Log, follow};
use crate::net::SimNet;
use crate::options::Options;
use crate::racing::{Claims, RACING_CLIENTS, RACING_NAMES, is_raced, race, racing_name};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::workload::{History, client, get};

/// What became of one seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What must never happen, and did; empty when all is well.
    pub violations: Vec<String>,
    /// A hash of everything that happened, and of how many events.
    pub hash: ([u8; 32], u64),
    /// How often each kind of fault fired.
    pub coverage: BTreeMap<&'static str, u64>,
    /// Simulated time.
    pub simulated: Duration,
    /// Machines.
    pub machines: usize,
    /// Writes and deletes that were acknowledged.
    pub acknowledged: u64,
    /// Operations whose order was checked.
    pub checked: u64,
    /// Bytes of disks without keys, of the wire and of logs that were searched for plaintext.
    pub searched: u64,
    /// What came of the hostile member, if there was one.
    pub noticed: Option<Noticed>,
    /// What clients were told went wrong.
    pub errors: BTreeMap<String, u64>,
    /// What happened, line by line, when it was asked for.
    pub lines: Vec<String>,
    /// What the nodes logged, when lines were asked for.
    pub log: String,
}

/// Runs a seed; `keep` keeps readable lines.
///
/// # Panics
/// When the runtime cannot be built.
pub fn run(options: Options, keep: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread");
    let log = Log::default();
    let lineage = Lineage::default();
    let _logging = follow(&lineage, (options.search_logs || keep).then_some(&log));
    let (seed, machines) = (options.seed, options.machines);
    // Its clock is that of the run.
    let trace = runtime.block_on(async { Trace::new(keep) });
    let ended = async {
        let run = simulate(Arc::new(options), trace.clone(), keep, log.clone(), lineage);
        tokio::time::timeout(RUN_MAX, run).await
    };
    runtime.block_on(ended).unwrap_or_else(|_| Outcome {
        seed,
        violations: vec![format!("the run does not end within {RUN_MAX:?} of its own time")],
        hash: ([0; 32], 0),
        coverage: trace.coverage(),
        simulated: RUN_MAX,
        machines,
        acknowledged: 0,
        checked: 0,
        searched: 0,
        noticed: None,
        errors: BTreeMap::new(),
        lines: trace.lines(),
        log: if keep { text_of(&log) } else { String::new() },
    })
}

fn text_of(log: &Log) -> String {
    String::from_utf8_lossy(&log.lock()).into_owned()
}

async fn simulate(
    options: Arc<Options>,
    trace: Trace,
    keep: bool,
    log: Log,
    lineage: Lineage,
) -> Outcome {
    let begin = Instant::now();
    let rng = Rng::new(options.seed);
    let needle = format!("CANARY{:010x}", rng.fork(5).draw() & 0xff_ffff_ffff).into_bytes();
    let net = SimNet::new(rng.fork(6), trace.clone(), needle.clone());
    let cluster = Cluster::new(&options, net, trace.clone());
    let cluster = Arc::new(tokio::sync::Mutex::new(cluster));
    let history = History::new(options.seed, needle.clone(), trace.clone());

    let formed = form(&cluster, &options).await;
    let mut noticed = None;
    if let Err(why) = formed {
        history.violation(format!("the cluster does not form: {why}"));
    } else {
        work(&cluster, &options, &history).await;
        let mut cluster = cluster.lock().await;
        noticed = withstand(&mut cluster, &options, &history).await;
        // What follows would wait in vain for each thing that is not as it should be.
        if noticed.is_none() || history.violations().is_empty() {
            come_to_rest(&mut cluster, &options, &history, &lineage).await;
        }
    }
    let checked = check_order(&history, options.available);
    let mut cluster = cluster.lock().await;
    stop(&mut cluster, &history).await;
    let searched = search(&cluster, &options, &history, &needle, &log);
    if cluster.bad_blobs() > 0 {
        let bad = cluster.bad_blobs();
        history.violation(format!("{bad} blobs were bad on disks that nothing was done to"));
    }
    Outcome {
        seed: options.seed,
        violations: history.violations(),
        hash: trace.hash(),
        coverage: trace.coverage(),
        simulated: begin.elapsed(),
        machines: options.machines,
        acknowledged: history.acknowledged(),
        checked,
        searched,
        noticed,
        errors: history.errors(),
        lines: trace.lines(),
        log: if keep { text_of(&log) } else { String::new() },
    }
}

/// Everything has its place again, on every disk, before and after a restart.
async fn come_to_rest(
    cluster: &mut Cluster,
    options: &Options,
    history: &History,
    lineage: &Lineage,
) {
    settle(cluster, history, "after the faults").await;
    compare(cluster, options, history).await;
    // What that found bad is mended, and what uploads under way left behind comes to rest.
    tokio::time::sleep(REST).await;
    settle(cluster, history, "after a rest").await;
    stop(cluster, history).await;
    audit(cluster, options, history, false).await;
    heal(cluster, history).await;
    settle(cluster, history, "after a restart").await;
    compare(cluster, options, history).await;
    // What that found bad is mended, and stays so.
    settle(cluster, history, "after every file was read").await;
    let found_bad = cluster.found_bad();
    compare(cluster, options, history).await;
    if cluster.found_bad() > found_bad {
        history.violation("blobs that were found bad were not mended".to_owned());
    }
    read_back(cluster, history).await;
    settle(cluster, history, "after every disk was read back").await;
    if options.churns && options.collects {
        long_absence(cluster, options, history).await;
        settle(cluster, history, "after a long absence").await;
    }
    if options.collects {
        tokio::time::sleep(COLLECTED).await;
        settle(cluster, history, "after a long rest").await;
        compare(cluster, options, history).await;
    }
    stop(cluster, history).await;
    let records = audit(cluster, options, history, true).await;
    for lost in lineage.lost(&records, options) {
        history.violation(format!("acknowledged and seen by none, yet gone: {lost}"));
    }
    if history.acknowledged() > 0 && lineage.is_empty() {
        history.violation("nodes do not log which versions they make".to_owned());
    }
    if !options.collects {
        for forgotten in lineage.forgotten(&records, options) {
            history.violation(format!("history is gone: {forgotten}"));
        }
    }
}

/// Starts the nodes in a random order; of a cluster that is to grow, the first alone.
async fn form(cluster: &tokio::sync::Mutex<Cluster>, options: &Options) -> Result<(), String> {
    let mut rng = Rng::new(options.seed).fork(7);
    let machines = options.first_machines();
    let all: Vec<usize> = (0..machines).collect();
    let mut left = all.clone();
    let mut cluster = cluster.lock().await;
    while !left.is_empty() {
        let host = left.remove(rng.below(left.len()));
        cluster.start(host).await.map_err(|error| format!("node {host}: {error}"))?;
        tokio::time::sleep(Duration::from_millis(rng.between(1, 2000))).await;
    }
    cluster.settled(&all, machines, FORM_MAX).await
}

async fn work(
    cluster: &Arc<tokio::sync::Mutex<Cluster>>,
    options: &Arc<Options>,
    history: &History,
) {
    let end = Instant::now() + options.work;
    if let Some(hostile) = cluster.lock().await.hostile() {
        hostile.set_acts(true);
        history.need_guards(true);
    }
    let clients = (0..options.clients).map(|number| {
        let (options, cluster, history) = (options.clone(), cluster.clone(), history.clone());
        tokio::spawn(client(number, options, cluster, history, end))
    });
    let racers = if options.races { RACING_CLIENTS } else { 0 };
    let claims = Claims::default();
    let racers = (0..racers).map(|number| {
        let (options, cluster, history) = (options.clone(), cluster.clone(), history.clone());
        tokio::spawn(race(number, options, cluster, history, claims.clone(), end))
    });
    let clients: Vec<_> = clients.chain(racers).collect();
    let (mut injector, mut growth) = (Injector::new(options), Growth::new(options));
    let mut churn = Churn::new(options);
    while Instant::now() < end {
        let planned = [growth.due(), churn.due()].into_iter().flatten();
        let due = planned.fold(injector.due(), Instant::min).min(end);
        tokio::time::sleep_until(due).await;
        let mut cluster = cluster.lock().await;
        growth.act(&mut cluster).await;
        churn.act(&mut cluster).await;
        injector.act(&mut cluster).await;
        watch(&cluster, history);
    }
    // A paused node would keep its clients waiting; what is under way ends by itself then.
    {
        let mut cluster = cluster.lock().await;
        heal(&mut cluster, history).await;
        if let Err(why) = churn.finish(&mut cluster).await {
            history.violation(why);
        }
    }
    for done in join_all(clients).await {
        if let Err(error) = done {
            history.violation(format!("a client panicked: {error}"));
        }
    }
}

/// What a node may use at any moment.
fn watch(cluster: &Cluster, history: &History) {
    for host in 0..cluster.honest() {
        let tasks = cluster.task_count(host);
        if tasks > TASKS_MAX {
            history.violation(format!("node {host} has {tasks} tasks"));
        }
    }
    let pipes = cluster.net.open_pipes();
    if pipes > PIPES_OF_PAIR_MAX * cluster.len() * cluster.len() {
        history.violation(format!("{pipes} pipes are open"));
    }
}

/// Ends every fault and starts every node that is down.
async fn heal(cluster: &mut Cluster, history: &History) {
    cluster.net.heal();
    for host in 0..cluster.len() {
        cluster.net.set_paused(host, false);
        cluster.disk(host).set_faults(|faults| *faults = DiskFaults::default());
        cluster.clock(host).heal();
        if cluster.has_failed(host) {
            cluster.stop(host, STOP_MAX).await;
        }
    }
    for host in 0..cluster.len() {
        if cluster.is_running(host) {
            continue;
        }
        if let Err(error) = cluster.start(host).await {
            history.violation(format!("node {host} does not come back: {error} ({error:?})"));
        }
    }
}

/// Stops every node that runs.
async fn stop(cluster: &mut Cluster, history: &History) {
    for host in 0..cluster.len() {
        if !cluster.stop(host, STOP_MAX).await {
            history.violation(format!("node {host} does not stop within {STOP_MAX:?}"));
        }
    }
}

async fn settle(cluster: &Cluster, history: &History, when: &str) {
    let all = cluster.serving();
    if let Err(why) = cluster.settled(&all, all.len(), SETTLE_MAX).await {
        history.violation(format!("{when} the cluster does not settle: {why}"));
    }
    // No honest machine lies, whatever else befalls it.
    let honest: Vec<String> = (0..cluster.honest()).filter_map(|host| cluster.id(host)).collect();
    for handle in all.iter().filter_map(|host| cluster.handle(*host)) {
        let is_blamed = |peer: &PeerView| peer.distrusted.is_some() && honest.contains(&peer.id);
        for peer in handle.client.peers().into_iter().filter(is_blamed) {
            let why = peer.distrusted.unwrap_or_default();
            history.violation(format!("{when} an honest member is distrusted: {} {why}", peer.id));
        }
    }
}

/// Reads every name from every node that can: all must see the same.
async fn compare(cluster: &Cluster, options: &Options, history: &History) {
    let mode = if options.available { Mode::Available } else { Mode::Quorum };
    let handles: Vec<Handle> = cluster
        .serving()
        .into_iter()
        .filter(|host| cluster.has_vault(*host))
        .filter_map(|host| cluster.handle(host))
        .collect();
    let names = (0..options.names).map(|number| (history.name(number), mode));
    let raced = if options.races { RACING_NAMES } else { 0 };
    let raced = (0..raced).map(|number| (racing_name(history, number), Mode::Quorum));
    for (number, (name, mode)) in names.chain(raced).enumerate() {
        let mut seen = Vec::new();
        for handle in &handles {
            match get(handle, history, &name, mode).await {
                Some(value) => seen.push(value),
                None => history.violation(format!("name {number} cannot be read at rest")),
            }
        }
        seen.dedup();
        if seen.len() > 1 {
            history.violation(format!("nodes disagree about name {number}: {seen:?}"));
        }
    }
}

/// Has every node read its disk back. Whatever happened, sums that were kept beside the rows are
/// those of the rows.
async fn read_back(cluster: &Cluster, history: &History) {
    for host in 0..cluster.len() {
        let Some(handle) = cluster.handle(host) else { continue };
        if let Err(error) = handle.client.start_scrub().await {
            history.violation(format!("node {host} cannot begin to read its disk back: {error}"));
            continue;
        }
        let idle = async {
            loop {
                let view = handle.client.scrub();
                if view.state == ScrubState::Idle {
                    return view;
                }
                tokio::time::sleep(SCRUB_LOOK_EVERY).await;
            }
        };
        let Ok(view) = tokio::time::timeout(SETTLE_MAX, idle).await else {
            history.violation(format!("node {host} does not come to the end of its disk"));
            continue;
        };
        if !cluster.is_damaged(host) && (view.sums_mended, view.rows_damaged) != (0, 0) {
            history.violation(format!("the index of node {host} contradicts itself: {view:?}"));
        }
    }
}

/// Whether each name's history has an order; says how many operations were looked at. In
/// available mode only names that are written under conditions have one.
///
/// Causality across names follows: orders of single names that keep to real time fit into one for
/// all (Herlihy and Wing 1990). Whoever sees a write of `y` and then reads `x` sees nothing older
/// there than the writer of `y` had seen.
fn check_order(history: &History, available: bool) -> u64 {
    let mut checked = 0;
    for (name, operations) in history.operations() {
        let is_refused = |operation: &Operation| match operation.action {
            Action::Read(Some(id)) => history.is_refused(id),
            _ => false,
        };
        if operations.iter().any(is_refused) {
            history.violation(format!("a write of {name:.9} was seen that had been refused"));
        }
        if available && !is_raced(&name) {
            continue;
        }
        let zones = zones_agree(&operations);
        let search = is_linearizable(&operations);
        if let (Some(zones), Some(search)) = (zones, search)
            && zones != search
        {
            history.violation(format!("the checkers disagree about {name:.4}"));
        }
        // With deletes, and too long to be searched.
        let ordered = zones.or(search).unwrap_or_else(|| values_agree(&operations));
        if !ordered {
            history.violation(format!("what clients saw of {name:.4} has no order"));
        }
        checked += operations.len() as u64;
    }
    checked
}

/// Looks for plaintext where there must be none; says how many bytes it looked at.
fn search(
    cluster: &Cluster,
    options: &Options,
    history: &History,
    needle: &[u8],
    log: &Log,
) -> u64 {
    let mut looked = 0;
    for host in 0..cluster.len() {
        let (found, bytes) = cluster.disk(host).search(needle);
        looked += bytes;
        if found {
            history.violation(format!("plaintext on the disk of node {host}"));
        }
    }
    let (bytes, found) = cluster.net.searched();
    looked += bytes;
    if found {
        history.violation("plaintext on the wire".to_owned());
    }
    if options.search_logs {
        let log = log.lock();
        looked += log.len() as u64;
        if contains(&log, needle) {
            history.violation("plaintext in a log".to_owned());
        }
    }
    looked
}

/// A cluster forms in seconds.
const FORM_MAX: Duration = Duration::from_secs(120);
/// Redial, comparison and repair wait at most a minute or so between attempts.
const SETTLE_MAX: Duration = Duration::from_secs(400);
/// An upload ends within two minutes, and a missing blob is looked for after twice as long at most
/// by then.
const REST: Duration = Duration::from_secs(150);
/// How often it is asked how far reading a disk back is.
const SCRUB_LOOK_EVERY: Duration = Duration::from_millis(100);
/// Whatever is not needed has been given back by then: uploads are waited for, uses end at the
/// second look, and blobs and rows go after another. Twice: two replicas that compare their rows
/// while the third makes all forget one may take it over from each other, and all begins anew (seed
/// 20120).
const COLLECTED: Duration = Duration::from_secs(2500);
/// A node finishes what is under way, or gives it up.
const STOP_MAX: Duration = Duration::from_secs(10);
/// A run takes some minutes of its own time, and some more when it does not settle.
const RUN_MAX: Duration = Duration::from_secs(7200);
/// More tasks than any node needs for a few clients.
const TASKS_MAX: usize = 2000;
/// Two connections in use, those that give way to them, and attempts.
const PIPES_OF_PAIR_MAX: usize = 32;
