//! Scenarios about what a socket is: its family, its network, or that it is none.

use std::io::{self, Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};

use wirespan_workload::{Seen, Transport};

use crate::calls::memory_file;
use crate::end::{End, Way};
use crate::message::Ask;
use crate::process::{Child, enter_network_namespace};
use crate::stage::{Client, Stage, answer, listen, listen_at, listen_dual};

pub(super) fn ipv6(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen_dual()?;
    let server = stage.serve(listener, 1, Way::PLAIN)?;
    stage.converse(&mut Client::connect(address, Way::PLAIN)?)?;
    server.join()
}

/// IPv4 through sockets of IPv6: on the server's side alone, then on both.
pub(super) fn mapped(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen_dual()?;
    let server = stage.serve(listener, 2, Way::PLAIN)?;
    let ip = Ipv4Addr::LOCALHOST;
    for ip in [ip.into(), ip.to_ipv6_mapped().into()] {
        let to = SocketAddr::new(ip, address.port());
        stage.converse(&mut Client::connect(to, Way::PLAIN)?)?;
    }
    server.join()
}

/// The same address and port, here and in a network of its own, at the same time.
pub(super) fn namespace(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let here = stage.serve(listener, 1, Way::PLAIN)?;
    let mut outside = Client::connect(address, Way::PLAIN)?;
    stage.ask(&mut outside, Ask::small())?;
    let there = Child::start("wl-elsewhere", || {
        match enter_network_namespace() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                stage.skip("only root may have a network namespace of its own");
                return Ok(());
            }
            entered => entered?,
        }
        let (listener, address) = listen_at(address)?;
        let server = stage.serve(listener, 1, Way::PLAIN)?;
        stage.converse(&mut Client::connect(address, Way::PLAIN)?)?;
        server.join()
    })?;
    there.join()?;
    stage.converse(&mut outside)?;
    drop(outside);
    here.join()
}

pub(super) fn unix(stage: &mut Stage) -> io::Result<()> {
    let (server, mut client) = unix_pair(stage)?;
    stage.converse(&mut client)?;
    drop(client);
    server.join()
}

/// A server on a Unix socket of this process' own, and a client of it.
pub(super) fn unix_pair(stage: &Stage) -> io::Result<(Child, Client)> {
    let name = format!("wirespan-workload-{}-{}", std::process::id(), stage.name);
    let address = UnixAddress::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    let server = Child::start("wl-server", move || {
        answer(&mut End::new(listener.accept()?.0, Way::PLAIN))
    })?;
    let client = Client {
        end: End::new(UnixStream::connect_addr(&address)?, Way::PLAIN),
        transport: Transport::Unix,
        address: String::new(),
        server: String::new(),
        client_seen: Seen::Always,
        server_seen: Seen::Always,
        behind: None,
    };
    Ok((server, client))
}

/// Whole exchanges, word for word, through what is no stream socket. One real exchange comes before
/// and one behind, so that it is known that the scenario was looked at.
pub(super) fn not_sockets(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let server = stage.serve(listener, 1, Way::PLAIN)?;
    let mut client = Client::connect(address, Way::PLAIN)?;
    stage.ask(&mut client, Ask::small())?;

    let (_, request) = stage.prepare(Ask::small())?;
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let mut buffer = [0; 4_096];
    for text in [&request[..], response] {
        let (mut pipe_out, mut pipe_in) = io::pipe()?;
        pipe_in.write_all(text)?;
        pipe_out.read_exact(&mut buffer[..text.len()])?;
        let file: OwnedFd = memory_file(text)?;
        let mut file = std::fs::File::from(file);
        file.rewind()?;
        file.read_exact(&mut buffer[..text.len()])?;
    }
    let (one, other) = (
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    );
    one.connect(other.local_addr()?)?;
    other.connect(one.local_addr()?)?;
    one.send(&request)?;
    other.recv(&mut buffer)?;
    other.send(response)?;
    one.recv(&mut buffer)?;

    stage.ask(&mut client, Ask::small())?;
    drop(client);
    server.join()
}
