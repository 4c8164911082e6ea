//! The engine: byte streams with explicit gaps in, request/response exchanges out.
//!
//! It reassembles by stream offset, detects protocols, drives the parsers, maps offsets to times,
//! pairs events into exchanges and keeps everything within budgets. It does no I/O, reads no
//! clock, starts no thread and knows no protocol.

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

mod address;
mod both;
mod calls;
mod connection;
mod detect;
mod engine;
mod handshake;
mod hello;
mod registry;
mod stats;
mod stream;
mod table;
mod text;
mod timers;
mod types;

pub use address::{Address, UnixName};
pub use both::Both;
pub use calls::Calls;
pub use connection::FILTERED;
pub use engine::Engine;
pub use handshake::Handshake;
pub use registry::{DuplicateProtocol, Registry, RegistryBuilder};
pub use stats::{Ledger, ProtocolStats, Stats};
pub use text::Attrs;
pub use types::{
    Close, Closed, Config, ConnectionId, Exchange, Layer, Nanos, Opening, Process, Roles, Side,
    Sink, Start, TICK, Task, Unread,
};
pub use wirespan_parser_api as api;
