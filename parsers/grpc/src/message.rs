//! What a header block says that is of use.

use wirespan_parser_api::{TraceContext, TraceHeaders};

use crate::hpack::Header;
use crate::trace_bin;

/// Most bytes that are kept of one block's headers.
const MAX_BYTES: usize = 64 * 1024;
/// Most trace headers that are kept of one block.
const MAX_TRACE: usize = 16;

/// A header that is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Field {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
    ContentType,
    ContentLength,
    UserAgent,
    Host,
    Forwarded,
    XForwardedFor,
    GrpcStatus,
    GrpcTimeout,
    GrpcEncoding,
    GrpcTraceBin,
    /// Another one of gRPC's, which shows that this is gRPC.
    GrpcOther,
    /// One that [`TraceHeaders`] knows; of these, all are kept.
    Trace,
}

const FIELDS: usize = Field::Trace as usize;

impl Field {
    /// Most headers leave by their length.
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":status" => Self::Status,
            b"content-type" => Self::ContentType,
            b"content-length" => Self::ContentLength,
            b"user-agent" => Self::UserAgent,
            b"host" => Self::Host,
            b"forwarded" => Self::Forwarded,
            b"x-forwarded-for" => Self::XForwardedFor,
            b"grpc-status" => Self::GrpcStatus,
            b"grpc-timeout" => Self::GrpcTimeout,
            b"grpc-encoding" => Self::GrpcEncoding,
            b"grpc-trace-bin" => Self::GrpcTraceBin,
            b"grpc-accept-encoding" | b"grpc-message" | b"grpc-status-details-bin" => {
                Self::GrpcOther
            }
            b"traceparent" | b"tracestate" | b"b3" => Self::Trace,
            name if name.starts_with(b"x-b3-") => Self::Trace,
            _ => return None,
        })
    }
}

/// A part of [`Message::bytes`].
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    end: usize,
}

/// The headers of one block that are looked at. Cleared and used again.
#[derive(Debug, Default)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    fields: [Option<Span>; FIELDS],
    /// Names and values.
    trace: Vec<(Span, Span)>,
    /// Headers whose name or value is unknown.
    pub(crate) unknown: u64,
    /// Whether headers were left out, because there were too many.
    pub(crate) cut: bool,
}

impl Message {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.fields = [None; FIELDS];
        self.trace.clear();
        self.unknown = 0;
        self.cut = false;
    }

    /// Takes the next header.
    pub(crate) fn add(&mut self, header: Header<'_>) {
        let Header {
            name: Some(name),
            value: Some(value),
        } = header
        else {
            self.unknown = self.unknown.saturating_add(1);
            return;
        };
        let Some(field) = Field::of(name) else { return };
        let len = name.len().saturating_add(value.len());
        if self.bytes.len().saturating_add(len) > MAX_BYTES || self.trace.len() >= MAX_TRACE {
            self.cut = true;
        } else if field == Field::Trace {
            let name = self.keep(name);
            let value = self.keep(value);
            self.trace.push((name, value));
        } else if self.span(field).is_none() {
            let value = self.keep(value);
            if let Some(slot) = self.fields.get_mut(field as usize) {
                *slot = Some(value);
            }
        }
    }

    /// The value of a header, if it is there and known. Of several, the first.
    pub(crate) fn get(&self, field: Field) -> Option<&[u8]> {
        self.span(field).map(|span| self.bytes(span))
    }

    /// The same as text.
    pub(crate) fn text(&self, field: Field) -> Option<&str> {
        self.get(field).and_then(|value| str::from_utf8(value).ok())
    }

    /// The same as a number.
    pub(crate) fn number<N: std::str::FromStr>(&self, field: Field) -> Option<N> {
        self.text(field).and_then(|text| text.parse().ok())
    }

    pub(crate) fn has(&self, field: Field) -> bool {
        self.span(field).is_some()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.number(Field::Status)
            .filter(|status| (100..1000).contains(status))
    }

    /// Whether a content type of gRPC is stated: `None` if that cannot be known.
    pub(crate) fn is_grpc(&self) -> Option<bool> {
        let of_grpc = [
            Field::GrpcStatus,
            Field::GrpcTimeout,
            Field::GrpcEncoding,
            Field::GrpcOther,
        ];
        match self.get(Field::ContentType) {
            Some(value) => Some(is_grpc_type(value)),
            None if of_grpc.into_iter().any(|field| self.has(field)) => Some(true),
            None if self
                .get(Field::UserAgent)
                .is_some_and(|agent| agent.starts_with(b"grpc-")) =>
            {
                Some(true)
            }
            None if self.unknown > 0 => None,
            None => Some(false),
        }
    }

    /// The trace context: `traceparent`, then B3, then `grpc-trace-bin`.
    pub(crate) fn trace<'s>(&'s self, scratch: &'s mut String) -> Option<TraceContext<'s>> {
        if self.trace.is_empty() {
            return self.get(Field::GrpcTraceBin).and_then(trace_bin::read);
        }
        let mut headers = TraceHeaders::default();
        for (name, value) in &self.trace {
            headers.header(self.bytes(*name), self.bytes(*value));
        }
        let context = headers.context(scratch);
        context.or_else(|| self.get(Field::GrpcTraceBin).and_then(trace_bin::read))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let trace = self
            .trace
            .capacity()
            .saturating_mul(size_of::<(Span, Span)>());
        trace.saturating_add(self.bytes.capacity())
    }

    fn span(&self, field: Field) -> Option<Span> {
        self.fields.get(field as usize).copied().flatten()
    }

    fn bytes(&self, span: Span) -> &[u8] {
        self.bytes.get(span.start..span.end).unwrap_or_default()
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span {
            start,
            end: self.bytes.len(),
        }
    }
}

/// `application/grpc`, alone or with a message format or parameters; not gRPC-Web.
fn is_grpc_type(value: &[u8]) -> bool {
    let name = b"application/grpc";
    match value.split_at_checked(name.len()) {
        Some((front, rest)) => {
            front.eq_ignore_ascii_case(name) && matches!(rest, [] | [b'+' | b';' | b' ', ..])
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[(&str, &str)]) -> Message {
        let mut message = Message::default();
        for (name, value) in headers {
            let name = Some(name.as_bytes());
            message.add(Header {
                name,
                value: Some(value.as_bytes()),
            });
        }
        message
    }

    #[test]
    fn the_first_of_several_counts() {
        let message = message(&[(":path", "/a"), ("accept", "x"), (":path", "/b")]);
        assert_eq!(message.text(Field::Path), Some("/a"));
        assert_eq!(message.text(Field::Method), None);
    }

    #[test]
    fn grpc_is_known_by_its_content_type_or_its_headers() {
        let is = |name, value| message(&[(name, value)]).is_grpc();
        assert_eq!(is("content-type", "application/grpc"), Some(true));
        assert_eq!(is("content-type", "application/grpc+proto"), Some(true));
        assert_eq!(is("content-type", "application/grpc-web"), Some(false));
        assert_eq!(is("content-type", "text/html"), Some(false));
        assert_eq!(is("grpc-timeout", "1S"), Some(true));
        assert_eq!(is("accept", "*/*"), Some(false));
    }

    #[test]
    fn an_unknown_header_may_be_the_content_type() {
        let mut message = message(&[(":method", "POST")]);
        message.add(Header {
            name: None,
            value: None,
        });
        assert_eq!((message.unknown, message.is_grpc()), (1, None));
    }

    #[test]
    fn a_bomb_is_cut() {
        let mut message = Message::default();
        let value = [b'x'; 4096];
        for _ in 0..10_000 {
            message.add(Header {
                name: Some(b"tracestate"),
                value: Some(&value),
            });
        }
        assert!(message.cut && message.heap_bytes() < 4 * MAX_BYTES);
    }
}
