//! Greetings.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dfs_p2p::fuzzing::hello(bytes));
