//! Scenarios about how messages lie in the stream, and how it ends.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use wirespan_workload::{Seen, Transport, Truth};

use crate::calls;
use crate::end::{End, Way};
use crate::message::{Ask, Ending};
use crate::process::{Child, own_name};
use crate::stage::{Client, Since, Stage, listen, respond};

/// Requests that are under way at the same time.
const TOGETHER: u64 = 8;

/// The client sends no more before it is answered; the server answers when it knows that.
pub(super) fn half_close(stage: &mut Stage) -> io::Result<()> {
    one_each(stage, Way::PLAIN)
}

/// As [`half_close`]; both read when the other has said all, and take bytes and end in one call.
pub(super) fn late(stage: &mut Stage) -> io::Result<()> {
    let way = Way {
        receive: calls::read_late,
        at_once: 65_536,
        ..Way::PLAIN
    };
    one_each(stage, way)
}

/// A connection for each exchange, both directions of which are ended by a FIN.
fn one_each(stage: &mut Stage, way: Way) -> io::Result<()> {
    let (listener, address) = listen()?;
    let asks: Vec<Ask> = (0..stage.requests).map(Ask::usual).collect();
    let connections = asks.len();
    let server = Child::start("wl-server", move || {
        for _ in 0..connections {
            let mut end = End::new(listener.accept()?.0, way);
            let request = end.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if end.receive()?.is_some() {
                return Err(io::Error::other("more than one request"));
            }
            let ask = Ask::of(&request)?;
            std::thread::sleep(ask.pause);
            respond(&end, ask)?;
        }
        Ok(())
    })?;
    for ask in asks {
        let stream = TcpStream::connect(address)?;
        let mut client = Client::over(stream.try_clone()?, way)?;
        let asked = stage.send(&client, ask)?;
        stream.shutdown(Shutdown::Write)?;
        stage.finish(&mut client, asked)?;
    }
    server.join()
}

/// The end of the connection is the end of the response.
pub(super) fn until_close(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let bodies = [0, 1, 5_000, 300_000];
    let server = stage.serve(listener, bodies.len() as u64, Way::PLAIN)?;
    for wanted in bodies {
        let ask = Ask {
            wanted,
            ending: Ending::Close,
            ..Ask::small()
        };
        stage.ask(&mut Client::connect(address, Way::PLAIN)?, ask)?;
    }
    server.join()
}

/// All requests in one write, some with a body. The server answers each as it comes to it.
pub(super) fn pipelined(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let server = stage.serve(listener, 1, Way::PLAIN)?;
    let mut client = Client::connect(address, Way::PLAIN)?;
    let mut requests = Vec::new();
    let mut asked = Vec::new();
    for number in 0..TOGETHER {
        let ask = Ask {
            sent: number % 3 * 50,
            pause: Duration::ZERO,
            ..Ask::usual(number)
        };
        let (request, head) = stage.prepare(ask)?;
        requests.extend(head);
        requests.resize(requests.len() + ask.sent as usize, b'b');
        asked.push(request);
    }
    client.end.send(&requests)?;
    for request in asked {
        stage.finish(&mut client, request)?;
    }
    drop(client);
    server.join()
}

/// Commands that a server answers in one write: SET of a key, `OK`.
pub(super) fn resp(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let pid = std::process::id();
    let keys: Vec<String> = (0..TOGETHER).map(|n| format!("/resp/{pid}-{n}")).collect();
    let command = |key: &String| {
        format!(
            "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$5\r\nvalue\r\n",
            key.len()
        )
        .into_bytes()
    };
    let commands: Vec<Vec<u8>> = keys.iter().map(command).collect();
    let all: usize = commands.iter().map(Vec::len).sum();
    let server = Child::start("wl-server", move || {
        let stream = listener.accept()?.0;
        exactly(&stream, all)?;
        End::new(stream, Way::PLAIN).send(&b"+OK\r\n".repeat(TOGETHER as usize))
    })?;
    let server_pid = server.pid();
    let stream = TcpStream::connect(address)?;
    let client = Client::over(stream.try_clone()?, Way::PLAIN)?;
    let since = Since::now()?;
    client.end.send(&commands.concat())?;
    exactly(&stream, TOGETHER as usize * 5)?;
    let (start_ns, duration_ns) = since.elapsed();
    for (key, command) in keys.into_iter().zip(commands) {
        let server = (&client.server, Seen::Always, server_pid, "wl-server".into());
        stage.tell(&Truth {
            protocol: "redis".into(),
            operation: "SET".into(),
            target: key,
            status: "OK".into(),
            trace_id: String::new(),
            client: client.party(&client.address, Seen::Always, pid, own_name()?),
            server: client.party(server.0, server.1, server.2, server.3),
            transport: Transport::Tcp,
            request_bytes: command.len() as u64,
            response_bytes: 5,
            start_ns,
            duration_ns,
            pause_ns: 0,
            midstream: false,
        })?;
    }
    server.join()
}

/// Takes so many bytes.
fn exactly(stream: &TcpStream, count: usize) -> io::Result<()> {
    let mut bytes = vec![0; count];
    let mut held = 0;
    while held < count {
        match calls::read(std::os::fd::AsRawFd::as_raw_fd(stream), &mut bytes[held..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => held += more,
        }
    }
    Ok(())
}
