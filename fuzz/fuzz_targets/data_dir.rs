//! Recovery from any content of a data directory.
#![no_main]

// The fuzzer's own hook ends the process at a panic, also at one over a damaged index, which the
// store catches. What nobody catches still ends it; the plain test over its input says why.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| ())),
    |bytes: &[u8]| dfs_store::fuzzing::data_dir(bytes)
);
