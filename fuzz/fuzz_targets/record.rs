//! Records, versions, certificates and reference rows.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dfs_core::fuzzing::record(bytes));
