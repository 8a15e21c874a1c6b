//! What is known about nodes: their signed infos, who is reached, which connection stays.

pub mod conn;
pub mod liveness;
pub mod member;
