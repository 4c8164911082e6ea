//! Tests over more than one module.

mod decoding;
mod files;
mod recorder;
mod runs;
mod streams;
mod streams_property;
