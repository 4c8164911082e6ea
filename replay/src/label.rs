//! What a recording of `wirespan` says beside its packets: the names of its interfaces, and the
//! comments on some packets. docs/RECORDINGS.md is their reference; both ways are here.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use wirespan_engine::{Address, Close, Layer, Process, Roles, Side, Start, Task, UnixName};

/// What is said of one packet. Empty for captures that others made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Label {
    /// By the name of its interface.
    pub(crate) lane: Option<Lane>,
    /// By its comment.
    pub(crate) note: Option<Note>,
}

/// What all connections of an interface have in common.
///
/// Both ends of a connection may be observed on one machine, and its cleartext beside its
/// ciphertext: the same addresses, yet connections of their own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Lane {
    pub(crate) side: Side,
    pub(crate) layer: Layer,
    /// Tells connections apart that have the same addresses at the same time, in different network
    /// namespaces; from 1.
    pub(crate) number: u8,
}

/// What TCP cannot say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Note {
    /// A connection begins with this packet, which its client sends. The numbers that follow are
    /// those of offset 0.
    Open(Introduction),
    /// The stream of the sender is read from this packet's number on.
    Anchor,
    /// The payload that is missing here was lost; without this note it only was not copied.
    Lost,
    /// Another process uses the observed socket from now on.
    Process(Process),
    /// What comes next was moved by this task of the process.
    Task(Option<Task>),
    /// From here on, both streams are what goes on inside TLS.
    Cleartext(Start),
    /// The connection ends.
    Close(Close),
}

/// How a connection was introduced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Introduction {
    pub(crate) start: Start,
    pub(crate) roles: Roles,
    pub(crate) process: Option<Process>,
    /// The addresses of client and server where the packets' are made up: those of Unix sockets,
    /// and of peers that have the same one.
    pub(crate) peers: Option<Arc<[Address; 2]>>,
}

/// First words of the names and the comments.
const OURS: &str = "wirespan";

/// Begins the address of a Unix socket.
const UNIX: &str = "unix:";

/// The ways to close, as they are written.
const NAMES: [(Close, &str); 6] = [
    (Close::Finished, "finished"),
    (Close::Reset, "reset"),
    (Close::Idle, "idle"),
    (Close::SourceEnded, "source-ended"),
    (Close::Replaced, "replaced"),
    (Close::Evicted, "evicted"),
];

impl Lane {
    /// From the name of an interface: `wirespan:client`, `wirespan:server:tls:2`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut words = name.split(':').peekable();
        if words.next()? != OURS {
            return None;
        }
        let side = words.next()?;
        let side = [Side::Client, Side::Server, Side::Wire]
            .into_iter()
            .find(|known| known.name() == side)?;
        let layer = match words.next_if_eq(&"tls") {
            Some(_) => Layer::Tls,
            None => Layer::Transport,
        };
        let number = words.next().map_or(Some(1), |word| word.parse().ok())?;
        Some(Self {
            side,
            layer,
            number,
        })
        .filter(|_| words.next().is_none())
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OURS}:{}", self.side.name())?;
        if self.layer == Layer::Tls {
            f.write_str(":tls")?;
        }
        if self.number > 1 {
            write!(f, ":{}", self.number)?;
        }
        Ok(())
    }
}

impl Note {
    /// From a comment. `None` for comments of others.
    pub(crate) fn parse(comment: &str) -> Option<Self> {
        let (what, rest) = comment
            .strip_prefix(OURS)?
            .strip_prefix(' ')
            .map(|rest| rest.split_once(' ').unwrap_or((rest, "")))?;
        match what.split_once('=') {
            None if what == "open" => Some(Self::Open(Introduction::parse(rest))),
            None if what == "anchor" => Some(Self::Anchor),
            None if what == "lost" => Some(Self::Lost),
            None if what == "cleartext" => Some(Self::Cleartext(Introduction::parse(rest).start)),
            Some(("process", pid)) => {
                let name = rest.strip_prefix("name=").unwrap_or_default();
                let pid = pid.parse().ok()?;
                Some(Self::Process(Process::new(pid, name.as_bytes())))
            }
            Some(("task", number)) => number.parse().ok().map(|n| Self::Task(Task::new(n))),
            Some(("close", how)) => {
                let known = NAMES.iter().find(|(_, name)| *name == how);
                known.map(|(how, _)| Self::Close(*how))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(introduction) => write!(f, "{OURS} open{introduction}"),
            Self::Anchor => write!(f, "{OURS} anchor"),
            Self::Lost => write!(f, "{OURS} lost"),
            Self::Cleartext(start) => write!(f, "{OURS} cleartext{}", written(*start)),
            Self::Process(process) => {
                let (pid, name) = (process.pid, process.name());
                write!(f, "{OURS} process={pid} name={name}")
            }
            Self::Task(task) => write!(f, "{OURS} task={}", task.map_or(0, Task::number)),
            Self::Close(how) => {
                let known = NAMES.iter().find(|(known, _)| known == how);
                write!(f, "{OURS} close={}", known.map_or("", |(_, name)| name))
            }
        }
    }
}

/// Whether the beginning was seen, as it is written.
const fn written(start: Start) -> &'static str {
    match start {
        Start::Beginning => " start=beginning",
        Start::Middle => " start=middle",
    }
}

impl Introduction {
    /// From words `key=value`. Keys that are not known are passed over; `name` comes last and goes
    /// to the end, since a process may have blanks in its name.
    fn parse(words: &str) -> Self {
        let mut introduction = Self {
            start: Start::Beginning,
            roles: Roles::Known,
            process: None,
            peers: None,
        };
        let (mut client, mut server) = (None, None);
        let (words, name) = match words.split_once("name=") {
            Some((words, name)) => (words, name),
            None => (words, ""),
        };
        for word in words.split(' ') {
            match word.split_once('=') {
                Some(("start", "middle")) => introduction.start = Start::Middle,
                Some(("roles", "assumed")) => introduction.roles = Roles::Assumed,
                Some(("client", address)) => client = read_address(address),
                Some(("server", address)) => server = read_address(address),
                Some(("process", pid)) => {
                    let process = pid.parse().map(|pid| Process::new(pid, name.as_bytes()));
                    introduction.process = process.ok();
                }
                _ => {}
            }
        }
        introduction.peers = client.zip(server).map(|peers| Arc::new(peers.into()));
        introduction
    }
}

impl fmt::Display for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(written(self.start))?;
        f.write_str(match self.roles {
            Roles::Known => " roles=known",
            Roles::Assumed => " roles=assumed",
        })?;
        if let Some(peers) = &self.peers {
            let [client, server] = &**peers;
            f.write_str(" client=")?;
            write_address(f, client)?;
            f.write_str(" server=")?;
            write_address(f, server)?;
        }
        match &self.process {
            Some(process) => write!(f, " process={} name={}", process.pid, process.name()),
            None => Ok(()),
        }
    }
}

/// As one word, from which the very same address is read again: bytes of a Unix socket's name that
/// are not visible ASCII, and those that have a meaning here, are `%` and two digits (RFC 3986
/// §2.1).
fn write_address(f: &mut fmt::Formatter<'_>, address: &Address) -> fmt::Result {
    let name = match address {
        Address::Inet(socket) => return write!(f, "{socket}"),
        Address::Unix(name) => name,
    };
    f.write_str(UNIX)?;
    for byte in name.as_bytes() {
        match byte {
            b'!'..=b'~' if !b"%=".contains(byte) => f.write_char(char::from(*byte))?,
            _ => write!(f, "%{byte:02X}")?,
        }
    }
    Ok(())
}

fn read_address(word: &str) -> Option<Address> {
    let Some(name) = word.strip_prefix(UNIX) else {
        return word.parse().ok().map(Address::Inet);
    };
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match byte {
            b'%' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                rest = tail;
                u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?
            }
            byte => *byte,
        });
    }
    Some(Address::Unix(UnixName::new(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_is_read_as_it_was_written() {
        for side in [Side::Client, Side::Server, Side::Wire] {
            for layer in [Layer::Transport, Layer::Tls] {
                for number in 1..=u8::MAX {
                    let lane = Lane {
                        side,
                        layer,
                        number,
                    };
                    assert_eq!(Lane::parse(&lane.to_string()), Some(lane));
                }
            }
        }
        assert_eq!(
            Lane::parse("wirespan:server:tls:2").map(|lane| lane.to_string()),
            Some("wirespan:server:tls:2".into())
        );
    }

    #[test]
    fn interfaces_of_others_are_no_lanes() {
        for name in [
            "",
            "eth0",
            "wirespan",
            "wirespan:",
            "wirespan:peer",
            "wirespan:client:ssl",
            "wirespan:client:256",
            "wirespan:client:tls:2:3",
            "wirespan-client",
        ] {
            assert_eq!(Lane::parse(name), None, "{name}");
        }
    }

    #[test]
    fn every_note_is_read_as_it_was_written() {
        let inet = ["0.0.0.0:0", "[2001:db8::1]:80"];
        let inet = inet.map(|address| Address::Inet(address.parse().unwrap()));
        let unix = [b"\0a b=c%\xff".as_slice(), b"/tmp/name=\n%41"];
        let unix = unix.map(|name| Address::Unix(UnixName::new(name)));
        let names = ["nginx", "", "tmux: server", "a name=b", "pid=1"].map(Some);
        for start in [Start::Beginning, Start::Middle] {
            let note = Note::Cleartext(start);
            assert_eq!(Note::parse(&note.to_string()), Some(note));
            for roles in [Roles::Known, Roles::Assumed] {
                for name in names.into_iter().chain([None]) {
                    for peers in [None, Some(inet), Some(unix)] {
                        let note = Note::Open(Introduction {
                            start,
                            roles,
                            process: name.map(|name| Process::new(4711, name.as_bytes())),
                            peers: peers.map(Arc::new),
                        });
                        assert_eq!(Note::parse(&note.to_string()), Some(note));
                    }
                }
            }
        }
        for (how, _) in NAMES {
            let note = Note::Close(how);
            assert_eq!(Note::parse(&note.to_string()), Some(note));
        }
        let process = |name: &str| Note::Process(Process::new(4711, name.as_bytes()));
        let tasks = [0, 1, u32::MAX].map(|number| Note::Task(Task::new(number)));
        let processes = names.into_iter().flatten().map(process);
        for note in processes.chain([Note::Anchor, Note::Lost]).chain(tasks) {
            assert_eq!(Note::parse(&note.to_string()), Some(note));
        }
    }

    #[test]
    fn the_comment_is_the_documented_one() {
        let note = Note::Open(Introduction {
            start: Start::Middle,
            roles: Roles::Assumed,
            process: Some(Process::new(123, b"nginx")),
            peers: None,
        });
        assert_eq!(
            note.to_string(),
            "wirespan open start=middle roles=assumed process=123 name=nginx"
        );
    }

    #[test]
    fn comments_of_others_and_of_later_versions_do_no_harm() {
        for comment in [
            "",
            "wirespan",
            "wirespanopen",
            "look here",
            "wirespan close=gone",
            "wirespan process=init name=init",
            "wirespan task=-1",
        ] {
            assert_eq!(Note::parse(comment), None, "{comment}");
        }
        let later = Note::parse("wirespan open colour=red process=x start=middle");
        let Some(Note::Open(introduction)) = later else {
            panic!("{later:?}")
        };
        assert_eq!(introduction.start, Start::Middle);
        assert_eq!(introduction.process, None);
    }
}
