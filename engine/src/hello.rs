//! The messages that begin a TLS handshake, which are in the clear: what the client asks for, and
//! what the server chose (RFC 8446 §4.1; RFC 5246 §7.4.1).

/// Extensions, by RFC 6066 §3, RFC 7301 §3.1, RFC 8446 §4.2.
const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;

/// Names of protocols that are remembered: clients offer two or three.
const MOST_OFFERED: usize = 16;

/// What a client asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ClientHello {
    pub(crate) server_name: Option<String>,
    /// The application protocols that it speaks, the best first.
    pub(crate) offered: Vec<String>,
    /// Whether it means to send data before the handshake is over.
    pub(crate) early_data: bool,
}

/// What a server chose.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ServerHello {
    /// As the protocol writes it: 0x0303 is TLS 1.2.
    pub(crate) version: u16,
    /// The application protocol, where it is told in the clear: up to TLS 1.2.
    pub(crate) chosen: Option<String>,
}

/// Reads the body of a ClientHello; `None` if it is none.
pub(crate) fn client(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    body.take(2 + 32)?;
    let (_session, _ciphers, _compression) = (body.short()?, body.long()?, body.short()?);
    let mut hello = ClientHello::default();
    let mut extensions = body.extensions()?;
    while let Some((kind, data)) = extensions.extension()? {
        match kind {
            SERVER_NAME => hello.server_name = server_name(data)?,
            PROTOCOLS => hello.offered = protocols(data)?,
            EARLY_DATA => hello.early_data = true,
            _ => {}
        }
    }
    Some(hello)
}

/// Reads the body of a ServerHello, or of a HelloRetryRequest; `None` if it is none.
pub(crate) fn server(body: &[u8]) -> Option<ServerHello> {
    let mut body = Reader(body);
    let mut hello = ServerHello {
        version: body.number()?,
        chosen: None,
    };
    body.take(32)?;
    let (_session, _cipher, _compression) = (body.short()?, body.number()?, body.take(1)?);
    let mut extensions = body.extensions()?;
    while let Some((kind, data)) = extensions.extension()? {
        match kind {
            SUPPORTED_VERSIONS => hello.version = Reader(data).number()?,
            PROTOCOLS => hello.chosen = protocols(data)?.pop(),
            _ => {}
        }
    }
    Some(hello)
}

/// The host of a ServerNameList. RFC 6066 knows no other kind of name, and no other characters.
fn server_name(data: &[u8]) -> Option<Option<String>> {
    const HOST: u8 = 0;
    let mut list = Reader(Reader(data).long()?);
    while let Some(kind) = list.take(1) {
        let name = list.long()?;
        let is_plain = |byte: &u8| byte.is_ascii_graphic();
        if kind == [HOST] && !name.is_empty() && name.iter().all(is_plain) {
            return Some(String::from_utf8(name.to_vec()).ok());
        }
    }
    Some(None)
}

/// The names of a ProtocolNameList that are text and mean a protocol.
fn protocols(data: &[u8]) -> Option<Vec<String>> {
    let mut list = Reader(Reader(data).long()?);
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.short()?;
        // RFC 8701, GREASE: 0x0a0a, 0x1a1a, … mean none.
        let is_filler = matches!(name, [a, b] if a == b && a & 15 == 10);
        let is_name = !is_filler && name.iter().all(u8::is_ascii_graphic);
        if is_name && names.len() < MOST_OFFERED {
            names.extend(String::from_utf8(name.to_vec()));
        }
    }
    Some(names)
}

/// The rest of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    }

    /// Bytes behind their number in one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let len = *self.take(1)?.first()?;
        self.take(len.into())
    }

    /// Bytes behind their number in two bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        self.take(len.into())
    }

    /// The block of extensions that ends a hello; none before TLS 1.2, perhaps.
    fn extensions(&mut self) -> Option<Self> {
        match self.0 {
            [] => Some(Self(&[])),
            _ => self.long().map(Reader),
        }
    }

    /// The next of a block of extensions; `Some(None)` behind the last.
    fn extension(&mut self) -> Option<Option<(u16, &'a [u8])>> {
        match self.0 {
            [] => Some(None),
            _ => Some(Some((self.number()?, self.long()?))),
        }
    }
}
