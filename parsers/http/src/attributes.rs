//! Attributes of a request, in a list on the stack.

use wirespan_parser_api::http::{Target, forwarded_client, host_and_port, is_known_method};
use wirespan_parser_api::{Attr, keys};

use crate::head::{RequestFields, RequestLine};

/// Most attributes that a request can have.
const MAX: usize = 11;

/// Attributes of one message.
#[derive(Debug)]
pub(crate) struct Attributes<'a> {
    list: [Attr<'a>; MAX],
    /// `len <= MAX`.
    len: usize,
}

impl<'a> Attributes<'a> {
    /// Those of a request.
    pub(crate) fn of_request(
        line: &RequestLine<'a>,
        fields: &RequestFields<'a>,
        target: &Target<'a>,
    ) -> Self {
        let mut list = Self {
            list: [keys::HTTP_REQUEST_METHOD.of("_OTHER"); MAX],
            len: 0,
        };
        if is_known_method(line.method) {
            list.push(keys::HTTP_REQUEST_METHOD.of(line.method));
        } else {
            list.push(keys::HTTP_REQUEST_METHOD.of("_OTHER"));
            list.push(keys::HTTP_REQUEST_METHOD_ORIGINAL.of(line.method));
        }
        list.push_some(target.path.map(|path| keys::URL_PATH.of(path)));
        list.push_some(target.query.map(|query| keys::URL_QUERY.of(query)));
        list.push_some(target.scheme.map(|scheme| keys::URL_SCHEME.of(scheme)));
        let version = line
            .minor
            .map(|minor| if minor == 0 { "1.0" } else { "1.1" });
        list.push_some(version.map(|version| keys::NETWORK_PROTOCOL_VERSION.of(version)));
        // The authority of the target replaces the Host header (RFC 9112 §3.2.2).
        let host = fields.host.and_then(|host| str::from_utf8(host).ok());
        if let Some(authority) = target.authority.or(host) {
            let (host, port) = host_and_port(authority);
            list.push(keys::SERVER_ADDRESS.of(host));
            list.push_some(port.map(|port| keys::SERVER_PORT.of(i64::from(port))));
        }
        let agent = fields
            .user_agent
            .and_then(|agent| str::from_utf8(agent).ok());
        list.push_some(agent.map(|agent| keys::USER_AGENT_ORIGINAL.of(agent)));
        if fields.forwarded.is_some() || fields.x_forwarded_for.is_some() {
            let client = forwarded_client(fields.forwarded, fields.x_forwarded_for);
            list.push_some(client.map(|client| keys::CLIENT_ADDRESS.of(client)));
        }
        let size = fields.framing.content_length_known();
        let size = size.and_then(|size| i64::try_from(size).ok());
        list.push_some(size.map(|size| keys::HTTP_REQUEST_BODY_SIZE.of(size)));
        list
    }

    /// The attributes.
    pub(crate) fn as_slice(&self) -> &[Attr<'a>] {
        self.list.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, attr: Attr<'a>) {
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = attr;
            self.len = self.len.saturating_add(1);
        }
    }

    fn push_some(&mut self, attr: Option<Attr<'a>>) {
        if let Some(attr) = attr {
            self.push(attr);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wirespan_parser_api::http::read_target;
    use wirespan_parser_api::{Flags, Policy, Redaction, Value};

    fn attributes(method: &str, target: &str, fields: &RequestFields<'_>) -> Vec<String> {
        let line = RequestLine {
            method,
            target: target.as_bytes(),
            minor: Some(1),
            flags: Flags::NONE,
        };
        let mut scratch = String::new();
        let target = read_target(line.target, &Policy::of(Redaction::On), &mut scratch);
        let attributes = Attributes::of_request(&line, fields, &target);
        let show = |attr: &Attr<'_>| match attr.value() {
            Value::Str(text) => format!("{}={text}", attr.key().name()),
            Value::Int(number) => format!("{}={number}", attr.key().name()),
            _ => panic!("of another type"),
        };
        attributes.as_slice().iter().map(show).collect()
    }

    #[test]
    fn all_attributes_of_a_request_fit() {
        let mut fields = RequestFields {
            host: Some(b"example.com:81"),
            user_agent: Some(b"curl"),
            x_forwarded_for: Some(b"1.2.3.4"),
            ..RequestFields::default()
        };
        fields.framing.header(b"content-length", b"5");
        let all = [
            "http.request.method=_OTHER",
            "http.request.method_original=FETCH",
            "url.path=/p",
            "url.query=q",
            "url.scheme=http",
            "network.protocol.version=1.1",
            "server.address=h",
            "server.port=80",
            "user_agent.original=curl",
            "client.address=1.2.3.4",
            "http.request.body.size=5",
        ];
        assert_eq!(all.len(), MAX);
        assert_eq!(attributes("FETCH", "http://h:80/p?q", &fields), all);
        assert_eq!(
            attributes("GET", "/", &fields)[..4],
            [
                "http.request.method=GET",
                "url.path=/",
                "network.protocol.version=1.1",
                "server.address=example.com"
            ]
        );
    }
}
