//! Rounds: writers at work, one fault, then the comparison.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::faults::{Fault, SMALL_NODE};
use super::writers::{Round, Writer};
use super::{WRITERS, reading, say};
use crate::bed::random::Random;
use crate::bed::world::World;

/// A world in which writers work, and what they were told.
pub(super) struct Rounds<'a> {
    pub(super) world: World<'a>,
    /// Writes acknowledged so far, by the node that was asked.
    pub(super) acknowledged: &'a [AtomicU64],
    /// Writes of this round that ended without an acknowledgement.
    pub(super) undecided: &'a AtomicU64,
}

impl Rounds<'_> {
    /// One fault after the other, each kind once before any comes again; gives how often each
    /// came.
    pub(super) fn run(
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
                nodes: self.world.nodes,
                requests: self.world.requests,
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
        let _ = self.world.requests.take_slowest();
        let done = self.strike_while_writing(round, fault, &mut random, writers)?;
        let writes = self.acknowledged_by_all() - before;
        let slowest = self.world.requests.take_slowest();
        say(&format!("round {}/{rounds}: {}: {done}", round.number, fault.name()));
        let took = self.world.settle(SETTLE_MAX)?;
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
                .world
                .pause(BEFORE)
                .and_then(|()| fault.strike(self, random))
                .and_then(|done| self.world.pause(AFTER).map(|()| done));
            round.end.store(true, Ordering::Relaxed);
            self.world.heal();
            for writer in at_work {
                writer.join().expect("a writer gives errors and does not panic")?;
            }
            struck
        })
    }

    /// Lists and reads on random nodes, compares, and counts copies; gives how many names it read.
    pub(super) fn compare(
        &self,
        seed: u64,
        random: &mut Random,
        writers: &mut [Writer],
        sample: Option<usize>,
    ) -> Result<usize> {
        reading::compare_list(self.world.requests, random.below(self.world.nodes), writers)?;
        let read = reading::compare_many(
            self.world.requests,
            seed,
            self.world.nodes,
            random,
            writers,
            sample,
        )?;
        let late = reading::count_copies(self.world.requests, self.world.nodes, random, writers)?;
        if !late.is_zero() {
            say(&format!("  copies were missing for {late:.1?} after every node had said ok"));
        }
        Ok(read)
    }

    fn acknowledged_by_all(&self) -> u64 {
        self.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn acknowledged_by_others(&self, than: usize) -> u64 {
        self.acknowledged_by_all() - self.acknowledged[than].load(Ordering::Relaxed)
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
