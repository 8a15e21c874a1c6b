//! Blobs, manifests and reference pages.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dfs_store::fuzzing::blob(bytes));
