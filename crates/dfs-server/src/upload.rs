//! A file on its way in: read, cut, sealed and replicated, a window of chunks at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, RecordKey, Vid};
use dfs_core::record::refs::RefRow;
use dfs_store::blob::Blob;
use dfs_store::pages::{REFERENCE_IDS_MAX, ReferencePage};
use dfs_store::vault::keys::VaultKeys;
use dfs_store::vault::manifest::{MANIFEST_IDS_MAX, Manifest};
use dfs_store::vault::seal::Salt;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::blobs::{Copies, Lag};
use crate::config::Mode;
use crate::error::Error;
use crate::node::{Node, millis};
use dfs_store::vault::entry::{EntryNode, INLINE_BYTES_MAX};

/// A file's content, stored and ready to be named.
#[derive(Debug, Clone)]
pub(crate) struct Uploaded {
    pub(crate) node: EntryNode,
    pub(crate) bytes: u64,
    pub(crate) refs_root: Option<BlobId>,
    /// Blobs the version references.
    pub(crate) blobs: u32,
    /// Their size as stored.
    pub(crate) bytes_stored: u64,
    /// Of the least replicated blob; `None` when there is none.
    pub(crate) copies: Option<Copies>,
    /// Until when its references count before a version names them; `None` when there are none.
    pub(crate) held_until: Option<Hlc>,
}

/// One file being stored.
struct Upload {
    node: Arc<Node>,
    keys: Arc<VaultKeys>,
    key: RecordKey,
    vid: Vid,
    mode: Mode,
    hold_until: Hlc,
    lag: Arc<Lag>,
    blobs: u32,
    bytes_stored: u64,
    copies: Option<Copies>,
    /// Ids not yet on a reference page, by level.
    references: Vec<Vec<BlobId>>,
}

/// What became of one sealed blob.
struct Placed {
    id: BlobId,
    len: u64,
    copies: Copies,
}

impl Node {
    /// Stores what `source` gives. Holds a window of chunks in memory, whatever the size.
    pub(crate) async fn upload(
        self: &Arc<Self>,
        key: RecordKey,
        vid: Vid,
        mode: Mode,
        mut source: impl AsyncRead + Unpin,
    ) -> Result<Uploaded, Error> {
        let first = read_chunk(&mut source).await?;
        if first.len() <= INLINE_BYTES_MAX {
            return Ok(Uploaded {
                bytes: first.len() as u64,
                node: EntryNode::Inline(first),
                refs_root: None,
                blobs: 0,
                bytes_stored: 0,
                copies: None,
                held_until: None,
            });
        }
        self.begin_upload(key, vid, mode)?.run(first, source).await
    }

    /// Stores content of less than a chunk in blobs, however small it is.
    pub(crate) async fn upload_small(
        self: &Arc<Self>,
        key: RecordKey,
        vid: Vid,
        mode: Mode,
        content: Bytes,
    ) -> Result<Uploaded, Error> {
        self.begin_upload(key, vid, mode)?.run(content, tokio::io::empty()).await
    }

    fn begin_upload(
        self: &Arc<Self>,
        key: RecordKey,
        vid: Vid,
        mode: Mode,
    ) -> Result<Upload, Error> {
        Ok(Upload {
            node: self.clone(),
            keys: self.vault()?.keys.clone(),
            key,
            vid,
            mode,
            hold_until: self.hold_until(),
            lag: Arc::default(),
            blobs: 0,
            bytes_stored: 0,
            copies: None,
            references: vec![Vec::new()],
        })
    }

    /// Until when references count that are made now and that no version names yet.
    pub(crate) fn hold_until(&self) -> Hlc {
        let hold = millis(self.grace.hold);
        Hlc::from_unix_ms(self.env.wall_ms().saturating_add(hold))
    }

    /// Cuts what peers ask for: nobody holds blobs here for ever that no version names.
    pub(crate) fn bound_holds(&self, rows: &mut [RefRow]) {
        let longest = millis(self.grace.hold.max(HOLD_MAX));
        let latest = Hlc::from_unix_ms(self.env.wall_ms().saturating_add(longest));
        rows.iter_mut().for_each(|row| row.hold_until = row.hold_until.min(latest));
    }

    /// Whether stored content may still be named: what replicas find unnamed when its time is over
    /// they give up, and a name that was on its way then must have arrived.
    pub(crate) fn need_held(&self, uploaded: &Uploaded) -> Result<(), Error> {
        let way = millis(self.grace.hold / NAMING_PART);
        let now = self.env.wall_ms().saturating_add(way);
        match uploaded.held_until {
            Some(until) if until.unix_ms() < now => Err(Error::TooSlow),
            _ => Ok(()),
        }
    }
}

impl Upload {
    async fn run(
        mut self,
        first: Bytes,
        mut source: impl AsyncRead + Unpin,
    ) -> Result<Uploaded, Error> {
        let file_id = self.node.env.random();
        let mut hasher = self.keys.content_hasher();
        let (mut total, mut leaf_bytes) = (0, 0);
        let mut placing = FuturesOrdered::new();
        let mut chunk_ids = Vec::new();
        let mut leaves = Vec::new();
        let mut next = first;
        while !next.is_empty() {
            let len = next.len();
            hasher.update(&next);
            total += len as u64;
            leaf_bytes += len as u64;
            placing.push_back(self.place_chunk(next));
            if placing.len() == WINDOW_CHUNKS {
                let placed: Result<Placed, Error> = placing.next().await.ok_or(Error::Moving)?;
                chunk_ids.push(self.count(placed?).await?);
            }
            // A chunk that is not full was the last.
            next = if len < CHUNK_BYTES { Bytes::new() } else { read_chunk(&mut source).await? };
            let leaf_is_full = chunk_ids.len() + placing.len() == MANIFEST_IDS_MAX;
            if leaf_is_full && !next.is_empty() {
                while let Some(placed) = placing.next().await {
                    chunk_ids.push(self.count(placed?).await?);
                }
                let ids = std::mem::take(&mut chunk_ids);
                leaves.push(self.page(0, file_id, leaf_bytes, [0; 32], ids).await?);
                leaf_bytes = 0;
            }
        }
        while let Some(placed) = placing.next().await {
            chunk_ids.push(self.count(placed?).await?);
        }
        let content = *hasher.finalize().as_bytes();
        let manifest = if leaves.is_empty() {
            self.page(0, file_id, total, content, chunk_ids).await?
        } else {
            leaves.push(self.page(0, file_id, leaf_bytes, [0; 32], chunk_ids).await?);
            self.page(1, file_id, total, content, leaves).await?
        };
        let refs_root = self.finish_references().await?;
        Ok(Uploaded {
            node: EntryNode::Chunked { bytes: total, manifest },
            bytes: total,
            refs_root: Some(refs_root),
            blobs: self.blobs,
            bytes_stored: self.bytes_stored,
            copies: self.copies,
            held_until: Some(self.hold_until),
        })
    }

    /// Seals a chunk and stores it.
    fn place_chunk(
        &self,
        plain: Bytes,
    ) -> impl Future<Output = Result<Placed, Error>> + Send + use<> {
        let (node, keys, lag) = (self.node.clone(), self.keys.clone(), self.lag.clone());
        let (mode, row) = (self.mode, self.row());
        async move {
            let padded = plain.len() < CHUNK_BYTES;
            let seal = move || keys.chunks.seal(&plain, Salt::Deduplicating, padded);
            let blob = node.env.offload(seal).await;
            place(&node, blob, row, &lag, mode).await
        }
    }

    async fn place_now(&mut self, blob: Blob) -> Result<BlobId, Error> {
        let placed = place(&self.node, blob, self.row(), &self.lag, self.mode).await?;
        let id = placed.id;
        self.note(&placed);
        Ok(id)
    }

    /// A row for a blob that is yet to be named.
    fn row(&self) -> impl Fn(BlobId) -> RefRow + Send + use<> {
        let (vid, key, hold_until) = (self.vid, self.key, self.hold_until);
        let hlc = self.node.tick();
        move |blob| RefRow { blob, vid, key, hlc, dropped: false, hold_until }
    }

    fn note(&mut self, placed: &Placed) {
        self.blobs = self.blobs.saturating_add(1);
        self.bytes_stored += placed.len;
        let fewer = |known: &Copies| placed.copies.durable < known.durable;
        if self.copies.as_ref().is_none_or(fewer) {
            self.copies = Some(placed.copies);
        }
    }

    /// Counts a stored blob and puts it on a reference page.
    async fn count(&mut self, placed: Placed) -> Result<BlobId, Error> {
        self.note(&placed);
        self.reference(placed.id).await?;
        Ok(placed.id)
    }

    async fn page(
        &mut self,
        level: u8,
        file_id: [u8; 16],
        total_bytes: u64,
        content: [u8; 32],
        ids: Vec<BlobId>,
    ) -> Result<BlobId, Error> {
        let chunk_bytes = u32::try_from(CHUNK_BYTES).expect("a chunk is far below 4 GiB");
        let page = Manifest { level, file_id, chunk_bytes, total_bytes, content, ids };
        let (keys, salt) = (self.keys.clone(), Salt::Random(self.node.env.random()));
        let seal = move || keys.manifests.seal(&page.encode(), salt, true);
        let blob = self.node.env.offload(seal).await;
        let id = self.place_now(blob).await?;
        self.reference(id).await?;
        Ok(id)
    }

    async fn reference(&mut self, id: BlobId) -> Result<(), Error> {
        self.references[0].push(id);
        let mut level = 0;
        while self.references[level].len() == REFERENCE_IDS_MAX {
            let id = self.reference_page(level).await?;
            if self.references.len() == level + 1 {
                self.references.push(Vec::new());
            }
            level += 1;
            self.references[level].push(id);
        }
        Ok(())
    }

    async fn reference_page(&mut self, level: usize) -> Result<BlobId, Error> {
        let ids = std::mem::take(&mut self.references[level]);
        let level = u8::try_from(level).expect("levels grow by a factor of 1,024");
        let blob = ReferencePage { level, ids }.to_blob(self.keys.vault);
        self.place_now(blob).await
    }

    /// Closes the pages that are not full, from the lowest level up; gives the top one.
    async fn finish_references(&mut self) -> Result<BlobId, Error> {
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.references.len();
            if is_top && level > 0 && self.references[level].len() == 1 {
                return Ok(self.references[level][0]);
            }
            if !self.references[level].is_empty() {
                let id = self.reference_page(level).await?;
                if is_top {
                    return Ok(id);
                }
                self.references[level + 1].push(id);
            }
            level += 1;
        }
    }
}

async fn place(
    node: &Arc<Node>,
    blob: Blob,
    row: impl Fn(BlobId) -> RefRow,
    lag: &Arc<Lag>,
    mode: Mode,
) -> Result<Placed, Error> {
    let (id, len) = (blob.id, blob.bytes.len() as u64);
    let copies = node.store_blob(blob, row(id), lag, mode).await?;
    Ok(Placed { id, len, copies })
}

/// Reads up to one chunk; less means that the source has ended.
async fn read_chunk(source: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Error> {
    let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
    while chunk.len() < CHUNK_BYTES {
        let room = (CHUNK_BYTES - chunk.len()) as u64;
        let read = (&mut *source).take(room).read_buf(&mut chunk).await;
        if read.map_err(Error::Source)? == 0 {
            break;
        }
    }
    Ok(chunk.freeze())
}

/// Plaintext bytes of a full chunk.
pub(crate) const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks sealed and sent at once: this many are in memory.
const WINDOW_CHUNKS: usize = 4;
/// The longest that a reference counts before a version names it, whatever its writer asks for.
const HOLD_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The part of the hold time that is kept for a name on its way to the replicas.
const NAMING_PART: u32 = 4;
