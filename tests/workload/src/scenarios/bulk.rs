//! Scenarios about how much there is: of bytes, of requests, of connections, of processes.

use std::collections::VecDeque;
use std::io;

use crate::end::Way;
use crate::message::Ask;
use crate::process::Child;
use crate::stage::{Client, Stage, listen};

/// Processes that run at the same time.
const TOGETHER: usize = 8;

pub(super) fn keep_alive(stage: &mut Stage) -> io::Result<()> {
    let few = stage.requests.max(100);
    let requests = stage.size(few, few.max(1_000));
    let asks = (0..requests).map(|_| Ask::small());
    one_connection(stage, asks)
}

pub(super) fn download(stage: &mut Stage) -> io::Result<()> {
    let wanted = stage.size(8_000_000, 200_000_000);
    let large = Ask {
        wanted,
        ..Ask::small()
    };
    one_connection(stage, [large, Ask::small()].into_iter())
}

pub(super) fn upload(stage: &mut Stage) -> io::Result<()> {
    let sent = stage.size(4_000_000, 50_000_000);
    let large = Ask {
        sent,
        ..Ask::small()
    };
    one_connection(stage, [large, Ask::small()].into_iter())
}

fn one_connection(stage: &mut Stage, asks: impl Iterator<Item = Ask>) -> io::Result<()> {
    let (listener, address) = listen()?;
    let server = stage.serve(listener, 1, Way::PLAIN)?;
    let mut client = Client::connect(address, Way::PLAIN)?;
    for ask in asks {
        stage.ask(&mut client, ask)?;
    }
    drop(client);
    server.join()
}

pub(super) fn connections(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let count = stage.size(200, 10_000);
    let server = stage.serve(listener, count, Way::PLAIN)?;
    for _ in 0..count {
        stage.ask(&mut Client::connect(address, Way::PLAIN)?, Ask::small())?;
    }
    server.join()
}

pub(super) fn processes(stage: &mut Stage) -> io::Result<()> {
    let (listener, address) = listen()?;
    let count = stage.size(50, 1_000);
    let server = stage.serve(listener, count, Way::PLAIN)?;
    let mut running: VecDeque<Child> = VecDeque::new();
    for _ in 0..count {
        if running.len() == TOGETHER {
            running.pop_front().map_or(Ok(()), Child::join)?;
        }
        running.push_back(Child::start("wl-client", || {
            stage.ask(&mut Client::connect(address, Way::PLAIN)?, Ask::small())
        })?);
    }
    running.into_iter().try_for_each(Child::join)?;
    server.join()
}
