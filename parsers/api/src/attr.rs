//! Attributes, named by OpenTelemetry semantic-convention keys.

/// Key of a text attribute.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StrKey(pub &'static str);

/// Key of an integer attribute.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IntKey(pub &'static str);

/// Key of an attribute of either type.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(&'static str);

impl Key {
    /// The name, such as `http.request.method`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl From<StrKey> for Key {
    fn from(key: StrKey) -> Self {
        Self(key.0)
    }
}

impl From<IntKey> for Key {
    fn from(key: IntKey) -> Self {
        Self(key.0)
    }
}

/// One attribute. Made by [`StrKey::of`] or [`IntKey::of`], so that a key always has its own type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attr<'a> {
    key: Key,
    value: Value<'a>,
}

impl<'a> Attr<'a> {
    /// Puts an attribute together again from what [`Attr::key`] and [`Attr::value`] gave, for
    /// those who store attributes. Parsers use the typed keys.
    #[must_use]
    pub const fn restore(key: Key, value: Value<'a>) -> Self {
        Self { key, value }
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// The value.
    #[must_use]
    pub const fn value(&self) -> Value<'a> {
        self.value
    }
}

/// Value of an [`Attr`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// Text. The engine cuts it at 4,096 bytes.
    Str(&'a str),
    /// An integer.
    Int(i64),
}

impl StrKey {
    /// An attribute with this key.
    #[must_use]
    pub const fn of(self, value: &str) -> Attr<'_> {
        Attr {
            key: Key(self.0),
            value: Value::Str(value),
        }
    }
}

impl IntKey {
    /// An attribute with this key.
    #[must_use]
    pub const fn of(self, value: i64) -> Attr<'static> {
        Attr {
            key: Key(self.0),
            value: Value::Int(value),
        }
    }
}

/// The keys in use, by OpenTelemetry semantic conventions 1.45 unless they begin with `wirespan.`.
pub mod keys {
    use super::{IntKey, StrKey};

    /// `client.address`: the first address of `Forwarded` or `X-Forwarded-For`.
    pub const CLIENT_ADDRESS: StrKey = StrKey("client.address");
    /// `db.namespace`: database, `database|schema`, or the index of a Redis database.
    pub const DB_NAMESPACE: StrKey = StrKey("db.namespace");
    /// `db.operation.batch.size`: commands in a batch.
    pub const DB_OPERATION_BATCH_SIZE: IntKey = IntKey("db.operation.batch.size");
    /// `db.operation.name`: the command.
    pub const DB_OPERATION_NAME: StrKey = StrKey("db.operation.name");
    /// `db.query.summary`: operation and targets, of low cardinality.
    pub const DB_QUERY_SUMMARY: StrKey = StrKey("db.query.summary");
    /// `db.query.text`: the statement, redacted.
    pub const DB_QUERY_TEXT: StrKey = StrKey("db.query.text");
    /// `db.response.status_code`: the server's error code.
    pub const DB_RESPONSE_STATUS_CODE: StrKey = StrKey("db.response.status_code");
    /// `db.stored_procedure.name`: a script or procedure called by name.
    pub const DB_STORED_PROCEDURE_NAME: StrKey = StrKey("db.stored_procedure.name");
    /// `db.system.name`: `redis`, `mysql`, `postgresql`, `mariadb`.
    pub const DB_SYSTEM_NAME: StrKey = StrKey("db.system.name");
    /// `error.type`: class of the error, of low cardinality.
    pub const ERROR_TYPE: StrKey = StrKey("error.type");
    /// `http.request.body.size`: bytes of the request's body as sent.
    pub const HTTP_REQUEST_BODY_SIZE: IntKey = IntKey("http.request.body.size");
    /// `http.request.method`: the method, or `_OTHER`.
    pub const HTTP_REQUEST_METHOD: StrKey = StrKey("http.request.method");
    /// `http.request.method_original`: the method as sent, where it is not a known one.
    pub const HTTP_REQUEST_METHOD_ORIGINAL: StrKey = StrKey("http.request.method_original");
    /// `http.response.body.size`: bytes of the response's body as sent.
    pub const HTTP_RESPONSE_BODY_SIZE: IntKey = IntKey("http.response.body.size");
    /// `http.response.status_code`.
    pub const HTTP_RESPONSE_STATUS_CODE: IntKey = IntKey("http.response.status_code");
    /// `network.protocol.name`, where it is not `http`.
    pub const NETWORK_PROTOCOL_NAME: StrKey = StrKey("network.protocol.name");
    /// `network.protocol.version`: `1.0`, `1.1`, `2`.
    pub const NETWORK_PROTOCOL_VERSION: StrKey = StrKey("network.protocol.version");
    /// `rpc.method`: `pkg.Service/Method`.
    pub const RPC_METHOD: StrKey = StrKey("rpc.method");
    /// `rpc.status_code`: name of the status, such as `DEADLINE_EXCEEDED`.
    pub const RPC_STATUS_CODE: StrKey = StrKey("rpc.status_code");
    /// `rpc.system.name`: `grpc`.
    pub const RPC_SYSTEM_NAME: StrKey = StrKey("rpc.system.name");
    /// `server.address`: the name by which the client called the server.
    pub const SERVER_ADDRESS: StrKey = StrKey("server.address");
    /// `server.port`: the port by which the client called the server.
    pub const SERVER_PORT: IntKey = IntKey("server.port");
    /// `tls.next_protocol`: the application protocol that the server chose, where it is told in the
    /// clear.
    pub const TLS_NEXT_PROTOCOL: StrKey = StrKey("tls.next_protocol");
    /// `tls.protocol.version`: `1.2`, `1.3`.
    pub const TLS_PROTOCOL_VERSION: StrKey = StrKey("tls.protocol.version");
    /// `url.path`: path of the request target.
    pub const URL_PATH: StrKey = StrKey("url.path");
    /// `url.query`: query of the request target, redacted.
    pub const URL_QUERY: StrKey = StrKey("url.query");
    /// `url.scheme`: `http` or `https`.
    pub const URL_SCHEME: StrKey = StrKey("url.scheme");
    /// `user_agent.original`: the User-Agent header.
    pub const USER_AGENT_ORIGINAL: StrKey = StrKey("user_agent.original");
    /// `wirespan.grpc.encoding`: what compresses the request's messages, such as `gzip`.
    pub const WIRESPAN_GRPC_ENCODING: StrKey = StrKey("wirespan.grpc.encoding");
    /// `wirespan.grpc.request.compressed`: messages of the request that are flagged as compressed.
    pub const WIRESPAN_GRPC_REQUEST_COMPRESSED: IntKey = IntKey("wirespan.grpc.request.compressed");
    /// `wirespan.grpc.request.messages`: messages that the client has sent.
    pub const WIRESPAN_GRPC_REQUEST_MESSAGES: IntKey = IntKey("wirespan.grpc.request.messages");
    /// `wirespan.grpc.response.compressed`: messages of the response that are flagged as compressed.
    pub const WIRESPAN_GRPC_RESPONSE_COMPRESSED: IntKey =
        IntKey("wirespan.grpc.response.compressed");
    /// `wirespan.grpc.response.messages`: messages that the server has sent.
    pub const WIRESPAN_GRPC_RESPONSE_MESSAGES: IntKey = IntKey("wirespan.grpc.response.messages");
    /// `wirespan.grpc.timeout_us`: the deadline that the client gave the call, in microseconds.
    pub const WIRESPAN_GRPC_TIMEOUT_US: IntKey = IntKey("wirespan.grpc.timeout_us");
    /// `wirespan.tls.handshake_ns`: how long the handshake of the connection took, in nanoseconds.
    pub const WIRESPAN_TLS_HANDSHAKE_NS: IntKey = IntKey("wirespan.tls.handshake_ns");
    /// `wirespan.tls.server_name`: the host that the client named in its handshake (SNI).
    pub const WIRESPAN_TLS_SERVER_NAME: StrKey = StrKey("wirespan.tls.server_name");
}
