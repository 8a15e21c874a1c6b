//! Sealed bytes on one disk: a crash-safe store of encrypted blobs with a SHA-1 path transform.
//!
//! | module | holds |
//! | --- | --- |
//! | [`path`] | where a blob's file lies |
//! | [`blob`] | the format of a stored blob, and what anyone can check without a key |
//! | [`seal`] | encrypting and authenticating, verifying and decrypting |
//! | [`manifest`] | the lists that tie a file's chunks together |
//! | [`keys`], [`keyfile`] | keys, and how they are kept and written down |
//! | [`store`] | the store itself: durable before it answers, verified on every read |
//!
//! ```
//! use dfs_store::keys::VaultKey;
//! use dfs_store::seal::Salt;
//!
//! let vault = VaultKey::from_bytes([7; 32]).derive();
//! let sealed = vault.chunks.seal(b"a chunk", Salt::Deduplicating, true);
//! assert_eq!(vault.chunks.open(&sealed.id, &sealed.bytes)?, b"a chunk"[..]);
//! # Ok::<(), dfs_store::seal::OpenError>(())
//! ```

pub mod blob;
mod chunks;
pub mod data_dir;
pub mod error;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod keyfile;
pub mod keys;
mod layout;
pub mod manifest;
mod meta;
pub mod path;
pub mod seal;
mod space;
pub mod store;
mod strays;

pub use error::{OpenStoreError, ReadError, ReconcileError, WriteError};
pub use store::{Config, Reconciled, Store, Unused};

#[cfg(test)]
mod tests;
