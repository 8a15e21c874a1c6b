//! Faults: what goes wrong, when, and when it is over.

use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::disk::CrashPolicy;
use crate::fs::{DiskFaults, EIO, EMFILE, ENOSPC, SyncPolicy};
use crate::net::Host;
use crate::options::Options;
use crate::rng::Rng;

/// A kind of fault that a run may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named by what it does, and described where it is applied")]
pub enum Fault {
    Latency,
    Uneven,
    Bandwidth,
    SlowReader,
    Stall,
    ResetIdle,
    ResetMidFrame,
    Refused,
    HalfOpen,
    Partition,
    OneWay,
    NonTransitive,
    Flapping,
    Corruption,
    Truncation,
    Kill,
    PowerCut,
    Terminate,
    KillInShutdown,
    KillInRecovery,
    Pause,
    SyncFailsClean,
    SyncFailsDirty,
    SyncLies,
    PhantomWrite,
    ReadError,
    WriteError,
    TooManyFiles,
    DiskFull,
    ReadOnly,
    SlowDisk,
    BitRot,
    Truncated,
    Misdirected,
    ClockForward,
    ClockBack,
    ClockDrift,
    ClockFrozen,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 38] = [
        Self::Latency,
        Self::Uneven,
        Self::Bandwidth,
        Self::SlowReader,
        Self::Stall,
        Self::ResetIdle,
        Self::ResetMidFrame,
        Self::Refused,
        Self::HalfOpen,
        Self::Partition,
        Self::OneWay,
        Self::NonTransitive,
        Self::Flapping,
        Self::Corruption,
        Self::Truncation,
        Self::Kill,
        Self::PowerCut,
        Self::Terminate,
        Self::KillInShutdown,
        Self::KillInRecovery,
        Self::Pause,
        Self::SyncFailsClean,
        Self::SyncFailsDirty,
        Self::SyncLies,
        Self::PhantomWrite,
        Self::ReadError,
        Self::WriteError,
        Self::TooManyFiles,
        Self::DiskFull,
        Self::ReadOnly,
        Self::SlowDisk,
        Self::BitRot,
        Self::Truncated,
        Self::Misdirected,
        Self::ClockForward,
        Self::ClockBack,
        Self::ClockDrift,
        Self::ClockFrozen,
    ];

    /// Whether it makes a clock wrong.
    pub fn turns_clocks(self) -> bool {
        matches!(self, Self::ClockForward | Self::ClockBack | Self::ClockDrift | Self::ClockFrozen)
    }

    /// Whether it is over when the fault ends, but for what one machine could not do meanwhile.
    pub fn is_of_one_machine(self) -> bool {
        // What was written with a clock that ran ahead binds the others until theirs are there.
        let lasts = self.damages_blobs() || self.turns_clocks();
        !lasts && !matches!(self, Self::Partition | Self::NonTransitive)
    }

    /// Whether it may make a copy of a blob bad.
    pub fn damages_blobs(self) -> bool {
        matches!(
            self,
            Self::BitRot
                | Self::Truncated
                | Self::Misdirected
                | Self::SyncLies
                | Self::PhantomWrite
                | Self::ReadError
        )
    }
}

/// What ends a fault.
#[derive(Debug, Clone, Copy)]
enum End {
    Start(Host),
    Resume(Host),
    Disk(Host),
    Clock(Host),
    Links,
    /// Cut or join two machines again, so many more times.
    Flap(Host, Host, u32),
}

/// Applies faults to a cluster, one after the other, and ends them.
pub struct Injector {
    rng: Rng,
    kinds: Vec<Fault>,
    between: Duration,
    fragile: Host,
    /// Whether one fault ends before the next one begins.
    one_at_a_time: bool,
    ends: Vec<(Instant, End)>,
    next: Instant,
}

impl Injector {
    /// Faults as the options say; the first one soon.
    pub fn new(options: &Options) -> Self {
        Self {
            rng: Rng::new(options.seed).fork(4),
            kinds: options.faults.clone(),
            between: options.between_faults,
            fragile: options.fragile,
            one_at_a_time: options.hostile_machine().is_some(),
            ends: Vec::new(),
            next: Instant::now() + Duration::from_secs(1),
        }
    }

    /// When to call [`Injector::act`] next.
    pub fn due(&self) -> Instant {
        let ends = self.ends.iter().map(|(at, _)| *at);
        let waits = self.one_at_a_time && !self.ends.is_empty();
        let next = (!self.kinds.is_empty() && !waits).then_some(self.next);
        let look = Instant::now() + SUPERVISE_EVERY;
        ends.chain(next).min().map_or(look, |due| due.min(look))
    }

    /// Ends what is over, restarts what failed, and perhaps begins something new.
    pub async fn act(&mut self, cluster: &mut Cluster) {
        let now = Instant::now();
        let (over, rest): (Vec<_>, Vec<_>) = self.ends.drain(..).partition(|(at, _)| *at <= now);
        self.ends = rest;
        for (_, end) in over {
            self.end(cluster, end).await;
        }
        for host in 0..cluster.len() {
            if cluster.has_failed(host) {
                // As a service manager does.
                cluster.trace.fired("node: restarted after a failed disk");
                cluster.stop(host, Duration::from_secs(10)).await;
                self.until(100, 3000, End::Start(host));
            }
        }
        let must_wait = self.one_at_a_time && !self.ends.is_empty();
        if now >= self.next && !self.kinds.is_empty() && !must_wait {
            let kind = *self.rng.pick(&self.kinds);
            self.begin(cluster, kind).await;
            let mean = u64::try_from(self.between.as_millis()).unwrap_or(u64::MAX);
            self.next = Instant::now() + self.millis(mean / 2, mean * 3 / 2);
        }
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.between(from, to))
    }

    fn until(&mut self, from_ms: u64, to_ms: u64, end: End) {
        let at = Instant::now() + self.millis(from_ms, to_ms);
        self.ends.push((at, end));
    }

    async fn end(&mut self, cluster: &mut Cluster, end: End) {
        match end {
            End::Start(host) => self.start(cluster, host).await,
            End::Resume(host) => cluster.net.set_paused(host, false),
            End::Disk(host) => cluster.disk(host).set_faults(|f| *f = DiskFaults::default()),
            End::Clock(host) => cluster.clock(host).heal(),
            End::Links => cluster.net.heal(),
            End::Flap(a, b, left) => {
                let cut = left % 2 == 1;
                cluster.net.set_link(a, b, |link| link.cut = cut);
                cluster.net.set_link(b, a, |link| link.cut = cut);
                if left > 0 {
                    self.until(200, 1500, End::Flap(a, b, left - 1));
                }
            }
        }
    }

    async fn start(&mut self, cluster: &mut Cluster, host: Host) {
        if cluster.is_running(host) {
            return;
        }
        if let Err(error) = cluster.start(host).await {
            cluster.trace.say(|| format!("node {host} does not start: {error:?}"));
            self.until(500, 3000, End::Start(host));
        }
    }

    async fn begin(&mut self, cluster: &mut Cluster, kind: Fault) {
        let hosts = cluster.honest();
        let host = self.rng.below(hosts);
        let other = (host + 1 + self.rng.below(hosts - 1)) % hosts;
        cluster.trace.say(|| format!("fault {kind:?} on {host} ({other})"));
        match kind {
            Fault::Kill
            | Fault::PowerCut
            | Fault::Terminate
            | Fault::KillInShutdown
            | Fault::KillInRecovery
            | Fault::Pause => self.process(cluster, kind, host).await,
            Fault::ClockForward | Fault::ClockBack | Fault::ClockDrift | Fault::ClockFrozen => {
                self.clock(cluster, kind, host);
            }
            Fault::BitRot | Fault::Truncated | Fault::Misdirected => {
                cluster.note_damage(self.fragile);
                self.damage(cluster, kind);
            }
            Fault::SyncLies | Fault::PhantomWrite => {
                cluster.note_damage(self.fragile);
                self.disk(cluster, kind, self.fragile);
            }
            Fault::ReadError => {
                // What a disk cannot read counts as rot.
                cluster.note_damage(host);
                self.disk(cluster, kind, host);
            }
            Fault::SyncFailsClean
            | Fault::SyncFailsDirty
            | Fault::WriteError
            | Fault::TooManyFiles
            | Fault::DiskFull
            | Fault::ReadOnly
            | Fault::SlowDisk => self.disk(cluster, kind, host),
            _ => self.network(cluster, kind, host, other),
        }
    }

    async fn process(&mut self, cluster: &mut Cluster, kind: Fault, host: Host) {
        if kind == Fault::Pause {
            cluster.trace.fired("process: paused");
            cluster.net.set_paused(host, true);
            self.until(1000, 20_000, End::Resume(host));
            return;
        }
        if !cluster.is_running(host) {
            return;
        }
        match kind {
            Fault::Kill => {
                cluster.trace.fired("process: killed");
                cluster.kill(host, CrashPolicy::KeepAll, false).await;
            }
            Fault::PowerCut => {
                let policy = *self.rng.pick(&CrashPolicy::ALL);
                cluster.trace.fired(policy.fault());
                cluster.kill(host, policy, self.rng.flip()).await;
            }
            Fault::Terminate => {
                cluster.trace.fired("process: terminated");
                if !cluster.stop(host, STOP_MAX).await {
                    cluster.trace.fired("process: did not stop in time");
                }
            }
            Fault::KillInShutdown => {
                cluster.trace.fired("process: killed in shutdown");
                let patience = self.millis(0, 500);
                cluster.stop(host, patience).await;
            }
            _ => {
                cluster.trace.fired("process: killed in recovery");
                let policy = *self.rng.pick(&CrashPolicy::ALL);
                cluster.kill(host, policy, false).await;
                if cluster.start(host).await.is_ok() {
                    let life = self.millis(0, 400);
                    tokio::time::sleep(life).await;
                    let policy = *self.rng.pick(&CrashPolicy::ALL);
                    cluster.kill(host, policy, false).await;
                }
            }
        }
        self.until(100, 15_000, End::Start(host));
    }

    fn clock(&mut self, cluster: &mut Cluster, kind: Fault, host: Host) {
        let ms = i64::try_from(self.rng.between(1, HOUR_MS)).unwrap_or(1);
        // Half of them by no more than an hour, the others by up to five weeks or half a century.
        let ms = match ms % 4 {
            0 => ms * 24 * 36,
            1 => ms * 24 * 365 * 50,
            _ => ms,
        };
        let clock = cluster.clock(host);
        match kind {
            Fault::ClockForward => clock.jump(ms),
            Fault::ClockBack => clock.jump(-ms),
            Fault::ClockDrift => clock.set_speed(self.rng.between(900_000, 1_100_000)),
            _ => clock.set_frozen(true),
        }
        cluster.trace.fired(match kind {
            Fault::ClockForward => "clock: jumped forward",
            Fault::ClockBack => "clock: jumped back",
            Fault::ClockDrift => "clock: drifts",
            _ => "clock: frozen",
        });
        self.until(1000, 30_000, End::Clock(host));
    }

    /// Changes blob files of the one disk that may change: no more copies than can be spared.
    fn damage(&mut self, cluster: &mut Cluster, kind: Fault) {
        let disk = cluster.disk(self.fragile).clone();
        let files = disk.blob_files();
        for _ in 0..=self.rng.below(4) {
            if files.is_empty() {
                return;
            }
            let (_, inode) = *self.rng.pick(&files);
            let (_, source) = *self.rng.pick(&files);
            let at = self.rng.draw();
            cluster.trace.fired(match kind {
                Fault::BitRot => "rot: flipped bit",
                Fault::Truncated => "rot: truncated to nothing",
                _ => "rot: misdirected write",
            });
            match kind {
                Fault::BitRot => disk.damage(inode, |bytes| {
                    if let Ok(len) = u64::try_from(bytes.len())
                        && len > 0
                    {
                        let byte = usize::try_from(at % len).unwrap_or(0);
                        bytes[byte] ^= 1 << (at >> 60 & 7);
                    }
                }),
                Fault::Truncated => disk.damage(inode, Vec::clear),
                _ => {
                    let wrong = disk.content(source);
                    disk.damage(inode, |bytes| *bytes = wrong);
                }
            }
        }
    }

    fn disk(&mut self, cluster: &mut Cluster, kind: Fault, host: Host) {
        let chance = self.rng.between(5, 300);
        let room = self.rng.between(0, 3_000_000);
        let slow = u32::try_from(self.rng.between(10, 200)).unwrap_or(10);
        cluster.disk(host).set_faults(|faults| match kind {
            Fault::SyncFailsClean => faults.sync = Some((chance, SyncPolicy::FailClean)),
            Fault::SyncFailsDirty => faults.sync = Some((chance, SyncPolicy::FailDirty)),
            Fault::SyncLies => faults.sync = Some((500, SyncPolicy::Lie)),
            Fault::PhantomWrite => faults.phantom = chance,
            Fault::ReadError => faults.read = Some((chance, EIO)),
            Fault::WriteError => {
                faults.write = Some((chance, if chance.is_multiple_of(2) { EIO } else { ENOSPC }));
            }
            Fault::TooManyFiles => faults.open = Some((chance, EMFILE)),
            Fault::DiskFull => faults.room = Some(room),
            Fault::ReadOnly => faults.read_only = true,
            _ => faults.slow = slow,
        });
        if kind == Fault::SlowDisk {
            cluster.trace.fired("disk: slow");
        }
        self.until(500, 12_000, End::Disk(host));
    }

    fn network(&mut self, cluster: &mut Cluster, kind: Fault, host: Host, other: Host) {
        let net = cluster.net.clone();
        // Whom a machine is cut off from, a hostile one still reaches.
        let hosts = cluster.honest();
        let delay = self.millis(30, 600);
        let rate = self.rng.between(20_000, 800_000);
        let chance = self.rng.between(1, 10);
        let both = |from: Host, to: Host, change: &dyn Fn(&mut crate::net::Link)| {
            net.set_link(from, to, change);
            net.set_link(to, from, change);
        };
        let everyone = |change: &dyn Fn(&mut crate::net::Link)| {
            (0..hosts).filter(|at| *at != host).for_each(|at| both(host, at, change));
        };
        match kind {
            Fault::Latency => everyone(&|link| {
                link.delay = delay;
                link.jitter = delay / 2;
            }),
            Fault::Uneven => uneven_links(cluster, &mut self.rng),
            Fault::Bandwidth => everyone(&|link| link.rate = rate),
            Fault::SlowReader => net.set_link(other, host, |link| link.rate = rate / 20),
            Fault::Stall | Fault::NonTransitive => both(host, other, &|link| link.cut = true),
            Fault::OneWay => {
                (0..hosts)
                    .filter(|at| *at != host)
                    .for_each(|at| net.set_link(host, at, |link| link.cut = true));
            }
            // In place of the one before: who could be written to then may be away now.
            Fault::Partition => {
                net.heal();
                let side: Vec<bool> = (0..hosts).map(|_| self.rng.flip()).collect();
                for a in 0..hosts {
                    for b in (a + 1..hosts).filter(|b| side[a] != side[*b]) {
                        both(a, b, &|link| link.cut = true);
                    }
                }
            }
            Fault::Flapping => self.until(1, 100, End::Flap(host, other, 10)),
            Fault::ResetIdle => {
                if net.reset_between(host, other) == 0 {
                    return;
                }
            }
            Fault::HalfOpen => net.vanish_between(host, other),
            Fault::ResetMidFrame => everyone(&|link| link.reset = chance),
            Fault::Refused => everyone(&|link| link.refuse = 700),
            Fault::Corruption => everyone(&|link| link.corrupt = chance),
            _ => everyone(&|link| link.truncate = chance),
        }
        match kind {
            Fault::Latency => cluster.trace.fired("net: latency"),
            Fault::Bandwidth => cluster.trace.fired("net: bandwidth"),
            Fault::SlowReader => cluster.trace.fired("net: slow reader"),
            Fault::Stall => cluster.trace.fired("net: stall"),
            Fault::NonTransitive => cluster.trace.fired("net: partition, non-transitive"),
            Fault::OneWay => cluster.trace.fired("net: partition, one way"),
            Fault::Partition => cluster.trace.fired("net: partition"),
            Fault::Flapping => cluster.trace.fired("net: flapping"),
            Fault::ResetIdle => cluster.trace.fired("net: reset"),
            Fault::HalfOpen => cluster.trace.fired("net: half open"),
            _ => {}
        }
        let (from, to) = if kind == Fault::Stall { (500, 6000) } else { (2000, 25_000) };
        self.until(from, to, End::Links);
    }
}

/// Gives each pair of machines a delay of its own, and some none.
pub fn uneven_links(cluster: &Cluster, rng: &mut Rng) {
    for a in 0..cluster.len() {
        for b in a + 1..cluster.len() {
            let slow = rng.between(1, 2000) / rng.between(1, 10);
            let delay = Duration::from_millis(if rng.flip() { slow } else { 0 });
            cluster.net.set_link(a, b, |link| link.delay = delay);
            cluster.net.set_link(b, a, |link| link.delay = delay);
        }
    }
    cluster.trace.fired("net: uneven latency");
}

const HOUR_MS: u64 = 60 * 60 * 1000;
/// How often nodes are looked after.
const SUPERVISE_EVERY: Duration = Duration::from_secs(1);
/// How long a node may take to stop.
const STOP_MAX: Duration = Duration::from_secs(10);
