//! What must hold is in `sidecar/src/fuzzed/proxy_header.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_sidecar::fuzzed::proxy_header::check(data);
});
