//! Live traffic: attaches eBPF programs to sockets and turns what they see into engine input.
//!
//! It knows no protocol and renders nothing; what the engine finds goes to the caller's sink. It
//! changes nothing in what it observes, pins nothing, and whatever it attached is detached when it
//! is dropped, or killed.
//!
//! ```text
//! btf, offsets ─▶ kernel (load) ─▶ hooks (attach)      feed ─▶ engine + sink, tap
//!                    │                                  ▲ │
//!                    └─ ring buffer ─▶ event ─▶ live ───┘ └─▶ wishes ─▶ kernel
//! ```

pub mod btf;
mod clock;
mod error;
mod event;
mod executables;
mod feed;
mod hooks;
mod kernel;
mod ledger;
mod listeners;
mod live;
mod memory;
mod multi;
pub mod offsets;
mod preemption;
pub mod preflight;
mod processes;
mod shard;
mod sockets;
mod spread;
mod tap;
mod tls;
mod wait;

pub use error::Error;
pub use executables::ExecutablePattern;
pub use hooks::{HookSet, Omitted, Target};
pub use kernel::{Filters, Losses, MAX_CALL_BYTES};
pub use ledger::Ledger;
pub use live::{Finished, Live, Options};
pub use memory::give_back;
pub use sockets::{TcpSocket, tcp_sockets};
pub use spread::WorkerLoad;
pub use tap::Tap;
pub use tls::survey::{Surveyed, processes, survey};
