//! Metrics and spans to where people look at them: OTLP over gRPC and HTTP, JSON lines, and a
//! `/metrics` page for Prometheus.
//!
//! What is exported is made in `wirespan-export`, which waits for nothing. Here is what waits: one
//! thread with a runtime of its own. Whoever observes exchanges hands spans over to a bounded queue
//! and goes on; a backend that is slow, or gone, costs spans, which are counted, and never memory or
//! time.
//!
//! ```text
//! observer ─▶ Queue ─▶ batches ─┐
//!                               ├─▶ Sender (gRPC, HTTP) ─▶ collector
//! Source ─▶ every interval ─────┘
//!    └────▶ on request ─▶ scrape ─▶ Prometheus
//! Handler ─▶ on request ─▶ admin ─▶ who runs the agent
//! ```

mod admin;
mod config;
mod delta;
mod encode;
mod exporter;
mod flow;
mod native;
mod otlp;
mod queue;
mod retry;
mod scrape;

pub use admin::{Admin, Answer, Answered, Doors, Handler, Request};
pub use config::{Config, Error, PemFile, Protocol, Target, Tls, Wanted, read_pairs, write_pairs};
pub use delta::Temporality;
pub use encode::{Collection, JsonLines, Resource, metrics_request, trace_request};
pub use exporter::{Counts, Exporter, Source};
pub use flow::{Fed, Feeder, Flow, flow};
pub use queue::Queue;
pub use scrape::Scrape;
