//! A file on its way out: chunks fetched ahead, verified, and released in order.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dfs_core::id::BlobId;
use dfs_store::vault::keys::VaultKeys;
use dfs_store::vault::manifest::Manifest;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::Content;
use super::ahead::ahead;
use crate::error::Error;
use dfs_store::vault::entry::{Entry, EntryNode};

/// Verified content, in order.
pub struct Download {
    /// Bytes of the whole file.
    pub bytes: u64,
    /// The version's id.
    pub version: String,
    /// When the version was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// The part that was asked for.
    pub range: Range<u64>,
    /// Its bytes. An error ends it; nothing unverified comes before.
    pub content: BoxStream<'static, Result<Bytes, Error>>,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("range", &self.range).finish_non_exhaustive()
    }
}

impl Content {
    /// The bytes of `range`. The first ones have been fetched and verified when this returns, so
    /// that a file nobody has is an error and not a broken stream.
    pub(crate) async fn download(
        self: &Arc<Self>,
        entry: &Entry,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let (bytes, manifest) = match &entry.node {
            EntryNode::Chunked { bytes, manifest } => (*bytes, *manifest),
            EntryNode::Inline(content) => {
                let part = content.slice(as_usize(range.start)..as_usize(range.end));
                return Ok(stream::iter([Ok(part)]).boxed());
            }
            EntryNode::Dir(_) => return Err(Error::IsDirectory(entry.name.clone())),
            EntryNode::Link(_) => return Err(Error::IsLink(entry.name.clone())),
        };
        let top = self.manifest(manifest).await?;
        if top.total_bytes != bytes {
            return Err(Error::Unverified("the manifest".to_owned()));
        }
        let keys = self.keys.clone();
        let this = self.clone();
        let chunk_bytes = u64::from(top.chunk_bytes);
        let wanted = range.clone();
        let chunk = move |found: Result<(u64, BlobId), Error>| {
            let (this, keys) = (this.clone(), keys.clone());
            let wanted = wanted.clone();
            async move {
                let began = this.replica.env.mono();
                let chunk = match found {
                    Ok((at, id)) => {
                        this.chunk(&keys, id, at, chunk_bytes.min(bytes - at), wanted).await
                    }
                    Err(error) => Err(error),
                };
                (chunk, this.replica.env.mono() - began)
            }
        };
        let ids = self.clone().chunk_ids(top, range);
        let mut content = ahead(ids, chunk, self.pace_out.clone()).boxed();
        match content.next().await {
            None => Ok(stream::empty().boxed()),
            Some(Err(error)) => Err(error),
            Some(Ok(first)) => Ok(stream::iter([Ok(first)]).chain(content).boxed()),
        }
    }

    /// One chunk, opened, cut to what is wanted.
    async fn chunk(
        self: &Arc<Self>,
        keys: &Arc<VaultKeys>,
        id: BlobId,
        at: u64,
        len: u64,
        wanted: Range<u64>,
    ) -> Result<Bytes, Error> {
        let sealed = self.blobs.fetch_blob(id).await?;
        let keys = keys.clone();
        let open = move || keys.chunks.open(&id, &sealed);
        let plain = self.replica.env.offload(open).await;
        let plain = plain.map_err(|_| Error::Unverified(format!("chunk {id}")))?;
        if plain.len() as u64 != len {
            return Err(Error::Unverified(format!("chunk {id}")));
        }
        let start = as_usize(wanted.start.saturating_sub(at));
        let end = as_usize((wanted.end - at).min(len));
        Ok(plain.slice(start..end))
    }

    /// The chunks that `range` touches, each with its place in the file.
    fn chunk_ids(
        self: Arc<Self>,
        top: Manifest,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<(u64, BlobId), Error>> {
        let per_id = top.bytes_per_id();
        let touched = overlapping(&top.ids, per_id, 0, &range);
        if top.level == 0 {
            return stream::iter(touched.into_iter().map(Ok)).boxed();
        }
        let pages = stream::iter(touched).then(move |(page_at, id)| {
            let (this, range) = (self.clone(), range.clone());
            let (file_id, total) = (top.file_id, top.total_bytes);
            async move {
                let page = this.manifest(id).await?;
                let covers = per_id.min(total - page_at);
                if page.level != 0 || page.file_id != file_id || page.total_bytes != covers {
                    return Err(Error::Unverified("a manifest page".to_owned()));
                }
                let chunk_bytes = u64::from(page.chunk_bytes);
                Ok(overlapping(&page.ids, chunk_bytes, page_at, &range))
            }
        });
        pages
            .flat_map(|page| match page {
                Ok(ids) => stream::iter(ids.into_iter().map(Ok)).boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }

    /// A page of the list of a file's chunks.
    pub(crate) async fn manifest(self: &Arc<Self>, id: BlobId) -> Result<Manifest, Error> {
        let sealed = self.blobs.fetch_blob(id).await?;
        let keys = self.keys.clone();
        let open = move || keys.manifests.open(&id, &sealed);
        let unverified = || Error::Unverified("a manifest page".to_owned());
        let plain = self.replica.env.offload(open).await.map_err(|_| unverified())?;
        Manifest::decode(plain).map_err(|_| unverified())
    }
}

/// The ids whose bytes, from `base` on and `per_id` each, overlap `range`.
fn overlapping(ids: &[BlobId], per_id: u64, base: u64, range: &Range<u64>) -> Vec<(u64, BlobId)> {
    let placed = ids.iter().zip(0u64..).map(|(id, n)| (base + n * per_id, *id));
    placed.filter(|(at, _)| *at < range.end && at + per_id > range.start).collect()
}

fn as_usize(count: u64) -> usize {
    usize::try_from(count).expect("a place within one chunk")
}

/// Chunks fetched ahead of the reader: at most this many are in memory.
pub(super) const WINDOW_CHUNKS: usize = 8;
