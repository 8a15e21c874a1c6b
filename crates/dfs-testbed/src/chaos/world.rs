//! The cluster under test, and its rounds: writers at work, one fault, then the comparison.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::faults::{Fault, SMALL_NODE};
use super::writers::{Round, Writer};
use super::{WRITERS, reading, say};
use crate::bed::mesh::Mesh;
use crate::bed::nodes::Cluster;
use crate::bed::random::Random;
use crate::bed::requests::Requests;
use crate::bed::small_disk::SmallDisk;

/// The cluster and what is done to it. Dropped in this order: nodes, what is between them, disk.
pub(crate) struct World<'a> {
    pub(crate) cluster: Cluster,
    pub(super) mesh: Option<Mesh>,
    pub(super) disk: Option<SmallDisk>,
    pub(crate) requests: &'a Requests,
    pub(crate) nodes: usize,
    /// Writes acknowledged so far, by the node that was asked.
    pub(super) acknowledged: &'a [AtomicU64],
    pub(super) undecided: &'a AtomicU64,
    pub(super) interrupted: Arc<AtomicBool>,
}

impl<'a> World<'a> {
    /// One with all its disks, in which nobody counts what is acknowledged.
    pub(crate) fn uncounted(
        cluster: Cluster,
        mesh: Option<Mesh>,
        requests: &'a Requests,
        nodes: usize,
        interrupted: Arc<AtomicBool>,
    ) -> Self {
        static UNDECIDED: AtomicU64 = AtomicU64::new(0);
        let (disk, acknowledged, undecided) = (None, &[], &UNDECIDED);
        Self { cluster, mesh, disk, requests, nodes, acknowledged, undecided, interrupted }
    }
}

impl World<'_> {
    /// One fault after the other, each kind once before any comes again; gives how often each
    /// came.
    pub(super) fn rounds(
        &mut self,
        rounds: usize,
        seed: u64,
        faults: &[Fault],
        writers: &mut [Writer],
    ) -> Result<BTreeMap<Fault, usize>> {
        let mut fired: BTreeMap<Fault, usize> = faults.iter().map(|fault| (*fault, 0)).collect();
        let mut deck = Vec::new();
        let mut cards = Random::of(seed, "deck");
        for number in 1..=rounds {
            if deck.is_empty() {
                deck = faults.to_vec();
                cards.shuffle(&mut deck);
            }
            let fault = deck.pop().context("the deck was filled")?;
            let round = Round {
                seed,
                number,
                nodes: self.nodes,
                requests: self.requests,
                bytes_max: bytes_max(fault, rounds),
                large: fault == Fault::FullDisk,
                full: (fault == Fault::FullDisk).then_some(SMALL_NODE),
                end: &AtomicBool::new(false),
                acknowledged: self.acknowledged,
                undecided: self.undecided,
            };
            self.round(&round, fault, rounds, writers)
                .with_context(|| format!("round {number}, {}", fault.name()))?;
            *fired.entry(fault).or_default() += 1;
        }
        Ok(fired)
    }

    fn round(
        &mut self,
        round: &Round<'_>,
        fault: Fault,
        rounds: usize,
        writers: &mut [Writer],
    ) -> Result<()> {
        let mut random = Random::of(round.seed, &format!("round {}", round.number));
        let before = self.acknowledged_by_all();
        self.undecided.store(0, Ordering::Relaxed);
        let _ = self.requests.take_slowest();
        let done = self.strike_while_writing(round, fault, &mut random, writers)?;
        let writes = self.acknowledged_by_all() - before;
        let slowest = self.requests.take_slowest();
        say(&format!("round {}/{rounds}: {}: {done}", round.number, fault.name()));
        let took = self.settle(SETTLE_MAX)?;
        let read = self.compare(round.seed, &mut random, writers, Some(SAMPLE))?;
        let (took, undecided) = (took.as_secs_f64(), self.undecided.load(Ordering::Relaxed));
        say(&format!(
            "  {writes} writes acknowledged, {undecided} not, slowest command {slowest:.1?}; well \
             after {took:.1} s; {read} names equal"
        ));
        Ok(())
    }

    /// Gives what was done. The fault is undone and the writers have ended, also on an error.
    fn strike_while_writing(
        &mut self,
        round: &Round<'_>,
        fault: Fault,
        random: &mut Random,
        writers: &mut [Writer],
    ) -> Result<String> {
        std::thread::scope(|scope| {
            let at_work: Vec<_> =
                writers.iter_mut().map(|writer| scope.spawn(|| writer.work(round))).collect();
            let struck = self
                .pause(BEFORE)
                .and_then(|()| fault.strike(self, random))
                .and_then(|done| self.pause(AFTER).map(|()| done));
            round.end.store(true, Ordering::Relaxed);
            self.heal();
            for writer in at_work {
                writer.join().expect("a writer gives errors and does not panic")?;
            }
            struck
        })
    }

    fn heal(&self) {
        if let Some(mesh) = &self.mesh {
            mesh.heal();
        }
    }

    /// Lists and reads on random nodes, compares, and counts copies; gives how many names it read.
    pub(super) fn compare(
        &self,
        seed: u64,
        random: &mut Random,
        writers: &mut [Writer],
        sample: Option<usize>,
    ) -> Result<usize> {
        reading::compare_list(self.requests, random.below(self.nodes), writers)?;
        let read = reading::compare_many(self.requests, seed, self.nodes, random, writers, sample)?;
        let late = reading::count_copies(self.requests, self.nodes, random, writers)?;
        if !late.is_zero() {
            say(&format!("  copies were missing for {late:.1?} after every node had said ok"));
        }
        Ok(read)
    }

    pub(crate) fn mesh(&self) -> Result<&Mesh> {
        self.mesh.as_ref().context("a fault of the network needs one between the nodes")
    }

    pub(super) fn disk(&self) -> Result<&SmallDisk> {
        self.disk.as_ref().context("a full disk needs a small one")
    }

    fn acknowledged_by_all(&self) -> u64 {
        self.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn acknowledged_by_others(&self, than: usize) -> u64 {
        self.acknowledged_by_all() - self.acknowledged[than].load(Ordering::Relaxed)
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// Somebody wants us to stop.
    pub(crate) fn pause(&self, length: Duration) -> Result<()> {
        let until = Instant::now() + length;
        loop {
            ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }
}

/// What each writer may store in a round.
fn bytes_max(fault: Fault, rounds: usize) -> u64 {
    let share = BYTES_MAX / rounds as u64;
    let of_round = if fault == Fault::FullDisk { ROUND_FULL_BYTES_MAX } else { ROUND_BYTES_MAX };
    share.min(of_round) / WRITERS as u64
}

/// Everything there is may have to be compared and copied, on a machine under load.
pub(super) const SETTLE_MAX: Duration = Duration::from_secs(120);
/// Names read after a round; all of them are read at the end.
const SAMPLE: usize = 200;
/// Writes are under way before a fault, and go on after it.
const BEFORE: Duration = Duration::from_millis(1_000);
const AFTER: Duration = Duration::from_millis(1_000);
/// A run must fit into the small disk, which is memory.
const BYTES_MAX: u64 = 4 << 30;
/// Enough for some hundred writes.
const ROUND_BYTES_MAX: u64 = 48 << 20;
/// Enough to fill the small disk, and to go on.
const ROUND_FULL_BYTES_MAX: u64 = 256 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(50);
