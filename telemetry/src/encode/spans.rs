//! Spans as OTLP has them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Message, Status};
use wirespan_engine::api;
use wirespan_export::owner::Service;
use wirespan_export::semconv::{Kind, SCHEMA_URL};
use wirespan_export::spans::Span;

use super::{Resource, attribute, integer, scope, text};

/// `SpanFlags`: whether the parent is in another process is known, and whether it is.
const KNOWN_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// The request that exports `spans`, by service.
#[must_use]
pub fn trace_request(spans: &[Span], resource: &Resource) -> ExportTraceServiceRequest {
    let mut services = BTreeMap::<(&str, &str), (Option<&Service>, Vec<Message>)>::new();
    for span in spans {
        let service = span.service.as_deref();
        let process = || span.process.as_ref().map_or("", |process| process.name());
        let name = service.map_or_else(process, |service| &service.name);
        let instance = service.map_or("", |service| &service.instance);
        let of = services.entry((name, instance)).or_default();
        of.0 = of.0.or(service);
        of.1.push(message(span));
    }
    let of_service = |((name, _), (service, spans))| ResourceSpans {
        resource: Some(resource.of(name, service)),
        scope_spans: vec![ScopeSpans {
            scope: Some(scope()),
            spans,
            schema_url: SCHEMA_URL.into(),
        }],
        schema_url: SCHEMA_URL.into(),
    };
    ExportTraceServiceRequest {
        resource_spans: services.into_iter().map(of_service).collect(),
    }
}

fn message(span: &Span) -> Message {
    let attributes = span.attributes().filter_map(|(key, value)| match value {
        api::Value::Str(value) => Some(text(key, value)),
        api::Value::Int(value) => Some(integer(key, value)),
        _ => None,
    });
    let mut attributes: Vec<_> = attributes.collect();
    if span.weight > 1.0 {
        let weight = Value::DoubleValue(span.weight);
        attributes.push(attribute("wirespan.sampling.weight", weight));
    }
    let ids = &span.ids;
    let remote = match (ids.parent_span_id, span.kind) {
        (None, _) => 0,
        (Some(_), Kind::Server) => KNOWN_REMOTE | IS_REMOTE,
        (Some(_), Kind::Client) => KNOWN_REMOTE,
    };
    let code = if span.error {
        StatusCode::Error
    } else {
        StatusCode::Unset
    };
    let kind = match span.kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
    };
    Message {
        trace_id: ids.trace_id.to_vec(),
        span_id: ids.span_id.to_vec(),
        trace_state: span.trace_state().into(),
        parent_span_id: ids.parent_span_id.map_or(Vec::new(), |id| id.to_vec()),
        flags: u32::from(ids.flags) | remote,
        name: span.name().into(),
        kind: kind.into(),
        start_time_unix_nano: span.start.0,
        end_time_unix_nano: span.end.0,
        attributes,
        status: Some(Status {
            code: code.into(),
            message: String::new(),
        }),
        ..Message::default()
    }
}
