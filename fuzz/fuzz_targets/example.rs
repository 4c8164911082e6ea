#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirespan_testkit::fuzz_parser(
    wirespan_example::Example,
    data
));
