//! What must hold is in `sidecar/src/fuzzed/websocket.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_sidecar::fuzzed::websocket::check(data);
});
