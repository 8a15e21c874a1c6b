//! Sealed bytes on one disk: a crash-safe store of encrypted blobs with a SHA-1 path transform.
//!
//! | module | holds |
//! | --- | --- |
//! | [`blob`] | the format of a stored blob, and what anyone can check without a key |
//! | [`pages`] | lists, in clear, of the blobs of one version |
//! | [`keyfile`] | how a key is kept in a file |
//! | [`vault`] | what only the key holder needs: keys, sealing, opening, lists of chunks |
//! | [`disk`] | the store itself: durable before it answers, verified on every read |
//!
//! ```
//! use dfs_store::vault::keys::VaultKey;
//! use dfs_store::vault::seal::Salt;
//!
//! let vault = VaultKey::from_bytes([7; 32]).derive();
//! let sealed = vault.chunks.seal(b"a chunk", Salt::Deduplicating, true);
//! assert_eq!(vault.chunks.open(&sealed.id, &sealed.bytes)?, b"a chunk"[..]);
//! # Ok::<(), dfs_store::vault::seal::OpenError>(())
//! ```

pub mod blob;
pub mod disk;
pub mod error;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod keyfile;
pub mod pages;
pub mod vault;
mod wrapped_key;

pub use disk::store::{Config, DiskView, PACKED_BYTES_MAX, Reconciled, Shortage, Store, Unused};
pub use error::{OpenStoreError, ReadError, ReconcileError, WriteError};

#[cfg(test)]
mod tests;
