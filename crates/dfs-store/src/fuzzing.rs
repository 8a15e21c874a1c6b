//! What the fuzz targets run: bytes in, and a panic when a promise does not hold.
//!
//! Not part of the API. The same functions are run by plain tests over `corpus/fuzz`.

mod data_dir;

use std::path::Path;

use bytes::Bytes;
use dfs_core::codec::Canonical;
use dfs_core::id::BlobId;
use dfs_core::record::version::RETAINED_MAX;

use crate::blob::{Blob, Header, TAG_AT};
use crate::keyfile::{self, KeyKind};
use crate::pages::ReferencePage;
use crate::vault::entry::Payload;
use crate::vault::keys::{ClusterKey, VaultKey};
use crate::vault::manifest::Manifest;
use crate::vault::seal::{OpenError, Salt, Sealer};

pub use data_dir::data_dir;

/// Blobs, sealed and in clear, and the pages inside them.
pub fn blob(bytes: &[u8]) {
    let stored = Bytes::copy_from_slice(bytes);
    let keys = VaultKey::from_bytes(KEY).derive();
    let sealers = [&keys.chunks, &keys.manifests, &keys.payloads];
    if let Ok(header) = Header::parse(bytes) {
        let mut written = Vec::new();
        header.write(&mut written);
        assert_eq!(written[..TAG_AT], bytes[..TAG_AT], "two encodings of {header:?}");
        sealers.iter().for_each(|sealer| check_opened(sealer, &header, bytes));
    }
    if let Ok(page) = ReferencePage::from_blob(&stored) {
        let vault = Header::parse(bytes).expect("a page is a blob").vault;
        assert_eq!(ReferencePage::from_blob(&page.to_blob(vault).bytes), Ok(page));
    }
    if let Ok(page) = Manifest::decode(stored) {
        assert_eq!(page.encode(), bytes, "two encodings of {page:?}");
    }
    // Sealing is the slow part, and longer content meets no other branch.
    if bytes.len() <= SEALED_BYTES_MAX {
        sealers.iter().for_each(|sealer| check_sealing(sealer, bytes));
    }
}

/// What opens, sealed again, is the same blob.
fn check_opened(sealer: &Sealer, header: &Header, bytes: &[u8]) {
    if let Ok(plain) = sealer.open(&BlobId::of(bytes), bytes) {
        let again = sealer.seal(&plain, Salt::Random(header.salt), header.padded);
        assert_eq!(again.bytes, bytes, "two blobs of one plaintext");
    }
}

fn check_sealing(sealer: &Sealer, bytes: &[u8]) {
    for padded in [false, true] {
        let blob = sealer.seal(bytes, Salt::Deduplicating, padded);
        assert_eq!(sealer.open(&blob.id, &blob.bytes).as_deref(), Ok(bytes));
        check_tampering(sealer, bytes, &blob);
        if let Ok(plain) = sealer.unpad(Bytes::copy_from_slice(bytes), padded) {
            let again = sealer.seal(&plain, Salt::Deduplicating, padded);
            assert_eq!(again.bytes.len(), blob_len(bytes), "two paddings of one plaintext");
        }
    }
}

fn blob_len(body: &[u8]) -> usize {
    crate::blob::BODY_AT + body.len()
}

/// One bit of a good blob, chosen by the content, flips.
fn check_tampering(sealer: &Sealer, content: &[u8], blob: &Blob) {
    let chosen = content.iter().fold(0, |sum, byte| (sum * 31 + usize::from(*byte)) % 65_521);
    let mut flipped = blob.bytes.to_vec();
    let at = chosen / 8 % flipped.len();
    flipped[at] ^= 1 << (chosen % 8);
    assert!(sealer.open(&BlobId::of(&flipped), &flipped).is_err(), "bit {chosen} is not covered");
    let named = sealer.open(&blob.id, &flipped);
    assert!(matches!(named, Err(OpenError::Foreign | OpenError::WrongId)), "{named:?}");
}

/// Key files, as they are and under a right checksum, the text of keys, and words.
pub fn keys(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    sealed.extend_from_slice(blake3::hash(bytes).as_bytes());
    for kind in [KeyKind::Cluster, KeyKind::Vault, KeyKind::Node, KeyKind::Writer] {
        for file in [bytes, &sealed] {
            if let Ok(key) = keyfile::decode(Path::new("key"), kind, file, None) {
                let mut written = keyfile::encode(kind, &key);
                // The reserved byte is covered by the checksum and not looked at.
                written[7] = file[7];
                assert_eq!(written[..40], file[..40]);
            }
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = ClusterKey::from_text(text) {
        assert_eq!(key.to_text().as_str(), text.trim().to_lowercase());
    }
    if let Ok(key) = VaultKey::from_text(text) {
        assert_eq!(key.to_text().as_str(), text.trim().to_lowercase());
    }
    if let Ok(key) = VaultKey::from_words(text) {
        let words: Vec<_> = text.split_whitespace().map(str::to_lowercase).collect();
        assert_eq!(key.to_words().as_str(), words.join(" "));
    }
}

pub(crate) const KEY: [u8; 32] = [7; 32];
const SEALED_BYTES_MAX: usize = 2048;

/// Payloads, as they are inside their seal.
pub fn payload(bytes: &[u8]) {
    let Ok(payload) = Payload::from_canonical(bytes.to_vec()) else { return };
    assert_eq!(payload.to_canonical(), bytes, "two encodings of {payload:?}");
    assert!(payload.history.len() <= RETAINED_MAX);
    assert!(payload.node.is_some() || !payload.history.is_empty());
    if let Some(node) = &payload.node {
        assert!(node.inline_bytes() as u64 <= node.bytes());
        assert!(node.dir().is_none() || node.bytes() == 0);
    }
    assert_eq!(payload.node.is_some(), payload.entry().is_some());
}
