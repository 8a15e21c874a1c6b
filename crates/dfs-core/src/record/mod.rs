//! What a name says: its versions, who signed them, and the blobs they use.

pub mod attributes;
pub mod ballot;
pub mod conditional;
pub mod digest;
pub mod refs;
pub mod retention;
pub mod version;
pub mod writer;
