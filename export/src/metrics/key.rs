//! What tells series apart, as a run of bytes: cheap to hash, to compare and to keep.
//!
//! ```text
//! instrument  service        label  kind  value                label  kind  value
//!    u8      len u8, bytes    u8     0    len u8, bytes          u8     1    i64
//! ```
//!
//! Behind the service's name comes a zero and its instance, where there is one.
//! Addresses are written as octets, and become text when a key is read back: that is seldom.

use std::net::{IpAddr, SocketAddr};

use wirespan_engine::{Address, Exchange, Side};

use crate::semconv::{Facts, Instrument, Label};

/// Longest value of a label in bytes. A longer one is cut at a character.
const MAX_VALUE: usize = 255;

/// Kinds of values.
const TEXT: u8 = 0;
const INTEGER: u8 = 1;
/// An IP address: octets, their number before them.
const ADDRESS: u8 = 2;
/// The same, and a port in two bytes behind.
const SOCKET: u8 = 3;

/// Value of a metric's attribute.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LabelValue {
    /// Text.
    Text(Box<str>),
    /// An integer.
    Integer(i64),
}

/// The identity of a series, being written.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// The key of the exchange's own series.
    pub(super) fn exchange(&mut self, facts: &Facts<'_>, side: &str) -> &[u8] {
        self.begin(facts.instrument, facts);
        match facts.instrument {
            Instrument::HttpServer | Instrument::HttpClient => self.http(facts),
            Instrument::RpcServer | Instrument::RpcClient => self.rpc(facts),
            Instrument::DbClient | Instrument::DbServer => self.database(facts),
            Instrument::Other | Instrument::Edge => self.text(Label::Side, side),
        }
        self.text_if(Label::ErrorType, facts.error_type);
        &self.0
    }

    /// The key of an edge of the service map. Where a process was observed its service stands for its
    /// end, and so does the peer's where it is known; the port of a client is a different one for each connection and tells nothing.
    pub(super) fn edge(&mut self, exchange: &Exchange<'_>, facts: &Facts<'_>) -> &[u8] {
        let named = !facts.service.is_empty();
        self.begin(Instrument::Edge, facts);
        match exchange.side {
            Side::Client if named => self.text(Label::EdgeClient, facts.service),
            Side::Server if facts.peer.is_some() => self.text_if(Label::EdgeClient, facts.peer),
            _ => match exchange.client {
                Address::Inet(socket) => self.address(Label::EdgeClient, ADDRESS, socket.ip()),
                Address::Unix(_) => self.text(Label::EdgeClient, &exchange.client.to_string()),
            },
        }
        match exchange.side {
            Side::Server if named => self.text(Label::EdgeServer, facts.service),
            Side::Client if facts.peer.is_some() => self.text_if(Label::EdgeServer, facts.peer),
            _ => match exchange.server {
                Address::Inet(socket) => {
                    self.address(Label::EdgeServer, SOCKET, socket.ip());
                    self.0.extend_from_slice(&socket.port().to_be_bytes());
                }
                Address::Unix(_) => self.text(Label::EdgeServer, &exchange.server.to_string()),
            },
        }
        self.text(Label::NetworkProtocolName, exchange.protocol.0);
        self.text(Label::Side, exchange.side.name());
        self.text_if(Label::ErrorType, facts.error_type);
        &self.0
    }

    /// The key of an exchange of a protocol without conventions: its series has the protocol's name.
    pub(super) fn other(&mut self, protocol: &str, facts: &Facts<'_>, side: &str) -> &[u8] {
        self.begin(Instrument::Other, facts);
        self.text(Label::NetworkProtocolName, protocol);
        self.text(Label::Side, side);
        self.text_if(Label::ErrorType, facts.error_type);
        &self.0
    }

    fn http(&mut self, facts: &Facts<'_>) {
        self.text(Label::HttpRequestMethod, facts.method.unwrap_or("_OTHER"));
        if let Some(status) = facts.status_code {
            self.integer(Label::HttpResponseStatusCode, status);
        }
        self.text_if(Label::NetworkProtocolVersion, facts.version);
        if facts.instrument == Instrument::HttpClient {
            self.server_by_name(facts);
            return;
        }
        self.text(Label::UrlScheme, facts.scheme);
        if let Some((route, source)) = facts.route {
            self.text(Label::HttpRoute, route);
            self.text(Label::RouteSource, source.name());
        }
    }

    fn rpc(&mut self, facts: &Facts<'_>) {
        self.text(Label::RpcSystemName, "grpc");
        self.text_if(Label::RpcMethod, facts.rpc_method);
        self.text_if(Label::RpcStatusCode, facts.rpc_status);
        if facts.instrument == Instrument::RpcClient
            && let Some(host) = facts.host
        {
            self.text(Label::ServerAddress, host);
            if let Some(port) = facts.port {
                self.integer(Label::ServerPort, port);
            }
        }
    }

    fn database(&mut self, facts: &Facts<'_>) {
        self.text(Label::DbSystemName, facts.db_system.unwrap_or("other_sql"));
        self.text_if(Label::DbNamespace, facts.db_namespace);
        self.text_if(Label::DbOperationName, facts.db_operation);
        self.text_if(Label::DbQuerySummary, facts.db_summary);
        self.text_if(Label::DbStoredProcedureName, facts.db_procedure);
        self.text_if(Label::DbResponseStatusCode, facts.db_status);
        if facts.instrument == Instrument::DbClient {
            self.server_on_the_network(facts);
        }
    }

    /// The server of an HTTP client: by its name, else by its address.
    fn server_by_name(&mut self, facts: &Facts<'_>) {
        match facts.host {
            Some(host) => self.text(Label::ServerAddress, host),
            None => self.host(Label::ServerAddress, &facts.server),
        }
        if let Some(port) = facts.port.or(facts.server.port().map(i64::from)) {
            self.integer(Label::ServerPort, port);
        }
    }

    fn server_on_the_network(&mut self, facts: &Facts<'_>) {
        let port = facts.server.port();
        match facts.host {
            Some(host) => self.text(Label::ServerAddress, host),
            None => self.host(Label::ServerAddress, &facts.server),
        }
        if let Some(port) = port.filter(|_| facts.default_port() != port) {
            self.integer(Label::ServerPort, port.into());
        }
        self.host(Label::NetworkPeerAddress, &facts.server);
        if let Some(port) = port {
            self.integer(Label::NetworkPeerPort, port.into());
        }
    }

    fn begin(&mut self, instrument: Instrument, facts: &Facts<'_>) {
        self.0.clear();
        self.0.extend_from_slice(&[instrument as u8, 0]);
        write_service(&mut self.0, facts.service, facts.instance);
        let len = self.0.len() - 2;
        self.0[1] = len as u8;
    }

    fn text(&mut self, label: Label, value: &str) {
        let value = cut(value);
        self.0
            .extend_from_slice(&[label as u8, TEXT, value.len() as u8]);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn text_if(&mut self, label: Label, value: Option<&str>) {
        if let Some(value) = value {
            self.text(label, value);
        }
    }

    fn integer(&mut self, label: Label, value: i64) {
        let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
        self.0
            .extend_from_slice(&[label as u8, INTEGER, a, b, c, d, e, f, g, h]);
    }

    /// A peer's address without its port; the name of a Unix socket, if it has one.
    fn host(&mut self, label: Label, address: &Address) {
        match address {
            Address::Inet(socket) => self.address(label, ADDRESS, socket.ip()),
            Address::Unix(name) if name.is_none() => {}
            Address::Unix(name) => self.text(label, &name.to_string()),
        }
    }

    fn address(&mut self, label: Label, kind: u8, address: IpAddr) {
        match address {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                self.0
                    .extend_from_slice(&[label as u8, kind, 4, a, b, c, d]);
            }
            IpAddr::V6(ip) => {
                self.0.extend_from_slice(&[label as u8, kind, 16]);
                self.0.extend_from_slice(&ip.octets());
            }
        }
    }
}

/// What a key holds of a text.
fn cut(text: &str) -> &str {
    cut_at(text, MAX_VALUE)
}

fn cut_at(text: &str, most: usize) -> &str {
    match text.len() <= most {
        true => text,
        false => &text[..text.floor_char_boundary(most)],
    }
}

/// Longest name of a service that is told from one of its instances.
const MAX_SERVICE: usize = 127;

/// What stands for a service in keys; at most [`MAX_VALUE`] bytes.
fn write_service(out: &mut Vec<u8>, service: &str, instance: &str) {
    if instance.is_empty() {
        out.extend_from_slice(cut(service).as_bytes());
        return;
    }
    out.extend_from_slice(cut_at(service, MAX_SERVICE).as_bytes());
    out.push(0);
    let room = MAX_VALUE - MAX_SERVICE - 1;
    out.extend_from_slice(cut_at(instance, room).as_bytes());
}

/// Names a service among those of a snapshot.
pub(super) fn of_service(service: &str, instance: &str) -> Box<str> {
    let mut key = Vec::new();
    write_service(&mut key, service, instance);
    // Of text, cut at characters.
    String::from_utf8(key).unwrap_or_default().into()
}

/// The service that a key names.
pub(super) fn service_of(key: &[u8]) -> Option<&[u8]> {
    let len = usize::from(*key.get(1)?);
    key.get(2..2 + len)
}

/// The key of the series for what has none of its own: one for each instrument.
pub(super) fn overflow(instrument: Instrument) -> [u8; 2] {
    [instrument as u8, 0]
}

/// Whether a key is of a series for what has none of its own.
pub(super) fn is_overflow(key: &[u8]) -> bool {
    matches!(key, [_, 0])
}

/// A key, read back.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Identity {
    /// What is measured.
    pub instrument: Instrument,
    /// Whose measurement it is; `""` where that is not known.
    pub service: Box<str>,
    /// `service.instance.id`; `""` where nothing tells services of this name apart.
    pub instance: Box<str>,
    /// The attributes.
    pub labels: Vec<(Label, LabelValue)>,
    /// Whether it is the series for what has none of its own.
    pub overflow: bool,
}

impl Identity {
    /// That of the series for what has none of its own.
    #[must_use]
    pub fn overflow(instrument: Instrument) -> Self {
        Self {
            instrument,
            service: Box::default(),
            instance: Box::default(),
            labels: Vec::new(),
            overflow: true,
        }
    }

    /// Reads a key back; `None` for bytes that are none.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        let (instrument, mut rest) = key.split_first()?;
        let instrument = *Instrument::ALL.get(usize::from(*instrument))?;
        let service = text(&mut rest)?;
        let (service, instance) = service.split_once('\0').unwrap_or((&service, ""));
        let mut labels = Vec::new();
        while let [label, kind, tail @ ..] = rest {
            rest = tail;
            let value = match *kind {
                INTEGER => {
                    let (number, tail) = rest.split_first_chunk()?;
                    rest = tail;
                    LabelValue::Integer(i64::from_be_bytes(*number))
                }
                ADDRESS => LabelValue::Text(ip(&mut rest)?.to_string().into()),
                SOCKET => {
                    let ip = ip(&mut rest)?;
                    let (port, tail) = rest.split_first_chunk()?;
                    rest = tail;
                    let socket = SocketAddr::new(ip, u16::from_be_bytes(*port));
                    LabelValue::Text(socket.to_string().into())
                }
                _ => LabelValue::Text(text(&mut rest)?),
            };
            labels.push((Label::from_number(*label)?, value));
        }
        let overflow = labels.is_empty() && service.is_empty();
        Some(Self {
            instrument,
            service: service.into(),
            instance: instance.into(),
            labels,
            overflow,
        })
    }
}

fn text(rest: &mut &[u8]) -> Option<Box<str>> {
    let (len, tail) = rest.split_first()?;
    let (text, tail) = tail.split_at_checked((*len).into())?;
    *rest = tail;
    Some(str::from_utf8(text).ok()?.into())
}

fn ip(rest: &mut &[u8]) -> Option<IpAddr> {
    let (len, tail) = rest.split_first()?;
    let (octets, tail) = tail.split_at_checked((*len).into())?;
    *rest = tail;
    match *octets {
        [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
        _ => Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?)),
    }
}
