//! Tables and properties, by subject.

mod codec;
mod conn;
mod epoch;
mod growth;
mod member;
mod names;
mod version_set;
mod versions;
mod writer;
