//! A file on its way in: read, cut, sealed and replicated, a window of chunks at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, RecordKey, Vid};
use dfs_core::record::refs::RefRow;
use dfs_core::replica::pace::Pace;
use dfs_store::blob::Blob;
use dfs_store::pages::{REFERENCE_IDS_MAX, ReferencePage};
use dfs_store::vault::keys::VaultKeys;
use dfs_store::vault::manifest::{MANIFEST_IDS_MAX, Manifest};
use dfs_store::vault::seal::Salt;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Content;
use crate::blobs::{Blobs, Copies, Lag, hold_until};
use crate::config::Mode;
use crate::error::Error;
use crate::replica::{Replica, millis};
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

impl Uploaded {
    /// What lies in the record itself.
    pub(crate) fn without_blobs(node: EntryNode) -> Self {
        Self {
            bytes: node.bytes(),
            node,
            refs_root: None,
            blobs: 0,
            bytes_stored: 0,
            copies: None,
            held_until: None,
        }
    }
}

/// One file being stored.
struct Upload {
    replica: Arc<Replica>,
    store: Arc<Blobs>,
    keys: Arc<VaultKeys>,
    key: RecordKey,
    vid: Vid,
    mode: Mode,
    hold_until: Hlc,
    lag: Arc<Lag>,
    pace: Arc<Mutex<Pace>>,
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

impl Content {
    /// Stores what `source` gives. Holds a window of chunks in memory, whatever the size.
    pub(crate) async fn upload(
        &self,
        key: RecordKey,
        vid: Vid,
        mode: Mode,
        mut source: impl AsyncRead + Unpin,
    ) -> Result<Uploaded, Error> {
        let first = read_chunk(&mut source).await?;
        if first.len() <= INLINE_BYTES_MAX {
            return Ok(Uploaded::without_blobs(EntryNode::Inline(first)));
        }
        self.begin_upload(key, vid, mode).run(first, source).await
    }

    /// Stores content of less than a chunk in blobs, however small it is.
    pub(crate) async fn upload_small(
        &self,
        key: RecordKey,
        vid: Vid,
        mode: Mode,
        content: Bytes,
    ) -> Result<Uploaded, Error> {
        self.begin_upload(key, vid, mode).run(content, tokio::io::empty()).await
    }

    fn begin_upload(&self, key: RecordKey, vid: Vid, mode: Mode) -> Upload {
        Upload {
            replica: self.replica.clone(),
            store: self.blobs.clone(),
            keys: self.keys.clone(),
            key,
            vid,
            mode,
            hold_until: hold_until(&self.replica),
            lag: Arc::default(),
            pace: self.pace_in.clone(),
            blobs: 0,
            bytes_stored: 0,
            copies: None,
            references: vec![Vec::new()],
        }
    }

    /// Whether stored content may still be named: what replicas find unnamed when its time is over
    /// they give up, and a name that was on its way then must have arrived.
    pub(crate) fn need_held(&self, uploaded: &Uploaded) -> Result<(), Error> {
        let way = millis(self.replica.grace.hold / NAMING_PART);
        // By the later of the two clocks: when all have jumped, the comparison is not yet anew.
        let now = self.replica.unix_ms().max(self.replica.env.wall_ms()).saturating_add(way);
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
        let file_id = self.replica.env.random();
        let mut hasher = self.keys.content_hasher();
        let (mut total, mut leaf_bytes) = (0, 0);
        let mut window = Window::new(self.pace.clone());
        let mut chunk_ids = Vec::new();
        let mut leaves = Vec::new();
        let mut next = first;
        while !next.is_empty() {
            let len = next.len();
            hasher.update(&next);
            total += len as u64;
            leaf_bytes += len as u64;
            window.placing.push_back(self.place_chunk(next));
            window.make_room().await;
            while let Some(placed) = window.placed.pop_front() {
                chunk_ids.push(self.count(placed?).await?);
            }
            // A chunk that is not full was the last.
            next = if len < CHUNK_BYTES { Bytes::new() } else { window.read(&mut source).await? };
            let leaf_is_full = chunk_ids.len() + window.len() == MANIFEST_IDS_MAX;
            if leaf_is_full && !next.is_empty() {
                while let Some(placed) = window.next().await {
                    chunk_ids.push(self.count(placed?).await?);
                }
                let ids = std::mem::take(&mut chunk_ids);
                leaves.push(self.page(0, file_id, leaf_bytes, [0; 32], ids).await?);
                leaf_bytes = 0;
            }
        }
        while let Some(placed) = window.next().await {
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

    /// Seals a chunk and stores it; says how long that took.
    fn place_chunk(
        &self,
        plain: Bytes,
    ) -> impl Future<Output = (Result<Placed, Error>, Duration)> + Send + use<> {
        let (replica, store) = (self.replica.clone(), self.store.clone());
        let (keys, lag) = (self.keys.clone(), self.lag.clone());
        let (mode, row) = (self.mode, self.row());
        async move {
            let began = replica.env.mono();
            let padded = plain.len() < CHUNK_BYTES;
            let seal = move || keys.chunks.seal(&plain, Salt::Deduplicating, padded);
            let blob = replica.env.offload(seal).await;
            let placed = place(&store, blob, row, &lag, mode).await;
            (placed, replica.env.mono() - began)
        }
    }

    async fn place_now(&mut self, blob: Blob) -> Result<BlobId, Error> {
        let placed = place(&self.store, blob, self.row(), &self.lag, self.mode).await?;
        let id = placed.id;
        self.note(&placed);
        Ok(id)
    }

    /// A row for a blob that is yet to be named.
    fn row(&self) -> impl Fn(BlobId) -> RefRow + Send + use<> {
        let (vid, key, hold_until) = (self.vid, self.key, self.hold_until);
        let hlc = self.replica.tick();
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
        let (keys, salt) = (self.keys.clone(), Salt::Random(self.replica.env.random()));
        let seal = move || keys.manifests.seal(&page.encode(), salt, true);
        let blob = self.replica.env.offload(seal).await;
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

/// Chunks on their way to their replicas, in the order of the file.
struct Window<F: Future, T> {
    placing: FuturesOrdered<F>,
    /// Those that came to their end while the source was read.
    placed: VecDeque<T>,
    pace: Arc<Mutex<Pace>>,
}

impl<F: Future<Output = (T, Duration)>, T> Window<F, T> {
    fn new(pace: Arc<Mutex<Pace>>) -> Self {
        Self { placing: FuturesOrdered::new(), placed: VecDeque::new(), pace }
    }

    fn len(&self) -> usize {
        self.placing.len() + self.placed.len()
    }

    fn is_full(&self) -> bool {
        self.placing.len() >= self.pace.lock().window()
    }

    /// Waits until one more chunk may be on its way.
    async fn make_room(&mut self) {
        while self.is_full()
            && let Some((placed, took)) = self.placing.next().await
        {
            self.pace.lock().took(took);
            self.placed.push_back(placed);
        }
    }

    /// What became of the next chunk; `None` when there is none on its way.
    async fn next(&mut self) -> Option<T> {
        if let Some(placed) = self.placed.pop_front() {
            return Some(placed);
        }
        let (placed, took) = self.placing.next().await?;
        self.pace.lock().took(took);
        Some(placed)
    }

    /// Reads a chunk; those on their way go on meanwhile, however slow the source is.
    async fn read(&mut self, source: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Error> {
        let reading = read_chunk(source);
        tokio::pin!(reading);
        loop {
            tokio::select! {
                biased;
                chunk = &mut reading => return chunk,
                Some((placed, took)) = self.placing.next() => {
                    self.pace.lock().took(took);
                    self.placed.push_back(placed);
                }
            }
        }
    }
}

async fn place(
    store: &Arc<Blobs>,
    blob: Blob,
    row: impl Fn(BlobId) -> RefRow,
    lag: &Arc<Lag>,
    mode: Mode,
) -> Result<Placed, Error> {
    let (id, len) = (blob.id, blob.bytes.len() as u64);
    let copies = store.store_blob(blob, row(id), lag, mode).await?;
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
/// Chunks sealed and sent at once: at most this many are in memory.
pub(super) const WINDOW_CHUNKS: usize = 4;
/// The part of the hold time that is kept for a name on its way to the replicas.
const NAMING_PART: u32 = 4;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_fast_source_never_has_more_chunks_on_their_way_than_the_window() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let pace = Arc::new(Mutex::new(Pace::up_to(WINDOW_CHUNKS)));
        let mut window = Window::new(pace);
        let mut placed = Vec::new();
        for number in 0..100 {
            let (running, most) = (running.clone(), most.clone());
            most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            window.placing.push_back(async move {
                // Some end while the source is read, others only when they are waited for.
                for _ in 0..number % 7 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::Relaxed);
                (number, Duration::ZERO)
            });
            window.make_room().await;
            placed.extend(window.placed.drain(..));
            window.read(&mut &[1u8; CHUNK_BYTES][..]).await.unwrap();
        }
        while let Some(number) = window.next().await {
            placed.push(number);
        }
        assert_eq!(placed, (0..100).collect::<Vec<_>>());
        assert!(most.load(Ordering::Relaxed) <= WINDOW_CHUNKS, "{most:?}");
    }
}
