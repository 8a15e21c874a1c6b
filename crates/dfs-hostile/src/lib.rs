//! A member that does to the others whatever the protocol lets it: for tests, never for a cluster
//! that someone uses.
//!
//! | module | holds |
//! | --- | --- |
//! | [`attack`] | every kind of attack, by name |
//! | [`adversary`], [`lies`] | what it answers: an honest node's answers, changed |
//! | [`seen`] | what it saw before, to show it again |
//! | [`attacks`], [`takeover`], [`replays`] | what it asks of others |
//! | [`member`] | the member, and how it asks |
//! | [`liar`] | answers of one that holds nothing |
//!
//! The program `dfs-hostile` does it to real processes; the simulator puts an [`Adversary`] before
//! a real node, which so holds what the layout gives it and knows all that a member knows.
//!
//! [`Adversary`]: adversary::Adversary

pub mod adversary;
pub mod attack;
pub mod attacks;
pub mod liar;
pub mod lies;
pub mod member;
pub mod replays;
pub mod seen;
pub mod takeover;
pub mod vaults;
