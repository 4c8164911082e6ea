//! Live capture on this machine's own kernel: what `wirespan tail` records of real programs is held
//! against what those programs know themselves.
//!
//! Needs root and a kernel that `wirespan doctor` finds nothing wrong with; elsewhere the tests say
//! that they are skipped, and fail all the same where `WIRESPAN_LIVE` is set, as CI does. One
//! capture runs at a time.

mod admin;
mod agent;
#[cfg(feature = "kubernetes")]
#[path = "../../../kubernetes/tests/watch/fake.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod api_server;
mod canary;
#[path = "../otlp/check.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod check;
mod endurance;
mod executables;
mod explain;
mod governor;
mod identity;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod lab;
mod page;
#[path = "../otlp/receiver.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod receiver;
mod reload;
mod rights;
mod scenarios;
#[path = "../canary/talk.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod secrets;
mod servers;
mod soak;
mod tls;
mod top;
mod traces;
mod unix;
mod watch;
mod workers;
