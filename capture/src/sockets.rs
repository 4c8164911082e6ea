//! Sockets of processes as `/proc` has them: for people who ask why a connection is not seen.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A TCP socket of a process.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TcpSocket {
    /// Its own address.
    pub local: SocketAddr,
    /// Its peer's; port 0 if it listens.
    pub remote: SocketAddr,
    /// Whether it accepts connections.
    pub listens: bool,
}

/// The TCP sockets of a process that listen or are connected. Empty if it is gone, or if these
/// rights do not allow to look.
#[must_use]
pub fn tcp_sockets(tgid: u32) -> Vec<TcpSocket> {
    let inodes = inodes(tgid);
    let mut sockets = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{tgid}/net/{table}")).unwrap_or_default();
        let lines = text.lines().skip(1).filter_map(line);
        sockets.extend(
            lines
                .filter(|(_, inode)| inodes.contains(inode))
                .map(|(socket, _)| socket),
        );
    }
    sockets
}

/// Inode numbers of the sockets that a process has open.
fn inodes(tgid: u32) -> HashSet<u64> {
    let entries = fs::read_dir(format!("/proc/{tgid}/fd"));
    let entries = entries.into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets
        .filter_map(|target| {
            let name = target.to_str()?.strip_prefix("socket:[")?;
            name.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

/// A line of `/proc/net/tcp`, proc_net_tcp(5): a socket that listens (0A) or is connected (01), and
/// its inode number.
fn line(line: &str) -> Option<(TcpSocket, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
    let listens = match fields.next()? {
        "0A" => true,
        "01" => false,
        _ => return None,
    };
    let inode = fields.nth(5)?.parse().ok()?;
    let socket = TcpSocket {
        local,
        remote,
        listens,
    };
    Some((socket, inode))
}

/// An address: words of four bytes in the machine's order, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<_>> = (0..host.len())
        .step_by(8)
        .map(|at| u32::from_str_radix(host.get(at..at + 8)?, 16).ok())
        .collect();
    let ip = match words?.as_slice() {
        [v4] => IpAddr::V4(Ipv4Addr::from(v4.to_ne_bytes())),
        [a, b, c, d] => {
            let mut octets = [0; 16];
            for (to, word) in octets.chunks_mut(4).zip([a, b, c, d]) {
                to.copy_from_slice(&word.to_ne_bytes());
            }
            let v6 = Ipv6Addr::from(octets);
            v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_process_finds_its_own_sockets() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                println!("skipped: no {host} here");
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let found = tcp_sockets(std::process::id());
            for stream in [&client, &server] {
                let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
                let listens = false;
                let wanted = TcpSocket {
                    local,
                    remote,
                    listens,
                };
                assert!(found.contains(&wanted), "{wanted:?} in {found:?}");
            }
            let address = listener.local_addr().unwrap();
            let listens = |socket: &&TcpSocket| socket.listens && socket.local == address;
            assert_eq!(found.iter().filter(listens).count(), 1);
        }
    }

    #[test]
    fn sockets_in_other_states_and_other_text_are_left_out() {
        let closing =
            "  1: 0100007F:1F90 0100007F:C350 06 00000000:00000000 00:00000000 00000000 0 0 7";
        for text in ["", "sl local_address", closing] {
            assert_eq!(line(text), None, "{text}");
        }
        assert_eq!(address("0100007F"), None);
        assert_eq!(address("01000:50"), None);
        assert_eq!(address("0100007Fé000000:50"), None);
    }
}
