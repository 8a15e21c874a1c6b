//! Merging of records: its laws.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dfs_core::fuzzing::merging(bytes));
