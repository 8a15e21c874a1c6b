//! A member that answers as it likes, and two honest ones that must not mind.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dfs_core::id::RecordKey;
use dfs_core::record::version::{Record, merge};
use dfs_env::BoxFuture;
use dfs_p2p::message::{Answer, Call, Code, Origin, Priority, Refusal, Request, Response};
use dfs_p2p::{Caller, Handler};
use dfs_server::Condition;

use super::*;

/// What a lie makes of the honest answer to a request.
pub(crate) type Lie = fn(&Request, Answer) -> Answer;

/// A handler that answers as it likes; without a lie it is honest, and slow.
struct Liar {
    honest: Arc<dyn Handler>,
    lie: Arc<Mutex<Option<Lie>>>,
}

impl Handler for Liar {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let request = call.request.clone();
            let lie = *self.lie.lock().unwrap();
            if lie.is_none() {
                tokio::time::sleep(HONEST_AFTER).await;
            }
            let answer = self.honest.handle(from, call).await;
            match lie {
                Some(lie) => lie(&request, answer),
                None => answer,
            }
        })
    }

    honest_otherwise!();
}

/// A handler that always tells one lie.
pub(crate) struct Answers {
    pub(crate) honest: Arc<dyn Handler>,
    pub(crate) lie: Lie,
}

impl Handler for Answers {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let request = call.request.clone();
            (self.lie)(&request, self.honest.handle(from, call).await)
        })
    }

    honest_otherwise!();
}

/// How much later the honest peer answers: so the lie is heard first.
const HONEST_AFTER: Duration = Duration::from_millis(20);

/// A cluster of three: the last tells lies once it is told to, the second is honest and slow.
struct WithLiar {
    cluster: Cluster,
    lie: Arc<Mutex<Option<Lie>>>,
}

impl WithLiar {
    async fn new() -> Self {
        let mut cluster = Cluster::of(3).await;
        let lie = Arc::new(Mutex::new(None));
        for (at, lie) in [(1, Arc::default()), (2, lie.clone())] {
            cluster.crash(at);
            let wrap = move |honest| -> Arc<dyn Handler> { Arc::new(Liar { honest, lie }) };
            cluster.start_wrapped(at, wrap).await;
        }
        for at in 0..3 {
            cluster.settled(at, 3).await;
        }
        Self { cluster, lie }
    }

    fn begin(&self, lie: Lie) {
        *self.lie.lock().unwrap() = Some(lie);
    }

    /// Writes, reads and conditional writes go on at the first node.
    async fn all_goes_on(&self, round: &str) {
        let cluster = &self.cluster;
        for at in 0..3 {
            let (name, new) = (format!("{round}-{at}"), format!("{round}-{at}-new"));
            cluster.put(0, &name, b"first").await.unwrap();
            assert_eq!(cluster.get(0, &name).await.unwrap(), b"first");
            let path = FilePath::parse(&name).unwrap();
            let taken = cluster.node(0).store_if(&path, &b"2"[..], Condition::Absent).await;
            assert!(matches!(taken, Err(Error::Condition)), "{taken:?}");
            let path = FilePath::parse(&new).unwrap();
            cluster.node(0).store_if(&path, &b"second"[..], Condition::Absent).await.unwrap();
            assert_eq!(cluster.get(0, &new).await.unwrap(), b"second");
        }
    }
}

fn stale(_: &Request, answer: Answer) -> Answer {
    Answer::new(Err(Refusal::new(Code::StaleEpoch, "the partition has moved")), answer.epoch + 9)
}

/// Every record with a broken signature, and hashes that fit none.
fn forged(_: &Request, mut answer: Answer) -> Answer {
    match &mut answer.result {
        Ok(Response::Records { records, .. }) => {
            records.iter_mut().for_each(|(_, record)| *record = forged_copy(record));
        }
        Ok(Response::StateHashes(hashes)) => hashes.iter_mut().for_each(|hash| hash[0] ^= 1),
        _ => {}
    }
    answer
}

/// The same record with broken signatures and the same register; one that is empty stays so.
fn forged_copy(record: &Record) -> Record {
    let mut heads: Vec<_> = record.heads().cloned().collect();
    heads.iter_mut().for_each(|head| head.signature[7] ^= 1);
    let mut forged = Record::default();
    if let Some(ballot) = record.register().promised() {
        forged.prepare(ballot);
    }
    heads.into_iter().map(Record::of).fold(forged, |all, one| merge(&all, &one))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replicas_word_ends_no_operation() {
    let with = WithLiar::new().await;
    for (name, lie) in [("stale", stale as Lie), ("forged", forged)] {
        with.begin(lie);
        with.all_goes_on(name).await;
    }
    // What it forged is held against it, and against nobody else.
    let (cluster, liar) = (&with.cluster, with.cluster.servers[2].as_ref().unwrap().node_id());
    let forged = async {
        let mut round = 0;
        while cluster.node(0).peers().iter().all(|peer| peer.distrusted.is_none()) {
            round += 1;
            with.all_goes_on(&format!("again-{round}")).await;
        }
    };
    tokio::time::timeout(LIMIT, forged).await.expect("nobody is distrusted");
    let peers = cluster.node(0).peers();
    let distrusted: Vec<_> = peers.iter().filter(|peer| peer.distrusted.is_some()).collect();
    assert!(matches!(distrusted[..], [peer] if peer.id == liar.to_string()), "{distrusted:?}");
}

/// A handler that claims to keep every blob, and only counts their bytes.
struct Boaster {
    honest: Arc<dyn Handler>,
    taken: Arc<AtomicU64>,
}

impl Handler for Boaster {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            if matches!(call.request, Request::ChunkPut(_)) {
                self.taken.fetch_add(call.body.len() as u64, Ordering::Relaxed);
                return Answer::new(Ok(Response::Done), call.epoch);
            }
            self.honest.handle(from, call).await
        })
    }

    honest_otherwise!();
}

/// It has a third of everything, and room for a part of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_given_no_more_than_its_cap_whatever_it_claims() {
    let mut cluster = Cluster::of(2).await;
    cluster.disks.push(MemoryFs::default());
    cluster.servers.push(None);
    let taken = Arc::new(AtomicU64::new(0));
    let counted = taken.clone();
    let wrap = |honest| -> Arc<dyn Handler> { Arc::new(Boaster { honest, taken: counted }) };
    cluster.start_as(2, false, wrap).await;
    cluster.admit_with(0, 2, CAP_OF_BOASTER).await;
    cluster.settled(0, 3).await;
    for number in 1..13usize {
        let content: Vec<u8> = content(number).into_iter().cycle().take(1 << 20).collect();
        cluster.put(0, &format!("big-{number}"), &content).await.unwrap();
        assert_eq!(cluster.get(1, &format!("big-{number}")).await.unwrap(), content);
    }
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken > CAP_OF_BOASTER / 4 && taken <= CAP_OF_BOASTER + (2 << 20), "{taken} bytes");
}

const CAP_OF_BOASTER: u64 = 4 << 20;

/// A handler that shows names as they were once, from when it is told to.
struct Archive {
    honest: Arc<dyn Handler>,
    shown: Arc<Shown>,
}

#[derive(Default)]
struct Shown {
    /// What it answered before, the first of each name.
    kept: Mutex<BTreeMap<RecordKey, Record>>,
    is_on: AtomicBool,
}

impl Shown {
    /// Everything of before in a directory, or the names asked for.
    fn answer(&self, request: &Request) -> Option<Response> {
        let kept = self.kept.lock().unwrap();
        let old = |key: &RecordKey| (*key, kept.get(key).cloned().unwrap_or_default());
        Some(match request {
            Request::RecordGet { keys, digest_only: true } => {
                Response::StateHashes(keys.iter().map(|key| old(key).1.state_hash()).collect())
            }
            Request::RecordGet { keys, .. } => {
                Response::Records { records: keys.iter().map(old).collect(), more: false }
            }
            Request::DirScan { vault, dir, after: None } => {
                let is_in = |key: &&RecordKey| key.vault == *vault && key.dir == *dir;
                let records = kept.keys().filter(is_in).map(old).collect();
                Response::Records { records, more: false }
            }
            _ => return None,
        })
    }
}

impl Handler for Archive {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let shown = &self.shown;
            if shown.is_on.load(Ordering::SeqCst) {
                return match shown.answer(&call.request) {
                    Some(response) => Answer::new(Ok(response), call.epoch),
                    None => self.honest.handle(from, call).await,
                };
            }
            if let Request::RecordPut { records, .. } = &call.request {
                let mut kept = shown.kept.lock().unwrap();
                for (key, record) in records {
                    kept.entry(*key).or_insert_with(|| record.clone());
                }
            }
            self.honest.handle(from, call).await
        })
    }

    honest_otherwise!();
}

/// All three hold all names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_member_brings_back_nothing_that_was_deleted_and_purged() {
    let (mut cluster, clock) = crate::collect::cluster(2).await;
    cluster.disks.push(MemoryFs::default());
    cluster.servers.push(None);
    let shown = Arc::new(Shown::default());
    let kept = shown.clone();
    let wrap = |honest| -> Arc<dyn Handler> { Arc::new(Archive { honest, shown: kept }) };
    cluster.start_as(2, false, wrap).await;
    cluster.admit(0, 2).await;
    for at in 0..3 {
        cluster.settled(at, 3).await;
    }
    let names: Vec<_> = (0..DIRECTORIES).map(|at| format!("d{at}/f")).collect();
    for name in &names {
        cluster.put(0, name, b"doomed").await.unwrap();
        cluster.put(0, &format!("{name}-stays"), b"kept").await.unwrap();
    }
    for at in 0..3 {
        cluster.settled(at, 3).await;
    }
    for name in &names {
        cluster.node(1).remove(&FilePath::parse(name).unwrap(), Mode::Default).await.unwrap();
    }
    clock.advance(Duration::from_secs(2 * 60 * 60));
    for name in &names {
        cluster.until_forgotten(1, name).await;
    }
    shown.is_on.store(true, Ordering::SeqCst);
    let old: Vec<_> = shown.kept.lock().unwrap().clone().into_iter().collect();
    assert!(!old.is_empty(), "it was given none of them");
    let liar = cluster.servers[2].as_ref().unwrap().network();
    for at in 0..2 {
        let to = cluster.servers[at].as_ref().unwrap().node_id();
        for record in &old {
            let put = Request::RecordPut { records: vec![record.clone()], origin: Origin::Repair };
            let _ = liar.call(&to, Call::new(Priority::Records, LIMIT, put)).await;
        }
    }
    for at in 0..2 {
        for (number, name) in names.iter().enumerate() {
            let path = FilePath::parse(name).unwrap();
            let found = cluster.node(at).find(&path, None, Mode::Quorum).await;
            assert!(matches!(found, Err(Error::NotFound(_))), "{at} {name}: {found:?}");
            assert_eq!(cluster.get(at, &format!("{name}-stays")).await.unwrap(), b"kept");
            let listed = cluster.list(at, &format!("d{number}/"), false).await;
            assert_eq!(listed, [format!("{name}-stays")]);
        }
    }
    for name in &names {
        let path = FilePath::parse(name).unwrap();
        cluster.node(0).store_if(&path, &b"new"[..], Condition::Absent).await.unwrap();
        assert_eq!(cluster.get(1, name).await.unwrap(), b"new");
    }
}

/// Some names, each in a directory of its own.
const DIRECTORIES: usize = 3;
