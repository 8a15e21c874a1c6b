//! Who is a member and who holds what: the chain of epochs, and what to propose next.

pub mod assign;
pub mod departure;
pub mod drains;
pub mod epoch;
pub mod facts;
pub mod forming;
pub mod steward;
pub mod voters;
