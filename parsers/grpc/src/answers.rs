//! What a response, or its absence, tells of an exchange.

use wirespan_parser_api::{Emit, Event, Flags, Outcome, Response, keys};

use crate::attributes::Attributes;
use crate::grpc;
use crate::streams::{Answer, Kind, Stream};

/// Reports the status of an HTTP response, and the length of its body where that is known.
pub(crate) fn tell_http(stream: &mut Stream, at: u64, size: Option<i64>, out: &mut dyn Emit) {
    stream.answer = Answer::Told;
    let mut digits = [0; 3];
    let mut attrs = Attributes::new();
    let (status, outcome, flags) = match stream.status {
        Some(status) => {
            attrs.push(keys::HTTP_RESPONSE_STATUS_CODE.of(status.into()));
            (
                three_digits(status, &mut digits),
                outcome(status),
                Flags::NONE,
            )
        }
        // Answered, but with what is unknown.
        None => ("", Outcome::Ok, Flags::GUESSED),
    };
    attrs.push_some(size.map(|size| keys::HTTP_RESPONSE_BODY_SIZE.of(size)));
    let attrs = attrs.as_slice();
    let response = Response {
        status,
        outcome,
        flags,
        attrs,
    };
    out.emit(Event::Response {
        id: stream.exchange,
        at,
        response,
    });
}

/// Reports the status of a gRPC call; `None`: it ended, but how is unknown.
pub(crate) fn tell_grpc(
    stream: &mut Stream,
    at: u64,
    status: Option<u32>,
    flags: Flags,
    out: &mut dyn Emit,
) {
    stream.answer = Answer::Told;
    let mut attrs = Attributes::new();
    if let Some(name) = status.and_then(grpc::status_name) {
        attrs.push(keys::RPC_STATUS_CODE.of(name));
    }
    count_messages(stream, &mut attrs);
    let text = status.map(|status| status.to_string()).unwrap_or_default();
    let response = Response {
        status: &text,
        outcome: status.map_or(Outcome::Ok, grpc::outcome),
        flags,
        attrs: attrs.as_slice(),
    };
    out.emit(Event::Response {
        id: stream.exchange,
        at,
        response,
    });
}

/// Reports a response that has ended without its status, where something can be said of it.
pub(crate) fn tell_late(stream: &mut Stream, at: u64, out: &mut dyn Emit) -> bool {
    match (&stream.kind, stream.status) {
        // Undecided to the end.
        (Kind::Maybe(_), _) if stream.answer == Answer::Begun => tell_http(stream, at, None, out),
        // The status is among the headers that are unknown.
        (Kind::Grpc, _) if stream.unsure || stream.response.lost => {
            tell_grpc(stream, at, None, Flags::GUESSED, out);
        }
        (Kind::Grpc, Some(status)) => {
            let status = grpc::status_of_http(status);
            tell_grpc(stream, at, Some(status), Flags::GUESSED, out);
        }
        _ => return false,
    }
    true
}

/// Reports how far a stream has come: its frames so far, and the messages of a call.
pub(crate) fn tell_progress(stream: &Stream, out: &mut dyn Emit) {
    let mut attrs = Attributes::new();
    if stream.kind == Kind::Grpc && stream.answer != Answer::Told {
        count_messages(stream, &mut attrs);
    }
    out.emit(Event::Progress {
        id: stream.exchange,
        request_bytes: stream.request.size,
        response_bytes: stream.response.size,
        attrs: attrs.as_slice(),
    });
}

/// Adds how many messages a call had.
fn count_messages(stream: &Stream, attrs: &mut Attributes<'_>) {
    let (request, response) = (&stream.request.messages, &stream.response.messages);
    let sent = request
        .known()
        .map(|n| keys::WIRESPAN_GRPC_REQUEST_MESSAGES.of(n));
    attrs.push_some(sent);
    let received = response
        .known()
        .map(|n| keys::WIRESPAN_GRPC_RESPONSE_MESSAGES.of(n));
    attrs.push_some(received);
    if request.compressed > 0 {
        attrs.push(keys::WIRESPAN_GRPC_REQUEST_COMPRESSED.of(request.compressed.into()));
    }
    if response.compressed > 0 {
        attrs.push(keys::WIRESPAN_GRPC_RESPONSE_COMPRESSED.of(response.compressed.into()));
    }
}

/// Outcome of an HTTP status, for the server.
const fn outcome(status: u16) -> Outcome {
    match status {
        ..=399 => Outcome::Ok,
        400..=499 => Outcome::ClientFault,
        _ => Outcome::Error,
    }
}

/// A status code as text.
fn three_digits(number: u16, digits: &mut [u8; 3]) -> &str {
    let digit = |n: u16| b'0'.saturating_add(u8::try_from(n % 10).unwrap_or(0));
    *digits = [digit(number / 100), digit(number / 10), digit(number)];
    str::from_utf8(digits).unwrap_or_default()
}

/// Name of an error code (RFC 9113 §7).
pub(crate) fn error_name(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.copied().unwrap_or("UNKNOWN_ERROR")
}
