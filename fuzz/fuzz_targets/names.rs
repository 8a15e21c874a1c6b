//! Names, addresses and the text of ids.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dfs_core::fuzzing::names(bytes));
