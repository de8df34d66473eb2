//! What must hold is in `sidecar/src/fuzzed/request_head.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_sidecar::fuzzed::request_head::check(data);
});
