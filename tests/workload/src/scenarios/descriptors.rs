//! Scenarios about who holds a socket, under which number.

use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc;

use crate::end::{End, Way};
use crate::message::Ask;
use crate::process::{Child, duplicate_onto, keep_open, pass, rename, take};
use crate::stage::{Client, Stage, answer, answer_once, listen, respond};

/// A number that no other descriptor has.
const HIGH: i32 = 200;

/// Read from one number, write to another; then onto a third, and the first is closed.
pub(super) fn duplicated(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let server = Child::start("wl-server", move || {
        let mut end = End::new(listener.accept()?.0, Way::PLAIN);
        end.output = Some(end.socket.try_clone()?);
        answer(&mut end)
    })?;
    let mut client = Client::connect(address, Way::PLAIN)?;
    client.end.output = Some(client.end.socket.try_clone()?);
    stage.converse(&mut client)?;
    client.end.socket = duplicate_onto(client.end.input(), HIGH)?;
    client.end.output = None;
    stage.converse(&mut client)?;
    drop(client);
    server.join()
}

/// One process answers first, then gives the connection to another, which answers from then on.
pub(super) fn passed(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let (giver, taker) = UnixStream::pair()?;
    let worker = Child::start("wl-worker", || {
        answer(&mut End::new(take(&taker)?, Way::PLAIN))
    })?;
    let acceptor = Child::start("wl-acceptor", || {
        let mut end = End::new(listener.accept()?.0, Way::PLAIN);
        answer_once(&mut end)?;
        pass(&giver, end.input())
    })?;
    let mut client = Client::connect(address, Way::PLAIN)?;
    stage.ask(&mut client, Ask::small())?;
    // Nothing is under way while the connection changes hands.
    acceptor.join()?;
    stage.converse(&mut client)?;
    drop(client);
    worker.join()
}

/// Connection after connection under the same number, to one server and another.
pub(super) fn reused(stage: &mut Stage) -> io::Result<()> {
    let (one, one_address) = listen()?;
    let (other, other_address) = listen()?;
    let one = stage.serve(one, 4, Way::PLAIN)?;
    let other = stage.serve(other, 4, Way::PLAIN)?;
    let mut number = None;
    for round in 0..4 {
        for address in [one_address, other_address] {
            let mut client = Client::connect(address, Way::PLAIN)?;
            let expected = *number.get_or_insert(client.end.input());
            if client.end.input() != expected {
                return Err(io::Error::other("the number was not used again"));
            }
            stage.ask(&mut client, Ask::usual(round))?;
        }
    }
    one.join()?;
    other.join()?;
    replaced(stage)
}

/// A socket takes another's number without anybody closing it.
fn replaced(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let server = Child::start("wl-server", move || {
        let ends = [listener.accept()?.0, listener.accept()?.0];
        for stream in ends {
            answer(&mut End::new(stream, Way::PLAIN))?;
        }
        Ok(())
    })?;
    let mut client = Client::connect(address, Way::PLAIN)?;
    let mut second = Client::connect(address, Way::PLAIN)?;
    stage.ask(&mut client, Ask::small())?;
    let number = client.end.socket.into_raw_fd();
    second.end.socket = duplicate_onto(second.end.input(), number)?;
    stage.converse(&mut second)?;
    drop(second);
    server.join()
}

/// The acceptor forks a child for each connection, and keeps nothing of it.
pub(super) fn forked(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let server = Child::start("wl-acceptor", move || {
        for _ in 0..3 {
            let stream = listener.accept()?.0;
            let child = Child::start("wl-child", || {
                answer(&mut End::new(stream.try_clone()?, Way::PLAIN))
            })?;
            drop(stream);
            child.join()?;
        }
        Ok(())
    })?;
    for _ in 0..3 {
        let mut client = Client::connect(address, Way::PLAIN)?;
        stage.converse(&mut client)?;
    }
    server.join()
}

/// The acceptor becomes another program, which finds the connection open.
pub(super) fn executed(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let server = Child::start("wl-acceptor", move || {
        let mut end = End::new(listener.accept()?.0, Way::PLAIN);
        answer_once(&mut end)?;
        keep_open(end.input())?;
        let number = end.input().to_string();
        let program = std::env::current_exe()?;
        Err(Command::new(program).args(["answer", &number]).exec())
    })?;
    let mut client = Client::connect(address, Way::PLAIN)?;
    stage.ask(&mut client, Ask::small())?;
    stage.converse(&mut client)?;
    drop(client);
    server.join()
}

/// The server takes another name when it has answered once.
pub(super) fn renamed(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let server = Child::start("wl-server", move || {
        let mut end = End::new(listener.accept()?.0, Way::PLAIN);
        answer_once(&mut end)?;
        rename("wl-renamed")?;
        answer(&mut end)
    })?;
    let mut client = Client::connect(address, Way::PLAIN)?;
    stage.ask(&mut client, Ask::small())?;
    stage.converse(&mut client)?;
    drop(client);
    server.join()
}

/// On both ends one thread reads while another writes.
pub(super) fn threads(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let server = Child::start("wl-server", move || {
        let (mut reader, writer) = End::new(listener.accept()?.0, Way::PLAIN).split()?;
        let (requests, to_answer) = mpsc::channel();
        let writing = std::thread::spawn(move || {
            to_answer
                .into_iter()
                .try_for_each(|ask| respond(&writer, ask))
        });
        while let Some(request) = reader.receive()? {
            requests
                .send(Ask::of(&request)?)
                .map_err(io::Error::other)?;
        }
        drop(requests);
        writing
            .join()
            .map_err(|_| io::Error::other("the writer failed"))?
    })?;
    let mut client = Client::connect(address, Way::PLAIN)?;
    let writer = End::new(client.end.socket.try_clone()?, Way::PLAIN);
    let (heads, to_send) = mpsc::channel::<(Vec<u8>, u64)>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let send = |(head, body): (Vec<u8>, u64)| writer.send_message(&head, body);
            to_send.into_iter().try_for_each(send)
        });
        for number in 0..stage.requests {
            // No pauses: this server answers as it reads.
            let ask = Ask {
                pause: std::time::Duration::ZERO,
                ..Ask::usual(number)
            };
            let (asked, head) = stage.prepare(ask)?;
            heads.send((head, ask.sent)).map_err(io::Error::other)?;
            stage.finish(&mut client, asked)?;
        }
        drop(heads);
        io::Result::Ok(())
    })?;
    drop(client);
    server.join()
}
