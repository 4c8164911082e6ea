#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirespan_replay::fuzz_capture(data));
