//! The pods of this node, as the API server of Kubernetes tells of them: which containers they have,
//! which workload made them, and what their service is called.
//!
//! It does not know processes, nor how they are observed: whoever does asks the [`Directory`] by the
//! container's id and the pod's UID, which the kernel's control groups tell. It asks for the pods of one
//! node only, and never waits for an answer where it is asked: what is not known yet is `None`, and
//! [`Directory::generation`] says when it is worth asking again. Nothing is guessed.
//!
//! ```text
//! API server ─▶ list, then watch ─▶ pods ──┐
//!           └─▶ ReplicaSets and Jobs, ─────┼─▶ Directory ─▶ who observes
//!               one by one, as needed      │
//!                                    State ┘
//! ```

mod api;
mod backoff;
mod config;
mod directory;
mod object;
mod owners;
mod pod;
mod service;
mod state;
mod store;
mod watch;

pub use config::{Config, Error, Pace};
pub use directory::{Directory, Found};
pub use pod::{Container, Kind, Owner, Pod};
pub use service::Labels;
pub use state::{Phase, State};
pub use watch::Watch;
