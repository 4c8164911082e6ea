//! Metrics and spans as the messages of OTLP.

mod metrics;
mod spans;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource as ResourceMessage;
use wirespan_engine::Nanos;
use wirespan_export::metrics::{Reading, Snapshot};
use wirespan_export::owner::Service;
use wirespan_export::spans::Span;

pub use metrics::metrics_request;
pub(crate) use metrics::{Counted, Window, request_of};
pub use spans::trace_request;

/// Metrics at one time.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// The aggregated series.
    pub snapshot: Snapshot,
    /// What the program says of itself.
    pub readings: Vec<Reading>,
    /// Since when the readings count.
    pub began: Nanos,
    /// When they were taken.
    pub time: Nanos,
}

/// What is said of the observed services besides their names: attributes of each OTLP resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// `OTEL_SERVICE_NAME`: the name of all services, in place of their own.
    pub service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`, without `service.name`.
    pub attributes: Vec<(String, String)>,
}

/// `service.name` where nobody knows it, by the specification of resources.
const UNKNOWN_SERVICE: &str = "unknown_service";

impl Resource {
    /// The resource of an observed service, with what is known of it; `""` is one whose name is not
    /// known.
    fn of(&self, name: &str, service: Option<&Service>) -> ResourceMessage {
        let own = self.service_name.as_deref();
        let known = Some(name).filter(|name| !name.is_empty());
        let name = own.or(known).unwrap_or(UNKNOWN_SERVICE);
        let mut attributes = vec![
            text("service.name", name),
            text("telemetry.sdk.name", "wirespan"),
            text("telemetry.sdk.language", "rust"),
            text("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        if let Some(service) = service {
            let instance = Some(&service.instance).filter(|instance| !instance.is_empty());
            attributes.extend(instance.map(|instance| text("service.instance.id", instance)));
            let others = service.attributes.iter();
            attributes.extend(others.map(|(key, value)| text(key, value)));
        }
        // What the service says of itself comes before what is said of all.
        for (key, value) in &self.attributes {
            if !attributes.iter().any(|known| known.key == *key) {
                attributes.push(text(key, value));
            }
        }
        ResourceMessage {
            attributes,
            ..ResourceMessage::default()
        }
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "wirespan".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn integer(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

/// Writes OTLP as lines of JSON, a request each, as the collector's file exporter does.
#[derive(Clone, Debug, Default)]
pub struct JsonLines {
    resource: Resource,
}

impl JsonLines {
    /// With these attributes of all services.
    #[must_use]
    pub const fn new(resource: Resource) -> Self {
        Self { resource }
    }

    /// Appends a line with one span.
    pub fn span(&self, out: &mut Vec<u8>, span: &Span) {
        line(
            out,
            &trace_request(std::slice::from_ref(span), &self.resource),
        );
    }

    /// Appends a line with metrics.
    pub fn metrics(&self, out: &mut Vec<u8>, collection: &Collection) {
        line(out, &metrics_request(collection, &self.resource));
    }
}

fn line(out: &mut Vec<u8>, request: &impl serde::Serialize) {
    // Writing into a Vec cannot fail, and no map of these messages has keys that are no text.
    let _ = serde_json::to_writer(&mut *out, request);
    out.push(b'\n');
}
