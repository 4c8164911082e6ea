#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirespan_capture::btf::fuzz_btf(data));
