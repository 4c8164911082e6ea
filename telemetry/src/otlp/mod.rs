//! One request of OTLP and what its answer means.

mod grpc;
mod http;
#[cfg(feature = "tls")]
mod tls;

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use crate::config::{Error, Protocol, Target};

/// A request of either signal.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
}

/// What a backend has said to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Taken, but for this many spans or points, for this reason.
    Taken { rejected: u64, why: String },
    /// Try again, perhaps after this time.
    Later {
        after: Option<Duration>,
        why: String,
    },
    /// It will never be taken.
    Refused { why: String },
}

/// Speaks OTLP to one endpoint.
#[derive(Debug)]
pub(crate) struct Sender {
    client: Client,
    timeout: Duration,
}

#[derive(Debug)]
enum Client {
    Grpc(grpc::Client),
    Http(Box<http::Client>),
}

/// A request in the form in which it is sent, as often as it takes.
#[derive(Debug)]
pub(crate) enum Prepared {
    Grpc(Request),
    Http(bytes::Bytes),
}

impl Sender {
    /// A sender to `target`. Connects when there is something to send. To be called in a runtime.
    pub(crate) fn new(target: &Target) -> Result<Self, Error> {
        let http = |body| http::Client::new(target, body).map(Box::new);
        let client = match target.protocol {
            Protocol::Grpc => Client::Grpc(grpc::Client::new(target)?),
            Protocol::HttpProtobuf => Client::Http(http(http::Body::Protobuf)?),
            Protocol::HttpJson => Client::Http(http(http::Body::Json)?),
        };
        Ok(Self {
            client,
            timeout: target.timeout,
        })
    }

    /// The form in which `request` is sent.
    pub(crate) fn prepare(&self, request: Request) -> Prepared {
        match &self.client {
            Client::Grpc(_) => Prepared::Grpc(request),
            Client::Http(client) => Prepared::Http(client.encode(&request)),
        }
    }

    /// Sends it once. A backend that does not answer in time may have taken it: it is sent again,
    /// as the specification has it.
    pub(crate) async fn send(&self, prepared: &Prepared) -> Answer {
        let sent = async {
            match (&self.client, prepared) {
                (Client::Grpc(client), Prepared::Grpc(request)) => client.send(request).await,
                (Client::Http(client), Prepared::Http(body)) => client.send(body.clone()).await,
                _ => Answer::Refused {
                    why: "prepared for another protocol".into(),
                },
            }
        };
        let answer = tokio::time::timeout(self.timeout, sent).await;
        answer.unwrap_or_else(|_| Answer::Later {
            after: None,
            why: format!("no answer in {:?}", self.timeout),
        })
    }
}

/// What an answer of partial success means. A count of zero with a message is a warning.
fn partial(success: Option<(i64, String)>) -> Answer {
    let (rejected, why) = success.unwrap_or_default();
    Answer::Taken {
        rejected: u64::try_from(rejected).unwrap_or_default(),
        why,
    }
}
