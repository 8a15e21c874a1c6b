//! Two writers that both want a name to be absent, while a read brings to one replica what another
//! accepted: what a replica took over it has not accepted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use dfs_core::id::NodeId;
use dfs_env::BoxFuture;
use dfs_p2p::message::{Answer, Call, Code, Refusal, Request};
use dfs_p2p::{Caller, Handler};
use dfs_server::Condition;
use tokio::sync::watch;

use super::*;

/// What happens to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
    /// It waits until its gate is open: that of the first writer, or that of the second.
    WaitsFirst,
    WaitsSecond,
}

/// Who asks what decides.
type Rule = fn(from_first: bool, request: &Request) -> Fate;

/// What both writers and the test share.
struct Schedule {
    on: AtomicBool,
    first: Mutex<Option<NodeId>>,
    gates: [watch::Sender<bool>; 2],
    /// How many accepts of each writer have come to the node between.
    came: [watch::Sender<usize>; 2],
    /// How many promises anyone was asked for by the first.
    asked_again: watch::Sender<usize>,
}

struct Scheduled {
    honest: Arc<dyn Handler>,
    rule: Rule,
    schedule: Arc<Schedule>,
}

impl Handler for Scheduled {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let from_first = *self.schedule.first.lock().unwrap() == Some(from.node);
            let is_on = self.schedule.on.load(Ordering::SeqCst);
            if from_first && matches!(call.request, Request::CasPrepare { .. }) {
                self.schedule.asked_again.send_modify(|count| *count += 1);
            }
            let fate = if is_on { (self.rule)(from_first, &call.request) } else { Fate::Answered };
            let gate = match fate {
                Fate::Answered => return self.honest.handle(from, call).await,
                Fate::Refused => {
                    return Answer::new(Err(Refusal::new(Code::Internal, "not now")), call.epoch);
                }
                Fate::WaitsFirst => 0,
                Fate::WaitsSecond => 1,
            };
            self.schedule.came[gate].send_modify(|count| *count += 1);
            let mut open = self.schedule.gates[gate].subscribe();
            open.wait_for(|open| *open).await.unwrap();
            self.honest.handle(from, call).await
        })
    }

    fn is_admin(&self, admin: &dfs_core::id::AdminId) -> bool {
        self.honest.is_admin(admin)
    }

    honest_otherwise!();
}

/// The first node hears of no ballot of the second writer.
fn at_first(_: bool, request: &Request) -> Fate {
    match request {
        Request::CasPrepare { .. } | Request::CasAccept { .. } => Fate::Refused,
        _ => Fate::Answered,
    }
}

/// Accepts come late to the node between the two.
fn between(from_first: bool, request: &Request) -> Fate {
    match request {
        Request::CasAccept { .. } if from_first => Fate::WaitsFirst,
        Request::CasAccept { .. } => Fate::WaitsSecond,
        _ => Fate::Answered,
    }
}

/// The second writer's node takes part in nothing that the first one does after it promised.
fn at_second(from_first: bool, request: &Request) -> Fate {
    match request {
        Request::CasAccept { .. } | Request::RecordGet { .. } | Request::RecordPut { .. }
            if from_first =>
        {
            Fate::Refused
        }
        _ => Fate::Answered,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_read_brought_to_a_replica_it_has_not_accepted() {
    let mut cluster = Cluster::of(3).await;
    let schedule = Arc::new(Schedule {
        on: AtomicBool::new(false),
        first: Mutex::default(),
        gates: [watch::Sender::new(false), watch::Sender::new(false)],
        came: [watch::Sender::new(0), watch::Sender::new(0)],
        asked_again: watch::Sender::new(0),
    });
    for (at, rule) in [(0, at_first as Rule), (1, between), (2, at_second)] {
        cluster.crash(at);
        let schedule = schedule.clone();
        let wrap =
            move |honest| -> Arc<dyn Handler> { Arc::new(Scheduled { honest, rule, schedule }) };
        cluster.start_wrapped(at, wrap).await;
    }
    for at in 0..3 {
        cluster.settled(at, 3).await;
    }
    *schedule.first.lock().unwrap() = Some(cluster.servers[0].as_ref().unwrap().node_id());
    schedule.on.store(true, Ordering::SeqCst);
    let path = FilePath::parse("raced").unwrap();
    let writer = |at: usize, content: &'static [u8]| {
        let (client, path) = (cluster.node(at), path.clone());
        tokio::spawn(async move { client.store_if(&path, content, Condition::Absent).await })
    };
    let mut came = schedule.came.each_ref().map(watch::Sender::subscribe);
    // The first is accepted by itself alone, then the second.
    let mut first = writer(0, b"first");
    came[0].wait_for(|count| *count > 0).await.unwrap();
    let second = writer(2, b"second");
    came[1].wait_for(|count| *count > 0).await.unwrap();
    // Brings to the node between what the first has accepted.
    let read = cluster.node(0).find(&path, None, Mode::Quorum).await;
    assert!(matches!(read, Err(Error::NotFound(_))), "{read:?}");
    let mut asked = schedule.asked_again.subscribe();
    let before = *asked.borrow_and_update();
    schedule.gates[0].send_replace(true);
    // What the first writer hears now must not make it the winner: it tries again.
    let won = tokio::select! {
        biased;
        won = &mut first => Some(won.unwrap()),
        _ = asked.wait_for(|count| *count > before) => None,
    };
    schedule.gates[1].send_replace(true);
    schedule.on.store(false, Ordering::SeqCst);
    let first = match won {
        Some(won) => won,
        None => first.await.unwrap(),
    };
    let second = second.await.unwrap();
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
}
