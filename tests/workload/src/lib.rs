//! What a workload knows of itself, and how the records of a live capture are held against it.
//!
//! The program `workload` makes the traffic and prints a [`Truth`] for each exchange; this library
//! reads them again and compares ([`compare()`]). It captures nothing and knows no eBPF.

mod compare;
mod truth;

pub use compare::{Difference, Hooks, compare, compare_incomplete};
pub use truth::{Party, Process, Seen, Side, Transport, Truth, UnknownTruth};
