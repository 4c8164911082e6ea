//! Live traffic: attaches eBPF programs to sockets and turns what they see into engine input.
//!
//! It knows no protocol and renders nothing; what the engine finds goes to the caller's sink.

pub mod btf;
pub mod offsets;
