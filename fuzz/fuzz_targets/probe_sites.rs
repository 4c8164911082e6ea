#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirespan_probe_sites::fuzz_scan(data));
