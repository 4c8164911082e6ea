//! OTLP over gRPC.

use std::str::FromStr as _;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message as _;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
#[cfg(feature = "tls")]
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{Answer, Request, partial};
use crate::config::{Error, Target};

#[derive(Debug)]
pub(super) struct Client {
    channel: Channel,
    metadata: Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)>,
    compression: Option<CompressionEncoding>,
}

impl Client {
    pub(super) fn new(target: &Target) -> Result<Self, Error> {
        let wrong = |what: &str| Error::new(format!("{}: {what}", target.endpoint));
        let endpoint = Endpoint::from_shared(target.endpoint.clone());
        let endpoint = endpoint.map_err(|error| wrong(&error.to_string()))?;
        let endpoint = endpoint.connect_timeout(target.timeout);
        #[cfg(feature = "tls")]
        let endpoint = match target.endpoint.starts_with("https://") {
            true => {
                let endpoint = endpoint.tls_config(tls(&target.tls)?);
                endpoint.map_err(|error| wrong(&error.to_string()))?
            }
            false => endpoint,
        };
        let one = |(name, value): &(String, String)| {
            let name = MetadataKey::from_str(name).ok()?;
            Some((name, MetadataValue::from_str(value).ok()?))
        };
        let metadata = target.headers.iter().map(one).collect::<Option<_>>();
        Ok(Self {
            channel: endpoint.connect_lazy(),
            metadata: metadata.ok_or_else(|| wrong("a header cannot be sent by gRPC"))?,
            compression: target.gzip.then_some(CompressionEncoding::Gzip),
        })
    }

    pub(super) async fn send(&self, request: &Request) -> Answer {
        let answer = match request {
            Request::Traces(traces) => {
                let mut client = TraceServiceClient::new(self.channel.clone());
                if let Some(encoding) = self.compression {
                    client = client.send_compressed(encoding);
                }
                let answer = client.export(self.with_metadata(traces.clone())).await;
                answer.map(|answer| {
                    let partial = answer.into_inner().partial_success;
                    partial.map(|p| (p.rejected_spans, p.error_message))
                })
            }
            Request::Metrics(metrics) => {
                let mut client = MetricsServiceClient::new(self.channel.clone());
                if let Some(encoding) = self.compression {
                    client = client.send_compressed(encoding);
                }
                let answer = client.export(self.with_metadata(metrics.clone())).await;
                answer.map(|answer| {
                    let partial = answer.into_inner().partial_success;
                    partial.map(|p| (p.rejected_data_points, p.error_message))
                })
            }
        };
        match answer {
            Ok(success) => partial(success),
            Err(status) => refusal(&status),
        }
    }

    fn with_metadata<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        for (name, value) in &self.metadata {
            request.metadata_mut().insert(name.clone(), value.clone());
        }
        request
    }
}

/// Reads the files once, as they are now, so that what is wrong with them is said at the start.
#[cfg(feature = "tls")]
fn tls(files: &crate::config::Tls) -> Result<ClientTlsConfig, Error> {
    super::tls::client(files)?;
    let tls = ClientTlsConfig::new();
    let tls = match &files.certificate {
        Some(file) => tls.ca_certificate(Certificate::from_pem(file.read()?)),
        None => tls.with_native_roots(),
    };
    Ok(match &files.client {
        Some([certificate, key]) => {
            tls.identity(Identity::from_pem(certificate.read()?, key.read()?))
        }
        None => tls,
    })
}

/// By the specification of OTLP these codes are to be tried again; RESOURCE_EXHAUSTED only where
/// the backend says when.
fn refusal(status: &Status) -> Answer {
    let why = format!("{:?}: {}", status.code(), status.message());
    let after = retry_delay(status.details());
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Answer::Later { after, why },
        Code::ResourceExhausted if after.is_some() => Answer::Later { after, why },
        // A connection that breaks half-way comes as this, with a cause but without any details.
        Code::Unknown if std::error::Error::source(status).is_some() => {
            Answer::Later { after, why }
        }
        _ => Answer::Refused { why },
    }
}

/// `google.rpc.Status`, as `grpc-status-details-bin` carries it.
#[derive(Clone, PartialEq, prost::Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn retry_delay(details: &[u8]) -> Option<Duration> {
    let details = Details::decode(details).ok()?.details;
    let info = details
        .iter()
        .find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    let (seconds, nanos) = (delay.seconds.try_into().ok()?, delay.nanos.try_into().ok()?);
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(seconds: i64) -> Vec<u8> {
        let delay = Some(Delay { seconds, nanos: 5 });
        let value = RetryInfo { retry_delay: delay }.encode_to_vec();
        let type_url = "type.googleapis.com/google.rpc.RetryInfo".into();
        let details = vec![Any { type_url, value }];
        Details { details }.encode_to_vec()
    }

    #[test]
    fn the_backend_says_when_to_come_back() {
        let status = Status::with_details(Code::ResourceExhausted, "", details(3).into());
        let expected = Some(Duration::new(3, 5));
        assert!(matches!(refusal(&status), Answer::Later { after, .. } if after == expected));
        assert_eq!(retry_delay(&details(-1)), None);
        assert_eq!(retry_delay(b"\xff\xff"), None);
    }

    #[test]
    fn a_full_backend_that_does_not_say_when_is_a_refusal() {
        let full = Status::new(Code::ResourceExhausted, "");
        assert!(matches!(refusal(&full), Answer::Refused { .. }));
        let gone = Status::new(Code::Unavailable, "");
        assert!(matches!(refusal(&gone), Answer::Later { after: None, .. }));
        let wrong = Status::new(Code::InvalidArgument, "");
        assert!(matches!(refusal(&wrong), Answer::Refused { .. }));
    }
}
