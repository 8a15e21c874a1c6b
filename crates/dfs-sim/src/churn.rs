//! Machines that come and go while clients work: several join at once, some are drained, one is
//! lost for ever or comes back with an empty disk.

use std::time::Duration;

use dfs_server::{Error, MemberError, Mode, PeerState};
use tokio::time::{Instant, timeout};

use crate::cluster::Cluster;
use crate::disk::CrashPolicy;
use crate::net::Host;
use crate::options::Options;
use crate::rng::Rng;
use crate::workload::{History, remove};

/// What still has to happen, and when.
pub struct Churn {
    rng: Rng,
    plan: Vec<(Instant, ChurnStep)>,
    /// The id of the node that was lost with its disk.
    lost: Option<String>,
    /// Why the last attempt at something did not succeed.
    refused: String,
}

#[derive(Debug, Clone, Copy)]
enum ChurnStep {
    /// A machine that was not there at first.
    Join(Host),
    /// A member is asked to leave.
    Drain(Host),
    /// It was asked, and nobody knows whether that was decided.
    DrainAgain(Host),
    /// It has left once the others say so; then its machine is taken away.
    AwaitLeft(Host),
    /// A machine that never comes back.
    Lose(Host),
    /// A machine whose disk is replaced by an empty one.
    Wipe(Host),
    /// The node that was lost is removed by hand.
    Remove,
}

impl Churn {
    /// Plans who comes and goes; nothing unless the options say so.
    ///
    /// One machine at most is lost with its disk: of three copies, each acknowledged on two, no
    /// cluster survives the loss of two before the first was made good.
    pub fn new(options: &Options) -> Self {
        let mut rng = Rng::new(options.seed).fork(9);
        let mut plan = Vec::new();
        if options.churns {
            let work = u64::try_from(options.work.as_millis()).unwrap_or(u64::MAX);
            let first = options.first_machines();
            let storm = rng.between(500, work / 2);
            plan.extend((first..options.machines).map(|host| {
                let apart = if rng.flip() { 0 } else { rng.between(0, 3000) };
                (storm + apart, ChurnStep::Join(host))
            }));
            // The first two keep the vault's key, and a place to ask.
            let mut leaving: Vec<Host> = (2..first).collect();
            let lost = (leaving.len() > 1 && options.loses)
                .then(|| leaving.swap_remove(rng.below(leaving.len())));
            plan.extend(lost.map(|host| {
                let step = if rng.flip() { ChurnStep::Lose(host) } else { ChurnStep::Wipe(host) };
                (rng.between(1000, work * 3 / 4), step)
            }));
            // As many copies as before must find a place.
            while leaving.len() + 3 > first + usize::from(lost.is_none()) && !leaving.is_empty() {
                leaving.pop();
            }
            plan.extend(
                leaving.into_iter().map(|host| (rng.between(1000, work), ChurnStep::Drain(host))),
            );
        }
        let now = Instant::now();
        let at = |(ms, step)| (now + Duration::from_millis(ms), step);
        Self { rng, plan: plan.into_iter().map(at).collect(), lost: None, refused: String::new() }
    }

    /// When to call [`Churn::act`] next, if ever.
    pub fn due(&self) -> Option<Instant> {
        self.plan.iter().map(|(at, _)| *at).min()
    }

    /// Does what is due.
    pub async fn act(&mut self, cluster: &mut Cluster) {
        let now = Instant::now();
        let (due, rest): (Vec<_>, Vec<_>) = self.plan.drain(..).partition(|(at, _)| *at <= now);
        self.plan = rest;
        for (_, step) in due {
            cluster.trace.say(|| format!("churn {step:?}"));
            match step {
                ChurnStep::Join(host) if cluster.is_running(host) => {}
                ChurnStep::Join(host) => match cluster.start(host).await {
                    Ok(()) => cluster.trace.fired("churn: a machine joins"),
                    Err(_) => self.later(step),
                },
                ChurnStep::Drain(host) | ChurnStep::DrainAgain(host) => {
                    self.drain(cluster, host).await
                }
                ChurnStep::AwaitLeft(host) if has_left(cluster, host) => {
                    cluster.trace.fired("churn: a machine has left");
                    cluster.take_away(host).await;
                }
                ChurnStep::AwaitLeft(_) => self.later(step),
                // Without its id nobody could remove it.
                ChurnStep::Lose(host) | ChurnStep::Wipe(host) if !cluster.is_running(host) => {
                    self.later(step);
                }
                ChurnStep::Lose(host) => {
                    cluster.trace.fired("churn: a machine is lost for ever");
                    self.lost = cluster.id(host);
                    cluster.take_away(host).await;
                    self.later(ChurnStep::Remove);
                }
                ChurnStep::Wipe(host) => {
                    cluster.trace.fired("churn: a disk is replaced by an empty one");
                    self.lost = cluster.id(host);
                    cluster.kill(host, CrashPolicy::KeepAll, self.rng.flip()).await;
                    cluster.wipe(host);
                    self.later(ChurnStep::Join(host));
                    self.later(ChurnStep::Remove);
                }
                ChurnStep::Remove => self.remove(cluster).await,
            }
        }
    }

    /// Carries through what was begun, once all faults are over.
    ///
    /// # Errors
    /// What is not done after a while, and why.
    pub async fn finish(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        for _ in 0..FINISH_TRIES {
            self.plan
                .retain(|(_, step)| matches!(step, ChurnStep::DrainAgain(_) | ChurnStep::Remove));
            let Some((at, step)) = self.plan.pop() else { return Ok(()) };
            tokio::time::sleep_until(at).await;
            match step {
                ChurnStep::DrainAgain(host) => self.drain(cluster, host).await,
                _ => self.remove(cluster).await,
            }
        }
        Err(format!("{:?} is not done: {}", self.plan, self.refused))
    }

    /// Refused for as long as others may lack something that it had.
    async fn remove(&mut self, cluster: &mut Cluster) {
        let Some(id) = self.lost.clone() else { return };
        for handle in (0..cluster.len()).filter_map(|host| cluster.handle(host)) {
            let removed =
                timeout(ASK_MAX, handle.client.remove_member(&id, dfs_server::Running::Stays))
                    .await;
            match removed.unwrap_or(Err(Error::Moving.into())) {
                // It has left by an earlier attempt that nobody heard the end of.
                Ok(_) | Err(MemberError::NoSuchMember(_)) => {
                    cluster.trace.fired("churn: a lost machine is removed");
                    self.lost = None;
                    return;
                }
                Err(error) => self.refused = error.to_string(),
            }
        }
        self.later(ChurnStep::Remove);
    }

    async fn drain(&mut self, cluster: &mut Cluster, host: Host) {
        let Some(id) = cluster.id(host) else { return self.later(ChurnStep::Drain(host)) };
        let asked = (0..cluster.len()).filter(|other| *other != host);
        for other in asked {
            let Some(handle) = cluster.handle(other) else { continue };
            // A node that is paused answers nothing until someone lets it go on.
            let drained = timeout(ASK_MAX, handle.client.drain(&id)).await;
            match drained.unwrap_or(Err(Error::Moving.into())) {
                Ok(_) => {
                    cluster.trace.fired("churn: a machine is drained");
                    cluster.note_draining(host);
                    return self.later(ChurnStep::AwaitLeft(host));
                }
                Err(error) => self.refused = error.to_string(),
            }
        }
        self.later(ChurnStep::DrainAgain(host));
    }

    fn later(&mut self, step: ChurnStep) {
        let delay = Duration::from_millis(self.rng.between(500, 4000));
        self.plan.push((Instant::now() + delay, step));
    }
}

/// A machine is away for longer than tombstones are kept, while half of the names are deleted: what
/// it still has of them must not come back with it.
pub async fn long_absence(cluster: &mut Cluster, options: &Options, history: &History) {
    let mut rng = Rng::new(options.seed).fork(10);
    let serving = cluster.serving();
    let (at, away) = (serving[0], *rng.pick(&serving[1..]));
    cluster.trace.fired("churn: a machine is away for longer than tombstones are kept");
    cluster.kill(away, CrashPolicy::KeepAll, false).await;
    for name in (0..options.names).filter(|_| rng.flip()).map(|number| history.name(number)) {
        if let Some(handle) = cluster.handle(at) {
            remove(&handle, history, &name, Mode::Quorum).await;
        }
    }
    tokio::time::sleep(ABSENCE).await;
    if let Err(error) = cluster.start(away).await {
        history.violation(format!("node {away} does not come back: {error}"));
    }
}

/// Whether another node says that this one has left.
fn has_left(cluster: &Cluster, host: Host) -> bool {
    let Some(id) = cluster.id(host) else { return false };
    let others = (0..cluster.len()).filter(|other| *other != host);
    others.filter_map(|other| cluster.handle(other)).any(|handle| {
        handle.client.peers().iter().any(|peer| peer.id == id && peer.state == PeerState::Left)
    })
}

/// Three times as long as tombstones are kept, and two looks at what may be forgotten.
const ABSENCE: Duration = Duration::from_secs(800);
/// How long one node is asked.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Attempts, each some seconds after the one before.
const FINISH_TRIES: u32 = 100;
