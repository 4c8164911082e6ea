//! One exchange as one line of JSON: the format `wirespan.record/1`.
//!
//! Written by hand, key by key in the documented order, because this runs once for each request on
//! the machine: no intermediate value, no allocation but the growth of the caller's buffer.

use wirespan_engine::api::{Flags, Value};
use wirespan_engine::{Address, Attrs, Exchange, Nanos, Process};

use crate::format::{self, Clock};
use crate::ids::SpanIds;
use crate::owner::{Container, Ends, Service};

/// Name and version of the format, the first key of each record.
pub const SCHEMA: &str = "wirespan.record/1";

/// The same of a report of an exchange that is still open: the keys of a record, and behind
/// `duration_ns`, which is null, `open_ns`: for how long it has been open.
pub const OPEN_SCHEMA: &str = "wirespan.open/1";

/// Whether a line that [`RecordWriter::write`] wrote is of an exchange that was still open.
#[must_use]
pub fn is_open(line: &[u8]) -> bool {
    line.starts_with(OPEN_HEAD)
}

const OPEN_HEAD: &[u8] = b"{\"schema\":\"wirespan.open/1\",";

/// Writes records. Keep one for each thread: it remembers the text of the current second.
#[derive(Debug)]
pub struct RecordWriter {
    clock: Clock,
}

/// A moment as RFC 3339 in UTC with nanoseconds, as records have it: `2026-11-21T14:06:14.182000931Z`.
#[must_use]
pub fn rfc3339(time: Nanos) -> String {
    let mut text = Vec::new();
    Clock::new().rfc3339(&mut text, time);
    String::from_utf8_lossy(&text).into_owned()
}

impl Default for RecordWriter {
    fn default() -> Self {
        Self {
            clock: Clock::new(),
        }
    }
}

impl RecordWriter {
    /// Appends `exchange` and a line feed to `out`.
    pub fn write(&mut self, out: &mut Vec<u8>, exchange: &Exchange<'_>) {
        self.write_between(out, exchange, &Ends::default());
    }

    /// The same of an exchange whose ends are known: the attributes name the services.
    pub fn write_between(&mut self, out: &mut Vec<u8>, exchange: &Exchange<'_>, ends: &Ends<'_>) {
        out.extend_from_slice(match exchange.open {
            None => b"{\"schema\":\"wirespan.record/1\",",
            Some(_) => OPEN_HEAD,
        });
        out.extend_from_slice(b"\"start\":\"");
        self.clock.rfc3339(out, exchange.start);
        out.extend_from_slice(b"\",\"duration_ns\":");
        nullable(out, exchange.duration);
        if let Some(open) = exchange.open {
            out.extend_from_slice(b",\"open_ns\":");
            format::unsigned(out, open);
        }
        out.extend_from_slice(b",\"ttfb_ns\":");
        nullable(out, exchange.ttfb);
        out.extend_from_slice(b",\"protocol\":");
        string(out, exchange.protocol.0);
        out.extend_from_slice(b",\"operation\":");
        string(out, exchange.operation);
        out.extend_from_slice(b",\"target\":");
        string(out, exchange.target);
        out.extend_from_slice(b",\"status\":");
        string(out, exchange.status);
        out.extend_from_slice(b",\"error\":");
        out.extend_from_slice(if exchange.error() { b"true" } else { b"false" });
        address(out, b",\"client\":", &exchange.client);
        address(out, b",\"server\":", &exchange.server);
        out.extend_from_slice(b",\"side\":\"");
        out.extend_from_slice(exchange.side.name().as_bytes());
        out.extend_from_slice(b"\",\"request_bytes\":");
        format::unsigned(out, exchange.request_bytes);
        out.extend_from_slice(b",\"response_bytes\":");
        format::unsigned(out, exchange.response_bytes);
        if let Some(ids) = SpanIds::of(exchange) {
            span(out, &ids);
        }
        flags(out, exchange.flags);
        if let Some(owner) = &exchange.process {
            process(out, owner);
        }
        let service = ends.owner.map(|owner| &*owner.service);
        if let Some(inside) = service.and_then(|service| service.container.as_ref()) {
            container(out, inside);
        }
        let mut first = attributes(out, exchange.attrs);
        let named = service.into_iter().flat_map(Service::kubernetes);
        for (key, value) in named {
            member(out, &mut first, key);
            string(out, value);
        }
        let services = [
            ("service.name", service.map(|service| &*service.name)),
            ("service.peer.name", ends.peer),
            ("service.peer.namespace", ends.peer_namespace),
        ];
        for (key, value) in services {
            if let Some(value) = value {
                member(out, &mut first, key);
                string(out, value);
            }
        }
        out.extend_from_slice(b"}}\n");
    }
}

fn nullable(out: &mut Vec<u8>, value: Option<u64>) {
    match value {
        Some(value) => format::unsigned(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

fn address(out: &mut Vec<u8>, key: &[u8], address: &Address) {
    out.extend_from_slice(key);
    match address {
        Address::Inet(socket) => {
            out.push(b'"');
            format::socket(out, *socket);
            out.push(b'"');
        }
        // A path may have what JSON wants to be escaped.
        Address::Unix(_) => string(out, &address.to_string()),
    }
}

fn span(out: &mut Vec<u8>, ids: &SpanIds) {
    out.extend_from_slice(b",\"trace_id\":\"");
    format::hex(out, &ids.trace_id);
    out.extend_from_slice(b"\",\"span_id\":\"");
    format::hex(out, &ids.span_id);
    if let Some(parent) = &ids.parent_span_id {
        out.extend_from_slice(b"\",\"parent_span_id\":\"");
        format::hex(out, parent);
    }
    out.push(b'"');
}

fn flags(out: &mut Vec<u8>, flags: Flags) {
    out.extend_from_slice(b",\"flags\":[");
    for (i, name) in flags.names().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        string(out, name);
    }
    out.push(b']');
}

fn process(out: &mut Vec<u8>, process: &Process) {
    out.extend_from_slice(b",\"process\":{\"pid\":");
    format::unsigned(out, u64::from(process.pid));
    out.extend_from_slice(b",\"name\":");
    string(out, process.name());
    out.push(b'}');
}

fn container(out: &mut Vec<u8>, container: &Container) {
    out.extend_from_slice(b",\"container\":{\"id\":");
    string(out, &container.id);
    for (key, value) in [("pod", &container.pod), ("namespace", &container.namespace)] {
        if let Some(value) = value {
            member(out, &mut false, key);
            string(out, value);
        }
    }
    out.push(b'}');
}

/// A key of an object, and the comma before it.
fn member(out: &mut Vec<u8>, first: &mut bool, key: &str) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    string(out, key);
    out.push(b':');
}

/// The attributes as an object that is not yet closed; whether it is empty. Of several with the same key the last one stands: those of the
/// session come before the request's own.
fn attributes(out: &mut Vec<u8>, attrs: Attrs<'_>) -> bool {
    out.extend_from_slice(b",\"attributes\":{");
    let mut first = true;
    for (i, attr) in attrs.iter().enumerate() {
        if attrs
            .iter()
            .skip(i + 1)
            .any(|later| later.key() == attr.key())
        {
            continue;
        }
        member(out, &mut first, attr.key().name());
        match attr.value() {
            Value::Str(text) => string(out, text),
            Value::Int(number) => format::signed(out, number),
            _ => out.extend_from_slice(b"null"),
        }
    }
    first
}

/// Appends `text` as a JSON string (RFC 8259 §7): quotation mark, backslash and control characters
/// escaped, everything else as it is.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..i]);
        plain = i + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                format::hex(out, &[control]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value as Json, json};
    use wirespan_engine::UnixName;

    use super::*;
    use crate::fixture::{b3, w3c, with_exchange};
    use crate::owner::Owner;

    fn line(exchange: &Exchange<'_>) -> String {
        let mut out = Vec::new();
        RecordWriter::default().write(&mut out, exchange);
        String::from_utf8(out).expect("UTF-8")
    }

    fn parsed(exchange: &Exchange<'_>) -> Json {
        serde_json::from_str(&line(exchange)).expect("valid JSON")
    }

    #[test]
    fn a_record_has_its_keys_in_the_documented_order_and_each_attribute_once() {
        let expected = "{\"schema\":\"wirespan.record/1\",\
             \"start\":\"2026-12-31T23:59:59.000000001Z\",\
             \"duration_ns\":1500000,\"ttfb_ns\":1000,\"protocol\":\"http\",\"operation\":\"GET\",\
             \"target\":\"/a?b=c\",\"status\":\"200\",\"error\":false,\
             \"client\":\"10.0.0.1:40000\",\"server\":\"10.0.0.2:80\",\"side\":\"wire\",\
             \"request_bytes\":78,\"response_bytes\":1234,\"flags\":[],\
             \"attributes\":{\"http.response.status_code\":200,\"db.namespace\":\"2\",\
             \"server.address\":\"a\\u0001b\"}}\n";
        with_exchange(|exchange| assert_eq!(line(&exchange), expected));
    }

    #[test]
    fn what_is_not_known_is_null_or_empty_and_an_error() {
        with_exchange(|mut unanswered| {
            (unanswered.status, unanswered.outcome) = ("", None);
            (unanswered.duration, unanswered.ttfb) = (None, None);
            unanswered.flags = Flags::NO_RESPONSE.with(Flags::MIDSTREAM);
            let record = parsed(&unanswered);
            assert_eq!(record["duration_ns"], Json::Null);
            assert_eq!(record["ttfb_ns"], Json::Null);
            assert_eq!(record["status"], "");
            assert_eq!(record["error"], true);
            assert_eq!(record["flags"], json!(["midstream", "no_response"]));
        });
    }

    #[test]
    fn an_open_exchange_has_a_schema_of_its_own_and_says_for_how_long() {
        with_exchange(|mut open| {
            (open.status, open.outcome, open.duration) = ("", None, None);
            open.open = Some(2_000_000_000);
            let text = line(&open);
            assert!(is_open(text.as_bytes()));
            assert!(text.contains("\"duration_ns\":null,\"open_ns\":2000000000,\"ttfb_ns\":"));
            let record = parsed(&open);
            assert_eq!(record["schema"], OPEN_SCHEMA);
            assert_eq!(record["error"], false, "nothing has gone wrong yet");
            open.open = None;
            assert!(!is_open(line(&open).as_bytes()));
            assert_eq!(parsed(&open).get("open_ns"), None);
        });
    }

    #[test]
    fn ids_stand_between_the_sizes_and_the_flags() {
        let ids = "\"trace_id\":\"4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b\",\
                   \"span_id\":\"f0f0f0f0f0f0f0f0\",\"parent_span_id\":\"0a0a0a0a0a0a0a0a\"";
        with_exchange(|mut traced| {
            traced.trace = Some(b3());
            let expected = format!("\"response_bytes\":1234,{ids},\"flags\":[]");
            assert!(line(&traced).contains(&expected));
        });
    }

    #[test]
    fn a_shared_span_without_a_parent_has_no_parent_key() {
        with_exchange(|mut shared| {
            let mut context = b3();
            context.parent_span_id = None;
            shared.trace = Some(context);
            assert_eq!(parsed(&shared).get("parent_span_id"), None);
            assert_eq!(parsed(&shared)["span_id"], "f0f0f0f0f0f0f0f0");
        });
    }

    #[test]
    fn a_callers_span_is_the_parent() {
        with_exchange(|mut traced| {
            traced.trace = Some(w3c());
            assert_eq!(parsed(&traced)["parent_span_id"], "f0f0f0f0f0f0f0f0");
        });
    }

    #[test]
    fn the_process_stands_between_the_flags_and_the_attributes() {
        let process =
            "\"flags\":[\"tls\"],\"process\":{\"pid\":4711,\"name\":\"we\\\"b\"},\"attributes\"";
        with_exchange(|mut live| {
            live.process = Some(Process::new(4711, b"we\"b"));
            live.flags = Flags::TLS;
            assert!(line(&live).contains(process));
        });
    }

    #[test]
    fn what_is_known_of_the_ends_is_behind_the_process_and_in_the_attributes() {
        let owner = Owner {
            service: Arc::new(Service {
                name: "shop".into(),
                attributes: [
                    ("service.version", "1"),
                    ("k8s.pod.name", "shop-1"),
                    ("k8s.pod.uid", "7"),
                    ("k8s.deployment.name", "shop"),
                ]
                .map(|(key, value)| (key.into(), value.into()))
                .into(),
                container: Some(Container {
                    id: "0123".into(),
                    pod: Some("shop-1".into()),
                    namespace: None,
                }),
                ..Service::default()
            }),
            ..Owner::default()
        };
        let ends = Ends {
            owner: Some(&owner),
            peer: Some("db"),
            peer_namespace: Some("shop"),
        };
        with_exchange(|mut live| {
            live.process = Some(Process::new(4711, b"web"));
            let mut out = Vec::new();
            RecordWriter::default().write_between(&mut out, &live, &ends);
            let line = String::from_utf8(out).expect("UTF-8");
            let inside = "\"name\":\"web\"},\"container\":{\"id\":\"0123\",\"pod\":\"shop-1\"},\"attributes\":{";
            assert!(line.contains(inside), "{line}");
            let record: Json = serde_json::from_str(&line).expect("JSON");
            assert_eq!(record["attributes"]["service.name"], "shop");
            assert_eq!(record["attributes"]["service.peer.name"], "db");
            assert_eq!(record["attributes"]["service.peer.namespace"], "shop");
            assert_eq!(record["attributes"]["k8s.deployment.name"], "shop");
            for elsewhere in ["service.version", "k8s.pod.name", "k8s.pod.uid"] {
                assert!(record["attributes"].get(elsewhere).is_none());
            }
        });
    }

    #[test]
    fn every_character_comes_back_from_a_json_parser() {
        let mut text: String = (0..0x500).filter_map(char::from_u32).collect();
        text.push_str("\u{2028}\u{ffff}\u{1f680}\\u0041\\\"");
        with_exchange(|odd| {
            let odd = Exchange {
                target: &text,
                ..odd
            };
            assert_eq!(parsed(&odd)["target"], text.as_str());
            assert_eq!(line(&odd).matches('\n').count(), 1, "one record, one line");
        });
    }

    #[test]
    fn the_schema_key_is_the_published_name() {
        with_exchange(|exchange| assert_eq!(parsed(&exchange)["schema"], SCHEMA));
    }

    #[test]
    fn unix_sockets_are_shown_by_their_names() {
        with_exchange(|mut exchange| {
            let unix = |name: &[u8]| Address::Unix(UnixName::new(name));
            (exchange.client, exchange.server) = (unix(b""), unix(b"/run/a \"b\".sock"));
            let mut line = Vec::new();
            RecordWriter::default().write(&mut line, &exchange);
            let line = String::from_utf8(line).expect("UTF-8");
            let ends = r#""client":"unix:","server":"unix:/run/a \"b\".sock","side":"#;
            assert!(line.contains(ends), "{line}");
        });
    }
}
