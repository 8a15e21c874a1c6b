//! Layouts, and what may follow them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dfs_core::fuzzing::epoch(bytes));
