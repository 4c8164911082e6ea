//! Live capture on this machine's own kernel: what `wirespan tail` records of real programs is held
//! against what those programs know themselves.
//!
//! Needs root and a kernel that `wirespan doctor` finds nothing wrong with; elsewhere the tests say
//! that they are skipped, and fail all the same where `WIRESPAN_LIVE` is set, as CI does. One
//! capture runs at a time.

mod endurance;
mod explain;
mod rights;
mod scenarios;
mod servers;
mod watch;
