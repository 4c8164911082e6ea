//! Runs a parser through the laws that every parser keeps.
//!
//! A parser's author writes down a conversation as a [`Fixture`] and calls [`laws()`] in a test; a
//! list of other protocols' conversations goes to [`strangers`]; and [`recovers`] checks how soon
//! after a loss exchanges are whole again. What fails panics with the input
//! that broke the law. It reads no captures and records none.
//!
//! ```no_run
//! # use wirespan_parser_api::*;
//! # struct Acme;
//! # impl Protocol for Acme {
//! #     fn name(&self) -> ProtocolName { ProtocolName("acme") }
//! #     fn description(&self) -> &'static str { "" }
//! #     fn probe(&self, _: &ProbeInput<'_>) -> Probe { Probe::Reject }
//! #     fn parser(&self, _: &Init<'_>) -> Box<dyn Parser> { unimplemented!() }
//! # }
//! use wirespan_testkit::{Fixture, laws};
//!
//! laws(Acme, &Fixture::new().client(b"PING\r\n").server(b"+PONG\r\n"));
//! ```

mod fixture;
mod fuzz;
mod laws;
mod play;
mod probe;
mod recovery;
mod toy;
mod watch;

pub use fixture::{Chunk, Fixture};
pub use fuzz::{fuzz_engine_ops, fuzz_parser};
pub use laws::laws;
pub use play::{Run, Seen};
pub use probe::strangers;
pub use recovery::{RECOVERY, recovers};
