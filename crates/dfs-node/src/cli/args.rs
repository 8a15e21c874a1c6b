//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::parse_size;

mod cluster;

pub(super) use cluster::{
    Doctor, Invite, InviteVerb, InvitedRole, Key, KeyVerb, LayoutVerb, Lost, RepairVerb, ScrubVerb,
    TokenVerb,
};

/// Stores files on your own machines, sealed before they leave this one.
#[derive(Debug, Parser)]
#[command(name = "dfs", version)]
pub struct Args {
    /// The node to ask: an API URL, or `:PORT` of a running node of yours
    #[arg(long, global = true, env = "DFS_NODE", value_name = "X")]
    pub node: Option<String>,
    /// A file with the token to show, as `dfs token create` made it [default: the node's own]
    #[arg(long, global = true, env = "DFS_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where cluster.key and vault.key are
    #[arg(long, global = true, env = "DFS_CONFIG_DIR", value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// Print JSON: one object, or one a line for lists
    #[arg(long, global = true)]
    pub json: bool,
    /// Answers that are needed [default: quorum with three or more members, else available]
    #[arg(long, global = true, value_name = "MODE")]
    pub mode: Option<ModeArg>,
    /// No progress bar
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// A consistency mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// A majority of the replicas: every later read sees a write
    Quorum,
    /// The replicas in reach; the answer has the number of copies
    Available,
}

impl ModeArg {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Available => "available",
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Store a file; `-` is stdin
    Put(Put),
    /// Fetch a file; it gets its name when all of it is verified
    Get(Get),
    /// Make a directory what another is, here or in the cluster; only what differs travels
    Sync(Sync),
    /// Write a file to stdout
    Cat(Cat),
    /// List a directory
    Ls(Ls),
    /// Show everything about a file; counts its copies now
    Stat(Stat),
    /// Delete files
    Rm(Rm),
    /// Copy files in the cluster; their content is not sent again
    Cp(Cp),
    /// Move or rename files and directories in the cluster
    Mv(Mv),
    /// Make directories
    Mkdir(Mkdir),
    /// Delete empty directories
    Rmdir(Rmdir),
    /// Show how much is in directories
    Du(Du),
    /// Show what changes in a directory, as it happens
    Watch(Watch),
    /// Store a symbolic link
    Ln(Ln),
    /// List the versions of a name that are kept, newest first
    Log {
        /// Remote path, also of a deleted file
        path: String,
    },
    /// Bring an earlier version back as a new one, or a directory as it was; settles a conflict
    Restore(Restore),
    /// Forget earlier versions and deleted files, so that their space comes back soon
    Purge(Purge),
    /// List names with conflicts: several versions, and none was chosen
    Conflicts(Conflicts),
    /// Show how the cluster is
    Status(Status),
    /// Check this machine and the node, and say what to do
    Doctor(Doctor),
    /// List the nodes and their states
    Peers {
        /// What the members that only store have shown to the node of what they should hold
        #[arg(long)]
        proof: bool,
    },
    /// Make a line that brings one machine into the cluster
    Invite(Invite),
    /// Let a node in that only stores for others, or change how much it may hold
    Admit {
        /// How much it may hold at most, as `500GB` [default: 1TB]
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        cap: Option<u64>,
        /// The beginning of its id, as `dfs peers` shows it; a member's address does as well
        #[arg(value_name = "NODE")]
        member: String,
    },
    /// Take a running node out; it first gives its data to the others
    Drain {
        /// The beginning of its id, or its address, as `dfs peers` shows them
        #[arg(value_name = "NODE")]
        member: String,
    },
    /// Take out a node that will not or shall not come back; its id is never used again
    Remove {
        /// Also while it runs: it is evicted, and what it held is made anew from the others
        #[arg(long)]
        force: bool,
        /// The beginning of its id, or its address, as `dfs peers` shows them
        #[arg(value_name = "NODE")]
        member: String,
    },
    /// Go on after a disaster without nodes that are gone for ever
    #[command(subcommand)]
    Layout(LayoutVerb),
    /// Fetch what is missing on a node; list the files that cannot be read
    #[command(subcommand)]
    Repair(RepairVerb),
    /// Read the disk of a node back: finds rot and has it mended
    #[command(subcommand)]
    Scrub(ScrubVerb),
    /// Runs the command of `put --from-command`, and ends it when `dfs` ends
    #[command(hide = true)]
    RunBelow {
        /// The process to end with
        parent: i32,
        /// End what the command has started, too
        #[arg(long)]
        group: bool,
        /// The command
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Give programs tokens for the API of a node, and take them back
    #[command(subcommand)]
    Token(TokenVerb),
    /// Back up, restore and check keys
    Key(Key),
    /// Print a completion script
    Completion {
        /// For which shell
        shell: Shell,
    },
    /// Write manual pages
    Man {
        /// Into which directory
        dir: PathBuf,
    },
}

/// Arguments of `put`.
#[derive(Debug, ClapArgs)]
#[command(after_help = PUT_EXAMPLES)]
pub struct Put {
    /// Local file or directory, or `-`
    pub src: PathBuf,
    /// Remote path [default: the name of SRC]; with --from-command the command
    pub dst: Option<String>,
    /// Store a directory: its content becomes DST itself
    #[arg(long, short)]
    pub recursive: bool,
    /// With -r: leave out what matches, as '*.o', 'target/' or '/top/only'; repeat it
    #[arg(long, value_name = "GLOB", requires = "recursive")]
    pub exclude: Vec<String>,
    /// With -r: the patterns of a file, one a line
    #[arg(long, value_name = "FILE", requires = "recursive")]
    pub exclude_from: Vec<PathBuf>,
    /// With -r: leave out directories that a CACHEDIR.TAG marks as caches
    #[arg(long, requires = "recursive")]
    pub exclude_caches: bool,
    /// With -r: stay on the file system of SRC
    #[arg(long, short = 'x', requires = "recursive")]
    pub one_file_system: bool,
    /// With -r: how many files at once, 64 at most [default: 8]
    #[arg(long, short, value_name = "N", requires = "recursive")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: Option<u8>,
    /// Store as SRC what a command writes, if it ends with 0: `put --from-command PATH -- CMD ...`
    #[arg(long, conflicts_with = "recursive", requires = "dst")]
    pub from_command: bool,
    /// With --from-command: its arguments
    #[arg(value_name = "ARG", requires = "from_command")]
    pub rest: Vec<OsString>,
    /// Only if nothing is there
    #[arg(long, conflicts_with = "if_version")]
    pub if_absent: bool,
    /// Only if this version is there
    #[arg(long, value_name = "V")]
    pub if_version: Option<String>,
}

/// Arguments of `get`.
#[derive(Debug, ClapArgs)]
#[command(after_help = GET_EXAMPLES)]
pub struct Get {
    /// Remote path
    pub src: String,
    /// Local file or directory, or `-` [default: the name of SRC]
    pub dst: Option<PathBuf>,
    /// Fetch a directory
    #[arg(long, short)]
    pub recursive: bool,
    /// With -r: how many files at once, 64 at most [default: 8]
    #[arg(long, short, value_name = "N", requires = "recursive")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: Option<u8>,
    /// This version instead of the one shown
    #[arg(long, value_name = "V", conflicts_with = "recursive")]
    pub version: Option<String>,
}

/// Arguments of `sync`.
#[derive(Debug, ClapArgs)]
#[command(after_help = SYNC_EXAMPLES)]
pub struct Sync {
    /// The directory as it should be; in the cluster as `dfs:PATH`
    pub src: String,
    /// The directory that becomes like it; in the cluster as `dfs:PATH`
    pub dst: String,
    /// Delete in DST what SRC does not have
    #[arg(long)]
    pub delete: bool,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// How many files at once, 64 at most [default: 8]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: Option<u8>,
    /// Compare content, not sizes and times: reads all of both
    #[arg(long, short)]
    pub checksum: bool,
    /// Leave out what matches a pattern, on both sides; repeat it
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Leave out what matches a pattern in this file, one a line
    #[arg(long, value_name = "FILE")]
    pub exclude_from: Vec<PathBuf>,
    /// Leave out directories that are marked as caches
    #[arg(long)]
    pub exclude_caches: bool,
    /// Stay on the file system of SRC
    #[arg(long, short = 'x')]
    pub one_file_system: bool,
}

/// Arguments of `cat`.
#[derive(Debug, ClapArgs)]
pub struct Cat {
    /// Remote path
    pub path: String,
    /// This version instead of the one shown
    #[arg(long, value_name = "V")]
    pub version: Option<String>,
}

/// Arguments of `stat`.
#[derive(Debug, ClapArgs)]
#[command(after_help = STAT_EXAMPLES)]
pub struct Stat {
    /// Remote path
    pub path: String,
    /// This version instead of the one shown
    #[arg(long, value_name = "V")]
    pub version: Option<String>,
}

/// Arguments of `ls`.
#[derive(Debug, ClapArgs)]
#[command(after_help = LS_EXAMPLES)]
pub struct Ls {
    /// Remote directory or file
    #[arg(default_value = "")]
    pub prefix: String,
    /// Sizes, times and versions
    #[arg(long, short)]
    pub long: bool,
    /// Every file below
    #[arg(long, short)]
    pub recursive: bool,
    /// Every version that is kept, and deletions: of deleted files too
    #[arg(long)]
    pub versions: bool,
}

/// Arguments of `rm`.
#[derive(Debug, ClapArgs)]
#[command(after_help = RM_EXAMPLES)]
pub struct Rm {
    /// Remote paths
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Directories with everything below
    #[arg(long, short)]
    pub recursive: bool,
}

/// Arguments of `cp`.
#[derive(Debug, ClapArgs)]
pub struct Cp {
    /// Remote paths; the last is where the others go: a directory that is there, or a new name
    #[arg(required = true, num_args = 2.., value_names = ["SRC", "DST"])]
    pub paths: Vec<String>,
    /// Directories with everything below
    #[arg(long, short)]
    pub recursive: bool,
    /// Copy this version, as `dfs log` shows it
    #[arg(long, value_name = "V", conflicts_with = "recursive")]
    pub version: Option<String>,
    /// How they go where something is already
    #[command(flatten)]
    pub onto: Onto,
}

/// Arguments of `mv`.
#[derive(Debug, ClapArgs)]
pub struct Mv {
    /// Remote paths; the last is where the others go: a directory that is there, or a new name
    #[arg(required = true, num_args = 2.., value_names = ["SRC", "DST"])]
    pub paths: Vec<String>,
    /// How they go where something is already
    #[command(flatten)]
    pub onto: Onto,
}

/// What happens where something is already.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Onto {
    /// Replace no file: the first that is in the way ends it
    #[arg(long, short)]
    pub no_clobber: bool,
    /// DST is the directory itself, not one to go into; as an interrupted move goes on
    #[arg(long)]
    pub merge: bool,
}

/// Arguments of `mkdir`.
#[derive(Debug, ClapArgs)]
pub struct Mkdir {
    /// Remote paths
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Those above that are missing too; one that is there is fine
    #[arg(long, short)]
    pub parents: bool,
}

/// Arguments of `ln`.
#[derive(Debug, ClapArgs)]
pub struct Ln {
    /// Makes a symbolic link; there are no others
    #[arg(long, short, required = true)]
    pub symbolic: bool,
    /// Replaces a file or link that is there
    #[arg(long, short)]
    pub force: bool,
    /// What the link says; nobody here follows it
    pub target: String,
    /// Remote path
    pub path: String,
}

/// Arguments of `rmdir`.
#[derive(Debug, ClapArgs)]
pub struct Rmdir {
    /// Remote paths
    #[arg(required = true)]
    pub paths: Vec<String>,
}

/// Arguments of `du`.
#[derive(Debug, ClapArgs)]
#[command(after_help = DU_EXAMPLES)]
pub struct Du {
    /// Remote directories or files [default: everything]
    pub paths: Vec<String>,
    /// Only what is named, not the directories below
    #[arg(long, short)]
    pub summarize: bool,
    /// Directories that many levels below what is named, and no deeper
    #[arg(long, short = 'd', value_name = "N", conflicts_with = "summarize")]
    pub max_depth: Option<usize>,
}

/// Arguments of `watch`.
#[derive(Debug, ClapArgs)]
#[command(after_help = WATCH_EXAMPLES)]
pub struct Watch {
    /// Remote directory; what changes below its directories is not told [default: the top]
    #[arg(default_value = "", hide_default_value = true)]
    pub dir: String,
}

/// Arguments of `restore`.
#[derive(Debug, ClapArgs)]
#[command(after_help = RESTORE_EXAMPLES)]
pub struct Restore {
    /// Remote path, also of what is deleted
    pub path: String,
    /// The version to bring back, as `dfs log` shows it
    #[arg(long, value_name = "V", required_unless_present = "recursive")]
    pub version: Option<String>,
    /// A directory with everything below, as it was at a time
    #[arg(long, short, requires = "at", conflicts_with = "version")]
    pub recursive: bool,
    /// With -r: the time, in UTC as `2026-11-28T17:00:00Z`, or how long ago, as `2h` or `3days`
    #[arg(long, value_name = "TIME", requires = "recursive")]
    pub at: Option<String>,
    /// With -r: also delete what came later
    #[arg(long, requires = "recursive")]
    pub delete: bool,
    /// With -r: only say what would be done
    #[arg(long, short = 'n', requires = "recursive")]
    pub dry_run: bool,
}

/// Arguments of `purge`.
#[derive(Debug, ClapArgs)]
#[command(after_help = PURGE_EXAMPLES)]
pub struct Purge {
    /// Remote files or directories, also deleted ones [default: everything]
    pub paths: Vec<String>,
    /// Only what was replaced or deleted that long ago, as `12h` or `7d`
    #[arg(long, value_name = "TIME")]
    pub older_than: Option<String>,
}

/// Arguments of `conflicts`.
#[derive(Debug, ClapArgs)]
pub struct Conflicts {
    /// Remote directory [default: everything]
    #[arg(default_value = "")]
    pub dir: String,
}

/// Arguments of `status`.
#[derive(Debug, ClapArgs)]
pub struct Status {
    /// Show it again every second, until Ctrl-C
    #[arg(long, short)]
    pub watch: bool,
}

const PUT_EXAMPLES: &str = "\
Examples:
  dfs put photo.jpg photos/2026/photo.jpg
  dfs put -r ~/docs docs --exclude '*.tmp' --exclude-caches
  dfs put --from-command db/today.sql -- pg_dump shop";

const GET_EXAMPLES: &str = "\
Examples:
  dfs get photos/2026/photo.jpg ~/Pictures
  dfs get -r docs ~/docs";

const SYNC_EXAMPLES: &str = "\
Examples:
  dfs sync ~/photos dfs:photos
  dfs sync dfs:photos ~/photos --delete --dry-run";

const LS_EXAMPLES: &str = "\
Examples:
  dfs ls -l photos/2026
  dfs ls -r --json docs";

const WATCH_EXAMPLES: &str = "\
Examples:
  dfs watch docs
  dfs watch inbox --json | while read -r line; do ./import \"$line\"; done";

const DU_EXAMPLES: &str = "\
Examples:
  dfs du -s photos docs
  dfs du -d 1";

const RESTORE_EXAMPLES: &str = "\
Examples:
  dfs restore docs/plan.txt --version 870718859fd548cef32314ba26eef307
  dfs restore -r docs --at 2h --dry-run
  dfs restore -r docs --at 2026-11-28T17:00:00Z --delete";

const PURGE_EXAMPLES: &str = "\
Examples:
  dfs purge videos/raw
  dfs purge --older-than 7d";

const STAT_EXAMPLES: &str = "\
Examples:
  dfs stat photos/2026/photo.jpg
  dfs stat --json docs/plan.txt --version 870718859fd548cef32314ba26eef307";

const RM_EXAMPLES: &str = "\
Examples:
  dfs rm docs/old.txt docs/older.txt
  dfs rm -r photos/2019";
