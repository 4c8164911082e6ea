//! TLS handshakes as they are seen from outside: the records that pass before any cleartext can be
//! seen.

use wirespan_parser_api::{Attr, Direction, keys};

use crate::both::Both;
use crate::hello;
use crate::types::Nanos;

/// Bytes of one direction in which a handshake must be over: long chains of certificates take some
/// ten thousand.
const LONGEST: u64 = 128 * 1024;

/// RFC 8446 §5.1: types of records, and most bytes of one. Ciphers before TLS 1.3 add up to 2 KiB.
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const HEARTBEAT: u8 = 24;
const LARGEST_RECORD: u16 = (1 << 14) + 2048;

/// RFC 8446 §4: types of messages.
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

const TLS_1_3: u16 = 0x0304;

/// What a TLS handshake tells whoever has no key.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    halves: Both<Half>,
    client: hello::ClientHello,
    server: Option<hello::ServerHello>,
    begun: Option<Nanos>,
    /// Whether nothing more is learned: bytes are missing, are not TLS, or are cleartext from here on.
    stopped: bool,
}

/// The records of one direction.
#[derive(Clone, Debug, Default)]
struct Half {
    /// The first bytes of the next record.
    head: Vec<u8>,
    /// Type of the record that is under way.
    kind: u8,
    /// Bytes of it that are missing.
    left: u16,
    /// The first message, until it is whole.
    message: Vec<u8>,
    /// Whether it was.
    is_read: bool,
    seen: u64,
    changed_cipher: bool,
    /// When the first record behind ChangeCipherSpec ended: up to TLS 1.2, Finished.
    finished: Option<Nanos>,
    /// When the first record of type data ended.
    protected: Option<Nanos>,
}

impl Handshake {
    /// Whether the first bytes of a stream look like a ClientHello.
    pub(crate) fn begins(head: &[u8]) -> bool {
        matches!(head, [HANDSHAKE, 3, 0..=4, _, _, CLIENT_HELLO, ..])
    }

    /// The host that the client named (SNI), as it did; with Encrypted Client Hello, the outer one.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.client.server_name.as_deref()
    }

    /// The application protocols that the client offered (ALPN), the best first.
    #[must_use]
    pub fn offered(&self) -> &[String] {
        &self.client.offered
    }

    /// The protocol's version that the server chose: `1.2`, `1.3`.
    #[must_use]
    pub fn version(&self) -> Option<&'static str> {
        match self.server.as_ref()?.version {
            0x0301 => Some("1.0"),
            0x0302 => Some("1.1"),
            0x0303 => Some("1.2"),
            TLS_1_3 => Some("1.3"),
            _ => None,
        }
    }

    /// Nanoseconds from the first byte of the ClientHello to the last of the handshake, where it was
    /// observed: in TLS 1.3 that of the client's first protected record, which holds its Finished (or,
    /// if the client has a certificate, begins with that); before, that of the later Finished. `None`
    /// if one of them was not seen, and with early data, which cannot be told from Finished.
    #[must_use]
    pub fn duration(&self) -> Option<u64> {
        let (client, server) = (&self.halves.to_server, &self.halves.to_client);
        let end = match self.server.as_ref()?.version {
            TLS_1_3 if self.client.early_data => None,
            TLS_1_3 => client.protected,
            _ => Some(client.finished?.max(server.finished?)),
        };
        Some(end?.since(self.begun?))
    }

    /// What is said of it with each exchange.
    pub(crate) fn attrs(&self) -> impl Iterator<Item = Attr<'_>> {
        let chosen = self
            .server
            .as_ref()
            .and_then(|hello| hello.chosen.as_deref());
        let duration = self.duration().and_then(|ns| i64::try_from(ns).ok());
        let attrs = [
            self.version()
                .map(|text| keys::TLS_PROTOCOL_VERSION.of(text)),
            chosen.map(|text| keys::TLS_NEXT_PROTOCOL.of(text)),
            self.server_name()
                .map(|text| keys::WIRESPAN_TLS_SERVER_NAME.of(text)),
            duration.map(|ns| keys::WIRESPAN_TLS_HANDSHAKE_NS.of(ns)),
        ];
        attrs.into_iter().flatten()
    }

    /// Whether more of it is to be learned.
    pub(crate) fn wants_more(&self) -> bool {
        let untimed = self.client.early_data && self.server.is_some();
        !self.stopped && !untimed && self.duration().is_none()
    }

    /// What follows is no ciphertext, or none that was seen.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let halves = [&self.halves.to_server, &self.halves.to_client];
        let messages = halves.into_iter().map(|half| half.message.capacity());
        messages.fold(size_of::<Self>(), usize::saturating_add)
    }

    /// Takes the next bytes of a direction, of which the first were seen at `first` and the last at
    /// `last`.
    pub(crate) fn take(
        &mut self,
        dir: Direction,
        bytes: &[u8],
        first: Option<Nanos>,
        last: Option<Nanos>,
    ) {
        if !self.wants_more() || bytes.is_empty() {
            return;
        }
        if dir == Direction::ToServer && self.halves[dir].seen == 0 {
            self.begun = first;
        }
        let half = &mut self.halves[dir];
        half.seen = half.seen.saturating_add(bytes.len() as u64);
        let is_sound = half.seen <= LONGEST && last.is_some() && self.read(dir, bytes, last);
        self.stopped |= !is_sound;
    }

    /// Takes the news that the next bytes of a direction are not to be seen.
    pub(crate) fn pass(&mut self, dir: Direction, len: u64) {
        let half = &mut self.halves[dir];
        let left = u64::from(half.left).checked_sub(len);
        match left.and_then(|left| u16::try_from(left).ok()) {
            // The inside of a record that is not read, such as certificates.
            Some(left @ 1..) if half.is_read => half.left = left,
            _ => self.stopped = true,
        }
    }

    /// Reads records; false if they are none.
    fn read(&mut self, dir: Direction, mut bytes: &[u8], time: Option<Nanos>) -> bool {
        while !bytes.is_empty() {
            let half = &mut self.halves[dir];
            if half.left == 0 {
                let missing = 5usize.saturating_sub(half.head.len());
                let (head, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
                half.head.extend_from_slice(head);
                bytes = rest;
                if half.head.len() == 5 && !half.begin() {
                    return false;
                }
                continue;
            }
            let (body, rest) = bytes
                .split_at_checked(half.left.into())
                .unwrap_or((bytes, &[]));
            bytes = rest;
            let len = u16::try_from(body.len()).unwrap_or(u16::MAX);
            half.left = half.left.saturating_sub(len);
            if half.left == 0 {
                half.end(time);
            }
            if half.kind == HANDSHAKE && !half.is_read && !self.hear(dir, body) {
                return false;
            }
        }
        true
    }

    /// Takes bytes of the first message of a direction; false if it is none.
    fn hear(&mut self, dir: Direction, bytes: &[u8]) -> bool {
        let half = &mut self.halves[dir];
        half.message.extend_from_slice(bytes);
        let &[kind, high, middle, low, ref body @ ..] = half.message.as_slice() else {
            return true;
        };
        let len = u32::from_be_bytes([0, high, middle, low]);
        let Some(body) = usize::try_from(len).ok().and_then(|len| body.get(..len)) else {
            // More of it may come, if it is one.
            return u64::from(len) < LONGEST;
        };
        let is_one = match (dir, kind) {
            (Direction::ToServer, CLIENT_HELLO) => hello::client(body).is_some_and(|hello| {
                self.client = hello;
                true
            }),
            (Direction::ToClient, SERVER_HELLO) => {
                self.server = hello::server(body);
                self.server.is_some()
            }
            _ => false,
        };
        half.message = Vec::new();
        half.is_read = true;
        is_one
    }
}

impl Half {
    /// A record begins; false if it is none.
    fn begin(&mut self) -> bool {
        let &[kind @ CHANGE_CIPHER_SPEC..=HEARTBEAT, 3, 0..=4, high, low] = self.head.as_slice()
        else {
            return false;
        };
        self.head.clear();
        self.kind = kind;
        self.left = u16::from_be_bytes([high, low]);
        (1..=LARGEST_RECORD).contains(&self.left)
    }

    /// The record has ended.
    fn end(&mut self, time: Option<Nanos>) {
        match self.kind {
            CHANGE_CIPHER_SPEC => self.changed_cipher = true,
            HANDSHAKE if self.changed_cipher => self.finished = self.finished.or(time),
            DATA => self.protected = self.protected.or(time),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
