//! What live capture needs of a machine, whether it is there, and what to do where it is not.
//!
//! Facts are gathered first and judged after, so that the judgement can be tested on machines that
//! nobody has. Gathering attaches each hook set for a moment, because only that shows whether the
//! kernel lets it; it mounts nothing, changes no setting and leaves nothing behind.

mod facts;
mod gather;
mod judge;
mod programs;

pub use facts::{
    Attempt, Capability, Facts, Feature, FeatureKind, Outcome, Rights, Tracefs, Types,
};
pub use gather::gather;
pub use judge::{Check, Grade, hooks_check, judge, usable};
pub use programs::{Program, programs};
