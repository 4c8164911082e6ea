//! From an exchange to its span: name and attributes.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use wirespan_engine::api::{Flags, Value};
use wirespan_engine::{Address, Exchange, Nanos};

use super::{Place, Span, Stored};
use crate::owner::Ends;
use crate::semconv::{Facts, Instrument, Kind};

/// Attributes that most spans have room for without growing.
const USUAL: usize = 20;

/// The span of `exchange`.
pub(super) fn span(exchange: &Exchange<'_>, facts: &Facts<'_>, place: Place, weight: f64) -> Span {
    let trace_state = exchange.trace.as_ref().map_or("", |trace| trace.tracestate);
    let mut span = Span {
        ids: place.ids,
        kind: facts.kind,
        start: exchange.start,
        end: Nanos(exchange.start.0 + exchange.duration.unwrap_or(0)),
        error: facts.error_type.is_some(),
        process: exchange.process,
        service: None,
        weight,
        text: String::with_capacity(256),
        name: 0,
        trace_state: 0,
        attributes: Vec::with_capacity(USUAL),
    };
    name(&mut span.text, exchange, facts);
    span.name = span.text.len() as u32;
    span.text.push_str(trace_state);
    span.trace_state = span.text.len() as u32;
    span.own(exchange, facts);
    span.derived(exchange, facts);
    if let Some(source) = place.source {
        span.text("wirespan.parent.source", source.name());
    }
    span
}

/// The name by the conventions of the protocol: never the path, never a value.
fn name(out: &mut String, exchange: &Exchange<'_>, facts: &Facts<'_>) {
    if facts.is_http() {
        let method = facts.method.unwrap_or("_OTHER");
        out.push_str(if method == "_OTHER" { "HTTP" } else { method });
        if let Some((route, _)) = facts.route {
            out.push(' ');
            out.push_str(route);
        }
        return;
    }
    let name = if facts.is_rpc() {
        facts.rpc_method.filter(|method| *method != "_OTHER")
    } else if facts.db_system == Some("redis") {
        facts.db_operation
    } else {
        facts.db_summary
    };
    let system = if facts.is_rpc() {
        Some("grpc")
    } else {
        facts.db_system
    };
    out.push_str(name.or(system).unwrap_or(exchange.protocol.0));
}

impl Span {
    /// The attributes that the exchange has, but those that are told in another way.
    fn own(&mut self, exchange: &Exchange<'_>, facts: &Facts<'_>) {
        let client_url = facts.instrument == Instrument::HttpClient && facts.path.is_some();
        for (i, attr) in exchange.attrs.iter().enumerate() {
            let key = attr.key().name();
            let told_otherwise = match key {
                "error.type" | "rpc.method" => true,
                "url.path" | "url.query" | "url.scheme" => client_url || facts.is_rpc(),
                // Of gRPC's HTTP nothing is shown but what the conventions for calls have.
                "http.request.method" | "network.protocol.version" if facts.is_rpc() => true,
                _ => false,
            };
            let replaced = || {
                exchange
                    .attrs
                    .iter()
                    .skip(i + 1)
                    .any(|a| a.key() == attr.key())
            };
            if told_otherwise || replaced() {
                continue;
            }
            if facts.is_http() && key.starts_with("http.request.method") {
                self.method(key, facts);
                continue;
            }
            match attr.value() {
                Value::Str(text) => self.text(key, text),
                Value::Int(number) => self.integer(key, number),
                _ => {}
            }
        }
    }

    /// The attributes that follow from the facts.
    fn derived(&mut self, exchange: &Exchange<'_>, facts: &Facts<'_>) {
        if facts.is_http() {
            self.http(facts);
        }
        if let Some(method) = facts.rpc_method {
            self.text("rpc.method", method);
        }
        if let Some(method) = facts.rpc_method_original {
            self.text("rpc.method_original", method);
        }
        let (peer, own_client) = match facts.kind {
            Kind::Server => (exchange.client, true),
            Kind::Client => (exchange.server, false),
        };
        if own_client && facts.is_http() && !self.has("client.address") {
            self.host("client.address", &peer);
        }
        self.server(facts);
        self.peer(&peer);
        if let Some(error) = facts.error_type {
            self.text("error.type", error);
        }
        if exchange.flags != Flags::NONE {
            self.write("wirespan.flags", format_args!("{}", exchange.flags));
        }
        if let Some(process) = &exchange.process {
            self.integer("process.pid", process.pid.into());
        }
    }

    /// Adds what is known of the ends.
    pub(crate) fn is_between(&mut self, ends: &Ends<'_>) {
        if let Some(owner) = ends.owner {
            self.service = Some(Arc::clone(&owner.service));
            if let Some(name) = &owner.executable {
                self.text("process.executable.name", name);
            }
            if let Some(path) = &owner.path {
                self.text("process.executable.path", path);
            }
        }
        if let Some(peer) = ends.peer {
            self.text("service.peer.name", peer);
        }
        if let Some(namespace) = ends.peer_namespace {
            self.text("service.peer.namespace", namespace);
        }
    }

    /// The method as the facts have it, where the exchange has one.
    fn method(&mut self, key: &str, facts: &Facts<'_>) {
        if key != "http.request.method" {
            return;
        }
        self.text("http.request.method", facts.method.unwrap_or("_OTHER"));
        if let Some(method) = facts.method_original {
            self.text("http.request.method_original", method);
        }
    }

    fn http(&mut self, facts: &Facts<'_>) {
        if let Some((route, source)) = facts.route {
            self.text("http.route", route);
            self.text("wirespan.route.source", source.name());
        }
        match (facts.instrument, facts.path) {
            (Instrument::HttpClient, Some(path)) => self.write("url.full", Url { facts, path }),
            _ if !self.has("url.scheme") => self.text("url.scheme", facts.scheme),
            _ => {}
        }
    }

    /// The server as the client calls it, in its request or in the TLS handshake. Where that is not
    /// known a client of HTTP or of a database has its address; a call has none then.
    fn server(&mut self, facts: &Facts<'_>) {
        let port = facts.server.port();
        let database = facts.db_system.is_some();
        let is_due = facts.kind == Kind::Client || database;
        match facts.host {
            Some(host) if is_due && !self.has("server.address") => {
                self.text("server.address", host);
            }
            None if is_due && !facts.is_rpc() => self.host("server.address", &facts.server),
            _ => {}
        }
        let needed = match facts.instrument {
            Instrument::HttpClient => !self.has("server.port"),
            _ => database && facts.default_port() != port,
        };
        if let Some(port) = port.filter(|_| needed) {
            self.integer("server.port", port.into());
        }
    }

    fn peer(&mut self, peer: &Address) {
        self.host("network.peer.address", peer);
        match peer.port() {
            Some(port) => self.integer("network.peer.port", port.into()),
            // The conventions take anything else for granted.
            None => self.text("network.transport", "unix"),
        }
    }

    /// An address without its port; the name of a Unix socket, if it has one.
    fn host(&mut self, key: &'static str, address: &Address) {
        match address {
            Address::Inet(socket) => self.write(key, socket.ip()),
            Address::Unix(name) if name.is_none() => {}
            Address::Unix(name) => self.write(key, name),
        }
    }

    fn has(&self, wanted: &str) -> bool {
        self.attributes.iter().any(|(key, _)| *key == wanted)
    }

    fn text(&mut self, key: &'static str, value: &str) {
        let from = self.text.len() as u32;
        self.text.push_str(value);
        let to = self.text.len() as u32;
        self.attributes.push((key, Stored::Text { from, to }));
    }

    fn write(&mut self, key: &'static str, value: impl fmt::Display) {
        let from = self.text.len() as u32;
        // Writing into a String cannot fail.
        let _ = write!(self.text, "{value}");
        let to = self.text.len() as u32;
        self.attributes.push((key, Stored::Text { from, to }));
    }

    fn integer(&mut self, key: &'static str, value: i64) {
        self.attributes.push((key, Stored::Integer(value)));
    }
}

/// `url.full`, of parts that were redacted by the parser. Credentials of the authority are none of
/// its parts.
struct Url<'a> {
    facts: &'a Facts<'a>,
    path: &'a str,
}

impl fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.facts;
        write!(f, "{}://", facts.scheme)?;
        match facts.host {
            Some(host) if host.contains(':') => write!(f, "[{host}]")?,
            Some(host) => f.write_str(host)?,
            None => match facts.server {
                Address::Inet(socket) => write!(f, "{socket}")?,
                // As nginx writes it: the colon shows where the path ends.
                Address::Unix(name) => write!(f, "unix:{name}:")?,
            },
        }
        if let (Some(_), Some(port)) = (facts.host, facts.port) {
            write!(f, ":{port}")?;
        }
        f.write_str(self.path)?;
        match facts.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}
