//! What a source may tell of connections, told to an engine and to a recording alike.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use wirespan::api::Direction::{self, ToClient, ToServer};
use wirespan_engine::{
    Address, Both, Close, Layer, Nanos, Opening, Process, Roles, Side, Start, Task,
};

/// One call of a source.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Chunk(Direction, u64, Vec<u8>),
    Process(Process),
    Task(Option<Task>),
    Passed(Direction, u64, u64),
    Lost(Direction, u64, u64),
    Anchor(Direction, u64),
    Cleartext(Both<u64>, Start),
    Acked(Direction, u64),
    End(Direction, u64),
    Close(Close),
}

/// A connection and all that is told of it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) opening: Opening,
    pub(crate) calls: Vec<Call>,
}

/// Connections whose calls are interleaved: at each step so many nanoseconds pass, and the next
/// call of one connection is made.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) connections: Vec<Connection>,
    pub(crate) steps: Vec<(u64, usize)>,
}

/// When stories begin.
pub(crate) const BEGIN: Nanos = Nanos(1_700_000_000_123_456_789);

/// A call that is due.
pub(crate) enum Due<'a> {
    Open(&'a Opening),
    Call(&'a Call),
}

impl Story {
    /// Gives all calls with their connection and time, each connection's opening before its first.
    pub(crate) fn tell(&self, mut to: impl FnMut(usize, Nanos, Due<'_>)) {
        let mut told = vec![None; self.connections.len()];
        let mut time = BEGIN;
        let rest = (0..self.connections.len())
            .cycle()
            .map(|index| (1_000, index));
        for (pause, index) in self.steps.iter().copied().chain(rest) {
            let done = |(told, connection): (&Option<usize>, &Connection)| {
                *told == Some(connection.calls.len())
            };
            if told.iter().zip(&self.connections).all(done) {
                return;
            }
            let index = index % self.connections.len();
            let connection = &self.connections[index];
            match &mut told[index] {
                None => {
                    time.0 += pause;
                    told[index] = Some(0);
                    to(index, time, Due::Open(&connection.opening));
                }
                Some(next) if *next < connection.calls.len() => {
                    time.0 += pause;
                    to(index, time, Due::Call(&connection.calls[*next]));
                    *next += 1;
                }
                Some(_) => {}
            }
        }
    }
}

/// Requests and responses as they are on the wire.
fn dialogue(http: bool, turns: &[(u8, u8)]) -> Vec<(Direction, Vec<u8>)> {
    let mut said = Vec::new();
    for (asked, answered) in turns {
        let (asked, answered) = (usize::from(*asked), usize::from(*answered));
        let (mut there, mut back) = (Vec::new(), Vec::new());
        for n in 0..=asked % 3 {
            if http {
                there.extend(format!("GET /{n}/{asked} HTTP/1.1\r\nhost: a\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n").bytes());
                back.extend(
                    format!(
                        "HTTP/1.1 {} OK\r\ncontent-length: {answered}\r\n\r\n",
                        200 + n
                    )
                    .bytes(),
                );
                back.extend(std::iter::repeat_n(b'x', answered));
            } else {
                there.extend(format!("*2\r\n$3\r\nGET\r\n$3\r\nk{:02}\r\n", asked % 100).bytes());
                back.extend(format!("${answered}\r\n").bytes());
                back.extend(std::iter::repeat_n(b'y', answered));
                back.extend(b"\r\n");
            }
        }
        said.push((ToServer, there));
        said.push((ToClient, back));
    }
    said
}

/// What becomes of a stretch of a stream.
fn fate(kind: u8, dir: Direction, at: u64, bytes: &[u8], calls: &mut Vec<Call>) {
    let len = bytes.len() as u64;
    match kind {
        // Told to be lost, captured short, or simply not there; the receiver may have it.
        0 => calls.push(Call::Lost(dir, at, len)),
        1 => {
            let (kept, cut) = bytes.split_at(bytes.len() / 2);
            if !kept.is_empty() {
                calls.push(Call::Chunk(dir, at, kept.to_vec()));
            }
            calls.push(Call::Lost(dir, at + kept.len() as u64, cut.len() as u64));
        }
        2 => {}
        3 => calls.push(Call::Acked(dir, at + len)),
        // Out of order.
        4 if len > 1 => {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            calls.push(Call::Chunk(dir, at + first.len() as u64, second.to_vec()));
            calls.push(Call::Chunk(dir, at, first.to_vec()));
        }
        // The last byte twice.
        7 => {
            calls.push(Call::Chunk(dir, at, bytes.to_vec()));
            let last = bytes.len() - 1;
            calls.push(Call::Chunk(dir, at + last as u64, bytes[last..].to_vec()));
        }
        // Not copied, in whole or in part, whether it is needed or not.
        5 => calls.push(Call::Passed(dir, at, len)),
        6 => {
            let (kept, rest) = bytes.split_at(bytes.len() / 3);
            if !kept.is_empty() {
                calls.push(Call::Chunk(dir, at, kept.to_vec()));
            }
            calls.push(Call::Passed(dir, at + kept.len() as u64, rest.len() as u64));
        }
        _ => calls.push(Call::Chunk(dir, at, bytes.to_vec())),
    }
}

/// The calls for a dialogue that is cut into stretches of these lengths and fates.
fn calls(said: &[(Direction, Vec<u8>)], cuts: &[(usize, u8)], end: u8) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut tips = [0_u64; 2];
    let mut cuts = cuts.iter().copied().cycle();
    for (dir, text) in said {
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let (len, kind) = cuts.next().unwrap_or((1, 9));
            let (bytes, behind) = rest.split_at(len.min(rest.len()));
            rest = behind;
            let tip = &mut tips[usize::from(*dir == ToClient)];
            fate(kind, *dir, *tip, bytes, &mut calls);
            *tip += bytes.len() as u64;
        }
    }
    let ends = [Call::End(ToServer, tips[0]), Call::End(ToClient, tips[1])];
    match end % 10 {
        0 => {}
        1 => calls.push(Call::Close(Close::Reset)),
        2 => calls.push(Call::Close(Close::Idle)),
        3 => calls.push(Call::Close(Close::Finished)),
        4 => calls.extend([ends[1].clone(), Call::Close(Close::Finished)]),
        5 => calls.extend([ends[0].clone(), Call::Close(Close::Reset)]),
        6 => calls.extend(ends),
        // Told before the last bytes, and with bytes behind it.
        7 => {
            let last = calls.len().saturating_sub(1);
            calls.insert(last, ends[1].clone());
        }
        8 => {
            calls.push(ends[1].clone());
            calls.push(Call::Passed(ToClient, tips[1] + 1, 20));
            calls.push(Call::Chunk(ToClient, tips[1], b"late".to_vec()));
            calls.push(Call::End(ToServer, tips[0].saturating_sub(1)));
            calls.push(Call::Close(Close::Finished));
        }
        _ => calls.extend(ends.into_iter().chain([Call::Close(Close::Finished)])),
    }
    calls
}

/// A connection from handshake to the end of both streams, of which all was seen.
pub(crate) fn whole(ipv6: bool, host: u8, http: bool, turns: &[(u8, u8)]) -> Connection {
    let (client, server) = peers(ipv6, host, http);
    let opening = Opening {
        number: 0,
        client,
        server,
        roles: Roles::Known,
        start: Start::Beginning,
        side: Side::Client,
        layer: Layer::Transport,
        process: None,
    };
    let calls = calls(&dialogue(http, turns), &[(50, 9)], 9);
    Connection { opening, calls }
}

fn reversed(call: Call) -> Call {
    match call {
        Call::Chunk(dir, at, bytes) => Call::Chunk(dir.reverse(), at, bytes),
        Call::Process(process) => Call::Process(process),
        Call::Task(task) => Call::Task(task),
        Call::Passed(dir, at, len) => Call::Passed(dir.reverse(), at, len),
        Call::Lost(dir, at, len) => Call::Lost(dir.reverse(), at, len),
        Call::Anchor(dir, at) => Call::Anchor(dir.reverse(), at),
        Call::Cleartext(at, start) => {
            let (to_server, to_client) = (at.to_client, at.to_server);
            let at = Both {
                to_server,
                to_client,
            };
            Call::Cleartext(at, start)
        }
        Call::Acked(dir, upto) => Call::Acked(dir.reverse(), upto),
        Call::End(dir, at) => Call::End(dir.reverse(), at),
        Call::Close(how) => Call::Close(how),
    }
}

/// Few addresses, so that connections follow each other on the same ones, or share them.
fn peers(ipv6: bool, host: u8, http: bool) -> (Address, Address) {
    let ip = |last: u8| match ipv6 {
        true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into())),
        false => IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)),
    };
    let port = if http { 8080 } else { 6379 };
    (
        (ip(1), 40_000 + u16::from(host % 2)).into(),
        (ip(2), port).into(),
    )
}

prop_compose! {
    fn opening()(
        ipv6 in any::<bool>(),
        host in 0..2_u8,
        http in any::<bool>(),
        roles in prop_oneof![3 => Just(Roles::Known), 1 => Just(Roles::Assumed)],
        start in prop_oneof![3 => Just(Start::Beginning), 1 => Just(Start::Middle)],
        side in prop_oneof![Just(Side::Client), Just(Side::Server), Just(Side::Wire)],
        layer in prop_oneof![3 => Just(Layer::Transport), 1 => Just(Layer::Tls)],
        pid in prop::option::of(any::<u32>()),
        name in "\\PC{0,16}",
    ) -> (bool, Opening) {
        let (client, server) = peers(ipv6, host, http);
        let process = pid.map(|pid| Process::new(pid, name.as_bytes()));
        (http, Opening { number: 0, client, server, roles, start, side, layer, process })
    }
}

prop_compose! {
    fn connection()(
        (http, mut opening) in opening(),
        turns in prop::collection::vec((any::<u8>(), any::<u8>()), 0..6),
        cuts in prop::collection::vec((1..80_usize, 0..60_u8), 1..12),
        end in any::<u8>(),
        wrong_way_round in any::<bool>(),
        late_anchor in any::<bool>(),
        tasks in prop::collection::vec((any::<usize>(), 0..4_u32), 0..4),
        handed_on in prop::option::of((any::<usize>(), any::<u32>(), "\\PC{0,16}")),
    ) -> Connection {
        let mut calls = calls(&dialogue(http, &turns), &cuts, end);
        if opening.start == Start::Middle {
            let at = if late_anchor { calls.len().min(3) } else { 0 };
            calls.splice(at..at, [Call::Anchor(ToServer, 0), Call::Anchor(ToClient, 0)]);
        }
        if let Some((at, pid, name)) = handed_on {
            let process = Call::Process(Process::new(pid, name.as_bytes()));
            calls.insert(at % (calls.len() + 1), process);
        }
        for (at, number) in tasks {
            let task = Call::Task(Task::new(number));
            calls.insert(at % (calls.len() + 1), task);
        }
        if opening.roles == Roles::Assumed && wrong_way_round {
            (opening.client, opening.server) = (opening.server, opening.client);
            calls = calls.into_iter().map(reversed).collect();
        }
        Connection { opening, calls }
    }
}

prop_compose! {
    /// Any story.
    pub(crate) fn story()(
        connections in prop::collection::vec(connection(), 1..5),
        steps in prop::collection::vec((
            prop::sample::select(vec![0, 1, 999, 1_000_000, 60_000_000, 300_000_000, 2_500_000_000]),
            any::<usize>(),
        ), 0..80),
    ) -> Story {
        Story { connections, steps }
    }
}
