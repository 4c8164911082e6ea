//! Metrics as Prometheus scrapes them: OpenMetrics 1.0 with exemplars, and the older text format
//! without.
//!
//! Written by hand: the library that we know for this can neither be given exemplars that were
//! measured elsewhere nor write the older format.

mod family;
mod text;

pub use family::{Family, Sample, Type, families, name};
pub use text::{Format, write};
