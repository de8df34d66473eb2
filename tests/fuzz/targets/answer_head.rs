//! What must hold is in `sidecar/src/fuzzed/answer_head.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_sidecar::fuzzed::answer_head::check(data);
});
