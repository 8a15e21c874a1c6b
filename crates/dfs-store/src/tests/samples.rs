//! Valid values that the corpora begin from, each under its name.

use dfs_core::id::{BlobId, VaultId};

use crate::blob::Blob;
use crate::fuzzing::KEY;
use crate::keyfile::{self, KeyKind};
use crate::pages::{REFERENCE_IDS_MAX, ReferencePage};
use crate::vault::keys::{ClusterKey, VaultKey};
use crate::vault::manifest::{MANIFEST_IDS_MAX, Manifest};
use crate::vault::seal::Salt;

/// The bytes of the value with this name.
pub(super) fn valid(name: &str) -> Vec<u8> {
    let keys = VaultKey::from_bytes(KEY).derive();
    let sealed = |blob: Blob| blob.bytes.to_vec();
    match name {
        "chunk" => sealed(chunk()),
        "chunk-unpadded" => sealed(keys.chunks.seal(b"hello", Salt::Deduplicating, false)),
        "payload" => sealed(keys.payloads.seal(b"hello", Salt::Random([9; 16]), true)),
        "other-vault" => {
            let other = VaultKey::from_bytes([8; 32]).derive();
            sealed(other.chunks.seal(b"hello", Salt::Deduplicating, true))
        }
        "page" => sealed(page(3)),
        "page-at-limit" => sealed(page(REFERENCE_IDS_MAX)),
        "manifest" => manifest(3).encode(),
        "manifest-at-limit" => manifest(MANIFEST_IDS_MAX).encode(),
        "vault-key-file" => keyfile::encode(KeyKind::Vault, &KEY).to_vec(),
        "node-key-file" => keyfile::encode(KeyKind::Node, &KEY).to_vec(),
        "vault-key-text" => VaultKey::from_bytes(KEY).to_text().as_bytes().to_vec(),
        "cluster-key-text" => ClusterKey::from_bytes(KEY).to_text().as_bytes().to_vec(),
        "words" => VaultKey::from_bytes(KEY).to_words().as_bytes().to_vec(),
        _ => panic!("no valid value is called {name}"),
    }
}

/// A padded chunk: 80 bytes of header and tag, 256 of body.
pub(super) fn chunk() -> Blob {
    VaultKey::from_bytes(KEY).derive().chunks.seal(b"hello", Salt::Deduplicating, true)
}

fn ids(count: usize) -> Vec<BlobId> {
    (0..count).map(|at| BlobId::of(&at.to_le_bytes())).collect()
}

fn page(count: usize) -> Blob {
    ReferencePage { level: 0, ids: ids(count) }.to_blob(VaultId::new([3; 16]))
}

/// All chunks but the last are full, and that is one byte short.
fn manifest(count: usize) -> Manifest {
    Manifest {
        level: 0,
        file_id: [1; 16],
        chunk_bytes: 1024,
        total_bytes: count as u64 * 1024 - 1,
        content: [2; 32],
        ids: ids(count),
    }
}
