//! The peer book: infos of nodes, kept across restarts so that a node finds its peers again even
//! when its bootstrap addresses are gone.
//!
//! `DFSP`, a version byte, a list of infos, and the BLAKE3 hash of all that. A damaged book is
//! forgotten: it is a hint, and gossip fills it again.

use std::io;
use std::path::Path;

use bytes::Bytes;
use dfs_core::codec::{Reader, Writer};
use dfs_core::node::directory::NODES_MAX;
use dfs_core::node::member::NodeInfo;
use dfs_env::{Vfs, write_replacing};

/// Reads a book; what is missing or damaged gives an empty list.
pub(crate) fn read(fs: &dyn Vfs, path: &Path) -> Vec<NodeInfo> {
    fs.read(path, BOOK_BYTES_MAX).ok().and_then(|bytes| decode(bytes.into())).unwrap_or_default()
}

/// Writes a book durably.
pub(crate) fn write(fs: &dyn Vfs, path: &Path, infos: &[NodeInfo]) -> io::Result<()> {
    write_replacing(fs, path, &encode(infos))
}

pub(crate) fn encode(infos: &[NodeInfo]) -> Vec<u8> {
    let mut out = Writer::default();
    out.fixed(MAGIC);
    out.u8(VERSION);
    out.list(infos);
    let hash = blake3::hash(out.as_slice());
    out.fixed(hash.as_bytes());
    out.into_vec()
}

pub(crate) fn decode(bytes: Bytes) -> Option<Vec<NodeInfo>> {
    let body = bytes.slice(..bytes.len().checked_sub(32)?);
    if blake3::hash(&body).as_bytes()[..] != bytes[body.len()..] {
        return None;
    }
    let mut input = Reader::new(body);
    if input.array().ok()? != *MAGIC || input.u8().ok()? != VERSION {
        return None;
    }
    let infos = input.list::<NodeInfo>("infos", NODES_MAX).ok()?;
    input.finish().ok()?;
    Some(infos)
}

const MAGIC: &[u8; 4] = b"DFSP";
const VERSION: u8 = 1;
/// [`NODES_MAX`] infos of the usual size, and room.
const BOOK_BYTES_MAX: u64 = 32 * 1024 * 1024;
