//! What can be typed about the cluster, its nodes and its keys.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use crate::config::parse_size;

/// Arguments of `invite`.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Invite {
    /// What to do instead of making one
    #[command(subcommand)]
    pub verb: Option<InviteVerb>,
    /// What the machine becomes: `storage` reads nothing, `gateway` gets the vault's key
    #[arg(long, value_enum, default_value_t)]
    pub role: InvitedRole,
    /// How much it may hold at most, as `500GB` [default: 1TB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, alias = "cap")]
    pub capacity: Option<u64>,
    /// How long the line can be used, as `2h` or `30d` [default: 7d]
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// What to call it in `dfs invite ls`
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where the machine finds this node, `HOST:PORT`; repeat it or separate with commas
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub address: Vec<String>,
}

/// What an invited machine becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum InvitedRole {
    /// Stores for others.
    #[default]
    Storage,
    /// Has the vault's key.
    Gateway,
}

/// What can be done about invites.
#[derive(Debug, Subcommand)]
pub enum InviteVerb {
    /// List the invites that this node has made
    Ls,
    /// Take an invite back, used or not
    Revoke {
        /// The beginning of its id, as `dfs invite ls` shows it
        id: String,
    },
}

/// What can be done about tokens.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make a token and print it, this once; it lasts until it is revoked
    Create {
        /// What to call it
        name: String,
        /// It may ask, and change nothing
        #[arg(long)]
        read_only: bool,
    },
    /// List the tokens that were given
    Ls,
    /// Take a token back
    Revoke {
        /// Its name
        name: String,
    },
}

/// Arguments of `doctor`.
#[derive(Debug, ClapArgs)]
pub struct Doctor {
    /// Also how fast content goes in and out: stores, fetches and deletes 8 MiB
    #[arg(long)]
    pub speed: bool,
}

/// How to go on without nodes that are gone for ever.
#[derive(Debug, Subcommand)]
pub enum LayoutVerb {
    /// Give up what only they held, where the other replicas may lack a write
    Force(Lost),
    /// Make a new majority where most voters are gone; repeat it on every node that is left
    Recover(Lost),
}

/// Arguments of `layout force` and `layout recover`.
#[derive(Debug, ClapArgs)]
pub struct Lost {
    /// The beginnings of their ids, or their addresses, as `dfs peers` shows them
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    /// The words that a terminal asks for
    #[arg(long, value_name = "WORDS")]
    pub confirm: Option<String>,
}

/// What to do with the repair of a node.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum RepairVerb {
    /// Look again for what is missing, and end all waiting before retries
    Start,
    /// Fetch nothing until 'resume' or 'start', also after restarts of the node
    Pause,
    /// Go on
    Resume,
    /// Show how much is missing on this node, and how fast it comes
    Status,
    /// List the files that cannot be read now, old versions too; asks for every piece
    Lost {
        /// Remote directory [default: everything]
        #[arg(default_value = "")]
        dir: String,
    },
}

/// What to do with the scrub of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ScrubVerb {
    /// Read the whole disk back now, as fast as other work allows
    Start,
    /// Read nothing until 'resume' or 'start', also after restarts of the node
    Pause,
    /// Go on where it stopped
    Resume,
    /// Show how far it is and what it found
    Status,
}

/// Arguments of `key`.
#[derive(Debug, ClapArgs)]
pub struct Key {
    /// The first line is the passphrase; may be a pipe [default: the terminal]
    #[arg(long, value_name = "FILE", global = true)]
    pub passphrase_file: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: KeyVerb,
}

/// What to do with a key.
#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Print the vault key as 24 words, or the cluster key as text
    Export {
        /// The cluster key: lets a node join, opens no file
        #[arg(long)]
        cluster: bool,
    },
    /// Read a key from stdin: 24 words, or the text form
    Import {
        /// The cluster key
        #[arg(long)]
        cluster: bool,
        /// In place of another key
        #[arg(long)]
        replace: bool,
    },
    /// Close the vault key with a passphrase: nodes and 'dfs key' ask for it from then on
    Protect {
        /// The first line is the new passphrase; may be a pipe [default: the terminal, twice]
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Take the passphrase away: whoever can read vault.key can read the files
    Unprotect,
    /// Read the 24 words back from stdin and compare them with the key in use
    Verify {
        /// The cluster key
        #[arg(long)]
        cluster: bool,
    },
}
