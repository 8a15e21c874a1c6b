//! Every kind of attack, by name.

use dfs_p2p::message::Request;

use crate::vaults::own_cert;

/// One kind of harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// Gives a blob with changed bytes.
    WrongBytes,
    /// Gives another blob, which is genuine, for the one that was asked for.
    OtherBlob,
    /// Shows records as they were, or as if they had never been.
    OldRecords,
    /// Shows records that nobody signed, or that were signed for another name.
    ForgedRecords,
    /// Refuses for a later layout, which there is not.
    StaleEpochs,
    /// Says that it stored what it threw away.
    FalseAcks,
    /// Answers nothing.
    Silence,
    /// Refuses for any other reason there is.
    Refusals,
    /// Says that it promised the highest of all ballots.
    HighBallots,
    /// Says that it promised or accepted what it did not, and shows what was accepted long ago, or
    /// that nothing is open.
    FalseBallots,
    /// Compares its rows falsely: nothing differs, rows that do not exist, pages without end.
    FalseRows,
    /// Says that uses have ended, that nobody needs a blob, that it has what it has not.
    FalseEvidence,
    /// Has layouts of its own decided.
    OwnLayouts,
    /// Uses up the ballots of layouts and records.
    LastBallots,
    /// Reads one record thousands of times in one call.
    LargeReads,
    /// Reads every row.
    Scans,
    /// Notes uses of blobs by records that do not exist.
    MadeUpUses,
    /// Stores bytes that are not the blob, and reports good copies as bad.
    WrongBlobs,
    /// Tells of nodes that do not exist.
    InventedNodes,
    /// Calls as if from a later layout.
    LaterEpochs,
    /// Asks others to forget rows, and says of itself that it keeps nothing for anyone.
    OrdersToForget,
    /// Brings records as they were once, and ones that nobody signed.
    ReplayedRecords,
    /// Brings records of a vault that it made up, and uses of blobs by them.
    MadeUpVaults,
}

impl Attack {
    /// Every kind.
    pub const ALL: [Self; 23] = [
        Self::WrongBytes,
        Self::OtherBlob,
        Self::OldRecords,
        Self::ForgedRecords,
        Self::StaleEpochs,
        Self::FalseAcks,
        Self::Silence,
        Self::Refusals,
        Self::HighBallots,
        Self::FalseBallots,
        Self::FalseRows,
        Self::FalseEvidence,
        Self::OwnLayouts,
        Self::LastBallots,
        Self::LargeReads,
        Self::Scans,
        Self::MadeUpUses,
        Self::WrongBlobs,
        Self::InventedNodes,
        Self::LaterEpochs,
        Self::OrdersToForget,
        Self::ReplayedRecords,
        Self::MadeUpVaults,
    ];

    /// The attack of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attack| format!("{attack:?}") == name)
    }

    /// What it does, in a few words.
    pub fn label(self) -> &'static str {
        match self {
            Self::WrongBytes => "hostile: wrong bytes of a blob",
            Self::OtherBlob => "hostile: another blob",
            Self::OldRecords => "hostile: records of before",
            Self::ForgedRecords => "hostile: forged records",
            Self::StaleEpochs => "hostile: refusals for no later layout",
            Self::FalseAcks => "hostile: false acknowledgements",
            Self::Silence => "hostile: no answer",
            Self::Refusals => "hostile: refusals",
            Self::HighBallots => "hostile: the highest ballot promised",
            Self::FalseBallots => "hostile: false promises",
            Self::FalseRows => "hostile: rows compared falsely",
            Self::FalseEvidence => "hostile: false evidence of what is needed",
            Self::OwnLayouts => "hostile: layouts of its own",
            Self::LastBallots => "hostile: the last of all ballots",
            Self::LargeReads => "hostile: large reads of one record",
            Self::Scans => "hostile: scans of many partitions",
            Self::MadeUpUses => "hostile: made-up uses of every blob",
            Self::WrongBlobs => "hostile: blobs that are none",
            Self::InventedNodes => "hostile: news of nodes that do not exist",
            Self::LaterEpochs => "hostile: claims of later epochs",
            Self::OrdersToForget => "hostile: orders to forget everything",
            Self::ReplayedRecords => "hostile: records of before brought again",
            Self::MadeUpVaults => "hostile: records of a vault that it made up",
        }
    }

    /// Whether it lies about what it holds for others: what an honest cluster should notice.
    pub fn lies_about_data(self) -> bool {
        matches!(
            self,
            Self::WrongBytes
                | Self::OtherBlob
                | Self::OldRecords
                | Self::ForgedRecords
                | Self::FalseAcks
        )
    }

    /// Whether a request can be answered in this way.
    pub fn answers(self, request: &Request) -> bool {
        use Request as Ask;
        match self {
            Self::WrongBytes | Self::OtherBlob => matches!(request, Ask::ChunkGet(_)),
            Self::OldRecords | Self::ForgedRecords => {
                matches!(
                    request,
                    Ask::RecordGet { .. }
                        | Ask::DirScan { .. }
                        | Ask::DirChanges { .. }
                        | Ask::DirDigests { .. }
                )
            }
            Self::FalseAcks => {
                matches!(request, Ask::RecordPut { .. } | Ask::RefAdd(_) | Ask::ChunkPut(_))
            }
            Self::HighBallots | Self::FalseBallots => {
                matches!(request, Ask::CasPrepare { .. } | Ask::CasAccept { .. })
            }
            Self::FalseRows => matches!(request, Ask::SyncRoots { .. } | Ask::SyncScan { .. }),
            Self::FalseEvidence => matches!(
                request,
                Ask::RefsEnded(_)
                    | Ask::RefsForget(_)
                    | Ask::ChunksNeeded(_)
                    | Ask::RecordsForget(_)
                    | Ask::ChunkHas(_)
            ),
            Self::MadeUpVaults => matches!(request, Ask::CertGet(id) if *id == own_cert().id()),
            Self::StaleEpochs | Self::Silence | Self::Refusals => !matches!(
                request,
                // Without these it would be no member.
                Ask::Gossip(_) | Ask::Join(_) | Ask::StillRuns { .. } | Ask::EpochDecided(_)
            ),
            _ => false,
        }
    }
}
