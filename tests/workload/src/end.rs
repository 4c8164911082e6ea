//! One end of a connection, and how its bytes are moved.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::calls;
use crate::message::Message;

/// Largest head of a message that is waited for.
const LARGEST_HEAD: usize = 65_536;

/// Bytes of a body that are made, or taken, at a time.
const PIECE: usize = 65_536;

/// How an end moves bytes.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) send: fn(RawFd, &[u8]) -> io::Result<usize>,
    pub(crate) receive: fn(RawFd, &mut [u8]) -> io::Result<usize>,
    /// Bytes asked for at a time.
    pub(crate) at_once: usize,
    /// Where the bodies come from that it sends.
    pub(crate) source: Source,
    /// What becomes of the bodies that it receives.
    pub(crate) sink: Sink,
}

/// Where a body comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// The same memory as the head, in the same call.
    Memory,
    /// A file, by `sendfile`.
    Sendfile,
    /// A file, by `splice` through a pipe.
    Splice,
}

/// What becomes of a body.
#[derive(Clone, Copy)]
pub(crate) enum Sink {
    /// Read like the head.
    Memory,
    /// Thrown away by the kernel.
    Discarded,
}

impl Way {
    pub(crate) const PLAIN: Self = Self {
        send: calls::write,
        receive: calls::read,
        at_once: 16_384,
        source: Source::Memory,
        sink: Sink::Memory,
    };
}

/// One end of a connection.
pub(crate) struct End {
    pub(crate) socket: OwnedFd,
    /// Another descriptor of the socket, which is written to in its place.
    pub(crate) output: Option<OwnedFd>,
    pub(crate) way: Way,
    /// Bytes received behind the last message.
    inbox: Vec<u8>,
}

impl End {
    pub(crate) fn new(socket: impl Into<OwnedFd>, way: Way) -> Self {
        Self {
            socket: socket.into(),
            output: None,
            way,
            inbox: Vec::new(),
        }
    }

    /// An end that reads and one that writes, for two threads.
    pub(crate) fn split(self) -> io::Result<(Self, Self)> {
        let writer = Self::new(self.socket.try_clone()?, self.way);
        Ok((self, writer))
    }

    pub(crate) fn input(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn output(&self) -> RawFd {
        self.output.as_ref().unwrap_or(&self.socket).as_raw_fd()
    }

    /// Sends all of `bytes`.
    pub(crate) fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (self.way.send)(self.output(), bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) => self.patient(error, libc::POLLOUT)?,
            }
        }
        Ok(())
    }

    /// Sends a head and a body of `len` bytes behind it.
    pub(crate) fn send_message(&self, head: &[u8], len: u64) -> io::Result<()> {
        if !matches!(self.way.source, Source::Memory) {
            self.send(head)?;
            return self.send_file(len);
        }
        let mut piece = head.to_vec();
        let mut left = len;
        loop {
            let more = left.min(PIECE as u64);
            piece.resize(piece.len() + more as usize, b'b');
            self.send(&piece)?;
            left -= more;
            if left == 0 {
                return Ok(());
            }
            piece.clear();
        }
    }

    fn send_file(&self, len: u64) -> io::Result<()> {
        let file = calls::memory_file(&vec![b'f'; len as usize])?;
        let (file, output) = (file.as_raw_fd(), self.output());
        let (pipe_out, pipe_in) = io::pipe()?;
        let (pipe_out, pipe_in) = (pipe_out.as_raw_fd(), pipe_in.as_raw_fd());
        let mut sent = 0;
        while sent < len {
            let count = (len - sent).min(PIECE as u64) as usize;
            let moved = if matches!(self.way.source, Source::Sendfile) {
                calls::sendfile(output, file, sent, count)?
            } else {
                let held = calls::splice(file, Some(sent), pipe_in, count)?;
                drain(pipe_out, output, held)?;
                held
            };
            sent += moved as u64;
        }
        Ok(())
    }

    /// The next message, its body taken and thrown away; `None` where the stream ends before it.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Message>> {
        let head = loop {
            if let Some(end) = find(&self.inbox, b"\r\n\r\n") {
                break self.inbox.drain(..end + 4).collect::<Vec<u8>>();
            }
            if self.inbox.len() > LARGEST_HEAD {
                return Err(io::Error::other("a head without an end"));
            }
            if self.more()? == 0 {
                let between = self.inbox.is_empty();
                let cut = || io::ErrorKind::UnexpectedEof.into();
                return between.then_some(None).ok_or_else(cut);
            }
        };
        let mut message = Message::of(&head)?;
        let body = match message.body_len()? {
            Some(len) => self.take(len)?,
            None => self.take_all()?,
        };
        message.bytes = head.len() as u64 + body;
        Ok(Some(message))
    }

    /// Takes a body of known length.
    fn take(&mut self, len: u64) -> io::Result<u64> {
        let held = len.min(self.inbox.len() as u64);
        self.inbox.drain(..held as usize);
        let mut left = len - held;
        while left > 0 {
            let taken = if matches!(self.way.sink, Sink::Discarded) {
                calls::discard(self.input(), left as usize)?
            } else {
                self.more()?;
                let taken = left.min(self.inbox.len() as u64) as usize;
                self.inbox.drain(..taken);
                taken
            };
            if taken == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= taken as u64;
        }
        Ok(len)
    }

    /// Takes what comes until the stream ends.
    fn take_all(&mut self) -> io::Result<u64> {
        let mut taken = self.inbox.len() as u64;
        self.inbox.clear();
        loop {
            let more = self.more()?;
            if more == 0 {
                return Ok(taken);
            }
            taken += more as u64;
            self.inbox.clear();
        }
    }

    /// Reads once; 0 at the end of the stream.
    fn more(&mut self) -> io::Result<usize> {
        let held = self.inbox.len();
        self.inbox.resize(held + self.way.at_once, 0);
        let count = loop {
            match (self.way.receive)(self.input(), &mut self.inbox[held..]) {
                Ok(count) => break count,
                Err(error) => self.patient(error, libc::POLLIN)?,
            }
        };
        self.inbox.truncate(held + count);
        Ok(count)
    }

    /// Waits where `error` says that the socket is not ready.
    fn patient(&self, error: io::Error, events: i16) -> io::Result<()> {
        let fd = if events == libc::POLLIN {
            self.input()
        } else {
            self.output()
        };
        match error.kind() {
            io::ErrorKind::WouldBlock => calls::wait(fd, events),
            io::ErrorKind::Interrupted => Ok(()),
            _ => Err(error),
        }
    }
}

/// Moves what a pipe holds on.
pub(crate) fn drain(pipe: RawFd, to: RawFd, mut count: usize) -> io::Result<()> {
    while count > 0 {
        match calls::splice(pipe, None, to, count)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            moved => count -= moved,
        }
    }
    Ok(())
}

/// Own and peer's address, as records name them.
pub(crate) fn addresses(stream: &TcpStream) -> io::Result<(String, String)> {
    Ok((named(stream.local_addr()?), named(stream.peer_addr()?)))
}

fn named(address: SocketAddr) -> String {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port()).to_string()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|found| found == wanted)
}
