//! From server to client: answers, in the order of what was asked.

use wirespan_parser_api::{Direction, Emit, Event, Flags, Input, Next, ParseError, Step, Upgrade};

use crate::client::{Client, Phase};
use crate::session::{Expected, Session};
use crate::wire::{self, HEADER, Header};

/// Most bytes of an `ErrorResponse` that are read: its SQLSTATE stands at the beginning.
const MAX_ERROR: usize = 1_024;

/// What became of a message.
enum Fit {
    /// It was due.
    Due,
    /// Nothing like it was due.
    Misfit,
}

/// Reads a message, or a run of rows.
pub(crate) fn parse(
    input: Input<'_>,
    client: &mut Client,
    session: &mut Session,
    out: &mut dyn Emit,
) -> Result<Step, ParseError> {
    if client.phase() == Phase::Negotiating
        && let Some(step) = negotiate(input.bytes, client)
    {
        return Ok(step);
    }
    let mut consumed = 0usize;
    loop {
        let rest = input.bytes.get(consumed..).unwrap_or_default();
        let header = match wire::header(Direction::ToClient, rest) {
            Ok(Some(header)) => header,
            Ok(None) if rest.is_empty() => return Ok(Step::more(consumed)),
            Ok(None) => {
                return Ok(Step {
                    consumed,
                    next: Next::Need(HEADER),
                });
            }
            Err(_) if consumed > 0 => return Ok(Step::more(consumed)),
            Err(error) => return Err(error),
        };
        let is_row = matches!(header.kind, b'D' | b'd');
        if !is_row && consumed > 0 {
            return Ok(Step::more(consumed));
        }
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        let wanted = match header.kind {
            b'E' => len.min(MAX_ERROR),
            _ => HEADER,
        };
        let Some(visible) = rest.get(..wanted) else {
            return Ok(Step::need(wanted));
        };
        let at = input.offset.saturating_add(consumed as u64);
        let body = visible.get(HEADER..).unwrap_or_default();
        message(header, at, body, session, out);
        let done = len.min(rest.len());
        consumed = consumed.saturating_add(done);
        let left = header.len.saturating_sub(done as u64);
        if left > 0 {
            return Ok(Step {
                consumed,
                next: Next::Skip(left),
            });
        }
        if !is_row {
            return Ok(Step::more(consumed));
        }
    }
}

/// Reads the answer to a request for encryption: a single byte, or an error of an old server.
fn negotiate(bytes: &[u8], client: &mut Client) -> Option<Step> {
    Some(match bytes.first()? {
        b'N' => {
            client.stop_negotiating();
            Step::more(1)
        }
        b'S' => {
            // Inside, the client begins again.
            client.stop_negotiating();
            Step {
                consumed: 1,
                next: Next::Upgrade(Upgrade::Tls),
            }
        }
        // Encrypted, and by nothing that a probe could show us.
        b'G' => Step {
            consumed: 1,
            next: Next::Stop,
        },
        _ => return None,
    })
}

fn message(header: Header, at: u64, body: &[u8], session: &mut Session, out: &mut dyn Emit) {
    let fit = match header.kind {
        b'Z' => {
            session.ready(at, header.len, out);
            Fit::Due
        }
        b'A' => {
            out.emit(Event::Push {
                at,
                kind: "notification",
            });
            Fit::Due
        }
        b'E' => {
            error(header, at, body, session, out);
            Fit::Due
        }
        b'1' | b'2' | b'3' | b't' | b'T' | b'n' => prepared(header, at, session, out),
        b'R' | b'K' | b'v' | b'S' | b'N' => {
            // Outside of start-up, news of the connection's.
            if let Some(&mut Expected::Startup { id, .. }) = session.next_due() {
                session.count(id, at, header.len, out);
            }
            Fit::Due
        }
        b'G' | b'W' => copy(header, at, session, out),
        b'C' | b'I' | b's' | b'V' => {
            let fit = complete(header, at, session, out);
            session.finish_copy();
            fit
        }
        // Rows, data of `COPY`.
        _ => match running(session) {
            Some(id) => {
                session.count(id, at, header.len, out);
                Fit::Due
            }
            None if is_unknown(session) => Fit::Due,
            None => Fit::Misfit,
        },
    };
    if matches!(fit, Fit::Misfit) {
        if matches!(header.kind, b'C' | b'I' | b's' | b'V') {
            out.emit(Event::Orphan { at });
        }
        if session.next_due().is_some() {
            session.misfit(out);
        }
    }
}

/// The exchange whose rows may come now.
fn running(session: &mut Session) -> Option<u64> {
    match *session.next_due()? {
        Expected::Execute { id } => Some(id),
        Expected::Query { next, end, .. } if next < end => Some(next),
        _ => None,
    }
}

/// Whether something follows in the batch of which nobody knows what it is.
fn is_unknown(session: &mut Session) -> bool {
    match session.next_due() {
        Some(Expected::Unknown { .. }) => true,
        Some(Expected::Query { next, end, .. }) => next == end,
        _ => false,
    }
}

/// `ParseComplete`, `BindComplete`, `CloseComplete`, and the answers to `Describe`.
fn prepared(header: Header, at: u64, session: &mut Session, out: &mut dyn Emit) -> Fit {
    let Some(&mut due) = session.next_due() else {
        return Fit::Misfit;
    };
    let (id, ends) = match (header.kind, due) {
        (b'1', Expected::Parse { id, ends }) => (id, ends),
        (b'2', Expected::Bind { id, ends }) => (id, ends),
        (b'3', Expected::Close { id }) => (id, true),
        (b'T' | b'n', Expected::Describe { id, ends }) => (id, ends),
        (b't', Expected::Describe { id, .. })
        | (b'T', Expected::Execute { id } | Expected::Query { next: id, .. }) => {
            session.count(id, at, header.len, out);
            return Fit::Due;
        }
        _ if is_unknown(session) => return Fit::Due,
        _ => return Fit::Misfit,
    };
    session.take_due();
    if ends {
        session.succeed(id, at, header.len, Flags::NONE, out);
    } else {
        session.count(id, at, header.len, out);
    }
    Fit::Due
}

/// `CopyInResponse` and `CopyBothResponse`.
fn copy(header: Header, at: u64, session: &mut Session, out: &mut dyn Emit) -> Fit {
    let Some(id) = running(session) else {
        return if is_unknown(session) {
            Fit::Due
        } else {
            Fit::Misfit
        };
    };
    if header.kind == b'G' {
        session.count_interim(id, header.len);
        session.begin_copy();
        return Fit::Due;
    }
    // Replication starts: the exchange is over, and what follows has no end that it waits for.
    session.succeed(id, at, header.len, Flags::STREAMING, out);
    if let Some(Expected::Query { next, end, .. }) = session.next_due() {
        *next = *end;
    }
    Fit::Due
}

/// The end of a statement.
fn complete(header: Header, at: u64, session: &mut Session, out: &mut dyn Emit) -> Fit {
    let Some(due) = session.next_due() else {
        return Fit::Misfit;
    };
    let id = match *due {
        Expected::Execute { id } => {
            session.take_due();
            id
        }
        Expected::Query { batch, next, end } if next < end => {
            *due = Expected::Query {
                batch,
                next: next.saturating_add(1),
                end,
            };
            next
        }
        Expected::Call { batch, id } => {
            *due = Expected::Sync { batch };
            id
        }
        _ => {
            // The end of replication, of a statement that a rule has added, or of an unseen one.
            return if is_unknown(session) {
                Fit::Due
            } else {
                Fit::Misfit
            };
        }
    };
    session.succeed(id, at, header.len, Flags::NONE, out);
    Fit::Due
}

/// `ErrorResponse`: ends what is due, and all that would have come behind it in the batch.
fn error(header: Header, at: u64, body: &[u8], session: &mut Session, out: &mut dyn Emit) {
    let sqlstate = wire::sqlstate(body).unwrap_or_default();
    let Some(due) = session.next_due() else {
        // The server shuts down, or what failed was not seen.
        out.emit(Event::Orphan { at });
        return;
    };
    let (id, discards) = match *due {
        Expected::Query { batch, next, end } if next < end => {
            // What follows does not run; `ReadyForQuery` will say so.
            *due = Expected::Query {
                batch,
                next: next.saturating_add(1),
                end,
            };
            (next, false)
        }
        Expected::Call { batch, id } => {
            *due = Expected::Sync { batch };
            (id, false)
        }
        Expected::Startup { id, .. } => {
            session.take_due();
            (id, false)
        }
        Expected::Parse { id, .. }
        | Expected::Bind { id, .. }
        | Expected::Describe { id, .. }
        | Expected::Execute { id }
        | Expected::Close { id } => (id, true),
        // Of a commit at `Sync`, or of what nobody knows.
        Expected::Query { .. }
        | Expected::Sync { .. }
        | Expected::Unknown { .. }
        | Expected::CopyEnd => {
            out.emit(Event::Orphan { at });
            return;
        }
    };
    session.fail(id, at, header.len, sqlstate, out);
    if discards {
        session.discard(id, out);
    }
    session.finish_copy();
}
