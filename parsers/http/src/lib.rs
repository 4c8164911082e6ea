//! HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112), and WebSocket (RFC 6455) after an upgrade.
//!
//! It does not read HTTP/2, whatever the start line claims, nor HTTP/0.9, and it neither stores nor
//! decodes bodies: they are skipped by their framing. Of the headers only those leave that an
//! attribute or the trace context needs.
//!
//! # One reading for messages that allow several
//!
//! Where peers disagree on what the bytes mean, the exchange carries the flag `ambiguous`, and the
//! reading is this one. It never makes two requests of what may be one.
//!
//! | what was sent | how it is read |
//! | --- | --- |
//! | `Transfer-Encoding` and `Content-Length` | the transfer coding counts (RFC 9112 §6.3) |
//! | several equal `Content-Length` | one |
//! | several different `Content-Length` | the longest |
//! | `Content-Length: +5` or `007` | 5, 7 |
//! | `Content-Length` that is no number, negative, or above 2^63 - 1 | the body lasts to the end of the stream |
//! | request whose last transfer coding is not `chunked` | the body lasts to the end of the stream |
//! | response whose last transfer coding is not `chunked` | the same, by RFC 9112 §6.3: not ambiguous |
//! | `chunked` before another coding, twice, or with parameters | the last coding counts, without its parameters |
//! | `identity`, or an empty list, as a transfer coding | passed over |
//! | transfer coding in HTTP/1.0 | counts |
//! | header continued on the next line (obs-fold) | one header |
//! | line of nothing but white space in a head | a fold; the end of a response's head when no header follows |
//! | line that ends with LF alone | a line |
//! | white space between a header's name and its colon | dropped |
//! | header line without a colon, or with control characters | passed over; kept |
//! | request line without a version | one request if the method is a usual one, the target a path, and a well-formed header follows; else a parse error (HTTP/0.9) |
//! | spaces inside a request target | part of it: the version is what follows the last one |
//! | status line with odd white space, case or version (`HTTP/2.0 200`) | the digits behind the version are the status |
//! | up to 51 bytes before a status line, while one response is due | passed over |
//! | status code of one, two or four digits | as sent, and an error on the server's side (RFC 9110 §15) |
//! | response with a body announced, to a request that went by unseen | no body if `HTTP/1.` follows at once (it may answer HEAD); else the body |
//! | chunk-size line that is no hexadecimal number, is above 2^63 - 1, or longer than 16 kB | a parse error; the message ends there. After a request nothing more is read from the client; after a response the next one is looked for |
//!
//! A start line that is none is a parse error: nothing is made up. So is a head above
//! [`Limits::max_message`](wirespan_parser_api::Limits).
//!
//! # Pairing
//!
//! Responses are paired in order. Interim responses (1xx but 101) are passed over. CONNECT and
//! `Upgrade` hold the client's direction until the answer is known. The first request of a
//! connection that was joined in the middle is flagged `guessed`: it may have been pipelined behind
//! one that was not seen.
//!
//! # Heads that a capture cut
//!
//! Of a head that a gap has cut behind its start line, the lines before the gap count: the message is
//! reported from them, flagged `gap` and `truncated`, and ends with the gap. Where the next message
//! begins is looked for.
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

mod attributes;
mod framing;
mod head;
mod lax;
mod message;
mod parser;
mod probe;
mod read;
mod websocket;
mod wire;

use wirespan_parser_api::{Init, Parser, Probe, ProbeInput, Protocol, ProtocolName};

use crate::parser::HttpParser;
pub use crate::websocket::WebSocket;

/// Name of [`Http`].
const HTTP: ProtocolName = ProtocolName("http");
/// Name of [`WebSocket`].
const WEBSOCKET: ProtocolName = ProtocolName("websocket");

/// HTTP/1.0 and HTTP/1.1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Http;

impl Protocol for Http {
    fn name(&self) -> ProtocolName {
        HTTP
    }

    fn description(&self) -> &'static str {
        "HTTP/1.0 and HTTP/1.1: requests, pipelining, chunked bodies, CONNECT, upgrades"
    }

    fn ports(&self) -> &[u16] {
        &[80, 8080, 8000, 3000, 8888, 9090]
    }

    fn probe(&self, head: &ProbeInput<'_>) -> Probe {
        probe::probe(head)
    }

    fn parser(&self, init: &Init<'_>) -> Box<dyn Parser> {
        Box::new(HttpParser::new(init))
    }
}
