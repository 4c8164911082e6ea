//! The fuzz targets by name, for the test that runs every corpus on stable.
//!
//! The targets themselves are in `fuzz_targets/`, their bodies in the crates that they try.

use wirespan_parser_api::Protocol;

/// Every target: its name, which is also that of its corpus, and its body.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("engine_ops", wirespan_testkit::fuzz_engine_ops),
    ("pcap", wirespan_replay::fuzz_capture),
    ("btf", wirespan_capture::btf::fuzz_btf),
    ("probe_sites", wirespan_probe_sites::fuzz_scan),
    ("http", parser::<wirespan_http::Http>),
    ("h2", parser::<wirespan_grpc::Http2>),
    ("mysql", parser::<wirespan_mysql::MySql>),
    ("postgres", parser::<wirespan_postgres::Postgres>),
    ("redis", parser::<wirespan_redis::Redis>),
    ("example", parser::<wirespan_example::Example>),
];

fn parser<P: Protocol + Default>(data: &[u8]) {
    wirespan_testkit::fuzz_parser(P::default(), data);
}
