//! What comes out of wirespan: exchanges as JSON records, as lines of a table, as RED statistics,
//! as metrics and spans by OpenTelemetry's semantic conventions.
//!
//! Everything here writes into buffers of the caller. Nothing opens a file, reads a clock or knows
//! a protocol; the same exchange always gives the same bytes.

pub mod histogram;
pub mod honesty;
pub mod ids;
pub mod metrics;
pub mod observe;
pub mod owner;
pub mod prometheus;
pub mod record;
pub mod red;
pub mod semconv;
pub mod spans;
pub mod table;

#[cfg(test)]
mod fixture;
mod format;
