//! Packets from the server, and how responses are reported.

use wirespan_parser_api::{
    Abandon, Emit, Event, ExchangeId, Flags, Next, Outcome, ParseError, Request, Response, Step,
    keys,
};

use crate::NAME;
use crate::session::{Answer, Attrs, SQLSTATE, Session};
use crate::wire::{self, Done, Header, MAX_PAYLOAD};

/// An EOF packet is shorter than this, an OK packet in its place is not.
const MIN_OK: u32 = 7;

/// A packet, as far as it is visible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    pub(crate) header: Header,
    /// First byte of the payload.
    pub(crate) first: u8,
    /// The payload.
    pub(crate) payload: &'a [u8],
    pub(crate) at: u64,
}

impl<'a> Packet<'a> {
    /// The payload behind its first byte.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.payload.get(1..).unwrap_or_default()
    }

    pub(crate) const fn end(&self) -> u64 {
        self.at.saturating_add(self.header.total())
    }

    /// Reads an OK packet, or an EOF packet.
    pub(crate) fn done(&self) -> Result<Done<'a>, ParseError> {
        let done = if self.first == wire::EOF && self.header.len < MIN_OK {
            // MySQL 4.1 sends one byte behind definitions.
            if self.rest().is_empty() {
                return Ok(Done {
                    status: 0,
                    schema: None,
                });
            }
            wire::eof(self.rest())
        } else {
            wire::ok(self.rest())
        };
        done.ok_or(ParseError::malformed("OK packet"))
    }

    /// Whether it ends rows. A row cannot begin so, unless it is as long as a packet can be.
    pub(crate) const fn ends_rows(&self) -> bool {
        self.first == wire::EOF && self.header.len < MAX_PAYLOAD
    }

    /// Whether it is an EOF packet proper.
    pub(crate) const fn is_eof(&self) -> bool {
        self.first == wire::EOF && self.header.len < MIN_OK
    }
}

/// Whether a packet can be the first of a response of this form.
pub(crate) fn is_possible(packet: &Packet<'_>, answer: &Answer) -> Result<(), ParseError> {
    let is_possible = match (answer, packet.first) {
        (_, wire::ERR) => wire::failure(packet.rest()).is_some(),
        (Answer::Auth, first) => first <= 2 || first == wire::EOF,
        (Answer::Single, wire::OK | wire::EOF) => packet.done().is_ok(),
        (Answer::Single, _) => false,
        (Answer::Text | Answer::Stream | Answer::Rows | Answer::Fields, _) => true,
        (Answer::Prepare(_), first) => first == wire::OK && wire::prepared(packet.rest()).is_some(),
        (Answer::Results | Answer::Call, wire::OK) => packet.done().is_ok(),
        (Answer::Results | Answer::Call, wire::INFILE) => true,
        (Answer::Results | Answer::Call, _) => wire::columns(packet.payload).is_some(),
    };
    if is_possible {
        Ok(())
    } else {
        Err(ParseError::malformed("response"))
    }
}

/// Reports a success.
pub(crate) fn respond_ok(id: ExchangeId, at: u64, flags: Flags, out: &mut dyn Emit) {
    out.emit(Event::Response {
        id,
        at,
        response: Response {
            status: "OK",
            outcome: Outcome::Ok,
            flags,
            attrs: &[],
        },
    });
}

/// Reports an ERR packet.
pub(crate) fn fail(
    id: ExchangeId,
    at: u64,
    packet: &Packet<'_>,
    out: &mut dyn Emit,
) -> Result<(), ParseError> {
    let failure = wire::failure(packet.rest()).ok_or(ParseError::malformed("ERR packet"))?;
    let mut digits = [0; 5];
    let number = decimal(failure.number, &mut digits);
    let mut attrs = Attrs::default();
    attrs.push(keys::DB_RESPONSE_STATUS_CODE.of(number));
    if let Some(sqlstate) = failure.sqlstate {
        attrs.push(SQLSTATE.of(sqlstate));
    }
    out.emit(Event::Response {
        id,
        at,
        response: Response {
            status: number,
            outcome: Outcome::Error,
            flags: Flags::NONE,
            attrs: attrs.as_slice(),
        },
    });
    Ok(())
}

/// The server does not greet but refuses: an exchange without a request.
pub(crate) fn refuse(
    packet: &Packet<'_>,
    session: &mut Session,
    out: &mut dyn Emit,
) -> Result<(), ParseError> {
    let id = session.unasked();
    let attrs = session.attrs();
    out.emit(Event::Request {
        id,
        at: packet.at,
        request: Request {
            protocol: NAME,
            operation: "HANDSHAKE",
            target: "",
            trace: None,
            flags: Flags::NONE,
            attrs: attrs.as_slice(),
        },
    });
    out.emit(Event::RequestEnd {
        id,
        at: packet.at,
        size: 0,
    });
    fail(id, packet.at, packet, out)?;
    out.emit(Event::ResponseEnd {
        id,
        at: packet.end(),
        size: packet.header.total(),
    });
    Ok(())
}

/// Closes the exchanges of the statements behind one that failed, or that was the last to run: the
/// server leaves them alone. To be called before the end of the one before them is told, which may
/// lie ahead, so that the order does not depend on it.
pub(crate) fn skip_statements(session: &mut Session, out: &mut dyn Emit) {
    while let Some(skipped) = session.response() {
        out.emit(Event::Abandon {
            id: skipped.id,
            why: Abandon::Cancelled,
        });
        if skipped.is_last {
            break;
        }
    }
}

/// Reports the end of a response.
pub(crate) fn end(id: ExchangeId, began: u64, at: u64, out: &mut dyn Emit) {
    out.emit(Event::ResponseEnd {
        id,
        at,
        size: at.saturating_sub(began),
    });
}

/// Consumes what is visible of a packet, and skips the others of its bytes.
pub(crate) fn pass(header: Header, bytes: &[u8]) -> Step {
    let visible = bytes.len() as u64;
    match usize::try_from(header.total()) {
        Ok(total) if total <= bytes.len() => Step::more(total),
        _ => Step {
            consumed: bytes.len(),
            next: Next::Skip(header.total().saturating_sub(visible)),
        },
    }
}

/// A number in decimal.
fn decimal(mut number: u16, digits: &mut [u8; 5]) -> &str {
    let mut from = digits.len();
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0'.saturating_add(u8::try_from(number % 10).unwrap_or_default());
        number /= 10;
        from = index;
        if number == 0 {
            break;
        }
    }
    let digits = digits.get(from..).unwrap_or_default();
    core::str::from_utf8(digits).unwrap_or_default()
}
