//! OTLP over HTTP/1.1, as protobuf or as JSON.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;

use super::{Answer, Request, partial};
use crate::config::{Error, Target};

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;
#[cfg(feature = "tls")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;

/// How requests are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body {
    Protobuf,
    Json,
}

#[derive(Debug)]
pub(super) struct Client {
    client: hyper_util::client::legacy::Client<Connector, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
}

impl Client {
    pub(super) fn new(target: &Target, body: Body) -> Result<Self, Error> {
        let wrong = |what: String| Error::new(format!("{}: {what}", target.endpoint));
        let uri: Uri = target.endpoint.parse().map_err(|e| wrong(format!("{e}")))?;
        let mut headers = HeaderMap::new();
        let agent = concat!("wirespan/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        for (name, value) in &target.headers {
            let name = HeaderName::try_from(name).map_err(|e| wrong(format!("{e}")))?;
            let value = HeaderValue::try_from(value).map_err(|e| wrong(format!("{e}")))?;
            headers.insert(name, value);
        }
        let content = match body {
            Body::Protobuf => "application/x-protobuf",
            Body::Json => "application/json",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
        if target.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(target.timeout));
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        Ok(Self {
            client: client.build(secured(connector, target)?),
            uri,
            headers,
            body,
        })
    }

    pub(super) fn encode(&self, request: &Request) -> Bytes {
        let body = match (self.body, request) {
            (Body::Protobuf, Request::Traces(traces)) => traces.encode_to_vec(),
            (Body::Protobuf, Request::Metrics(metrics)) => metrics.encode_to_vec(),
            // No map of these messages has keys that are no text: this cannot fail.
            (Body::Json, Request::Traces(traces)) => serde_json::to_vec(traces).unwrap_or_default(),
            (Body::Json, Request::Metrics(metrics)) => {
                serde_json::to_vec(metrics).unwrap_or_default()
            }
        };
        match self.headers.contains_key(CONTENT_ENCODING) {
            true => gzip(&body).into(),
            false => body.into(),
        }
    }

    pub(super) async fn send(&self, body: Bytes) -> Answer {
        let mut request = hyper::Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let later = |why: String| Answer::Later { after: None, why };
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => return later(with_causes(&error)),
        };
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return later(format!("the answer broke off: {error}")),
        };
        self.answer(head.status, &head.headers, &body)
    }

    /// By the specification of OTLP 429, 502, 503 and 504 are to be tried again, other failures are
    /// not.
    fn answer(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
        if status.is_success() {
            return partial(self.partial_success(body));
        }
        let why = format!("HTTP status {status}");
        match status.as_u16() {
            429 | 502..=504 => Answer::Later {
                after: retry_after(headers, SystemTime::now()),
                why,
            },
            _ => Answer::Refused { why },
        }
    }

    /// How many were rejected, and why. What cannot be read of a success is no reason to worry.
    fn partial_success(&self, body: &[u8]) -> Option<(i64, String)> {
        if self.body == Body::Json {
            let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
            let partial = answer.get("partialSuccess")?;
            let rejected = partial
                .get("rejectedSpans")
                .or_else(|| partial.get("rejectedDataPoints"));
            // 64-bit integers are strings in protobuf's JSON; numbers are to be taken too. One that is
            // zero may be missing.
            let number = |value: &serde_json::Value| {
                let text = value.as_str().and_then(|text| text.parse().ok());
                text.or_else(|| value.as_i64())
            };
            let message = partial.get("errorMessage").and_then(|m| m.as_str());
            let rejected = rejected.and_then(number).unwrap_or_default();
            return Some((rejected, message.unwrap_or_default().to_owned()));
        }
        if self.uri.path().ends_with("metrics") {
            let answer = ExportMetricsServiceResponse::decode(body).ok()?;
            let partial = answer.partial_success?;
            return Some((partial.rejected_data_points, partial.error_message));
        }
        let partial = ExportTraceServiceResponse::decode(body)
            .ok()?
            .partial_success?;
        Some((partial.rejected_spans, partial.error_message))
    }
}

/// As RFC 1952 has it. The level is the fastest: it is for the wire, not for keeping.
fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing into a Vec cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

#[cfg(not(feature = "tls"))]
fn secured(connector: HttpConnector, _: &Target) -> Result<Connector, Error> {
    Ok(connector)
}

#[cfg(feature = "tls")]
fn secured(mut connector: HttpConnector, target: &Target) -> Result<Connector, Error> {
    connector.enforce_http(false);
    Ok(hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(super::tls::client(&target.tls)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector))
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_may_be_a_partial_one() {
        let success = |body: Body, path: &str, answer: &[u8]| {
            let target = Target {
                endpoint: format!("http://localhost:4318/{path}"),
                protocol: crate::Protocol::HttpProtobuf,
                headers: Vec::new(),
                timeout: Duration::from_secs(1),
                gzip: false,
                tls: crate::Tls::default(),
            };
            let client = Client::new(&target, body).expect("a client");
            client.partial_success(answer)
        };
        let json = |answer: &str| success(Body::Json, "v1/traces", answer.as_bytes());
        let said = |n, why: &str| Some((n, why.to_owned()));
        assert_eq!(json("{}"), None);
        let some = r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"old"}}"#;
        assert_eq!(json(some), said(2, "old"));
        let warning = r#"{"partialSuccess":{"errorMessage":"slow down"}}"#;
        assert_eq!(json(warning), said(0, "slow down"));
        // ExportMetricsServiceResponse: partial_success = 1 { rejected_data_points = 1: 3 }
        let metrics = success(Body::Protobuf, "v1/metrics", &[0x0a, 2, 0x08, 3]);
        assert_eq!(metrics, said(3, ""));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sat, 21 Nov 2026 12:00:00 GMT").expect("a date");
        let after = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&headers, now)
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            after("Sat, 21 Nov 2026 12:01:30 GMT"),
            Some(Duration::from_secs(90))
        );
        assert_eq!(after("Sat, 21 Nov 2026 11:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }
}
