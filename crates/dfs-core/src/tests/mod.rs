//! Tables and properties, by subject.

mod assign;
mod authority;
mod bad_inputs;
mod ballots;
mod clocks;
mod codec;
mod conditional;
mod conn;
#[path = "../../../../corpus/reader.rs"]
mod corpus;
mod departure;
mod directory;
mod drains;
mod drop;
mod epoch;
mod epoch_chain;
mod forming;
mod fuzz_inputs;
mod growth;
mod invite;
mod later_life;
mod liveness;
mod member;
mod names;
mod op;
mod paxos;
mod purge;
mod random;
mod recovery;
mod retention;
mod samples;
mod transition;
mod version_set;
mod versions;
mod voters;
mod writer;
