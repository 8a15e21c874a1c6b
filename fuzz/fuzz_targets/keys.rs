//! Key files, the text of keys, and 24 words.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dfs_store::fuzzing::keys(bytes));
