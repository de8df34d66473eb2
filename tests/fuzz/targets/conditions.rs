//! What must hold is in `config/src/condition/fuzzed.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_config::condition::fuzzed::check(data);
});
