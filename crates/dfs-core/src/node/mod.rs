//! What is known about nodes: their signed infos and which of them are kept, who is reached, which
//! connection stays, who is invited, whose clock is wrong.

pub mod clocks;
pub mod conn;
pub mod directory;
pub mod invite;
pub mod later_life;
pub mod liveness;
pub mod member;
