//! What every scenario needs: servers, clients, and the truth of what they said to each other.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wirespan_workload::{Party, Process, Seen, Transport, Truth};

use crate::end::{End, Way, addresses};
use crate::message::{Ask, Ending};
use crate::process::{Child, own_name};

/// Where a scenario runs.
pub(crate) struct Stage {
    /// Its name: the first part of its targets.
    pub(crate) name: &'static str,
    /// Exchanges of a conversation.
    pub(crate) requests: u64,
    /// Whether bulk and churn are as large as they are meant to be.
    pub(crate) full: bool,
    /// Whether what is said is part of the truth, and from its middle.
    pub(crate) telling: Telling,
    /// Exchanges so far.
    asked: u64,
}

/// What is told of an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Telling {
    /// Nothing: the capture has not begun.
    Nothing,
    /// All.
    All,
    /// All; the connection is older than the capture.
    Midstream,
}

/// The client's end, and what it knows of the connection.
pub(crate) struct Client {
    pub(crate) end: End,
    pub(crate) transport: Transport,
    pub(crate) address: String,
    pub(crate) server: String,
    pub(crate) client_seen: Seen,
    pub(crate) server_seen: Seen,
    /// The connection that a relay has with the server that answers.
    pub(crate) behind: Option<Behind>,
}

/// Addresses of a connection whose client never has the bytes.
pub(crate) struct Behind {
    pub(crate) client: String,
    pub(crate) server: String,
}

/// A request that was sent and not yet answered.
pub(crate) struct Asked {
    ask: Ask,
    target: String,
    trace_id: String,
    request_bytes: u64,
    since: Since,
}

/// A moment, by both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Since {
    wall: Duration,
    monotonic: Instant,
}

impl Since {
    pub(crate) fn now() -> io::Result<Self> {
        // In this order: whatever comes between the two, what follows lies between the wall time and
        // that time and what has passed.
        let monotonic = Instant::now();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall = wall.map_err(io::Error::other)?;
        Ok(Self { wall, monotonic })
    }

    /// The moment in nanoseconds since 1970, and nanoseconds that passed.
    pub(crate) fn elapsed(&self) -> (u64, u64) {
        let passed = self.monotonic.elapsed();
        (self.wall.as_nanos() as u64, passed.as_nanos() as u64)
    }
}

impl Stage {
    pub(crate) fn new(name: &'static str, requests: u64, full: bool) -> Self {
        Self {
            name,
            requests,
            full,
            telling: Telling::All,
            asked: 0,
        }
    }

    /// `full` of something where that is asked for, otherwise `few`.
    pub(crate) fn size(&self, few: u64, full: u64) -> u64 {
        if self.full { full } else { few }
    }

    /// Forks a server that accepts `connections` one after the other and answers on them.
    pub(crate) fn serve(
        &self,
        listener: TcpListener,
        connections: u64,
        way: Way,
    ) -> io::Result<Child> {
        Child::start("wl-server", move || {
            for _ in 0..connections {
                answer(&mut End::new(listener.accept()?.0, way))?;
            }
            Ok(())
        })
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, client: &Client, ask: Ask) -> io::Result<Asked> {
        let (asked, head) = self.prepare(ask)?;
        client.end.send_message(&head, ask.sent)?;
        Ok(asked)
    }

    /// A request, to be sent by the caller at once, and its head.
    pub(crate) fn prepare(&mut self, ask: Ask) -> io::Result<(Asked, Vec<u8>)> {
        self.asked += 1;
        let pid = std::process::id();
        let target = format!("/{}/{pid}-{}", self.name, self.asked);
        let trace_id = format!("{:08x}{pid:08x}{:016x}", 0x4bf9_2f35, self.asked);
        let head = ask.head(&target, &trace_id);
        let request_bytes = head.len() as u64 + ask.sent;
        let since = Since::now()?;
        let asked = Asked {
            ask,
            target,
            trace_id,
            request_bytes,
            since,
        };
        Ok((asked, head))
    }

    /// Takes the response and tells the truth.
    pub(crate) fn finish(&self, client: &mut Client, asked: Asked) -> io::Result<()> {
        let response = client.end.receive()?;
        let response = response.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (start_ns, duration_ns) = asked.since.elapsed();
        if response.status() != asked.ask.status.to_string() {
            return Err(io::Error::other("not the status that was asked for"));
        }
        let (name, pid) = response.server()?;
        let server = client.party(&client.server, client.server_seen, pid, name);
        let truth = Truth {
            protocol: "http".into(),
            operation: asked.ask.operation().into(),
            target: asked.target,
            status: asked.ask.status.to_string(),
            trace_id: asked.trace_id,
            client: client.own_party()?,
            server,
            transport: client.transport,
            request_bytes: asked.request_bytes,
            response_bytes: response.bytes,
            start_ns,
            duration_ns,
            pause_ns: asked.ask.pause.as_nanos() as u64,
            midstream: self.telling == Telling::Midstream,
        };
        self.tell(&truth)?;
        client
            .behind
            .as_ref()
            .map_or(Ok(()), |behind| self.tell(&behind.truth(truth)))
    }

    /// Sends a request and takes its response.
    pub(crate) fn ask(&mut self, client: &mut Client, ask: Ask) -> io::Result<()> {
        let asked = self.send(client, ask)?;
        self.finish(client, asked)
    }

    /// Asks the usual things, one after the other.
    pub(crate) fn converse(&mut self, client: &mut Client) -> io::Result<()> {
        for number in 0..self.requests {
            self.ask(client, Ask::usual(number))?;
        }
        Ok(())
    }

    /// Prints the truth of an exchange; in one call, since other processes print theirs.
    pub(crate) fn tell(&self, truth: &Truth) -> io::Result<()> {
        if self.telling == Telling::Nothing {
            return Ok(());
        }
        let line = truth.to_json() + "\n";
        io::stdout().lock().write_all(line.as_bytes())
    }

    /// Says why there is nothing to tell.
    pub(crate) fn skip(&self, why: &str) {
        eprintln!("workload: SKIPPED {}: {why}", self.name);
    }
}

impl Client {
    pub(crate) fn connect(to: SocketAddr, way: Way) -> io::Result<Self> {
        Self::over(TcpStream::connect(to)?, way)
    }

    pub(crate) fn over(stream: TcpStream, way: Way) -> io::Result<Self> {
        let (address, server) = addresses(&stream)?;
        Ok(Self {
            end: End::new(stream, way),
            transport: Transport::Tcp,
            address,
            server,
            client_seen: Seen::Always,
            server_seen: Seen::Always,
            behind: None,
        })
    }

    /// The same for both ends.
    pub(crate) fn seen(mut self, client: Seen, server: Seen) -> Self {
        (self.client_seen, self.server_seen) = (client, server);
        self
    }

    pub(crate) fn own_party(&self) -> io::Result<Party> {
        let (pid, name) = (std::process::id(), own_name()?);
        Ok(self.party(&self.address, self.client_seen, pid, name))
    }

    pub(crate) fn party(&self, address: &str, seen: Seen, pid: u32, name: String) -> Party {
        Party {
            address: address.into(),
            process: Process { pid, name },
            seen,
        }
    }
}

impl Behind {
    /// The same exchange on this connection.
    fn truth(&self, mut truth: Truth) -> Truth {
        truth.client.address.clone_from(&self.client);
        truth.client.seen = Seen::Never;
        truth.server.address.clone_from(&self.server);
        truth.server.seen = Seen::Always;
        truth
    }
}

/// Answers what is asked until the client has no more, or was promised the end.
pub(crate) fn answer(end: &mut End) -> io::Result<()> {
    while answer_once(end)? {}
    Ok(())
}

/// Answers one request; whether another may follow.
pub(crate) fn answer_once(end: &mut End) -> io::Result<bool> {
    let Some(request) = end.receive()? else {
        return Ok(false);
    };
    let ask = Ask::of(&request)?;
    std::thread::sleep(ask.pause);
    respond(end, ask)?;
    Ok(ask.ending == Ending::Length)
}

/// Sends the response to a request, in the name of this process.
pub(crate) fn respond(end: &End, ask: Ask) -> io::Result<()> {
    let head = ask.response_head(std::process::id(), &own_name()?);
    end.send_message(&head, ask.wanted)
}

/// A listener on a port of its own on the loopback.
pub(crate) fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    listen_at((Ipv4Addr::LOCALHOST, 0).into())
}

/// A listener that takes IPv4 and IPv6, and its address on the loopback of IPv6.
pub(crate) fn listen_dual() -> io::Result<(TcpListener, SocketAddr)> {
    let (listener, address) = listen_at((Ipv6Addr::UNSPECIFIED, 0).into())?;
    Ok((listener, (Ipv6Addr::LOCALHOST, address.port()).into()))
}

pub(crate) fn listen_at(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
