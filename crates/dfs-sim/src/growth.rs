//! A cluster that grows while clients work: the first node runs, the others come up one by one or
//! all at once, so that every partition moves under reads and writes.

use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::net::Host;
use crate::options::Options;
use crate::rng::Rng;

/// Which machines still have to come up, and when.
pub struct Growth(Vec<(Instant, Host)>);

impl Growth {
    /// When each machine but the first comes up; none is left to when the cluster is whole already.
    pub fn new(options: &Options) -> Self {
        let mut rng = Rng::new(options.seed).fork(8);
        let work = u64::try_from(options.work.as_millis()).unwrap_or(u64::MAX);
        let now = Instant::now();
        let together = rng.flip().then(|| rng.between(1000, work / 2));
        let mut delay = || match together {
            Some(from) => rng.between(from, from + TOGETHER_MS),
            None => rng.between(500, work * 2 / 3),
        };
        let late = if options.grows { 1..options.machines } else { 0..0 };
        Self(late.map(|host| (now + Duration::from_millis(delay()), host)).collect())
    }

    /// When to call [`Growth::act`] next, if ever.
    pub fn due(&self) -> Option<Instant> {
        self.0.iter().map(|(at, _)| *at).min()
    }

    /// Starts every machine whose time has come; one that does not start tries again.
    pub async fn act(&mut self, cluster: &mut Cluster) {
        let now = Instant::now();
        let (due, mut left): (Vec<_>, Vec<_>) = self.0.drain(..).partition(|(at, _)| *at <= now);
        for (_, host) in due {
            match cluster.start(host).await {
                Ok(()) => cluster.trace.fired("growth: a node comes up under load"),
                Err(error) => {
                    cluster.trace.say(|| format!("node {host} does not start: {error:?}"));
                    left.push((now + AGAIN_AFTER, host));
                }
            }
        }
        self.0 = left;
    }
}

/// Machines that come up together do so within this.
const TOGETHER_MS: u64 = 1500;
/// When a node that did not start tries again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
