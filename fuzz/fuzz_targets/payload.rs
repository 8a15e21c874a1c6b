//! Payloads, as they are inside their seal.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dfs_store::fuzzing::payload(bytes));
