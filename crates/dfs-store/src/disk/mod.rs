//! Sealed blobs and rows on one disk. Nothing here opens a blob.

mod chunks;
pub mod data_dir;
mod layout;
mod meta;
pub mod path;
mod space;
pub mod store;
mod strays;
