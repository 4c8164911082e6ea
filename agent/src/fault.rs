//! What is said when something panics: where, and not what.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write as _;
use std::panic;

/// Replaces the message of panics. The text of one may quote what was observed (the bytes of a string
/// that was cut inside of a character, say), so it goes nowhere; the place is enough to find the fault,
/// and `RUST_BACKTRACE=1` adds the calls that led there.
pub(crate) fn hide_messages() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location();
        let place = place.map_or_else(|| "an unknown place".into(), ToString::to_string);
        let mut text = format!(
            "wirespan: a fault at {place}; its message is left out, since it may quote what was observed\n"
        );
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            text += &trace.to_string();
        }
        // Nobody is left to tell when that fails.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }));
}
