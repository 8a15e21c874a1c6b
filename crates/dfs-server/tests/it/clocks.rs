//! Clocks that are wrong: what is refused has no effect, nobody else is held up, no history goes.

use std::sync::atomic::{AtomicBool, Ordering};

use dfs_core::id::{Vid, from_hex};
use dfs_core::record::retention::KEPT_FOR_MS;
use dfs_env::BoxFuture;
use dfs_p2p::message::{Answer, Call, Code, Refusal, Request};
use dfs_p2p::{Caller, Handler};
use dfs_server::{Condition, VersionState};
use tokio::sync::watch;

use super::*;
use crate::clock::Ahead;

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
/// How far a clock is ahead or behind, and what is said of it.
const WRONG: [(i64, &str); 5] = [
    (330 * SECOND, "5 min 30 s ahead"),
    (-13 * HOUR, "13 h behind"),
    (40 * DAY, "40 days ahead"),
    (-40 * DAY, "40 days behind"),
    (-50 * 365 * DAY, "18250 days behind"),
];

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

impl Cluster {
    /// Nodes of which one has a clock of its own.
    async fn with_wrong(count: usize, wrong: usize) -> (Self, Arc<Ahead>) {
        let mut cluster = Self::of(count).await;
        let clock = Arc::new(Ahead::new());
        cluster.own_clocks.insert(wrong, clock.clone());
        cluster.crash(wrong);
        cluster.start(wrong).await;
        for at in 0..count {
            cluster.settled(at, count).await;
        }
        (cluster, clock)
    }

    /// Every version of a name that can be read on a node, and its content.
    async fn history(&self, at: usize, name: &str) -> Vec<Vec<u8>> {
        let log = self.node(at).log(&path(name), Mode::Default).await.unwrap();
        let mut contents = Vec::new();
        for line in log.iter().filter(|line| line.state != VersionState::Deleted) {
            contents.push(self.get_version(at, name, Some(&line.version)).await.unwrap());
        }
        contents
    }

    /// Waits until a node says that of clocks.
    async fn until_said(&self, at: usize, said: impl Fn(&[String]) -> bool) {
        let client = self.node(at);
        let waited = async {
            while !said(&client.health().await.unwrap().clocks) {
                crate::a_moment().await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, waited).await;
        assert!(waited.is_ok(), "{:?}", client.health().await);
    }
}

#[track_caller]
fn check_refused<T: std::fmt::Debug>(result: Result<T, Error>, said: &str) {
    match result {
        Err(Error::ClockSkew(why)) => assert!(why.contains(said), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_for_the_clock_has_no_effect_and_nobody_else_is_held_up() {
    let (cluster, clock) = Cluster::with_wrong(3, 1).await;
    let wrong = cluster.node(1);
    let mut kept = vec![b"0".to_vec()];
    cluster.put(0, "d/kept", b"0").await.unwrap();
    for (round, (ahead, said)) in WRONG.into_iter().enumerate() {
        let first = cluster.node(0).log(&path("d/kept"), Mode::Default).await.unwrap();
        let [current, .., oldest] = [&first[0], &first[first.len() - 1]].map(|l| l.version.clone());
        clock.set(ahead);
        check_refused(cluster.put(1, "d/kept", b"other").await, said);
        check_refused(cluster.put(1, "new/file", b"other").await, said);
        check_refused(wrong.store(&path("n"), &b"x"[..], Mode::Available).await, said);
        check_refused(wrong.remove(&path("d/kept"), Mode::Default).await, said);
        check_refused(wrong.remove_all(&path("d"), Mode::Default).await, said);
        check_refused(wrong.restore(&path("d/kept"), &oldest, Mode::Default).await, said);
        let absent = wrong.store_if(&path("new/cond"), &b"x"[..], Condition::Absent).await;
        check_refused(absent, said);
        let same = Condition::Version(from_hex(&current).map(Vid::new).unwrap());
        check_refused(wrong.store_if(&path("d/kept"), &b"x"[..], same).await, said);
        // The others go on, also with the replica whose clock is wrong.
        cluster.put(2, "d/kept", format!("{}", round + 1).as_bytes()).await.unwrap();
        kept.insert(0, format!("{}", round + 1).into_bytes());
        let name = path(&format!("cond/{round}"));
        cluster.node(0).store_if(&name, &b"1"[..], Condition::Absent).await.unwrap();
        cluster.put(0, "gone", b"x").await.unwrap();
        cluster.node(2).remove(&path("gone"), Mode::Default).await.unwrap();
        // Everyone says whose it is.
        for at in 0..3 {
            cluster.until_said(at, |clocks| clocks.len() == 1 && clocks[0].contains(said)).await;
        }
        assert_eq!(cluster.node(0).not_ready(), []);
        assert!(cluster.node(1).not_ready()[0].reason.contains(said));
        let shown = cluster.node(0).peers().into_iter().find(|peer| peer.clock.is_some()).unwrap();
        assert!((shown.clock_ahead_ms.unwrap() - ahead).abs() < 10 * SECOND);
        assert_eq!(shown.id, cluster.servers[1].as_ref().unwrap().node_id().to_string());
        clock.set(0);
        for at in 0..3 {
            cluster.settled(at, 3).await;
            assert_eq!(cluster.history(at, "d/kept").await, kept);
            assert_eq!(cluster.list(at, "", false).await, ["cond/", "d/"]);
        }
    }
    // Set right it writes at once, and forgets nothing.
    cluster.put(1, "d/kept", b"last").await.unwrap();
    kept.insert(0, b"last".to_vec());
    assert_eq!(cluster.history(2, "d/kept").await, kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_a_wrong_clock_writes_nothing() {
    let (mut cluster, clock) = Cluster::with_wrong(3, 1).await;
    cluster.put(0, "f", b"1").await.unwrap();
    for (ahead, said) in WRONG {
        cluster.crash(1);
        clock.set(ahead);
        cluster.start(1).await;
        // From the first moment on: either nobody is in reach, or the clock is known.
        let first = cluster.put(1, "f", b"2").await;
        assert!(matches!(first, Err(Error::ClockSkew(_) | Error::Unavailable(_))), "{first:?}");
        cluster.connected(1, 3).await;
        check_refused(cluster.put(1, "f", b"3").await, said);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_that_differ_it_is_said_that_they_do() {
    let (cluster, clock) = Cluster::with_wrong(2, 1).await;
    cluster.put(0, "f", b"1").await.unwrap();
    clock.set(40 * DAY);
    for (at, said) in [(1, "40 days ahead"), (0, "40 days behind")] {
        cluster.until_said(at, |clocks| clocks.iter().any(|c| c.contains("cannot be told"))).await;
        for mode in [Mode::Default, Mode::Available, Mode::Quorum] {
            let refused = cluster.node(at).store(&path("f"), &b"2"[..], mode).await;
            assert!(
                matches!(&refused, Err(Error::ClockSkew(why))
                if why.contains(said) && why.contains("cannot be told")),
                "{refused:?}"
            );
        }
    }
    for at in 0..2 {
        assert_eq!(cluster.history(at, "f").await, [b"1"]);
    }
    // Behind by less than replicas take, the other one goes on.
    clock.set(600 * SECOND);
    cluster.until_said(0, |clocks| clocks.iter().any(|said| said.contains("10 min ahead"))).await;
    cluster.put(0, "f", b"2").await.unwrap();
    check_refused(cluster.put(1, "f", b"3").await, "10 min ahead");
    assert_eq!(cluster.history(1, "f").await, [b"2", b"1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_agrees_on_any_year_works_and_loses_nothing_when_it_is_set_right() {
    let now = i64::try_from(Env::real().wall_ms()).unwrap();
    for (count, began) in [(1, -now + HOUR), (3, -now + HOUR), (3, -40 * DAY), (3, 9000 * DAY)] {
        let clock = Arc::new(Ahead::new());
        clock.set(began);
        let cluster = Cluster::with_clock(count, Some(clock.clone())).await;
        for content in [b"1", b"2"] {
            cluster.put(count - 1, "d/f", content).await.unwrap();
        }
        let condition = cluster.node(0).store_if(&path("c"), &b"1"[..], Condition::Absent).await;
        condition.unwrap();
        cluster.put(0, "gone", b"x").await.unwrap();
        cluster.node(0).remove(&path("gone"), Mode::Default).await.unwrap();
        assert_eq!(cluster.history(0, "d/f").await, [b"2", b"1"]);
        if began < -365 * DAY {
            clock.set(0);
            cluster.put(0, "d/f", b"3").await.unwrap();
            cluster.put(count - 1, "d/f", b"4").await.unwrap();
            assert_eq!(cluster.history(0, "d/f").await, [b"4", b"3", b"2", b"1"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_alone_with_a_wrong_clock_costs_no_history() {
    for ahead in [-40 * DAY, 40 * DAY, -50 * 365 * DAY] {
        let (mut cluster, clock) = Cluster::with_wrong(3, 1).await;
        for content in [b"1", b"2"] {
            cluster.put(0, "f", content).await.unwrap();
        }
        cluster.settled(1, 3).await;
        cluster.crash(0);
        cluster.crash(2);
        cluster.connected(1, 1).await;
        clock.set(ahead);
        let alone = cluster.node(1);
        for content in [b"3", b"4"] {
            alone.store(&path("f"), &content[..], Mode::Available).await.unwrap();
        }
        clock.set(0);
        cluster.start(0).await;
        cluster.start(2).await;
        for at in 0..3 {
            cluster.settled(at, 3).await;
        }
        for content in [b"5", b"6"] {
            cluster.put(0, "f", content).await.unwrap();
        }
        let history = cluster.history(2, "f").await;
        assert_eq!(history.len(), 6, "{ahead}: {history:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_whose_clock_jumps_forgets_nothing_for_that() {
    let clock = Arc::new(Ahead::new());
    let cluster = Cluster::with_clock(1, Some(clock.clone())).await;
    for (number, ahead) in [0, 40 * DAY, 0, -40 * DAY, 0].into_iter().enumerate() {
        clock.set(ahead);
        for _ in 0..2 {
            cluster.put(0, "f", &[u8::try_from(number).unwrap()]).await.unwrap();
        }
    }
    assert_eq!(cluster.history(0, "f").await.len(), 10);
    // That is what time is for: a version goes a month after it was replaced.
    let clock = Arc::new(Ahead::new());
    let cluster = Cluster::with_clock(1, Some(clock.clone())).await;
    for content in [b"1", b"2"] {
        cluster.put(0, "f", content).await.unwrap();
    }
    for _ in 0..KEPT_FOR_MS / u64::try_from(8 * HOUR).unwrap() + 1 {
        clock.advance(Duration::from_millis(u64::try_from(8 * HOUR).unwrap()));
        cluster.node(0).peers();
    }
    cluster.put(0, "f", b"3").await.unwrap();
    assert_eq!(cluster.history(0, "f").await, [b"3", b"2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_whose_clock_was_set_while_it_was_away_forgets_nothing_for_that() {
    for ahead in [40 * DAY, 3_650 * DAY] {
        let clock = Arc::new(Ahead::new());
        let mut cluster = Cluster::with_clock(1, Some(clock.clone())).await;
        for content in [b"1", b"2", b"3"] {
            cluster.put(0, "f", content).await.unwrap();
        }
        cluster.crash(0);
        clock.set(ahead);
        cluster.start(0).await;
        cluster.settled(0, 1).await;
        for content in [b"4", b"5"] {
            cluster.put(0, "f", content).await.unwrap();
        }
        assert_eq!(cluster.history(0, "f").await, [b"5", b"4", b"3", b"2", b"1"], "{ahead}");
        // Nor after one more start, where it seems to run on as it should.
        cluster.crash(0);
        cluster.start(0).await;
        cluster.settled(0, 1).await;
        cluster.put(0, "f", b"6").await.unwrap();
        assert_eq!(cluster.history(0, "f").await.len(), 6, "{ahead}");
    }
}

/// Refuses what others want accepted: before it is, or when it is.
struct Late {
    honest: Arc<dyn Handler>,
    on: Arc<AtomicBool>,
    accepts: bool,
    accepted: watch::Sender<bool>,
}

impl Handler for Late {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let is_accept = matches!(call.request, Request::CasAccept { .. });
            if !is_accept || !self.on.load(Ordering::SeqCst) {
                return self.honest.handle(from, call).await;
            }
            let epoch = call.epoch;
            if self.accepts && self.honest.handle(from, call).await.result.is_ok() {
                self.accepted.send_replace(true);
            }
            Answer::new(Err(Refusal::new(Code::Internal, "not now")), epoch)
        })
    }

    fn is_admin(&self, admin: &dfs_core::id::AdminId) -> bool {
        self.honest.is_admin(admin)
    }

    honest_otherwise!();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_of_a_clock_that_was_ahead_is_completed() {
    let clock = Arc::new(Ahead::new());
    let mut cluster = Cluster::with_clock(3, Some(clock.clone())).await;
    let (on, accepted) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(false));
    for at in 1..3 {
        let (on, accepted) = (on.clone(), accepted.clone());
        cluster.crash(at);
        let wrap = move |honest| -> Arc<dyn Handler> {
            Arc::new(Late { honest, on, accepts: at == 1, accepted })
        };
        cluster.start_wrapped(at, wrap).await;
    }
    for at in 0..3 {
        cluster.settled(at, 3).await;
    }
    clock.set(HOUR);
    on.store(true, Ordering::SeqCst);
    let (client, name) = (cluster.node(0), path("raced"));
    let first = tokio::spawn({
        let name = name.clone();
        async move { client.store_if(&name, &b"first"[..], Condition::Absent).await }
    });
    let mut told = accepted.subscribe();
    let waited = tokio::time::timeout(LIMIT, told.wait_for(|accepted| *accepted)).await;
    waited.expect("nobody accepts").unwrap();
    first.abort();
    let _ = first.await;
    on.store(false, Ordering::SeqCst);
    // Its stamp is an hour ahead of every clock now, and yet nobody has to wait for that.
    clock.set(0);
    cluster.crash(2);
    let second = cluster.node(1).store_if(&name, &b"second"[..], Condition::Absent).await;
    assert!(matches!(second, Err(Error::Condition)), "{second:?}");
    assert_eq!(cluster.get(0, "raced").await.unwrap(), b"first");
}
