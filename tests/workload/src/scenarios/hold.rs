//! Scenarios in whose middle the capture begins: they print `ready`, and wait for a line.

use std::io::{self, Write};
use std::os::fd::RawFd;

use wirespan_workload::Seen;

use super::{Act, Scenario, kinds};
use crate::calls;
use crate::end::Way;
use crate::stage::{Client, Stage, Telling, listen, listen_dual};

pub(super) fn all() -> Vec<Scenario> {
    let hold = |name, about, run| Scenario {
        name,
        about,
        act: Act::Hold(run),
    };
    vec![
        hold("held", "connections that are older than the capture", held),
        hold(
            "held-reading",
            "the same, in the middle of a call",
            held_reading,
        ),
    ]
}

/// Waits before it reads, as servers do that have many connections: no call names the socket while
/// nothing comes.
fn read_when_ready(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    calls::wait(fd, libc::POLLIN)?;
    calls::read(fd, bytes)
}

/// Connections of every family: some have talked before, one is new to both.
fn held(stage: &mut Stage) -> io::Result<()> {
    let way = Way {
        receive: read_when_ready,
        ..Way::PLAIN
    };
    let (four, four_address) = listen()?;
    let (six, six_address) = listen_dual()?;
    let mapped = (std::net::Ipv4Addr::LOCALHOST, six_address.port()).into();
    let mut servers = Vec::new();
    let mut clients = Vec::new();
    for (listener, address) in [
        (four.try_clone()?, four_address),
        (six.try_clone()?, six_address),
        (six, mapped),
        (four, four_address),
    ] {
        servers.push(stage.serve(listener, 1, way)?);
        clients.push(Client::connect(address, way)?);
        stage.telling = Telling::Nothing;
        // The last says nothing before it is captured.
        if clients.len() < 4 {
            stage.converse(clients.last_mut().ok_or(io::ErrorKind::Other)?)?;
        }
    }
    let (server, mut client) = kinds::unix_pair(stage)?;
    // This one waits inside `read`: that call may not be seen.
    client.server_seen = Seen::Perhaps;
    servers.push(server);
    clients.push(client);
    meet(stage, &mut clients)?;
    drop(clients);
    servers
        .into_iter()
        .try_for_each(crate::process::Child::join)
}

/// The server waits inside `read` when the capture begins: that call may not be seen.
fn held_reading(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let server = stage.serve(listener, 1, Way::PLAIN)?;
    let mut clients = [Client::connect(address, Way::PLAIN)?];
    stage.telling = Telling::Nothing;
    stage.converse(&mut clients[0])?;
    clients[0].server_seen = Seen::Perhaps;
    meet(stage, &mut clients)?;
    drop(clients);
    server.join()
}

/// Waits until the capture has begun, then goes on.
fn meet(stage: &mut Stage, clients: &mut [Client]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(b"ready\n")?;
    output.flush()?;
    drop(output);
    io::stdin().read_line(&mut String::new())?;
    stage.telling = Telling::Midstream;
    for client in clients {
        stage.ask(client, crate::message::Ask::small())?;
        client.server_seen = Seen::Always;
        stage.converse(client)?;
    }
    Ok(())
}
