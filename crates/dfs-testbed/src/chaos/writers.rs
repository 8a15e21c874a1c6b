//! Threads that store, replace, delete and read back, and remember what was acknowledged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::ledger::{Ledger, State};
use super::reading;
use crate::bed::random::{Random, content};
use crate::bed::requests::{Answer, Requests};

/// One writer; nobody else writes to its names.
#[derive(Debug)]
pub(super) struct Writer {
    id: usize,
    pub(super) ledger: Ledger,
}

/// What all writers share in one round.
#[derive(Debug)]
pub(super) struct Round<'a> {
    pub(super) seed: u64,
    pub(super) number: usize,
    pub(super) nodes: usize,
    pub(super) requests: &'a Requests,
    /// Content that each writer may store in this round; reading goes on.
    pub(super) bytes_max: u64,
    /// Large contents only, to fill a disk.
    pub(super) large: bool,
    /// This node may answer that there is no space.
    pub(super) full: Option<usize>,
    pub(super) end: &'a AtomicBool,
    /// Writes acknowledged so far, by the node that was asked.
    pub(super) acknowledged: &'a [AtomicU64],
    /// Writes of this round that ended without an acknowledgement.
    pub(super) undecided: &'a AtomicU64,
}

/// The state of a writer's round.
struct Turn<'a> {
    round: &'a Round<'a>,
    random: Random,
    bytes_left: u64,
    names: usize,
}

impl Writer {
    pub(super) fn new(id: usize) -> Self {
        Self { id, ledger: Ledger::default() }
    }

    /// Works until the round ends.
    pub(super) fn work(&mut self, round: &Round<'_>) -> Result<()> {
        let part = format!("writer {} round {}", self.id, round.number);
        let random = Random::of(round.seed, &part);
        let mut turn = Turn { round, random, bytes_left: round.bytes_max, names: 0 };
        while !round.end.load(Ordering::Relaxed) {
            let started = Instant::now();
            match turn.random.below(100) {
                0..60 => self.put_new(&mut turn)?,
                60..75 => self.put_again(&mut turn)?,
                75..85 => self.remove(&mut turn)?,
                _ => self.read(&mut turn)?,
            }
            // A node that is away refuses at once: do not ask it a thousand times a second.
            std::thread::sleep(PACE.saturating_sub(started.elapsed()));
        }
        Ok(())
    }

    fn put_new(&mut self, turn: &mut Turn<'_>) -> Result<()> {
        let (id, round, number) = (self.id, turn.round.number, turn.names);
        turn.names += 1;
        // Half of the names are in a directory that only this writer makes, half in one that all
        // writers fill at the same time.
        let name = match turn.random.coin() {
            true => format!("writer-{id}/round-{round}/{number}"),
            false => format!("shared/round-{round}/{id}-{number}"),
        };
        self.put(turn, &name, 0)
    }

    fn put_again(&mut self, turn: &mut Turn<'_>) -> Result<()> {
        match self.pick_settled(&mut turn.random) {
            Some((name, State::Content { generation, .. })) => {
                self.put(turn, &name, generation + 1)
            }
            _ => Ok(()),
        }
    }

    fn put(&mut self, turn: &mut Turn<'_>, name: &str, generation: u32) -> Result<()> {
        let round = turn.round;
        let bytes = draw_bytes(&mut turn.random, round.large);
        if turn.bytes_left < bytes as u64 {
            return Ok(());
        }
        turn.bytes_left -= bytes as u64;
        let at = turn.random.below(round.nodes);
        let content = content(round.seed, name, generation, bytes);
        let answer = round.requests.ask(at, &["put", "-", name], Some(&content))?;
        self.note(round, at, name, State::Content { generation, bytes }, &answer)
    }

    fn remove(&mut self, turn: &mut Turn<'_>) -> Result<()> {
        let Some((name, State::Content { .. })) = self.pick_settled(&mut turn.random) else {
            return Ok(());
        };
        let at = turn.random.below(turn.round.nodes);
        let answer = turn.round.requests.ask(at, &["rm", &name], None)?;
        self.note(turn.round, at, &name, State::Absent, &answer)
    }

    fn note(
        &mut self,
        round: &Round<'_>,
        at: usize,
        name: &str,
        state: State,
        answer: &Answer,
    ) -> Result<()> {
        let no_space = round.full == Some(at) && answer.code == 1;
        if answer.is_ok() {
            self.ledger.acknowledged(name, state);
            round.acknowledged[at].fetch_add(1, Ordering::Relaxed);
        } else if answer.is_undecided() || no_space {
            self.ledger.uncertain(name, state);
            round.undecided.fetch_add(1, Ordering::Relaxed);
        } else {
            let (code, why, node) = (answer.code, &answer.stderr, at + 1);
            bail!("writing {name} on node {node} ended with exit {code}: {why}");
        }
        Ok(())
    }

    /// Reads one of its own names while the fault lasts.
    fn read(&mut self, turn: &mut Turn<'_>) -> Result<()> {
        let Some((name, _)) = self.pick_settled(&mut turn.random) else { return Ok(()) };
        let at = turn.random.below(turn.round.nodes);
        let Some(entry) = self.ledger.get_mut(&name) else { return Ok(()) };
        // Undecided is an answer here: the fault may have taken the majority from this node.
        reading::compare(turn.round.requests, turn.round.seed, at, &name, entry)?;
        Ok(())
    }

    /// A name with one possible state; the last names are drawn most.
    fn pick_settled(&self, random: &mut Random) -> Option<(String, State)> {
        let settled: Vec<(&String, State)> = self
            .ledger
            .entries()
            .filter_map(|(name, entry)| Some((name, entry.settled()?)))
            .collect();
        let (name, state) = settled.get(random.below(settled.len().max(1)))?;
        Some(((*name).clone(), *state))
    }
}

/// From one packet to a few chunks; most files of people are small.
fn draw_bytes(random: &mut Random, large: bool) -> usize {
    match random.below(100) {
        _ if large => random.within(1_000_000..=BYTES_MAX),
        0..50 => random.within(BYTES_MIN..=20_000),
        50..90 => random.within(20_000..=300_000),
        _ => random.within(300_000..=BYTES_MAX),
    }
}

const BYTES_MIN: usize = 10;
/// Three chunks.
const BYTES_MAX: usize = 3_000_000;
/// The shortest time between two commands of one writer.
const PACE: Duration = Duration::from_millis(30);
