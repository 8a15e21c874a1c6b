//! Deciding layouts: who is reached, what to propose, votes, members taken out, going on by hand.

pub(crate) mod admit;
pub(crate) mod drain;
mod facts;
pub(crate) mod invite;
pub(crate) mod propose;
pub(crate) mod reachability;
pub(crate) mod recover;
pub(crate) mod steward;
pub(crate) mod vote;

pub(crate) use self::drain::Members;
pub(crate) use self::invite::{InviteKeys, Invites};
pub(crate) use self::propose::Proposals;
pub(crate) use self::reachability::Reachability;
pub(crate) use self::steward::Steward;
pub(crate) use self::vote::Voting;
