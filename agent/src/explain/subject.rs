//! What is to be explained: a process, an address, or a connection.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use wirespan_capture::{TcpSocket, processes, tcp_sockets};
use wirespan_engine::Address;

/// What is to be explained.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Subject {
    /// A process by number, and those that it has started: a master has workers.
    Process(u32),
    /// Connections at an address: of either peer.
    Address(Place),
    /// The connection between two addresses.
    Connection(Place, Place),
}

/// An address, or as much of it as was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    ip: Option<IpAddr>,
    port: Option<u16>,
}

impl Place {
    fn is(self, address: Address) -> bool {
        self.ip.is_none_or(|ip| address.ip() == Some(ip))
            && self.port.is_none_or(|port| address.port() == Some(port))
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            let (ip, port) = (Some(address.ip()), Some(address.port()));
            return Ok(Self { ip, port });
        }
        if let Ok(ip) = text.parse() {
            let ip = Some(ip);
            return Ok(Self { ip, port: None });
        }
        let port = text.strip_prefix(':').ok_or(())?;
        let port = Some(port.parse().map_err(|_| ())?);
        Ok(Self { ip: None, port })
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "expected a process (4711), an address (10.0.0.1:80, 10.0.0.1 or :80), or a connection \
             (10.0.0.2:50000-10.0.0.1:80)"
                .to_owned()
        };
        if let Ok(pid) = text.parse() {
            return Ok(Self::Process(pid));
        }
        if let Some((a, b)) = text.split_once('-') {
            let place = |text: &str| text.trim_matches(['>', ' ']).parse().map_err(|()| wrong());
            return Ok(Self::Connection(place(a)?, place(b)?));
        }
        text.parse().map(Self::Address).map_err(|()| wrong())
    }
}

/// A process, and its sockets that matter.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) sockets: Vec<TcpSocket>,
}

impl Subject {
    /// Whether a connection between these addresses is meant.
    pub(crate) fn is(&self, a: Address, b: Address) -> bool {
        match self {
            Self::Process(_) => true,
            Self::Address(place) => place.is(a) || place.is(b),
            Self::Connection(one, other) => {
                (one.is(a) && other.is(b)) || (one.is(b) && other.is(a))
            }
        }
    }

    /// The processes that have to do with it.
    pub(crate) fn processes(&self) -> Vec<Process> {
        if let Self::Process(pid) = self {
            let family = family(*pid, &processes());
            let members = family.into_iter();
            return members
                .filter_map(|pid| process(pid, tcp_sockets(pid)))
                .collect();
        }
        let all = processes().into_iter().filter_map(|pid| {
            let mut sockets = tcp_sockets(pid);
            sockets.retain(|socket| {
                let (local, remote) = (socket.local.into(), socket.remote.into());
                match self {
                    // Who listens has the connections to come.
                    Self::Connection(one, other) if socket.listens => {
                        one.is(local) || other.is(local)
                    }
                    _ => self.is(local, remote),
                }
            });
            process(pid, sockets).filter(|process| !process.sockets.is_empty())
        });
        all.collect()
    }

    /// What to say if nobody has to do with it.
    pub(crate) fn nobody(&self) -> String {
        match self {
            Self::Process(pid) => format!(
                "there is no process {pid} in this pid namespace; name one that runs, by its number here"
            ),
            _ => {
                "no process has a TCP socket at this address (or these rights do not allow to look \
                  at other users' sockets: run as root); name an address as ss -tnp shows it"
                    .to_owned()
            }
        }
    }
}

/// A process and its descendants.
fn family(ancestor: u32, all: &[u32]) -> Vec<u32> {
    let parents: HashMap<u32, u32> = all
        .iter()
        .filter_map(|pid| Some((*pid, parent(*pid)?)))
        .collect();
    let mut family = vec![ancestor];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        next += 1;
        let children = parents.iter().filter(|(_, of)| **of == parent);
        let mut children: Vec<_> = children.map(|(child, _)| *child).collect();
        children.retain(|child| !family.contains(child));
        children.sort_unstable();
        family.extend(children);
    }
    family
}

/// The parent of a process: proc_pid_status(5).
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

fn process(pid: u32, sockets: Vec<TcpSocket>) -> Option<Process> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(Process {
        pid,
        name: name.trim_end().to_owned(),
        sockets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_addresses_and_connections_are_told_apart() {
        assert_eq!("4711".parse(), Ok(Subject::Process(4711)));
        for text in ["10.0.0.1:80", ":80", "10.0.0.1", "[::1]:80", "::1"] {
            let subject: Subject = text.parse().unwrap();
            assert!(matches!(subject, Subject::Address(_)), "{text}");
        }
        for text in [
            "10.0.0.2:5-10.0.0.1:80",
            "10.0.0.2:5->10.0.0.1:80",
            ":5-:80",
        ] {
            let subject: Subject = text.parse().unwrap();
            assert!(matches!(subject, Subject::Connection(..)), "{text}");
        }
        for text in ["", "nginx", "80:", "10.0.0.1:80-", "1.2.3.4:99999"] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_process_has_those_with_it_that_it_has_started() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let found = Subject::Process(own).processes();
        child.kill().unwrap();
        child.wait().unwrap();
        let pids: Vec<_> = found.iter().map(|process| process.pid).collect();
        assert_eq!(pids.first(), Some(&own));
        assert!(pids.contains(&child.id()), "{pids:?}");
    }

    #[test]
    fn a_connection_is_the_same_from_both_sides() {
        let subject: Subject = "10.0.0.2:5-10.0.0.1:80".parse().unwrap();
        let (a, b) = (([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 5).into());
        assert!(subject.is(a, b) && subject.is(b, a));
        assert!(!subject.is(a, a));
    }
}
