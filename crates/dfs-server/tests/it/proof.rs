//! Members that only store, and what a gateway finds out about what they still hold.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dfs_core::id::BlobId;
use dfs_core::replica::possession::{Proof, digest};
use dfs_env::{BoxFuture, Vfs};
use dfs_p2p::message::{Answer, Call, Priority, Request, Response};
use dfs_p2p::{Caller, Network};
use dfs_server::{ProofState, ProofView};

use super::*;

/// What a member does when it is challenged.
enum Manner {
    /// What it should; it counts its answers.
    Honest,
    /// It never answers.
    Silent,
    /// It makes digests up, until it is told to be honest.
    Invents,
    /// It fetches the blobs from another member, once that one has answered.
    Fetches { from: usize },
}

/// A member that only stores and has its own manner.
struct Storing {
    honest: Arc<dyn Handler>,
    manner: Manner,
    seen: Arc<Seen>,
}

/// What the members of a test know of each other.
#[derive(Default)]
struct Seen {
    networks: [OnceLock<Network>; 3],
    honest_now: AtomicBool,
    /// Challenges that honest members have answered.
    answered: AtomicUsize,
    /// Blobs that a neighbour gave out under a challenge, and that it did not.
    given: AtomicUsize,
    refused: AtomicUsize,
}

impl Storing {
    async fn fetched(&self, from: usize, nonce: [u8; 32], id: BlobId) -> Proof {
        let networks = &self.seen.networks;
        let neighbour = networks[from].get().unwrap().node_id();
        let get = Request::ChunkGet(id);
        let call = Call::new(Priority::Background, Duration::from_secs(5), get);
        let call = Call { answer_bytes_max: 2 << 20, ..call };
        // The other storing member is the one of this handler.
        let answer = networks[3 - from].get().unwrap().call(&neighbour, call).await.unwrap();
        let counter = if answer.result.is_ok() { &self.seen.given } else { &self.seen.refused };
        counter.fetch_add(1, Ordering::SeqCst);
        match answer.result {
            Ok(_) => Proof::Digest(digest(&nonce, &answer.body)),
            Err(_) => Proof::HaveNot,
        }
    }
}

impl Handler for Storing {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let Request::ChunkProve { nonce, ids } = call.request.clone() else {
                return self.honest.handle(from, call).await;
            };
            let epoch = call.epoch;
            let mut proofs = Vec::new();
            match self.manner {
                Manner::Invents if !self.seen.honest_now.load(Ordering::SeqCst) => {
                    proofs.extend(ids.iter().map(|_| Proof::Digest([7; 32])));
                }
                Manner::Honest | Manner::Invents => {
                    let answer = self.honest.handle(from, call).await;
                    self.seen.answered.fetch_add(1, Ordering::SeqCst);
                    return answer;
                }
                Manner::Silent => std::future::pending().await,
                Manner::Fetches { from } => {
                    let before = self.seen.answered.load(Ordering::SeqCst);
                    while self.seen.answered.load(Ordering::SeqCst) == before {
                        crate::a_moment().await;
                    }
                    for id in ids {
                        proofs.push(self.fetched(from, nonce, id).await);
                    }
                }
            }
            Answer::new(Ok(Response::Proofs(proofs)), epoch)
        })
    }

    honest_otherwise!();
}

/// A gateway and two members that only store: the second is honest, the last has a manner.
async fn with_storing(manner: Manner) -> (Cluster, Arc<Seen>) {
    let mut cluster = Cluster::of(1).await;
    cluster.crash(0);
    cluster.cadence = CADENCE;
    cluster.start(0).await;
    let seen = Arc::<Seen>::default();
    for (at, manner) in [(1, Manner::Honest), (2, manner)] {
        cluster.disks.push(MemoryFs::default());
        cluster.servers.push(None);
        let of = seen.clone();
        let wrap =
            move |honest| -> Arc<dyn Handler> { Arc::new(Storing { honest, manner, seen: of }) };
        cluster.start_as(at, false, wrap).await;
        let network = cluster.servers[at].as_ref().unwrap().network();
        let _ = seen.networks[at].set(network);
        cluster.admit(0, at).await;
        cluster.settled(0, at + 1).await;
    }
    (cluster, seen)
}

impl Cluster {
    fn proof(&self, of: usize) -> ProofView {
        let id = self.servers[of].as_ref().unwrap().node_id().to_string();
        self.node(0).proofs().into_iter().find(|proof| proof.id == id).unwrap()
    }

    async fn until_proof(&self, of: usize, is: impl Fn(&ProofView) -> bool) -> ProofView {
        let waited = async {
            loop {
                let proof = self.proof(of);
                if is(&proof) {
                    return proof;
                }
                crate::a_moment().await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, waited).await;
        in_time.unwrap_or_else(|_| panic!("not in time: {:?}", self.proof(of)))
    }

    async fn put_some(&self) {
        for number in 0..FILES {
            self.put(0, &format!("f/{number}"), &content(30_000)).await.unwrap();
        }
    }
}

const FILES: usize = 6;
const CADENCE: Cadence = Cadence {
    random_every: Duration::from_millis(200),
    cover_within: Duration::from_secs(1),
    answer_within: Duration::from_secs(1),
    silent_again: Duration::from_millis(200),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_blobs_is_named_mended_and_not_distrusted() {
    let (mut cluster, _) = with_storing(Manner::Honest).await;
    cluster.put_some().await;
    cluster.until_proof(2, |proof| proof.proved >= 8).await;
    cluster.until_proof(1, |proof| proof.proved >= 8).await;
    assert_eq!(cluster.proof(2).state, ProofState::Proved);
    // Behind the index, which says of each that it is held.
    for file in cluster.disks[2].files_below(Path::new("/data/blobs")) {
        cluster.disks[2].remove_file(&file).unwrap();
    }
    let behind = cluster.until_proof(2, |proof| proof.state == ProofState::Behind).await;
    assert!(!behind.lacks.is_empty() && behind.since_ms.is_some(), "{behind:?}");
    let health = cluster.node(0).health().await.unwrap();
    let short = cluster.servers[2].as_ref().unwrap().node_id().short();
    assert!(health.doubts.iter().any(|doubt| doubt.node == short), "{health:?}");
    assert!(health.health >= Level::Degraded, "{health:?}");
    // A restart of the gateway does not forget it, and it is mended all the same.
    cluster.crash(0);
    cluster.start(0).await;
    assert_eq!(cluster.proof(2).since_ms, behind.since_ms);
    let asked = cluster.proof(2).asked;
    cluster
        .until_proof(2, |proof| proof.state == ProofState::Proved && proof.asked > asked + 8)
        .await;
    cluster.settled(0, 3).await;
    for at in [1, 2] {
        assert!(matches!(cluster.proof(at).state, ProofState::Proved));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_makes_digests_up_is_distrusted() {
    let (cluster, _) = with_storing(Manner::Invents).await;
    cluster.put_some().await;
    let proof = cluster.until_proof(2, |proof| proof.state == ProofState::Distrusted).await;
    assert_eq!(proof.proved, 0);
    let peers = cluster.node(0).peers();
    let distrusted = peers.iter().filter(|peer| peer.distrusted.is_some());
    let distrusted: Vec<_> = distrusted.map(|peer| peer.id.clone()).collect();
    assert_eq!(distrusted, [proof.id]);
    cluster.until_proof(1, |proof| proof.state == ProofState::Proved).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_is_drained_where_three_others_are_left_and_stays_when_it_is_let_in_again() {
    let (mut cluster, seen) = with_storing(Manner::Invents).await;
    cluster.disks.push(MemoryFs::default());
    cluster.servers.push(None);
    cluster.start_with(3, false).await;
    cluster.admit(0, 3).await;
    cluster.put_some().await;
    let liar = cluster.servers[2].as_ref().unwrap().node_id().to_string();
    let state = |cluster: &Cluster| {
        let peers = cluster.node(0).peers();
        peers.into_iter().find(|peer| peer.id == liar).unwrap().state
    };
    let until = async |cluster: &Cluster, wanted: PeerState| {
        let reached = async {
            while state(cluster) != wanted {
                crate::a_moment().await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.expect("not in time");
    };
    until(&cluster, PeerState::Draining).await;
    let health = cluster.node(0).health().await.unwrap();
    assert!(health.doubts.iter().any(|doubt| doubt.distrusted), "{health:?}");
    assert_eq!(cluster.get(0, "f/0").await.unwrap(), content(30_000));
    seen.honest_now.store(true, Ordering::SeqCst);
    cluster.node(0).admit(&liar, CAP).await.unwrap();
    until(&cluster, PeerState::Alive).await;
    cluster.until_proof(2, |proof| proof.state == ProofState::Proved).await;
    cluster.settled(0, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_does_not_get_from_a_neighbour_what_it_is_challenged_for() {
    let (cluster, seen) = with_storing(Manner::Fetches { from: 1 }).await;
    cluster.put_some().await;
    cluster.until_proof(2, |proof| proof.state == ProofState::Behind).await;
    assert!(seen.refused.load(Ordering::SeqCst) > 0);
    assert_eq!(seen.given.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_does_not_answer_is_suspect_and_not_distrusted() {
    let (cluster, _) = with_storing(Manner::Silent).await;
    cluster.put_some().await;
    let proof = cluster.until_proof(2, |proof| proof.state == ProofState::Suspect).await;
    assert_eq!((proof.asked, proof.last_ms), (0, None));
    assert!(cluster.node(0).peers().iter().all(|peer| peer.distrusted.is_none()));
    cluster.until_proof(1, |proof| proof.state == ProofState::Proved).await;
}
