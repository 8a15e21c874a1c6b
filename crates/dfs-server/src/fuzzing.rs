//! What the fuzz targets run: bytes in, and a panic when a promise does not hold.
//!
//! Not part of the API. The same functions are run by plain tests over `corpus/fuzz`.

use dfs_core::codec::Canonical;
use dfs_core::version::RETAINED_MAX;

use crate::entry::Payload;

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
