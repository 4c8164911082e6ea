//! HTTP/2 (RFC 9113, HPACK by RFC 7541) and gRPC on one frame layer.
//!
//! It reads no HTTP/1, no gRPC-Web and no bodies: the payload of DATA is skipped, but for the five
//! bytes before each gRPC message. It is not told of the request that an HTTP/1.1 connection was
//! upgraded with (that exchange has ended, with its 101), so the response to it, on stream 1, is
//! counted as a message that nobody asked for.
//!
//! # Exchanges
//!
//! A request stream is an exchange: from the first byte of its HEADERS to the last byte of what ends
//! it. Its size is that of its HEADERS, CONTINUATION and DATA frames. With a content type of gRPC it
//! is a call: that ends with its trailers, whose `grpc-status` is the status. A call without one has
//! the status that a client makes of the HTTP status, and the flag `guessed`. RST_STREAM ends an
//! exchange as it stands. CONNECT, and extended CONNECT (RFC 8441), end with a 2xx. Interim responses
//! are passed over; pushed streams are counted, no exchanges.
//!
//! # Not from the beginning
//!
//! Indices into the dynamic table count from its newest entry. So what was inserted since we joined
//! is known, what is older is unknown, header by header; operation, target or status are empty where
//! theirs is unknown. The same holds from a lost header block on. A POST of unknown content type is
//! gRPC if its response says so, or (`guessed`) if its first DATA has the shape of a gRPC message.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod answers;
mod attributes;
mod blocks;
mod exchanges;
#[cfg(test)]
mod frame_cases;
mod grpc;
mod hpack;
mod message;
mod parser;
mod probe;
mod resync;
mod streams;
mod trace_bin;
mod wire;

use wirespan_parser_api::{Init, Parser, Probe, ProbeInput, Protocol, ProtocolName};

/// HTTP/2, with prior knowledge or after an upgrade from HTTP/1.1, and gRPC.
///
/// Its records are of the protocols `http` and `grpc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Http2;

impl Protocol for Http2 {
    fn name(&self) -> ProtocolName {
        ProtocolName("h2")
    }

    fn description(&self) -> &'static str {
        "HTTP/2 and gRPC, also joined midstream"
    }

    fn recorded_as(&self) -> &[ProtocolName] {
        &[exchanges::HTTP, exchanges::GRPC]
    }

    fn ports(&self) -> &[u16] {
        &[50_051]
    }

    fn probe(&self, head: &ProbeInput<'_>) -> Probe {
        probe::probe(head)
    }

    fn parser(&self, init: &Init<'_>) -> Box<dyn Parser> {
        Box::new(parser::Http2Parser::new(init))
    }
}
