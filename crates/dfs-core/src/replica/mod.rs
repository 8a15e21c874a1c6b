//! What a replica cares for: rows that differ, blobs that are missing, what may be forgotten.

pub mod missing;
pub mod outlook;
pub mod purge;
pub mod scrub;
pub mod sync;
pub mod urgency;
