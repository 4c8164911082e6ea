//! Packets to items. The only user of nom.
//!
//! Functions take a packet's payload, as far as it is visible, and give `None` where it is not what
//! the protocol says. Layouts: MySQL Internals Manual, "Client/Server Protocol", and the MariaDB
//! Knowledge Base, "Client/Server Protocol".

use nom::bytes::complete::{tag, take, take_till};
use nom::combinator::{cond, map, opt, verify};
use nom::multi::length_data;
use nom::number::complete::{le_u8, le_u16, le_u24, le_u32, le_u64};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

use crate::zstd::Zstd;

/// Bytes of a packet's header.
pub(crate) const HEADER: usize = 4;
/// A payload of this length continues in the next packet.
pub(crate) const MAX_PAYLOAD: u32 = 0xFF_FFFF;
/// First byte of an OK packet.
pub(crate) const OK: u8 = 0x00;
/// First byte of the announcement that the client is to send a file.
pub(crate) const INFILE: u8 = 0xFB;
/// First byte of an EOF packet, and of the OK packet in its place.
pub(crate) const EOF: u8 = 0xFE;
/// First byte of an ERR packet.
pub(crate) const ERR: u8 = 0xFF;
/// Number in an ERR packet that reports MariaDB's progress, and no error.
pub(crate) const PROGRESS: u16 = 0xFFFF;

/// Most attributes of a query that are read.
const MAX_ATTRIBUTES: u64 = 1_024;

/// Capability flags of a connection.
pub(crate) mod capability {
    /// A schema follows in the login.
    pub(crate) const CONNECT_WITH_DB: u32 = 1 << 3;
    /// zlib.
    pub(crate) const COMPRESS: u32 = 1 << 5;
    /// The protocol since MySQL 4.1.
    pub(crate) const PROTOCOL_41: u32 = 1 << 9;
    /// TLS follows.
    pub(crate) const SSL: u32 = 1 << 11;
    /// The length of the authentication data is a byte.
    pub(crate) const SECURE_CONNECTION: u32 = 1 << 15;
    /// Several statements in one query.
    pub(crate) const MULTI_STATEMENTS: u32 = 1 << 16;
    /// The length of the authentication data is length-encoded.
    pub(crate) const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
    /// No EOF packet behind column definitions, and an OK packet behind rows.
    pub(crate) const DEPRECATE_EOF: u32 = 1 << 24;
    /// Zstandard.
    pub(crate) const ZSTD: u32 = 1 << 26;
}

/// Status flags of OK and EOF packets.
pub(crate) mod status {
    /// Another result follows.
    pub(crate) const MORE_RESULTS: u16 = 0x0008;
    /// The rows are to be fetched.
    pub(crate) const CURSOR_EXISTS: u16 = 0x0040;
    /// Changes of the session's state follow.
    pub(crate) const SESSION_STATE_CHANGED: u16 = 0x4000;
}

/// A packet's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// Bytes of the payload; at most [`MAX_PAYLOAD`].
    pub(crate) len: u32,
    /// Number of the packet within its exchange.
    pub(crate) seq: u8,
}

impl Header {
    /// Bytes of the whole packet.
    pub(crate) const fn total(self) -> u64 {
        (HEADER as u64).saturating_add(self.len as u64)
    }
}

/// The header at the beginning of `bytes`.
pub(crate) const fn header(bytes: &[u8]) -> Option<Header> {
    match bytes {
        [a, b, c, seq, ..] => Some(Header {
            len: u32::from_le_bytes([*a, *b, *c, 0]),
            seq: *seq,
        }),
        _ => None,
    }
}

/// The server's greeting.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Greeting {
    /// Whether the version says MariaDB.
    pub(crate) is_mariadb: bool,
    /// What the server can.
    pub(crate) capabilities: u32,
}

/// Reads protocol version 10's greeting.
pub(crate) fn greeting(payload: &[u8]) -> Option<Greeting> {
    let version = preceded(tag(&[10][..]), nul_terminated);
    let scramble = take(4usize + 8 + 1);
    let high = preceded(take(1usize + 2), le_u16);
    let fields = (version, preceded(scramble, le_u16), opt(high));
    read(
        payload,
        map(fields, |(version, low, high)| Greeting {
            is_mariadb: version.starts_with(b"5.5.5-") || contains(version, b"MariaDB"),
            capabilities: u32::from(low) | u32::from(high.unwrap_or(0)) << 16,
        }),
    )
}

/// The client's login, or its wish for TLS.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Login<'a> {
    /// What the connection is to be.
    pub(crate) capabilities: u32,
    /// The schema to begin with.
    pub(crate) schema: Option<&'a [u8]>,
}

/// Reads the client's answer to the greeting. The login of protocols before 4.1 has nothing of
/// interest.
pub(crate) fn login(payload: &[u8]) -> Option<Login<'_>> {
    let short = read(payload, le_u16)?;
    if u32::from(short) & capability::PROTOCOL_41 == 0 {
        return Some(Login {
            capabilities: u32::from(short),
            schema: None,
        });
    }
    // MariaDB uses the last four of what MySQL reserves.
    let reserved = verify(take(19usize), |zeros: &[u8]| zeros.iter().all(|b| *b == 0));
    let fixed = terminated(le_u32, (take(4usize + 1), reserved, take(4usize)));
    let (rest, capabilities) = run(payload, fixed).ok()?;
    let schema = move |rest| {
        let (rest, _) = nul_terminated(rest)?;
        let (rest, _) = if capabilities & capability::PLUGIN_AUTH_LENENC != 0 {
            text(rest)?
        } else if capabilities & capability::SECURE_CONNECTION != 0 {
            length_data(le_u8).parse(rest)?
        } else {
            nul_terminated(rest)?
        };
        nul_terminated(rest)
    };
    let named = capabilities & capability::CONNECT_WITH_DB != 0;
    Some(Login {
        capabilities,
        schema: named
            .then(|| read(rest, schema))
            .flatten()
            .filter(|schema| !schema.is_empty()),
    })
}

/// The schema that a change of user names: user, authentication data and schema.
pub(crate) fn change_user(payload: &[u8]) -> Option<&[u8]> {
    let auth = length_data(le_u8);
    let fields = (nul_terminated, auth, nul_terminated);
    read(payload, map(fields, |(_, _, schema)| schema)).filter(|schema| !schema.is_empty())
}

/// An OK packet, or an EOF packet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Done<'a> {
    /// Status flags.
    pub(crate) status: u16,
    /// The schema, where the server says that it has changed.
    pub(crate) schema: Option<&'a [u8]>,
}

/// Reads an OK packet behind its first byte.
pub(crate) fn ok(payload: &[u8]) -> Option<Done<'_>> {
    let (rest, status) = run(payload, preceded((lenenc, lenenc), le_u16)).ok()?;
    let changed = status & status::SESSION_STATE_CHANGED != 0;
    Some(Done {
        status,
        schema: changed.then(|| changed_schema(rest)).flatten(),
    })
}

/// Reads an EOF packet behind its first byte.
pub(crate) fn eof(payload: &[u8]) -> Option<Done<'static>> {
    let status = preceded(le_u16, le_u16);
    read(
        payload,
        map(status, |status| Done {
            status,
            schema: None,
        }),
    )
}

/// The schema among the changes of the session's state; `rest` begins with the warnings.
fn changed_schema(rest: &[u8]) -> Option<&[u8]> {
    const SCHEMA: u8 = 1;
    let mut changes = read(rest, preceded((le_u16, text), text))?;
    while !changes.is_empty() {
        let (rest, (kind, change)) = run(changes, (le_u8, text)).ok()?;
        if kind == SCHEMA {
            return read(change, text);
        }
        changes = rest;
    }
    None
}

/// An ERR packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Failure<'a> {
    /// The server's error number.
    pub(crate) number: u16,
    /// SQLSTATE; before authentication there may be none.
    pub(crate) sqlstate: Option<&'a str>,
}

/// Reads an ERR packet behind its first byte. Its message stays where it is: it may quote values.
pub(crate) fn failure(payload: &[u8]) -> Option<Failure<'_>> {
    let letters = verify(take(5usize), |state: &[u8]| {
        state.iter().all(u8::is_ascii_alphanumeric)
    });
    let sqlstate = opt(preceded(tag(&b"#"[..]), letters));
    let fields = (le_u16, sqlstate);
    read(
        payload,
        map(fields, |(number, sqlstate)| Failure {
            number,
            sqlstate: sqlstate.and_then(|state| core::str::from_utf8(state).ok()),
        }),
    )
}

/// The first packet of a result set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Columns {
    /// How many there are.
    pub(crate) count: u64,
    /// Whether their definitions follow.
    pub(crate) defined: bool,
}

/// Reads the first packet of a result set, which is nothing but these fields.
pub(crate) fn columns(payload: &[u8]) -> Option<Columns> {
    let (rest, count) = lenenc(payload).ok()?;
    // CLIENT_OPTIONAL_RESULTSET_METADATA and MARIADB_CLIENT_CACHE_METADATA add a byte.
    let defined = match rest {
        [] | [1] => true,
        [0] => false,
        _ => return None,
    };
    (1..=u64::from(u16::MAX))
        .contains(&count)
        .then_some(Columns { count, defined })
}

/// The first packet of the answer to a prepare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Prepared {
    /// Names the statement from now on.
    pub(crate) id: u32,
    /// Definitions of columns that follow.
    pub(crate) columns: u16,
    /// Definitions of parameters that follow before.
    pub(crate) parameters: u16,
}

/// Reads the first packet of the answer to a prepare, behind its first byte.
pub(crate) fn prepared(payload: &[u8]) -> Option<Prepared> {
    let warnings = opt(preceded((le_u8, le_u16), le_u8));
    let fields = (le_u32, le_u16, le_u16, warnings);
    let (id, columns, parameters, defined) = read(payload, fields)?;
    let defined = defined != Some(0);
    Some(Prepared {
        id,
        columns: if defined { columns } else { 0 },
        parameters: if defined { parameters } else { 0 },
    })
}

/// A query's text and attributes.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Query<'a> {
    /// The statements, as far as they are visible.
    pub(crate) text: &'a [u8],
    /// The attribute `traceparent`.
    pub(crate) traceparent: Option<&'a [u8]>,
}

/// Reads a query behind the command byte. Attributes are told from text by themselves: behind
/// their number stands a 1, which no text has as its second byte.
pub(crate) fn query(payload: &[u8]) -> Option<Query<'_>> {
    let sets = terminated(lenenc, tag(&[1][..]));
    let Ok((rest, count)) = run(payload, verify(sets, |count| *count <= MAX_ATTRIBUTES)) else {
        return Some(Query {
            text: payload,
            traceparent: None,
        });
    };
    let (text, traceparent) = attributes(rest, count).ok()?;
    Some(Query { text, traceparent })
}

/// Reads the attribute `traceparent` of an execution, behind its fixed fields, where it tells the
/// number of its parameters.
pub(crate) fn execution_traceparent(payload: &[u8]) -> Option<&[u8]> {
    let (rest, count) = run(payload, verify(lenenc, |count| *count <= MAX_ATTRIBUTES)).ok()?;
    read(rest, |rest| attributes(rest, count)).flatten()
}

/// Walks over parameters: which are null, their types and names, their values.
fn attributes(rest: &[u8], count: u64) -> IResult<&[u8], Option<&[u8]>> {
    if count == 0 {
        return Ok((rest, None));
    }
    let (rest, nulls) = take(count.div_ceil(8)).parse(rest)?;
    let (names, _) = tag(&[1][..]).parse(rest)?;
    let mut values = names;
    for _ in 0..count {
        (values, _) = name(values)?;
    }
    let mut names = names;
    let mut traceparent = None;
    for index in 0..count {
        let kind;
        let title;
        (names, (kind, title)) = name(names)?;
        let byte = usize::try_from(index >> 3).unwrap_or(usize::MAX);
        if nulls
            .get(byte)
            .is_some_and(|bits| bits >> (index & 7) & 1 == 1)
        {
            continue;
        }
        let found;
        (values, found) = value(kind, values)?;
        if title.eq_ignore_ascii_case(b"traceparent") {
            traceparent = Some(found);
        }
    }
    Ok((values, traceparent))
}

/// A parameter's type and name.
fn name(bytes: &[u8]) -> IResult<&[u8], (u16, &[u8])> {
    (le_u16, text).parse(bytes)
}

/// A value of the binary protocol; `kind` is its type, with a flag for unsigned.
fn value(kind: u16, bytes: &[u8]) -> IResult<&[u8], &[u8]> {
    match kind & 0xFF {
        1 => take(1usize).parse(bytes),
        2 | 13 => take(2usize).parse(bytes),
        3 | 4 | 9 => take(4usize).parse(bytes),
        5 | 8 => take(8usize).parse(bytes),
        6 => take(0usize).parse(bytes),
        7 | 10 | 11 | 12 => length_data(le_u8).parse(bytes),
        _ => text(bytes),
    }
}

/// The beginning of an execution, behind the command byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Execution {
    /// Which statement.
    pub(crate) id: u32,
    /// Flags: the kind of cursor, and whether the number of parameters follows.
    pub(crate) flags: u8,
}

/// Reads the beginning of an execution, behind the command byte.
pub(crate) fn execution(payload: &[u8]) -> Option<Execution> {
    read(
        payload,
        map((le_u32, le_u8), |(id, flags)| Execution { id, flags }),
    )
}

/// Header of a compressed packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    /// Bytes that follow.
    pub(crate) len: u32,
    /// Number within its exchange.
    pub(crate) seq: u8,
    /// Bytes that they become; 0 when they are not compressed.
    pub(crate) inflated: u32,
}

/// Bytes of a compressed packet's header.
pub(crate) const FRAME: usize = 7;

/// Reads the header of a compressed packet.
pub(crate) fn frame(bytes: &[u8]) -> Option<Frame> {
    let fields = (le_u24, le_u8, le_u24);
    read(
        bytes,
        map(fields, |(len, seq, inflated)| Frame { len, seq, inflated }),
    )
}

/// Header of a frame of Zstandard's (RFC 8878 §3.1.1.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ZstdHeader {
    /// Bytes of the header itself, magic number included.
    pub(crate) len: usize,
    /// Bytes behind which nothing is referred to.
    pub(crate) window: u64,
    /// Bytes that the frame becomes, where it says so.
    pub(crate) content: Option<u64>,
    /// Whether a checksum follows the last block.
    pub(crate) has_checksum: bool,
}

/// Length of the longest header of a frame of Zstandard's.
pub(crate) const MAX_ZSTD_HEADER: usize = 18;

/// Reads the header of a frame of Zstandard's.
pub(crate) fn zstd_header(bytes: &[u8]) -> Option<ZstdHeader> {
    let (rest, descriptor) = run(bytes, preceded(tag(&Zstd::MAGIC[..]), le_u8)).ok()?;
    let is_single = descriptor & 0x20 != 0;
    let (rest, window) = run(rest, cond(!is_single, map(le_u8, zstd_window))).ok()?;
    let dictionary = match descriptor & 3 {
        3 => 4usize,
        size => usize::from(size),
    };
    let (rest, _) = run(rest, take(dictionary)).ok()?;
    let (rest, content) = match descriptor >> 6 {
        0 if !is_single => Ok((rest, None)),
        0 => run(rest, map(le_u8, |len| Some(u64::from(len)))),
        1 => run(
            rest,
            map(le_u16, |len| Some(u64::from(len).saturating_add(256))),
        ),
        2 => run(rest, map(le_u32, |len| Some(u64::from(len)))),
        _ => run(rest, map(le_u64, Some)),
    }
    .ok()?;
    Some(ZstdHeader {
        len: bytes.len().saturating_sub(rest.len()),
        window: window.or(content)?,
        content,
        has_checksum: descriptor & 4 != 0,
    })
}

/// The window that a byte describes: an exponent and eighths.
fn zstd_window(byte: u8) -> u64 {
    let base = 1u64.wrapping_shl(u32::from(byte >> 3).saturating_add(10));
    let eighths = (base >> 3).saturating_mul(u64::from(byte & 7));
    base.saturating_add(eighths)
}

/// Header of a block of Zstandard's (RFC 8878 §3.1.1.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ZstdBlock {
    /// Whether it is the frame's last.
    pub(crate) is_last: bool,
    /// Its size: of what follows, or of what one byte that follows is to become.
    pub(crate) size: u32,
    /// Bytes that follow.
    pub(crate) payload: u32,
}

/// Bytes of a block's header.
pub(crate) const ZSTD_BLOCK: usize = 3;

/// Reads the header of a block of Zstandard's.
pub(crate) fn zstd_block(bytes: &[u8]) -> Option<ZstdBlock> {
    const RLE: u32 = 1;
    read(
        bytes,
        map(le_u24, |bits| ZstdBlock {
            is_last: bits & 1 != 0,
            size: bits >> 3,
            payload: if bits >> 1 & 3 == RLE { 1 } else { bits >> 3 },
        }),
    )
}

type E<'a> = nom::error::Error<&'a [u8]>;

/// What a grammar reads at the beginning of `bytes`.
fn read<'a, T>(
    bytes: &'a [u8],
    grammar: impl Parser<&'a [u8], Output = T, Error = E<'a>>,
) -> Option<T> {
    run(bytes, grammar).ok().map(|(_, item)| item)
}

/// The same, with what follows.
fn run<'a, T>(
    bytes: &'a [u8],
    mut grammar: impl Parser<&'a [u8], Output = T, Error = E<'a>>,
) -> IResult<&'a [u8], T> {
    grammar.parse(bytes)
}

/// A length-encoded integer.
fn lenenc(bytes: &[u8]) -> IResult<&[u8], u64> {
    let (rest, first) = le_u8(bytes)?;
    match first {
        0..=0xFA => Ok((rest, u64::from(first))),
        0xFC => map(le_u16, u64::from).parse(rest),
        0xFD => map(le_u24, u64::from).parse(rest),
        0xFE => le_u64(rest),
        _ => Err(nom::Err::Error(nom::error::make_error(
            bytes,
            nom::error::ErrorKind::LengthValue,
        ))),
    }
}

/// Bytes behind their length-encoded length.
fn text(bytes: &[u8]) -> IResult<&[u8], &[u8]> {
    let (rest, len) = lenenc(bytes)?;
    take(len).parse(rest)
}

/// Bytes before a NUL.
fn nul_terminated(bytes: &[u8]) -> IResult<&[u8], &[u8]> {
    terminated(take_till(|byte| byte == 0), tag(&[0][..])).parse(bytes)
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

#[cfg(test)]
mod tests;
