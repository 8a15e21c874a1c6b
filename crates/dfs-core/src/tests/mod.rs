//! Tables and properties, by subject.

mod bad_inputs;
mod codec;
mod conn;
#[path = "../../../../corpus/reader.rs"]
mod corpus;
mod epoch;
mod forming;
mod fuzz_inputs;
mod growth;
mod liveness;
mod member;
mod names;
mod samples;
mod version_set;
mod versions;
mod writer;
