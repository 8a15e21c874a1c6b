//! Sealed blobs and rows on one disk. Nothing here opens a blob.

mod chain;
mod chunks;
pub mod data_dir;
mod foreign_rows;
mod index;
mod meta;
pub mod path;
mod space;
pub mod store;
pub mod upgrade;
