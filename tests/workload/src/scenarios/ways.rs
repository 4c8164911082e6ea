//! Scenarios that differ in the calls that move the bytes.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use wirespan_workload::Seen;

use super::{Act, Scenario};
use crate::calls;
use crate::end::{End, Sink, Source, Way, addresses, drain};
use crate::message::{Ask, GRAIN};
use crate::process::Child;
use crate::stage::{Behind, Client, Stage, answer, listen};
use crate::uring;

/// Bytes that fit through no buffer of a socket at once.
const LARGE: u64 = 3_000_000;

type Send = fn(RawFd, &[u8]) -> io::Result<usize>;
type Receive = fn(RawFd, &mut [u8]) -> io::Result<usize>;

/// The scenarios that are nothing but a way, on both ends.
pub(super) fn all() -> Vec<Scenario> {
    use calls::*;
    let both = |name, about, send: Send, receive: Receive| {
        let way = Way {
            send,
            receive,
            ..Way::PLAIN
        };
        (name, about, way)
    };
    let plain = Way::PLAIN;
    [
        both("read-write", "read and write", write, read),
        both(
            "vectors",
            "readv and writev, some vectors empty",
            writev,
            readv,
        ),
        both(
            "tiny-vectors",
            "sixty-four vectors of one byte",
            writev_tiny,
            readv_tiny,
        ),
        both("send-recv", "sendto and recvfrom", send, recv),
        both("messages", "sendmsg and recvmsg", sendmsg, recvmsg),
        both(
            "forty-vectors",
            "messages of forty vectors",
            sendmsg_forty,
            recvmsg_forty,
        ),
        both("many-messages", "sendmmsg and recvmmsg", sendmmsg, recvmmsg),
        both("zerocopy", "MSG_ZEROCOPY", send_zerocopy, recv),
        both(
            "peeked",
            "looked at twice before it is read",
            send,
            recv_peeked,
        ),
        both(
            "faulty",
            "calls that fail before one succeeds",
            write_faulty,
            read,
        ),
        (
            "wait-all",
            "MSG_WAITALL, a few bytes at a time",
            Way {
                receive: recv_all,
                at_once: GRAIN,
                ..plain
            },
        ),
        (
            "discarded",
            "bodies that MSG_TRUNC throws away",
            Way {
                receive: recv,
                sink: Sink::Discarded,
                at_once: 256,
                ..plain
            },
        ),
        (
            "small-reads",
            "a message takes many reads",
            Way {
                at_once: 7,
                ..plain
            },
        ),
        (
            "sendfile",
            "bodies of files",
            Way {
                source: Source::Sendfile,
                ..plain
            },
        ),
        (
            "spliced-file",
            "bodies of files, through a pipe",
            Way {
                source: Source::Splice,
                ..plain
            },
        ),
    ]
    .into_iter()
    .map(|(name, about, way)| Scenario {
        name,
        about,
        act: Act::Converse(way, way),
    })
    .collect()
}

/// The usual conversation on one connection.
pub(super) fn converse(stage: &mut Stage, client: Way, server: Way) -> io::Result<()> {
    let (listener, address) = listen()?;
    let child = stage.serve(listener, 1, server)?;
    let mut client = Client::connect(address, client)?;
    stage.converse(&mut client)?;
    drop(client);
    child.join()
}

/// A process between client and server moves everything through pipes: it never has the bytes.
pub(super) fn splice_proxy(stage: &mut Stage) -> io::Result<()> {
    let (back, back_address) = listen()?;
    let (front, front_address) = listen()?;
    let server = stage.serve(back, 1, Way::PLAIN)?;
    let inner = TcpStream::connect(back_address)?;
    let (client, server_behind) = addresses(&inner)?;
    let proxy = Child::start("wl-proxy", move || {
        let outer = front.accept()?.0;
        std::thread::scope(|scope| {
            let onward = scope.spawn(|| relay(&outer, &inner));
            relay(&inner, &outer)?;
            onward
                .join()
                .map_err(|_| io::Error::other("a relay failed"))?
        })
    })?;
    let behind = Behind {
        client,
        server: server_behind,
    };
    let mut client = Client::connect(front_address, Way::PLAIN)?.seen(Seen::Always, Seen::Never);
    client.behind = Some(behind);
    stage.converse(&mut client)?;
    drop(client);
    proxy.join()?;
    server.join()
}

fn relay(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (pipe_out, pipe_in) = io::pipe()?;
    loop {
        let held = calls::splice(from.as_raw_fd(), None, pipe_in.as_raw_fd(), 65_536)?;
        if held == 0 {
            return to.shutdown(Shutdown::Write);
        }
        drain(pipe_out.as_raw_fd(), to.as_raw_fd(), held)?;
    }
}

/// Small buffers and sockets that do not wait: every message takes many writes, which the kernel
/// takes in part.
pub(super) fn partial_writes(stage: &mut Stage) -> io::Result<()> {
    let ask = Ask {
        sent: LARGE,
        wanted: LARGE,
        ..Ask::small()
    };
    impatient(stage, Way::PLAIN, &[ask, Ask::small(), ask])
}

/// Sockets that do not wait, on which every read is tried too early.
pub(super) fn too_early(stage: &mut Stage) -> io::Result<()> {
    let way = Way {
        receive: calls::read_too_early,
        ..Way::PLAIN
    };
    let slow = |number| Ask {
        pause: Duration::from_millis(5),
        ..Ask::usual(number)
    };
    let asks: Vec<Ask> = (0..stage.requests).map(slow).collect();
    impatient(stage, way, &asks)
}

fn impatient(stage: &mut Stage, way: Way, asks: &[Ask]) -> io::Result<()> {
    let (listener, address) = listen()?;
    for name in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
        // Inherited by the sockets that it accepts.
        calls::set_option(listener.as_raw_fd(), libc::SOL_SOCKET, name, 8_192)?;
    }
    let child = Child::start("wl-server", move || {
        let stream = listener.accept()?.0;
        stream.set_nonblocking(true)?;
        answer(&mut End::new(stream, way))
    })?;
    let stream = TcpStream::connect(address)?;
    calls::set_option(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, 8_192)?;
    stream.set_nonblocking(true)?;
    let mut client = Client::over(stream, way)?;
    for ask in asks {
        stage.ask(&mut client, *ask)?;
    }
    drop(client);
    child.join()
}

/// Programs in the kernel cannot bring pages in: what is sent from such may stay unknown before the
/// call has done so.
pub(super) fn untouched(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let way = Way {
        send: calls::write_untouched,
        ..Way::PLAIN
    };
    let child = stage.serve(listener, 1, way)?;
    let client = Client::connect(address, way)?;
    let mut client = client.seen(Seen::Perhaps, Seen::Perhaps);
    stage.converse(&mut client)?;
    drop(client);
    child.join()
}

pub(super) fn io_uring(stage: &mut Stage) -> io::Result<()> {
    if let Err(error) = uring::available() {
        stage.skip(&format!("this kernel has no io_uring for us: {error}"));
        return Ok(());
    }
    let way = Way {
        send: uring::send,
        receive: uring::recv,
        ..Way::PLAIN
    };
    let (listener, address) = listen()?;
    let server = stage.serve(listener, 1, way)?;
    let client = Client::connect(address, way)?;
    let mut client = client.seen(Seen::AtSocket, Seen::AtSocket);
    stage.converse(&mut client)?;
    drop(client);
    server.join()
}
