//! What was found, as text and as JSON.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde_json::{Value, json};
use wirespan_capture::{Finished, HookSet, Surveyed};
use wirespan_engine::api::{Direction, Flags};
use wirespan_engine::{Address, Closed, Unread};

use super::Subject;
use super::subject::Process;

/// Schema of the JSON object. Keys are only ever added to it.
const SCHEMA: &str = "wirespan.explain/1";

/// What was found of a subject.
pub(super) struct Findings<'a> {
    pub(super) subject: &'a Subject,
    pub(super) processes: Vec<Process>,
    pub(super) libraries: &'a [Surveyed],
    /// `None` if nothing could be observed.
    pub(super) observed: Option<&'a Observed>,
    /// Names of the protocols that there are parsers for.
    pub(super) parsers: Vec<&'static str>,
}

/// What was seen in a time.
pub(super) struct Observed {
    pub(super) seconds: f64,
    pub(super) hooks: HookSet,
    pub(super) connections: Vec<Connection>,
    /// Detaches when all has been said and this is dropped.
    pub(super) finished: Finished,
}

/// A connection that was observed.
pub(super) struct Connection {
    client: Address,
    server: Address,
    side: &'static str,
    pid: Option<u32>,
    protocol: &'static str,
    opaque: Option<&'static str>,
    unread: Option<Unread>,
    is_tls: bool,
    handshake: Option<Handshake>,
    exchanges: u64,
    bytes: u64,
}

/// What a TLS handshake told that was seen.
#[derive(Clone)]
struct Handshake {
    server_name: Option<String>,
    offered: Vec<String>,
    version: Option<&'static str>,
    duration: Option<u64>,
}

impl From<&wirespan_engine::Handshake> for Handshake {
    fn from(seen: &wirespan_engine::Handshake) -> Self {
        Self {
            server_name: seen.server_name().map(str::to_owned),
            offered: seen.offered().to_vec(),
            version: seen.version(),
            duration: seen.duration(),
        }
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "TLS {version}")?,
            None => f.write_str("TLS, which the server did not answer")?,
        }
        match &self.server_name {
            Some(name) => write!(f, ", SNI {name}")?,
            None => f.write_str(", no SNI")?,
        }
        if !self.offered.is_empty() {
            write!(f, ", ALPN {}", self.offered.join(" "))?;
        }
        match self.duration {
            Some(ns) => write!(f, ", handshake {:.1} ms", ns as f64 / 1e6),
            None => Ok(()),
        }
    }
}

impl From<&Closed<'_>> for Connection {
    fn from(closed: &Closed<'_>) -> Self {
        Self {
            client: closed.client,
            server: closed.server,
            side: closed.side.name(),
            pid: closed.process.map(|process| process.pid),
            protocol: closed.protocol,
            opaque: closed.opaque,
            unread: closed.unread,
            is_tls: closed.flags.has(Flags::TLS),
            handshake: closed.handshake.map(Handshake::from),
            exchanges: closed.exchanges,
            bytes: closed
                .bytes
                .to_server
                .saturating_add(closed.bytes.to_client),
        }
    }
}

/// A reason why something is not visible, and what to do about it.
struct Why {
    reason: String,
    remedy: &'static str,
}

const fn why(reason: String, remedy: &'static str) -> Why {
    Why { reason, remedy }
}

impl Findings<'_> {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for process in &self.processes {
            self.process(process, &mut text);
        }
        let Some(observed) = self.observed else {
            text.push_str("\nNothing could be observed.\n");
            return text;
        };
        let (seconds, hooks) = (observed.seconds, observed.hooks);
        let _ = writeln!(text, "\nObserved for {seconds} s, with {hooks} hooks");
        for connection in self.connections(observed) {
            let (client, server, side) = (connection.client, connection.server, connection.side);
            let _ = write!(text, "  {client} → {server}, {side}'s side: ");
            match self.why(connection) {
                reasons if reasons.is_empty() => {
                    let layer = if connection.is_tls { " inside TLS" } else { "" };
                    let (protocol, exchanges) = (connection.protocol, connection.exchanges);
                    let _ = writeln!(text, "read as {protocol}{layer}, {exchanges} requests");
                }
                reasons => {
                    let _ = writeln!(text, "not read, {} bytes", connection.bytes);
                    list(&reasons, &mut text);
                }
            }
            if let Some(handshake) = &connection.handshake {
                let _ = writeln!(text, "    {handshake}");
            }
        }
        for (process, socket) in self.silent(observed) {
            let (local, remote, name) = (socket.local, socket.remote, &process.name);
            let _ = writeln!(text, "  {local} ↔ {remote} of {name}: open, and silent");
        }
        let whys = self.nothing(observed);
        if !whys.is_empty() {
            text.push_str("  nothing was seen\n");
            list(&whys, &mut text);
        }
        let losses = &observed.finished.losses;
        let lost = losses.ring_full_events + losses.share_events;
        if lost > 0 {
            let _ = writeln!(
                text,
                "  {lost} events found the buffer full\n     → a larger --buffer, or a filter"
            );
        }
        text
    }

    fn process(&self, process: &Process, text: &mut String) {
        let (pid, name) = (process.pid, &process.name);
        let _ = writeln!(text, "Process {pid} ({name})");
        let listening = process.sockets.iter().filter(|socket| socket.listens);
        let listening: Vec<_> = listening.map(|socket| socket.local.to_string()).collect();
        let connected = process.sockets.len() - listening.len();
        let _ = write!(text, "  sockets: {connected} connected");
        if !listening.is_empty() {
            let _ = write!(text, ", listens at {}", listening.join(", "));
        }
        text.push('\n');
        let mapped = self.mapped(pid);
        if mapped.is_empty() {
            text.push_str("  TLS: no library that is known; what it sends in the clear is read\n");
        }
        for file in mapped {
            file_lines(file, text);
        }
    }

    /// The files with TLS that a process has mapped.
    fn mapped(&self, pid: u32) -> Vec<&Surveyed> {
        let files = self.libraries.iter();
        files.filter(|file| file.processes.contains(&pid)).collect()
    }

    fn connections<'o>(&self, observed: &'o Observed) -> impl Iterator<Item = &'o Connection> {
        let connections = observed.connections.iter();
        connections.filter(|connection| self.subject.is(connection.client, connection.server))
    }

    /// Sockets that moved nothing.
    fn silent<'f>(
        &'f self,
        observed: &Observed,
    ) -> Vec<(&'f Process, &'f wirespan_capture::TcpSocket)> {
        let pairs = |connection: &Connection| {
            let (client, server) = (connection.client, connection.server);
            [(client, server), (server, client)]
        };
        let seen: HashSet<_> = observed.connections.iter().flat_map(pairs).collect();
        let mut silent = Vec::new();
        for process in &self.processes {
            for socket in &process.sockets {
                if !socket.listens && !seen.contains(&(socket.local.into(), socket.remote.into())) {
                    silent.push((process, socket));
                }
            }
        }
        silent
    }

    /// Why a connection was not read: reasons in order. Empty if it was.
    fn why(&self, connection: &Connection) -> Vec<Why> {
        let Some(opaque) = connection.opaque else {
            return match connection.protocol {
                "opaque" => vec![why(
                    format!("{} bytes are too few to tell a protocol", connection.bytes),
                    "observe for longer (--duration)",
                )],
                _ => Vec::new(),
            };
        };
        match opaque {
            "tls" => self.why_tls(connection),
            "no data" => vec![why(
                "it moved no bytes while it was observed".to_owned(),
                "observe for longer (--duration), while it is in use",
            )],
            "unknown protocol" => vec![why(
                format!(
                    "no parser knows its first bytes: {}",
                    self.parsers.join(", ")
                ),
                "if it is one of these, look at `wirespan record` of it and open an issue; \
                 if not, add a parser (docs/PARSER-GUIDE.md)",
            )],
            reason => {
                let mut reasons = vec![why(
                    format!("{} gave up on it: {reason}", connection.protocol),
                    "open an issue with a `wirespan record` of it",
                )];
                if let Some(unread) = connection.unread {
                    let dir = match unread.dir {
                        Direction::ToServer => "to the server",
                        Direction::ToClient => "to the client",
                    };
                    reasons.push(why(
                        format!(
                            "the last message that it could not read: {} ({:?}) at byte {} {dir}",
                            unread.what, unread.kind, unread.offset
                        ),
                        "compare with the protocol's specification, or open an issue",
                    ));
                }
                reasons
            }
        }
    }

    /// Why only ciphertext was seen.
    fn why_tls(&self, connection: &Connection) -> Vec<Why> {
        let mut reasons = vec![why(
            "it is TLS, and its cleartext was not seen".to_owned(),
            "the reasons that follow",
        )];
        let files = match connection.pid {
            Some(pid) => self.mapped(pid),
            None => self.libraries.iter().collect(),
        };
        if files.is_empty() {
            reasons.push(why(
                "its process maps no TLS library that is known".to_owned(),
                "observe the connection's other end, or the side where TLS ends",
            ));
        }
        let probed = files.iter().any(|file| !file.libraries.is_empty());
        for file in &files {
            for reason in &file.reasons {
                reasons.push(why(
                    format!("{}: {reason}", file.path.display()),
                    reason.remedy(),
                ));
            }
        }
        if probed {
            reasons.push(why(
                "a library of its process is probed, and no call of it was found on this socket: it \
                 uses another library here, or was silent since the start, or ciphertext goes \
                 through memory and other threads"
                    .to_owned(),
                "observe for longer; if it stays so, open an issue that names the program",
            ));
        }
        reasons
    }

    /// Why nothing at all was seen.
    fn nothing(&self, observed: &Observed) -> Vec<Why> {
        if self.connections(observed).next().is_some() || !self.silent(observed).is_empty() {
            return Vec::new();
        }
        let own = std::process::id();
        if self.processes.iter().all(|process| process.pid == own) {
            return vec![why(
                "wirespan does not observe itself".to_owned(),
                "name another process",
            )];
        }
        vec![why(
            format!(
                "no bytes moved over TCP or Unix sockets in {} s",
                observed.seconds
            ),
            "make it work meanwhile, or observe for longer (--duration)",
        )]
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let processes = self.processes.iter().map(|process| {
            let files = self.mapped(process.pid);
            json!({
                "pid": process.pid,
                "name": process.name,
                "listens": process.sockets.iter().filter(|s| s.listens)
                    .map(|s| s.local.to_string()).collect::<Vec<_>>(),
                "tls": files.iter().map(|file| file_json(file)).collect::<Vec<_>>(),
            })
        });
        let connections = self.observed.map(|observed| {
            let connections = self.connections(observed).map(|connection| {
                let reasons = self.why(connection);
                json!({
                    "client": connection.client.to_string(),
                    "server": connection.server.to_string(),
                    "side": connection.side,
                    "pid": connection.pid,
                    "visible": reasons.is_empty(),
                    "protocol": connection.protocol,
                    "tls": connection.is_tls,
                    "handshake": connection.handshake.as_ref().map(|told| json!({
                        "server_name": told.server_name,
                        "alpn": told.offered,
                        "version": told.version,
                        "duration_ns": told.duration,
                    })),
                    "requests": connection.exchanges,
                    "bytes": connection.bytes,
                    "reasons": reasons_json(&reasons),
                })
            });
            connections.collect::<Vec<_>>()
        });
        let silent = self.observed.map(|observed| {
            let silent = self.silent(observed);
            let silent = silent.iter().map(|(process, socket)| {
                json!({
                    "pid": process.pid,
                    "local": socket.local.to_string(),
                    "remote": socket.remote.to_string(),
                })
            });
            silent.collect::<Vec<_>>()
        });
        let nothing = self.observed.map(|observed| self.nothing(observed));
        json!({
            "schema": SCHEMA,
            "processes": processes.collect::<Vec<_>>(),
            "observed_s": self.observed.map(|observed| observed.seconds),
            "hooks": self.observed.map(|observed| observed.hooks.name()),
            "connections": connections,
            "silent": silent,
            "reasons": reasons_json(&nothing.unwrap_or_default()),
        })
    }
}

fn reasons_json(reasons: &[Why]) -> Vec<Value> {
    let reasons = reasons.iter();
    reasons
        .map(|why| json!({ "reason": why.reason, "remedy": why.remedy }))
        .collect()
}

fn list(reasons: &[Why], text: &mut String) {
    for (n, why) in reasons.iter().enumerate() {
        let _ = writeln!(
            text,
            "    {}. {}\n       → {}",
            n + 1,
            why.reason,
            why.remedy
        );
    }
}

fn file_json(file: &Surveyed) -> Value {
    let libraries = file
        .libraries
        .iter()
        .map(|library| json!({ "family": library.family.to_string(), "version": library.version }));
    let reasons = file
        .reasons
        .iter()
        .map(|reason| json!({ "reason": reason.to_string(), "remedy": reason.remedy() }));
    json!({
        "path": file.path.to_string_lossy(),
        "libraries": libraries.collect::<Vec<_>>(),
        "reasons": reasons.collect::<Vec<_>>(),
    })
}

fn file_lines(file: &Surveyed, text: &mut String) {
    let path = file.path.display();
    for library in &file.libraries {
        let version = library.version.as_deref().unwrap_or("of unknown version");
        let _ = writeln!(
            text,
            "  TLS: {} {version} in {path}: probed",
            library.family
        );
    }
    for reason in &file.reasons {
        let _ = writeln!(
            text,
            "  TLS: {path}: {reason}\n       → {}",
            reason.remedy()
        );
    }
}

/// The files with TLS that processes have mapped, for people.
pub(crate) fn targets(files: &[Surveyed]) -> String {
    let mut text = String::from("\nTLS in what processes have mapped\n");
    if files.is_empty() {
        text.push_str("  none\n");
    }
    for file in files {
        file_lines(file, &mut text);
        let mut pids: Vec<_> = file.processes.iter().map(u32::to_string).collect();
        let more = pids.len().saturating_sub(8);
        pids.truncate(8);
        let _ = write!(text, "       processes {}", pids.join(" "));
        if more > 0 {
            let _ = write!(text, " and {more} more");
        }
        text.push('\n');
    }
    text
}

/// The same, for programs.
pub(crate) fn targets_json(files: &[Surveyed]) -> Vec<Value> {
    let files = files.iter().map(|file| {
        let mut value = file_json(file);
        value["processes"] = json!(file.processes);
        value
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use wirespan_engine::api::ErrorKind;

    use super::*;

    fn connection(protocol: &'static str, opaque: Option<&'static str>) -> Connection {
        Connection {
            client: ([10, 0, 0, 2], 50_000).into(),
            server: ([10, 0, 0, 1], 443).into(),
            side: "server",
            pid: Some(7),
            protocol,
            opaque,
            unread: None,
            is_tls: false,
            handshake: None,
            exchanges: 3,
            bytes: 900,
        }
    }

    fn reasons(connection: &Connection) -> Vec<String> {
        let findings = Findings {
            subject: &Subject::Process(7),
            processes: Vec::new(),
            libraries: &[],
            observed: None,
            parsers: vec!["http", "redis"],
        };
        let reasons = findings.why(connection).into_iter();
        reasons.map(|why| why.reason).collect()
    }

    #[test]
    fn what_was_read_needs_no_reason() {
        assert!(reasons(&connection("http", None)).is_empty());
    }

    #[test]
    fn ciphertext_without_a_library_names_the_library_that_is_not_there() {
        let reasons = reasons(&connection("opaque", Some("tls")));
        assert_eq!(reasons[0], "it is TLS, and its cleartext was not seen");
        assert_eq!(reasons[1], "its process maps no TLS library that is known");
    }

    #[test]
    fn an_unknown_protocol_names_the_parsers_that_were_asked() {
        let reasons = reasons(&connection("opaque", Some("unknown protocol")));
        assert_eq!(reasons, ["no parser knows its first bytes: http, redis"]);
    }

    #[test]
    fn a_parser_that_gave_up_says_at_which_byte() {
        let mut connection = connection("http", Some("parse errors"));
        connection.unread = Some(Unread {
            kind: ErrorKind::Malformed,
            what: "status line",
            dir: Direction::ToClient,
            offset: 4_711,
        });
        let reasons = reasons(&connection);
        assert_eq!(reasons[0], "http gave up on it: parse errors");
        assert!(
            reasons[1].contains("status line (Malformed) at byte 4711 to the client"),
            "{}",
            reasons[1]
        );
    }
}
