//! What one seed stands for: every choice of a run, drawn from it and printed with a failure.

use std::time::Duration;

use dfs_hostile::attack::Attack;
use dfs_store::PACKED_BYTES_MAX;

use crate::faults::Fault;
use crate::rng::Rng;

/// The choices of one run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed they come from.
    pub seed: u64,
    /// How many machines.
    pub machines: usize,
    /// How many of them have no vault key.
    pub keyless: usize,
    /// How many clients work at once.
    pub clients: usize,
    /// Names they share.
    pub names: usize,
    /// Whether they ask for available mode.
    pub available: bool,
    /// Whether others race for names under conditions.
    pub races: bool,
    /// How many zones the machines are spread over.
    pub zones: usize,
    /// Whether they begin when one node runs, and the others come up while they work.
    pub grows: bool,
    /// Whether machines come and go meanwhile: some join late, some leave.
    pub churns: bool,
    /// Whether one of these is lost with its disk.
    pub loses: bool,
    /// Whether an honest machine beside a hostile member gets an empty disk at the end.
    pub replaces: bool,
    /// Whether space is given back within seconds, and not only after days. Clocks are right then:
    /// an hour that is lost or won is more than any of these waits.
    pub collects: bool,
    /// How long they work.
    pub work: Duration,
    /// The longest pause between two operations of one client.
    pub think: Duration,
    /// Kinds of faults that may happen; none in a calm run.
    pub faults: Vec<Fault>,
    /// The mean time between faults.
    pub between_faults: Duration,
    /// The one machine whose disk may lose or change what it was given.
    pub fragile: usize,
    /// Whether logs are kept and searched as well: slower.
    pub search_logs: bool,
    /// Blobs of at most so many bytes lie in the index, where no fault damages them.
    pub packed_max: usize,
    /// What the last machine does to the others, which only stores for them; nothing where it is
    /// honest.
    pub attacks: Vec<Attack>,
}

impl Options {
    /// Draws the choices of a seed: swarm testing, where each kind of fault is on in half of the
    /// runs (Groce et al. 2012).
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed).fork(2);
        let machines = 3 + rng.below(3) + if rng.per_mille(200) { rng.below(5) } else { 0 };
        let calm = rng.per_mille(50);
        let faults = Fault::ALL.iter().copied().filter(|_| !calm && rng.flip()).collect();
        let mut options = Self {
            seed,
            machines,
            keyless: usize::from(rng.flip()),
            clients: 2 + rng.below(4),
            names: 3 + rng.below(8),
            available: rng.per_mille(200),
            races: false,
            zones: 1,
            grows: false,
            churns: false,
            loses: false,
            replaces: false,
            collects: false,
            work: Duration::from_secs(rng.between(40, 120)),
            think: Duration::from_millis(rng.between(50, 2000)),
            faults,
            between_faults: Duration::from_millis(rng.between(1500, 10_000)),
            fragile: rng.below(3),
            search_logs: rng.per_mille(100),
            packed_max: *Rng::new(seed).fork(13).pick(&[0, 0, 1024, PACKED_BYTES_MAX]),
            attacks: Vec::new(),
        };
        options = match rng.below(10) {
            0..3 => options.growing(&mut rng),
            3..6 if !options.available => options.churning(&mut rng),
            3..8 if options.available && !calm => options.torn(&mut rng),
            _ => options,
        };
        if options.available {
            // A write may be acknowledged with one copy, which no disk may lose then.
            options.faults.retain(|fault| !fault.damages_blobs());
        }
        options.races = rng.flip();
        options.collects = rng.per_mille(300);
        if options.collects {
            options.faults.retain(|fault| !fault.turns_clocks());
        }
        options.zones = if rng.flip() { 3 } else { 1 };
        options
    }

    /// Draws the choices of a seed with a hostile member: the last machine, admitted to store for
    /// others. Of each row of three it holds one copy at most. Beside it one honest machine at most
    /// is down, paused or cut off at any time, and no disk loses what it was given until all had
    /// time to get where it belongs: no three copies bear more. In half of the seeds an honest
    /// machine gets an empty disk then. Clocks are right. It attacks in about half of the ways
    /// there are, or in one.
    pub fn hostile(seed: u64, only: Option<Attack>) -> Self {
        let mut rng = Rng::new(seed).fork(11);
        let machines = 3 + rng.below(3);
        let mut options = Self {
            machines,
            keyless: if machines == 5 && rng.flip() { 2 } else { 1 },
            clients: 2 + rng.below(2),
            work: Duration::from_secs(rng.between(30, 60)),
            think: Duration::from_millis(rng.between(200, 1500)),
            available: false,
            races: true,
            grows: false,
            churns: false,
            loses: false,
            replaces: Rng::new(seed).fork(14).flip(),
            ..Self::of(seed)
        };
        options.faults.retain(|fault| fault.is_of_one_machine());
        options.attacks = match only {
            Some(attack) => vec![attack],
            None => Attack::ALL.into_iter().filter(|_| rng.flip()).collect(),
        };
        options
    }

    /// The machine that is hostile, if one is.
    pub fn hostile_machine(&self) -> Option<usize> {
        (!self.attacks.is_empty()).then(|| self.machines - 1)
    }

    /// How many machines are there at first.
    pub fn first_machines(&self) -> usize {
        match (self.grows, self.churns) {
            (true, _) => 1,
            (_, true) => self.machines.div_ceil(2).max(3),
            _ => self.machines,
        }
    }

    /// The same for a cluster whose machines come and go. Where one disk is lost the others must
    /// keep what they have; else one may rot.
    fn churning(mut self, rng: &mut Rng) -> Self {
        self.churns = true;
        self.machines = 4 + rng.below(6);
        self.keyless = self.keyless.min(1);
        self.work = self.work.max(Duration::from_secs(60));
        self.faults.retain(|fault| !fault.damages_blobs());
        while self.faults.len() > KINDS_WHILE_MOVING {
            self.faults.swap_remove(rng.below(self.faults.len()));
        }
        let mut rng = rng.fork(1);
        self.loses = rng.per_mille(600);
        if !self.loses && rng.flip() {
            self.faults.extend([Fault::BitRot, Fault::Truncated, Fault::Misdirected]);
        }
        self
    }

    /// The same for a cluster in available mode that is torn apart here, then there, with full
    /// disks that are read and not written: one node writes a name to other replicas each time.
    fn torn(mut self, rng: &mut Rng) -> Self {
        self.machines = self.machines.max(4 + self.keyless);
        self.names = self.names.min(4);
        self.faults.truncate(2);
        self.faults.extend([Fault::Partition, Fault::DiskFull].repeat(4));
        self.between_faults = Duration::from_millis(rng.between(1500, 4000));
        self
    }

    /// The same for a cluster that grows: partitions move within seconds, so whatever may go wrong
    /// meanwhile comes fast, a few kinds of it, and links differ. At first there is one copy, which
    /// no disk may lose.
    fn growing(mut self, rng: &mut Rng) -> Self {
        self.grows = true;
        self.available = false;
        self.think = Duration::from_millis(rng.between(40, 400));
        self.faults.retain(|fault| !fault.damages_blobs());
        while self.faults.len() > KINDS_WHILE_MOVING {
            self.faults.swap_remove(rng.below(self.faults.len()));
        }
        self.faults.extend([Fault::Uneven, Fault::Uneven, Fault::Pause]);
        self.between_faults = Duration::from_millis(rng.between(300, 3000));
        self
    }
}

/// Kinds of faults while partitions move: few, so that moves come to an end.
const KINDS_WHILE_MOVING: usize = 4;
