//! What replicas care for: what is read from and written to several of them, rows that differ,
//! blobs that are missing, what may be forgotten, and whether members have what they should.

pub mod conduct;
pub mod dir_changes;
pub mod dir_view;
pub mod line;
pub mod listing;
pub mod listing_log;
pub mod marks;
pub mod missing;
pub mod op;
pub mod outlook;
pub mod pace;
pub mod possession;
pub mod purge;
pub mod room;
pub mod scrub;
pub mod sync;
pub mod urgency;
pub mod withheld;
