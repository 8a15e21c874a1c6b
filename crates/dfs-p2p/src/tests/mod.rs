//! Parsers against bad inputs, and the fuzz targets over their committed inputs.

mod bad_inputs;
#[path = "../../../../corpus/reader.rs"]
mod corpus;
mod fuzz_inputs;
pub(crate) mod quiet;
mod samples;
