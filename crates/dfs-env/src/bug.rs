//! Seeded bugs, to see that the simulator finds them.
//!
//! A build without the feature `bug-bank` has none: [`bug`] is a constant then. With it, the
//! simulator switches one on for its own thread, and the variable `DFS_BUG` one for a whole
//! process: a test that notices this bug must fail then.

/// One bug that someone could have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named by what it does, and stands at the line it breaks")]
pub enum Bug {
    SkipFileSync,
    SkipDirSync,
    IndexBeforeFile,
    CommitNotDurable,
    ReadUnchecked,
    QuarantineKeepsIndex,
    MergeKeepsNewestOnly,
    MergeKeepsEverything,
    ReadAsksOne,
    WriteNeedsOne,
    NoWriteBack,
    FailuresCountAsAcks,
    ActorNeverRenewed,
    ReferenceNotWanted,
    SyncSkipsPartitions,
    StaleLayoutAccepted,
    SyncedTooEarly,
    NameInLog,
    DeleteNotWritten,
    FetchAsksOne,
    RepairGivesUp,
    NoRedial,
    StampsGoBack,
    BlobAckedUnwritten,
    UseEndsTooEarly,
    NothingCollected,
    HandoffForgetsAtOnce,
    UnsignedEpochTaken,
    RetiredByHearsay,
    MergedAcceptanceCounts,
    AnyoneAsksForVotes,
    UnsignedBallotTaken,
    StaleWordEndsAll,
    ForgedAnswerEndsRead,
    ReadsUnbounded,
    HandoverForgetsUncompared,
    AnyoneTellsOfStrangers,
    StrangersDialledAtOnce,
    HearsayKeepsAlive,
    RunningIsNotEvicted,
    SignaturesUnbounded,
    AnyClusterJoined,
    SourceIsWholeAddress,
    SilenceKeepsItsPlace,
    UsesEndTogether,
    AnyoneLetIn,
    MadeUpUsesCount,
    AnyVaultKept,
    MarksClearedUnchecked,
    AnyonesCallsCount,
    AnsweredUnfenced,
    AnyProcessIsTheNode,
    PurgedComesBack,
}

impl Bug {
    /// Every bug in the bank.
    pub const ALL: [Self; 53] = [
        Self::SkipFileSync,
        Self::SkipDirSync,
        Self::IndexBeforeFile,
        Self::CommitNotDurable,
        Self::ReadUnchecked,
        Self::QuarantineKeepsIndex,
        Self::MergeKeepsNewestOnly,
        Self::MergeKeepsEverything,
        Self::ReadAsksOne,
        Self::WriteNeedsOne,
        Self::NoWriteBack,
        Self::FailuresCountAsAcks,
        Self::ActorNeverRenewed,
        Self::ReferenceNotWanted,
        Self::SyncSkipsPartitions,
        Self::StaleLayoutAccepted,
        Self::SyncedTooEarly,
        Self::NameInLog,
        Self::DeleteNotWritten,
        Self::FetchAsksOne,
        Self::RepairGivesUp,
        Self::NoRedial,
        Self::StampsGoBack,
        Self::BlobAckedUnwritten,
        Self::UseEndsTooEarly,
        Self::NothingCollected,
        Self::HandoffForgetsAtOnce,
        Self::UnsignedEpochTaken,
        Self::RetiredByHearsay,
        Self::MergedAcceptanceCounts,
        Self::AnyoneAsksForVotes,
        Self::UnsignedBallotTaken,
        Self::StaleWordEndsAll,
        Self::ForgedAnswerEndsRead,
        Self::ReadsUnbounded,
        Self::HandoverForgetsUncompared,
        Self::AnyoneTellsOfStrangers,
        Self::StrangersDialledAtOnce,
        Self::HearsayKeepsAlive,
        Self::RunningIsNotEvicted,
        Self::SignaturesUnbounded,
        Self::AnyClusterJoined,
        Self::SourceIsWholeAddress,
        Self::SilenceKeepsItsPlace,
        Self::UsesEndTogether,
        Self::AnyoneLetIn,
        Self::MadeUpUsesCount,
        Self::AnyVaultKept,
        Self::MarksClearedUnchecked,
        Self::AnyonesCallsCount,
        Self::AnsweredUnfenced,
        Self::AnyProcessIsTheNode,
        Self::PurgedComesBack,
    ];
}

#[cfg(feature = "bug-bank")]
mod bank {
    use std::cell::Cell;
    use std::sync::LazyLock;

    use super::Bug;

    /// The bug that the process was started with.
    static OF_PROCESS: LazyLock<Option<Bug>> = LazyLock::new(|| {
        let name = std::env::var("DFS_BUG").ok()?;
        let bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
        Some(bug.expect("DFS_BUG names a bug of the bank"))
    });

    thread_local! {
        static CURRENT: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether this bug is switched on for this thread or the process.
    ///
    /// # Panics
    /// When the process was started with a bug that there is not.
    pub fn bug(bug: Bug) -> bool {
        CURRENT.get() == Some(bug) || *OF_PROCESS == Some(bug)
    }

    /// Switches a bug on for this thread, or all of them off.
    pub fn set_bug(bug: Option<Bug>) {
        CURRENT.set(bug);
    }
}

#[cfg(feature = "bug-bank")]
pub use bank::{bug, set_bug};

/// Whether this bug is switched on: never, in this build.
#[cfg(not(feature = "bug-bank"))]
pub const fn bug(_bug: Bug) -> bool {
    false
}
