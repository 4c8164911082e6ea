//! Capture files in, engine input out: pcap and pcapng records become TCP segments, their sequence
//! numbers become stream offsets, and the engine is fed as it would be by live capture.
//!
//! It knows no protocol above TCP, decrypts nothing and keeps no record of what it read; what the
//! engine finds goes to the caller's [`Collect`]ors. Whatever it could not use is counted by name
//! in [`CaptureStats`].
//!
//! ```text
//! input ─▶ file, pcapng ─▶ link ─▶ ip, fragments ─▶ tcp ─▶ shard (engine + collector) × SHARDS
//! bytes    records          └◀──── tunnel ◀──┘       run: on this thread, or workers
//! ```
//!
//! Two runs over the same bytes give the same calls in the same order, whatever the number of
//! threads: a connection belongs to one of [`SHARDS`] shards by a fixed hash of its addresses, each
//! shard sees its segments in the order of the file, and only the time *in the capture* drives
//! timers.

mod connection;
mod error;
mod file;
mod flow;
mod fragments;
mod fuzz;
mod input;
mod ip;
mod label;
mod link;
mod pcapng;
mod run;
mod segment;
mod shard;
mod stats;
mod table;
mod tcp;
mod tunnel;
mod view;
mod workers;
mod write;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use fuzz::fuzz_capture;
pub use input::Input;
pub use run::{Options, Report, run};
pub use shard::{Collect, SHARDS};
pub use stats::{CaptureStats, Progress, TcpStats};
pub use write::{StreamId, StreamWriter};
