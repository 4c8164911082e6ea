//! What the client of an exchange knows of it.

use std::fmt;

use serde_json::{Value, json};

/// One exchange, as its client saw it. A line of JSON each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Truth {
    /// As in a record.
    pub protocol: String,
    /// As in a record.
    pub operation: String,
    /// As in a record, and unlike that of any other exchange.
    pub target: String,
    /// As in a record.
    pub status: String,
    /// Trace id that the request carried, lower-case hex; empty without.
    pub trace_id: String,
    /// Who asked.
    pub client: Party,
    /// Who answered.
    pub server: Party,
    /// What carried it.
    pub transport: Transport,
    /// Bytes that the client sent, framing included.
    pub request_bytes: u64,
    /// Bytes that the client received, framing included.
    pub response_bytes: u64,
    /// When the client began to send, in nanoseconds since 1970.
    pub start_ns: u64,
    /// From then until the client had all of the response.
    pub duration_ns: u64,
    /// How long the server waited on purpose before it answered.
    pub pause_ns: u64,
    /// Whether the connection was open before the capture began.
    pub midstream: bool,
}

/// One end of an exchange.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Party {
    /// `ip:port`, IPv6 in brackets, mapped IPv4 as IPv4; empty on a Unix socket.
    pub address: String,
    /// Who moved the bytes.
    pub process: Process,
    /// Whether a capture can see this end.
    pub seen: Seen,
}

/// A process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Process {
    /// Its number in the initial namespace.
    pub pid: u32,
    /// Its name, as `/proc/PID/comm` gives it.
    pub name: String,
}

/// Whether a capture can see an end of an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seen {
    /// It must.
    Always,
    /// It must with hooks at the socket; with hooks at system calls it must not claim to.
    AtSocket,
    /// It may; what it says must be right.
    Perhaps,
    /// It cannot: no process had the bytes in its memory.
    Never,
}

/// What carries an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// A Unix stream socket.
    Unix,
}

/// Whose socket an exchange is seen at.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// The one who asks.
    Client,
    /// The one who answers.
    Server,
}

/// A line that is no [`Truth`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownTruth(String);

impl Truth {
    /// The end on this side.
    #[must_use]
    pub fn party(&self, side: Side) -> &Party {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// As a line of JSON, without its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let party = |party: &Party| {
            json!({
                "address": party.address, "pid": party.process.pid, "name": party.process.name,
                "seen": party.seen.name(),
            })
        };
        json!({
            "protocol": self.protocol, "operation": self.operation, "target": self.target,
            "status": self.status, "trace_id": self.trace_id,
            "client": party(&self.client), "server": party(&self.server),
            "transport": self.transport.name(),
            "request_bytes": self.request_bytes, "response_bytes": self.response_bytes,
            "start_ns": self.start_ns, "duration_ns": self.duration_ns, "pause_ns": self.pause_ns,
            "midstream": self.midstream,
        })
        .to_string()
    }

    /// Reads what [`Truth::to_json`] wrote.
    ///
    /// # Errors
    /// The line is none, or lacks a key.
    pub fn from_json(line: &str) -> Result<Self, UnknownTruth> {
        let unknown = || UnknownTruth(line.chars().take(200).collect());
        let value: Value = serde_json::from_str(line).map_err(|_| unknown())?;
        Self::of(&value).ok_or_else(unknown)
    }

    fn of(value: &Value) -> Option<Self> {
        let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
        let number = |key: &str| value.get(key)?.as_u64();
        Some(Self {
            protocol: text("protocol")?,
            operation: text("operation")?,
            target: text("target")?,
            status: text("status")?,
            trace_id: text("trace_id")?,
            client: Party::of(value.get("client")?)?,
            server: Party::of(value.get("server")?)?,
            transport: Transport::named(&text("transport")?)?,
            request_bytes: number("request_bytes")?,
            response_bytes: number("response_bytes")?,
            start_ns: number("start_ns")?,
            duration_ns: number("duration_ns")?,
            pause_ns: number("pause_ns")?,
            midstream: value.get("midstream")?.as_bool()?,
        })
    }
}

impl Party {
    fn of(value: &Value) -> Option<Self> {
        let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
        Some(Self {
            address: text("address")?,
            process: Process {
                pid: value.get("pid")?.as_u64()?.try_into().ok()?,
                name: text("name")?,
            },
            seen: Seen::named(&text("seen")?)?,
        })
    }
}

impl Seen {
    const ALL: [Self; 4] = [Self::Always, Self::AtSocket, Self::Perhaps, Self::Never];

    fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::AtSocket => "at_socket",
            Self::Perhaps => "perhaps",
            Self::Never => "never",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|seen| seen.name() == name)
    }
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let all = [Self::Tcp, Self::Unix];
        all.into_iter().find(|transport| transport.name() == name)
    }
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    /// As records name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

impl fmt::Display for UnknownTruth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not the truth of an exchange: {}", self.0)
    }
}

impl std::error::Error for UnknownTruth {}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn truth() -> Truth {
        let party = |port: u16, pid: u32, name: &str| Party {
            address: format!("127.0.0.1:{port}"),
            process: Process {
                pid,
                name: name.into(),
            },
            seen: Seen::Always,
        };
        Truth {
            protocol: "http".into(),
            operation: "GET".into(),
            target: "/recvmsg/7-1".into(),
            status: "404".into(),
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            client: party(40_000, 10, "wl-client"),
            server: party(8_080, 11, "wl-server"),
            transport: Transport::Tcp,
            request_bytes: 192,
            response_bytes: 5_120,
            start_ns: 1_800_000_000_000_000_000,
            duration_ns: 30_000_000,
            pause_ns: 20_000_000,
            midstream: false,
        }
    }

    #[test]
    fn a_truth_that_was_written_reads_the_same() {
        let written = truth();
        assert_eq!(Truth::from_json(&written.to_json()), Ok(written));
    }

    #[test]
    fn what_lacks_a_key_is_refused() {
        let line = truth().to_json().replace("pause_ns", "pause");
        assert!(Truth::from_json(&line).is_err());
    }
}
