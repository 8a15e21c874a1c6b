//! A cluster that grows while clients work: the first node runs, the others come up one by one or
//! all at once, so that every partition moves under reads and writes.

use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::disk::CrashPolicy;
use crate::faults::uneven_links;
use crate::net::Host;
use crate::options::Options;
use crate::rng::Rng;

/// What still has to happen, and when.
pub struct Growth {
    rng: Rng,
    plan: Vec<(Instant, GrowthStep)>,
}

#[derive(Debug, Clone, Copy)]
enum GrowthStep {
    /// The first node hears nothing.
    Hold,
    /// It goes on: whoever came up meanwhile asks to join in the same moment.
    Release,
    Start(Host),
    /// The one that joined first dies, so that partitions move to several others at once.
    Strike,
    /// The first node is far from all others.
    Distance,
    /// Every pair of machines gets a delay of its own.
    Links,
}

impl Growth {
    /// Plans how the cluster grows; nothing when it is whole already.
    pub fn new(options: &Options) -> Self {
        let mut rng = Rng::new(options.seed).fork(8);
        let mut plan = Vec::new();
        if options.grows {
            let work = u64::try_from(options.work.as_millis()).unwrap_or(u64::MAX);
            let late = 1..options.machines;
            if rng.per_mille(600) {
                let at = rng.between(1000, work / 2);
                let release = at + rng.between(200, 2000);
                plan.extend([(at, GrowthStep::Hold), (release, GrowthStep::Release)]);
                plan.extend(late.map(|host| (at + 1, GrowthStep::Start(host))));
                let next =
                    if rng.per_mille(700) { GrowthStep::Strike } else { GrowthStep::Distance };
                plan.push((release + rng.between(5, 300), next));
            } else {
                for host in late {
                    let at = rng.between(500, work * 2 / 3);
                    plan.extend([
                        (at, GrowthStep::Start(host)),
                        (at + rng.between(0, 1000), GrowthStep::Links),
                    ]);
                }
            }
        }
        let now = Instant::now();
        let at = |(ms, step)| (now + Duration::from_millis(ms), step);
        Self { rng, plan: plan.into_iter().map(at).collect() }
    }

    /// When to call [`Growth::act`] next, if ever.
    pub fn due(&self) -> Option<Instant> {
        self.plan.iter().map(|(at, _)| *at).min()
    }

    /// Does what is due; a node that does not start tries again.
    pub async fn act(&mut self, cluster: &mut Cluster) {
        let now = Instant::now();
        let (due, rest): (Vec<_>, Vec<_>) = self.plan.drain(..).partition(|(at, _)| *at <= now);
        self.plan = rest;
        for (_, step) in due {
            match step {
                GrowthStep::Hold => cluster.net.set_paused(FIRST, true),
                GrowthStep::Release => {
                    cluster.net.heal();
                    cluster.net.set_paused(FIRST, false);
                }
                GrowthStep::Strike => self.strike(cluster).await,
                GrowthStep::Distance => {
                    let delay = Duration::from_millis(self.rng.between(50, 1000));
                    for other in 1..cluster.len() {
                        cluster.net.set_link(FIRST, other, |link| link.delay = delay);
                        cluster.net.set_link(other, FIRST, |link| link.delay = delay);
                    }
                }
                GrowthStep::Links => uneven_links(cluster, &mut self.rng),
                // A fault may have brought it back.
                GrowthStep::Start(host) if cluster.is_running(host) => {}
                GrowthStep::Start(host) => match cluster.start(host).await {
                    Ok(()) => cluster.trace.fired("growth: a node comes up under load"),
                    Err(error) => {
                        cluster.trace.say(|| format!("node {host} does not start: {error:?}"));
                        self.plan.push((now + AGAIN_AFTER, step));
                    }
                },
            }
        }
    }

    async fn strike(&mut self, cluster: &mut Cluster) {
        let joined = |host: &Host| {
            let handle = cluster.handle(*host);
            handle.is_some_and(|handle| handle.client.peers().len() > 1)
        };
        let Some(host) = (FIRST + 1..cluster.len()).find(joined) else {
            self.later(5, 10, GrowthStep::Strike);
            return;
        };
        cluster.trace.fired("growth: the node that joined first dies");
        cluster.kill(host, CrashPolicy::KeepAll, false).await;
        self.later(1000, 5000, GrowthStep::Start(host));
        self.later(100, 900, GrowthStep::Distance);
    }

    fn later(&mut self, from_ms: u64, to_ms: u64, step: GrowthStep) {
        let delay = Duration::from_millis(self.rng.between(from_ms, to_ms));
        self.plan.push((Instant::now() + delay, step));
    }
}

/// The node that founds the cluster and decides who joins.
const FIRST: Host = 0;
/// When a node that did not start tries again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
