//! How many seeds it takes to notice each bug in the bank.

use std::sync::atomic::{AtomicUsize, Ordering};

use dfs_env::{Bug, set_bug};
use dfs_hostile::attack::Attack;

use crate::options::Options;
use crate::run::run;

/// What became of one bug.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The bug.
    pub bug: Bug,
    /// The first red seed and what it said; `None` when none was red.
    pub caught: Option<(u64, String)>,
    /// Of the seeds after it that were run as well, how many were red.
    pub red: (u64, u64),
}

/// Runs seeds under each of `bugs` until one is red, at most `limit`, then `more` to see how often.
/// `tell` hears of each as soon as it is known.
///
/// # Panics
/// When a thread panics.
pub fn explore(
    bugs: &[Bug],
    limit: u64,
    more: u64,
    threads: usize,
    tell: fn(&Finding),
) -> Vec<Finding> {
    let next = AtomicUsize::new(0);
    let mut findings = std::thread::scope(|scope| {
        let worker = || {
            let mut found = Vec::new();
            while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                set_bug(Some(*bug));
                let finding = one(*bug, limit, more);
                set_bug(None);
                tell(&finding);
                found.push(finding);
            }
            found
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect::<Vec<_>>()
    });
    findings.sort_by_key(|finding| finding.bug as usize);
    findings
}

fn one(bug: Bug, limit: u64, more: u64) -> Finding {
    let mut seeds = (1..=limit).filter(|seed| may_show(bug, &options(bug, *seed)));
    let caught = seeds.find_map(|seed| Some((seed, red(bug, seed)?)));
    let after = caught.as_ref().map_or(0..0, |(first, _)| first + 1..first + 1 + more);
    let count = after.filter(|seed| red(bug, *seed).is_some()).count();
    Finding { bug, caught, red: (count as u64, more) }
}

/// What a seed stands for where this bug is looked for: some show only beside a hostile member,
/// and to one that knows of them.
pub fn options(bug: Bug, seed: u64) -> Options {
    match attack_on(bug) {
        Some(attack) => Options::hostile(seed, Some(attack)),
        // Many of them are in how files are written.
        None => Options { packed_max: 0, ..Options::of(seed) },
    }
}

/// What a hostile member does that has an effect with this bug alone.
fn attack_on(bug: Bug) -> Option<Attack> {
    Some(match bug {
        Bug::UnsignedEpochTaken | Bug::AnyoneAsksForVotes => Attack::OwnLayouts,
        Bug::UnsignedBallotTaken => Attack::LastBallots,
        Bug::ForgedAnswerEndsRead => Attack::ForgedRecords,
        Bug::RunningIsNotEvicted => Attack::WrongBytes,
        Bug::AnyVaultKept => Attack::MadeUpVaults,
        _ => return None,
    })
}

/// Whether this bug is looked for in seeds; for the others there is a test each, which has to fail
/// with it.
pub fn is_for_seeds(bug: Bug) -> bool {
    !matches!(
        bug,
        Bug::ActorNeverRenewed
            | Bug::RetiredByHearsay
            | Bug::ReadsUnbounded
            | Bug::MergedAcceptanceCounts
            | Bug::StaleWordEndsAll
            | Bug::HandoverForgetsUncompared
            | Bug::AnyoneTellsOfStrangers
            | Bug::StrangersDialledAtOnce
            | Bug::HearsayKeepsAlive
            | Bug::SignaturesUnbounded
            | Bug::AnyClusterJoined
            | Bug::SourceIsWholeAddress
            | Bug::SilenceKeepsItsPlace
            | Bug::StaleLayoutAccepted
            | Bug::UsesEndTogether
            | Bug::AnyoneLetIn
            | Bug::MadeUpUsesCount
            | Bug::MarksClearedUnchecked
            | Bug::AnyonesCallsCount
            | Bug::AnsweredUnfenced
            | Bug::AnyProcessIsTheNode
            | Bug::PurgedComesBack
    )
}

/// Whether a bug can show in such a run at all: the others are not worth their time.
fn may_show(bug: Bug, options: &Options) -> bool {
    match bug {
        Bug::SyncedTooEarly => options.grows || options.churns,
        Bug::UseEndsTooEarly | Bug::NothingCollected => options.collects,
        _ => true,
    }
}

/// What a seed says, when it is red.
fn red(bug: Bug, seed: u64) -> Option<String> {
    let outcome = std::panic::catch_unwind(|| run(options(bug, seed), false));
    match outcome {
        Ok(outcome) => outcome.violations.into_iter().next(),
        Err(_) => Some("it panicked".to_owned()),
    }
}
