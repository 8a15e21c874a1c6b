//! What only the holder of a vault's key needs: keys, sealing and opening, what a version says of
//! its name, lists of chunks.

pub mod entry;
pub mod keys;
pub mod manifest;
pub mod seal;
