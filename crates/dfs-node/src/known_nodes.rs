//! Which nodes have run with a config directory: a small note of each, kept after it has ended.
//!
//! Where the disk of a node is not mounted, its data directory is empty or not there at all, and a
//! node that began anew there would be another member, on the wrong disk, at the address of the
//! first. So a start that would make a new node looks here before it writes anything.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dfs_env::{Env, write_replacing};
use dfs_server::Client;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::config::NodeConfig;
use crate::exit::{Code, Failure};
use crate::run_record::{self, RunRecord};

/// A node that has run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownNode {
    /// The node's id.
    pub node: String,
    /// Where it listened.
    pub listen: SocketAddr,
    /// Its data directory.
    pub data_dir: PathBuf,
}

impl KnownNode {
    /// The note of a node that runs with this configuration.
    pub fn of(node: String, listen: SocketAddr, config: &NodeConfig) -> Self {
        Self { node, listen, data_dir: absolute(&config.data_dir) }
    }
}

/// Refuses to make a new node where one is known to have been, before anything is written.
///
/// # Errors
/// [`Code::Failed`] with what is known of it. Never with `--new-node`.
pub fn refuse_to_replace(config: &NodeConfig) -> Result<(), Failure> {
    // What is here was made by a node, or makes one fail that says why.
    if config.new_node || config.data_dir.join(NODE_KEY).exists() {
        return Ok(());
    }
    let dirs = run_record::dirs(&config.config_dir);
    let running = run_record::running(&dirs);
    let recorded = run_record::all(&dirs).into_iter().filter_map(of_record);
    let mut known = read(&config.config_dir).into_iter().chain(recorded);
    // One that runs is not the one whose disk is missing here.
    let is_away = |known: &KnownNode| running.iter().all(|record| record.node != known.node);
    match known.find(|known| is_this(known, config) && is_away(known)) {
        Some(known) => Err(refusal(&known, config)),
        None => Ok(()),
    }
}

/// Waits until a node is a member of a cluster, and notes it. Before that nothing is lost with it.
pub async fn note_once_joined(env: Env, config_dir: PathBuf, known: KnownNode, client: Client) {
    while !client.is_member() {
        env.sleep(JOINED_EVERY).await;
    }
    env.offload(move || note(&config_dir, &known)).await;
}

/// Notes that a node has run, in place of what was known of its address and its directory.
fn note(config_dir: &Path, known: &KnownNode) {
    if let Err(error) = write(config_dir, known) {
        warn!(
            %error,
            "if this node's disk is not mounted one day, its next start may not notice"
        );
    }
}

/// Forgets a node that is no member any more: another may have its place.
pub fn forget(config_dir: &Path, node: &str) {
    // What stays is told of by the next start, with what to do.
    let _ = std::fs::remove_file(path(config_dir, node));
}

fn write(config_dir: &Path, known: &KnownNode) -> io::Result<()> {
    let dir = config_dir.join(DIR);
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&dir)?;
    let path = path(config_dir, &known.node);
    write_replacing(Env::real().fs(), &path, &serde_json::to_vec(known)?)?;
    for older in read(config_dir) {
        let replaced = same_place(&older, known.listen, &known.data_dir);
        if older.node != known.node && replaced {
            forget(config_dir, &older.node);
        }
    }
    Ok(())
}

fn read(config_dir: &Path) -> Vec<KnownNode> {
    let entries = std::fs::read_dir(config_dir.join(DIR)).into_iter().flatten().flatten();
    let small = entries.take(NOTES_MAX).filter(|entry| {
        entry.metadata().is_ok_and(|found| found.is_file() && found.len() <= NOTE_BYTES_MAX)
    });
    let texts = small.filter_map(|entry| std::fs::read(entry.path()).ok());
    texts.filter_map(|text| serde_json::from_slice(&text).ok()).collect()
}

fn path(config_dir: &Path, node: &str) -> PathBuf {
    config_dir.join(DIR).join(format!("{node}.json"))
}

/// A node that was killed leaves its run record.
fn of_record(record: RunRecord) -> Option<KnownNode> {
    let data_dir = record.token_file.parent()?.to_owned();
    Some(KnownNode { node: record.node, listen: record.listen, data_dir })
}

fn is_this(known: &KnownNode, config: &NodeConfig) -> bool {
    same_place(known, config.listen, &absolute(&config.data_dir))
}

/// Whether a node had this address or this directory. A port that the system picks is no address.
fn same_place(known: &KnownNode, listen: SocketAddr, data_dir: &Path) -> bool {
    let (a, b) = (known.listen, listen);
    let one_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    let same_address = one_host && a.port() == b.port() && b.port() != 0;
    same_address || known.data_dir == data_dir
}

fn refusal(known: &KnownNode, config: &NodeConfig) -> Failure {
    let here = config.data_dir.display();
    let there = known.data_dir.display();
    let short = known.node.get(..SHORT).unwrap_or(&known.node);
    let holds = match std::fs::read_dir(&config.data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "is not there",
        _ => "holds no node",
    };
    let message = if known.data_dir == absolute(&config.data_dir) {
        format!("{here} {holds}, and node {short} ran there")
    } else {
        let addr = config.listen;
        format!("{here} {holds}, and node {short} listened on {addr} with its data in {there}")
    };
    Failure::new(Code::Failed, message).hint(format!(
        "mount the disk that has {there}, or give --data-dir where its files are now; if they are \
         gone for good, --new-node starts another node here"
    ))
}

fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

/// How often it is looked whether the node has joined.
const JOINED_EVERY: Duration = Duration::from_millis(200);
/// Where the notes are, in the config directory.
const DIR: &str = "nodes";
/// What makes a directory that of a node: its identity.
const NODE_KEY: &str = "node.key";
/// An id, an address and a path.
const NOTE_BYTES_MAX: u64 = 16 * 1024;
/// More nodes than ever ran with one config directory.
const NOTES_MAX: usize = 4096;
/// As much of an id as `dfs remove` needs.
const SHORT: usize = 12;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::Args;

    fn config(home: &Path, listen: &str, data: &str, more: &[&str]) -> NodeConfig {
        let (config_dir, data_dir) = (home.join("config"), home.join(data));
        let dirs = ["--config-dir", config_dir.to_str().unwrap(), "--data-dir"];
        let args = ["dfs-node", "--listen", listen, data_dir.to_str().unwrap()];
        let args = [&args[..3], &dirs, &args[3..], more].concat();
        Args::parse_from(args).resolve().unwrap()
    }

    #[test]
    fn a_new_node_does_not_take_the_place_of_one_that_was_there() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let ran = config(home, "127.0.0.1:3000", "a", &[]);
        assert!(refuse_to_replace(&ran).is_ok());
        note(&ran.config_dir, &KnownNode::of("dn1first".to_owned(), ran.listen, &ran));
        for (listen, data, more, refused) in [
            ("127.0.0.1:3000", "a", &[][..], true),
            ("127.0.0.1:0", "a", &[], true),
            (":3000", "elsewhere", &[], true),
            ("127.0.0.1:3000", "a", &["--new-node"], false),
            ("127.0.0.1:4000", "b", &[], false),
            ("127.0.0.1:0", "b", &[], false),
            ("127.0.0.2:3000", "b", &[], false),
        ] {
            let config = config(home, listen, data, more);
            assert_eq!(refuse_to_replace(&config).is_err(), refused, "{listen} {data} {more:?}");
        }
        // The directory of a node is not looked at twice.
        std::fs::create_dir(home.join("a")).unwrap();
        std::fs::create_dir(home.join("a/lost+found")).unwrap();
        assert!(refuse_to_replace(&ran).is_err());
        std::fs::write(home.join("a/node.key"), "a key").unwrap();
        assert!(refuse_to_replace(&ran).is_ok());
        std::fs::remove_file(home.join("a/node.key")).unwrap();
        // Another node that was asked for takes the place of the first in the notes, too.
        note(&ran.config_dir, &KnownNode::of("dn1second".to_owned(), ran.listen, &ran));
        assert_eq!(read(&ran.config_dir).len(), 1);
        forget(&ran.config_dir, "dn1second");
        assert!(refuse_to_replace(&ran).is_ok());
    }
}
