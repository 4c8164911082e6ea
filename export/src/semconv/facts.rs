//! An exchange by the words of the conventions.

use wirespan_engine::api::{Flags, Outcome, Value};
use wirespan_engine::{Address, Exchange, Side};

use super::{Instrument, Kind, RouteSource, Routes};
use crate::owner::Ends;

/// `error.type` where no response was seen.
const NO_RESPONSE: &str = "no_response";
/// `error.type` where the response was lost on the way to us.
const LOST: &str = "response_not_captured";
/// What the conventions have for values that are not known to be of low cardinality.
const OTHER: &str = "_OTHER";

/// What metrics and spans of an exchange are made of: its attributes by key, and what follows from
/// them. `None` and `""` are what is not known.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What it is measured as.
    pub instrument: Instrument,
    /// Whose span it is.
    pub kind: Kind,
    /// `error.type`; `None` on success.
    pub error_type: Option<&'a str>,
    /// `http.request.method`
    pub method: Option<&'a str>,
    /// `http.request.method_original`: the method where [`Facts::method`] is `_OTHER`.
    pub method_original: Option<&'a str>,
    /// `url.scheme`
    pub scheme: &'a str,
    /// `url.path`
    pub path: Option<&'a str>,
    /// `url.query`
    pub query: Option<&'a str>,
    /// `http.response.status_code`
    pub status_code: Option<i64>,
    /// `http.route`
    pub route: Option<(&'a str, RouteSource)>,
    /// `network.protocol.version`
    pub version: Option<&'a str>,
    /// `server.address` as the client calls the server.
    pub host: Option<&'a str>,
    /// `server.port` as the client calls it.
    pub port: Option<i64>,
    /// `rpc.method`; `_OTHER` where the server does not implement it.
    pub rpc_method: Option<&'a str>,
    /// `rpc.method_original`: the method where [`Facts::rpc_method`] is `_OTHER`.
    pub rpc_method_original: Option<&'a str>,
    /// `rpc.status_code`
    pub rpc_status: Option<&'a str>,
    /// `db.system.name`
    pub db_system: Option<&'a str>,
    /// `db.namespace`
    pub db_namespace: Option<&'a str>,
    /// `db.operation.name`
    pub db_operation: Option<&'a str>,
    /// `db.query.summary`
    pub db_summary: Option<&'a str>,
    /// `db.stored_procedure.name`
    pub db_procedure: Option<&'a str>,
    /// `db.response.status_code`
    pub db_status: Option<&'a str>,
    /// `http.request.body.size`
    pub request_body: Option<i64>,
    /// `http.response.body.size`
    pub response_body: Option<i64>,
    /// The server's socket.
    pub server: Address,
    /// The service whose socket was observed: its name, or that of its process; `""` where it is not
    /// known.
    pub service: &'a str,
    /// The host that the client named in the TLS handshake.
    tls_host: Option<&'a str>,
    /// `service.instance.id`; `""` where nothing tells services of this name apart.
    pub instance: &'a str,
    /// The service at the other end.
    pub peer: Option<&'a str>,
    /// `error.type` as the parser gave it.
    given_error: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// The facts of `exchange`. A guessed route is written to `scratch`.
    #[must_use]
    pub fn of(exchange: &'a Exchange<'_>, routes: &'a Routes, scratch: &'a mut String) -> Self {
        let (instrument, kind) = measured_as(exchange);
        let mut facts = Self::empty(exchange, instrument, kind);
        // Of several with the same key the last one stands, as in a record.
        for attr in exchange.attrs.iter() {
            facts.take(attr.key().name(), attr.value());
        }
        if let Some(known) = &routes.methods {
            facts.know_methods(known);
        }
        if facts.host.is_none() && facts.tls_host.is_some() {
            facts.host = facts.tls_host;
            facts.port = facts.server.port().map(i64::from);
        }
        if matches!(instrument, Instrument::HttpServer | Instrument::HttpClient) {
            let found = !matches!(facts.status_code, Some(404));
            facts.route = facts
                .path
                .filter(|_| instrument == Instrument::HttpServer)
                .and_then(|path| routes.find(path, found, scratch));
        }
        if facts.rpc_status == Some("UNIMPLEMENTED") {
            facts.rpc_method_original = facts.rpc_method;
            facts.rpc_method = facts.rpc_method.map(|_| OTHER);
        }
        facts.error_type = facts.failure(exchange);
        if facts.error_type.is_none() {
            facts.db_status = None;
        }
        facts
    }

    /// What can be said before anything of the request's content is looked at.
    pub(crate) fn outline(exchange: &'a Exchange<'_>) -> Self {
        let (instrument, kind) = measured_as(exchange);
        Self::empty(exchange, instrument, kind)
    }

    /// The same with what is known of the ends.
    #[must_use]
    pub fn between(self, ends: &Ends<'a>) -> Self {
        let service = ends.owner.map(|owner| &*owner.service);
        Self {
            service: service.map_or(self.service, |service| &service.name),
            instance: service.map_or("", |service| &service.instance),
            peer: ends.peer,
            ..self
        }
    }

    fn empty(exchange: &'a Exchange<'_>, instrument: Instrument, kind: Kind) -> Self {
        let tls = exchange.flags.has(Flags::TLS);
        let process = exchange.process.as_ref();
        Self {
            instrument,
            kind,
            error_type: None,
            method: None,
            method_original: None,
            scheme: if tls { "https" } else { "http" },
            path: None,
            query: None,
            status_code: None,
            route: None,
            version: None,
            host: None,
            tls_host: None,
            port: None,
            rpc_method: None,
            rpc_method_original: None,
            rpc_status: None,
            db_system: None,
            db_namespace: None,
            db_operation: None,
            db_summary: None,
            db_procedure: None,
            db_status: None,
            request_body: None,
            response_body: None,
            server: exchange.server,
            service: process.map_or("", |process| process.name()),
            instance: "",
            peer: None,
            given_error: None,
        }
    }

    /// Tells the methods apart that are `known`, rather than those that the parser knows.
    fn know_methods(&mut self, known: &[Box<str>]) {
        let sent = self.method_original.or(self.method);
        if let Some(sent) = sent.filter(|sent| *sent != OTHER) {
            let is_known = known.iter().any(|method| **method == *sent);
            (self.method, self.method_original) = match is_known {
                true => (Some(sent), None),
                false => (Some(OTHER), Some(sent)),
            };
        }
    }

    fn take(&mut self, key: &str, value: Value<'a>) {
        match value {
            Value::Str("") => {}
            Value::Str(text) => self.take_text(key, text),
            Value::Int(number) => match key {
                "http.response.status_code" => self.status_code = Some(number),
                "server.port" => self.port = Some(number),
                "http.request.body.size" => self.request_body = Some(number),
                "http.response.body.size" => self.response_body = Some(number),
                _ => {}
            },
            _ => {}
        }
    }

    fn take_text(&mut self, key: &str, text: &'a str) {
        let slot = match key {
            "http.request.method" => &mut self.method,
            "http.request.method_original" => &mut self.method_original,
            "url.path" => &mut self.path,
            "url.query" => &mut self.query,
            "url.scheme" => {
                self.scheme = text;
                return;
            }
            "network.protocol.version" => &mut self.version,
            "server.address" => &mut self.host,
            "wirespan.tls.server_name" => &mut self.tls_host,
            "rpc.method" => &mut self.rpc_method,
            "rpc.status_code" => &mut self.rpc_status,
            "db.system.name" => &mut self.db_system,
            "db.namespace" => &mut self.db_namespace,
            "db.operation.name" => &mut self.db_operation,
            "db.query.summary" => &mut self.db_summary,
            "db.stored_procedure.name" => &mut self.db_procedure,
            "db.response.status_code" => &mut self.db_status,
            "error.type" => &mut self.given_error,
            _ => return,
        };
        *slot = Some(text);
    }

    /// The class of the failure, if it is one from the side that is measured: what is the client's
    /// fault (HTTP 4xx, some gRPC statuses) is none of the server's.
    fn failure(&self, exchange: &'a Exchange<'_>) -> Option<&'a str> {
        match (exchange.outcome, self.kind) {
            (Some(Outcome::Ok), _) | (Some(Outcome::ClientFault), Kind::Server) => None,
            (Some(_), _) => {
                let known = self.given_error.or(self.rpc_status);
                let status = Some(exchange.status).filter(|status| !status.is_empty());
                Some(known.or(status).unwrap_or(OTHER))
            }
            (None, _) if exchange.open.is_some() => None,
            (None, _) if exchange.flags.has(Flags::GAP) => Some(LOST),
            (None, _) => Some(self.given_error.unwrap_or(NO_RESPONSE)),
        }
    }

    /// Whether it is a call.
    #[must_use]
    pub const fn is_rpc(&self) -> bool {
        matches!(
            self.instrument,
            Instrument::RpcServer | Instrument::RpcClient
        )
    }

    /// Whether it is an HTTP request.
    #[must_use]
    pub const fn is_http(&self) -> bool {
        matches!(
            self.instrument,
            Instrument::HttpServer | Instrument::HttpClient
        )
    }

    /// The port that the database's clients use unless they are told otherwise.
    #[must_use]
    pub fn default_port(&self) -> Option<u16> {
        match self.db_system? {
            "redis" => Some(6379),
            "postgresql" => Some(5432),
            "mysql" | "mariadb" => Some(3306),
            _ => None,
        }
    }
}

/// Whoever observes the wire between two sees what the server sees, a little earlier. Databases are
/// the exception: the conventions know them from their clients' side only.
fn measured_as(exchange: &Exchange<'_>) -> (Instrument, Kind) {
    let client = exchange.side == Side::Client;
    let kind = if client { Kind::Client } else { Kind::Server };
    match (exchange.protocol.0, client) {
        ("http", false) => (Instrument::HttpServer, kind),
        ("http", true) => (Instrument::HttpClient, kind),
        ("grpc", false) => (Instrument::RpcServer, kind),
        ("grpc", true) => (Instrument::RpcClient, kind),
        ("mysql" | "postgresql" | "redis", _) if exchange.side == Side::Server => {
            (Instrument::DbServer, Kind::Server)
        }
        ("mysql" | "postgresql" | "redis", _) => (Instrument::DbClient, Kind::Client),
        _ => (Instrument::Other, kind),
    }
}
