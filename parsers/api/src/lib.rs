//! The contract between the engine and a protocol parser.
//!
//! A parser is a pure state machine: contiguous bytes in, [`Event`]s out. It names *stream
//! offsets*; the engine turns offsets into times, pairs the events into exchanges, and bounds all
//! memory. Start with [`Protocol`] (one per process) and [`Parser`] (one per connection).
//!
//! Nothing here does I/O, reads a clock, starts a thread or logs. The crate has no dependencies,
//! and the traits are object-safe and free of generics, so that a parser can live anywhere.
#![no_std]
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

extern crate alloc;

mod attr;
mod event;
mod fifo;
pub mod http;
mod parser;
mod trace;

pub use attr::{Attr, IntKey, Key, StrKey, Value, keys};
pub use event::{Abandon, Emit, Event, ExchangeId, Flags, Outcome, Request, Response};
pub use fifo::{Fifo, Ticket};
pub use parser::{
    AfterGap, Confidence, Direction, ErrorKind, Gap, Init, Input, Limits, Next, ParseError, Parser,
    Probe, ProbeInput, Protocol, ProtocolName, Redaction, Speaker, Step, Upgrade,
};
pub use trace::{Propagation, TraceContext, TraceHeaders};
