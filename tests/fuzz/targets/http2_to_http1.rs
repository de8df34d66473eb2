//! What must hold is in `sidecar/src/fuzzed/http2_to_http1.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_sidecar::fuzzed::http2_to_http1::check(data);
});
