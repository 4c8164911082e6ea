//! OpenTelemetry semantic conventions 1.45: what metrics and spans are called, and which attributes
//! they have.
//!
//! The names are constants of ours because the published crate lags behind. What an exchange is by
//! these conventions is read once, into [`Facts`]; metrics and spans are both made of that, so that
//! they never disagree about an `error.type`.

mod facts;
mod label;
mod route;
#[cfg(test)]
mod tests;

pub use facts::Facts;
pub use label::Label;
pub use route::{NotAPattern, Route, RouteSource, Routes};

/// The conventions' version, as OTLP names it.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.45.0";

/// What an exchange is measured as: its family of protocols, and whose side it tells of.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Instrument {
    /// An HTTP request as its server sees it.
    HttpServer,
    /// An HTTP request as its client sees it.
    HttpClient,
    /// A call as its server sees it.
    RpcServer,
    /// A call as its client sees it.
    RpcClient,
    /// A statement or command as the database's client sees it.
    DbClient,
    /// The same at the database's own socket, which the conventions have no name for.
    DbServer,
    /// An exchange of any other protocol.
    Other,
    /// An edge of the service map: who calls whom.
    Edge,
}

impl Instrument {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::HttpServer,
        Self::HttpClient,
        Self::RpcServer,
        Self::RpcClient,
        Self::DbClient,
        Self::DbServer,
        Self::Other,
        Self::Edge,
    ];

    /// Name of the histogram of durations, in seconds.
    #[must_use]
    pub const fn duration(self) -> &'static str {
        match self {
            Self::HttpServer => "http.server.request.duration",
            Self::HttpClient => "http.client.request.duration",
            Self::RpcServer => "rpc.server.call.duration",
            Self::RpcClient => "rpc.client.call.duration",
            Self::DbClient => "db.client.operation.duration",
            Self::DbServer => "wirespan.db.server.operation.duration",
            Self::Other => "wirespan.exchange.duration",
            Self::Edge => "wirespan.edge.duration",
        }
    }

    /// What [`Instrument::duration`] measures.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::HttpServer => "Duration of HTTP server requests.",
            Self::HttpClient => "Duration of HTTP client requests.",
            Self::RpcServer => "Measures the duration of an incoming Remote Procedure Call (RPC).",
            Self::RpcClient => "Measures the duration of an outgoing Remote Procedure Call (RPC).",
            Self::DbClient => "Duration of database client operations.",
            Self::DbServer => "Duration of database operations, observed at the server.",
            Self::Other => "Duration of exchanges of other protocols.",
            Self::Edge => "Duration of the exchanges between two services.",
        }
    }

    /// Names of the histograms of body sizes (request, response), in bytes, where the conventions
    /// have them.
    #[must_use]
    pub const fn body_sizes(self) -> Option<[&'static str; 2]> {
        match self {
            Self::HttpServer => Some([
                "http.server.request.body.size",
                "http.server.response.body.size",
            ]),
            Self::HttpClient => Some([
                "http.client.request.body.size",
                "http.client.response.body.size",
            ]),
            _ => None,
        }
    }

    /// Whether it repeats what the exchanges' own series say.
    #[must_use]
    pub const fn is_edge(self) -> bool {
        matches!(self, Self::Edge)
    }

    /// Whether durations have the buckets that the conventions advise for databases.
    #[must_use]
    pub const fn is_database(self) -> bool {
        matches!(self, Self::DbClient | Self::DbServer)
    }
}

/// Counts the exchanges that are missing in a histogram of durations because their duration is not
/// known: no response, or lost bytes.
pub const UNTIMED: &str = "wirespan.exchange.untimed";

/// The attribute that marks the series for what has no series of its own, beyond the bound.
pub const OVERFLOW: &str = "otel.metric.overflow";

/// Whose span, or whose metric, an exchange is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// The one who answers.
    Server,
    /// The one who asks.
    Client,
}
