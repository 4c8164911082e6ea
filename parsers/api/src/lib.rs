//! The contract between the engine and a protocol parser.
//!
//! A parser is a pure state machine: contiguous bytes in, [`Event`]s out. It names *stream
//! offsets*; the engine turns offsets into times, pairs the events into exchanges, and bounds all
//! memory. Start with [`Protocol`] (one per process) and [`Parser`] (one per connection).
//!
//! Nothing here does I/O, reads a clock, starts a thread or logs. The crate has no dependencies,
//! and the traits are object-safe and free of generics, so that a parser can live anywhere.
//!
//! # Stability
//!
//! From 0.1 on, versions follow [Semantic Versioning](https://semver.org/spec/v2.0.0.html): a parser written for 0.1 compiles with every
//! 0.1.x and is driven by it in the same way. What needs a change of a parser waits for the next
//! minor version (after 1.0, the next major one) and is listed in the changelog with what to do. The
//! meaning is part of it, as the documentation and `wirespan-testkit` have it; how soon or
//! how often the engine calls is not, within what is written at [`Parser`].
//!
//! May be added at any time, and breaks nobody:
//!
//! - methods of [`Protocol`] and [`Parser`] that have a default;
//! - variants of what a parser only makes ([`Event`], [`Next`], [`Upgrade`], [`AfterGap`], [`Probe`], [`Abandon`],
//!   [`Propagation`]) or must expect to grow ([`Redaction`], [`ErrorKind`], [`Value`]), all `#[non_exhaustive]`;
//! - fields of what a parser only reads ([`Init`], [`Limits`], [`ProbeInput`], [`Gap`], [`Ticket`], [`http::Target`]),
//!   `#[non_exhaustive]` too; who drives a parser makes them with `new` and sets what differs;
//! - [`Flags`], [`keys`], and names of their own.
//!
//! Closed, because parsers write them out or match on them: the fields of each [`Event`] and of [`Request`], [`Response`], [`Input`],
//! [`Step`], [`ParseError`] and [`TraceContext`], and the variants of [`Direction`], [`Speaker`],
//! [`Outcome`] and [`Confidence`]. What is to be said in addition comes as an event or an attribute.
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
mod secrets;
mod trace;

pub use attr::{Attr, IntKey, Key, StrKey, Value, keys};
pub use event::{Abandon, Emit, Event, ExchangeId, Flags, Outcome, Request, Response};
pub use fifo::{Fifo, Ticket};
pub use parser::{
    AfterGap, Confidence, Direction, ErrorKind, Gap, Init, Input, Limits, Next, ParseError, Parser,
    Probe, ProbeInput, Protocol, ProtocolName, Redaction, Speaker, Step, Upgrade,
};
pub use secrets::{Policy, SecretKeys};
pub use trace::{Propagation, TraceContext, TraceHeaders};
