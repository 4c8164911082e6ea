#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wirespan_testkit::fuzz_parser(
    wirespan_grpc::Http2,
    data
));
