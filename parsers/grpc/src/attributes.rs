//! Attributes of a request, in a list on the stack.

use wirespan_parser_api::http::{self, Target};
use wirespan_parser_api::{Attr, keys};

use crate::grpc;
use crate::message::{Field, Message};

/// Most attributes that a message can have.
const MAX: usize = 11;

/// Attributes of one message.
#[derive(Debug)]
pub(crate) struct Attributes<'a> {
    list: [Attr<'a>; MAX],
    /// `len <= MAX`.
    len: usize,
}

impl<'a> Attributes<'a> {
    pub(crate) const fn new() -> Self {
        Self {
            list: [keys::NETWORK_PROTOCOL_VERSION.of("2"); MAX],
            len: 0,
        }
    }

    /// Those of an HTTP request.
    pub(crate) fn of_http(message: &'a Message, target: &Target<'a>) -> Self {
        let mut list = Self::new();
        if let Some(method) = message.text(Field::Method) {
            if http::is_known_method(method) {
                list.push(keys::HTTP_REQUEST_METHOD.of(method));
            } else {
                list.push(keys::HTTP_REQUEST_METHOD.of("_OTHER"));
                list.push(keys::HTTP_REQUEST_METHOD_ORIGINAL.of(method));
            }
        }
        list.push_some(target.path.map(|path| keys::URL_PATH.of(path)));
        list.push_some(target.query.map(|query| keys::URL_QUERY.of(query)));
        list.push_some(
            message
                .text(Field::Scheme)
                .map(|scheme| keys::URL_SCHEME.of(scheme)),
        );
        list.push(keys::NETWORK_PROTOCOL_VERSION.of("2"));
        list.peers(message);
        let size = message.number(Field::ContentLength);
        list.push_some(size.map(|size| keys::HTTP_REQUEST_BODY_SIZE.of(size)));
        list
    }

    /// Those of a gRPC call.
    pub(crate) fn of_grpc(message: &'a Message, method: &'a str) -> Self {
        let mut list = Self::new();
        list.push(keys::RPC_SYSTEM_NAME.of("grpc"));
        if !method.is_empty() {
            list.push(keys::RPC_METHOD.of(method));
        }
        list.peers(message);
        let timeout = message.text(Field::GrpcTimeout).and_then(grpc::timeout);
        list.push_some(timeout.map(|micros| keys::WIRESPAN_GRPC_TIMEOUT_US.of(micros)));
        let encoding = message
            .text(Field::GrpcEncoding)
            .filter(|name| *name != "identity");
        list.push_some(encoding.map(|name| keys::WIRESPAN_GRPC_ENCODING.of(name)));
        list
    }

    /// Server, user agent and client, as the request names them.
    fn peers(&mut self, message: &'a Message) {
        let authority = message
            .text(Field::Authority)
            .or_else(|| message.text(Field::Host));
        if let Some(authority) = authority {
            let (host, port) = http::host_and_port(authority);
            self.push(keys::SERVER_ADDRESS.of(host));
            self.push_some(port.map(|port| keys::SERVER_PORT.of(i64::from(port))));
        }
        let agent = message.text(Field::UserAgent);
        self.push_some(agent.map(|agent| keys::USER_AGENT_ORIGINAL.of(agent)));
        let by = (
            message.get(Field::Forwarded),
            message.get(Field::XForwardedFor),
        );
        if by != (None, None) {
            let client = http::forwarded_client(by.0, by.1);
            self.push_some(client.map(|client| keys::CLIENT_ADDRESS.of(client)));
        }
    }

    /// The attributes.
    pub(crate) fn as_slice(&self) -> &[Attr<'a>] {
        self.list.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn push(&mut self, attr: Attr<'a>) {
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = attr;
            self.len = self.len.saturating_add(1);
        }
    }

    pub(crate) fn push_some(&mut self, attr: Option<Attr<'a>>) {
        if let Some(attr) = attr {
            self.push(attr);
        }
    }
}
