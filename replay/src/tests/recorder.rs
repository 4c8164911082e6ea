//! Streams written down, and segments made by hand.

use std::collections::BTreeMap;

use wirespan_engine::api::Direction;
use wirespan_engine::{Both, Close, Nanos, Opening, Process, Start, Task};

use crate::TcpStats;
use crate::label::Label;
use crate::segment::{Endpoint, Key, Segment};
use crate::tcp::{Flows, Moment, Streams};

pub(super) const FIN: u8 = Segment::FIN;
pub(super) const SYN: u8 = Segment::SYN;
pub(super) const RST: u8 = Segment::RST;
pub(super) const ACK: u8 = Segment::ACK;

/// Who sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Peer {
    Client,
    Server,
}
pub(super) use Peer::{Client, Server};

/// A segment on the connection 10.0.0.1:40000 -> 10.0.0.2:80.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) from: Peer,
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) data: Vec<u8>,
    pub(super) missing: u32,
    /// Milliseconds of capture time.
    pub(super) ms: u64,
}

pub(super) fn sent(from: Peer, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Sent {
    Sent {
        from,
        flags,
        seq,
        ack,
        data: data.to_vec(),
        missing: 0,
        ms: 0,
    }
}

impl Sent {
    pub(super) fn at(self, ms: u64) -> Self {
        Self { ms, ..self }
    }

    pub(super) fn segment(&self) -> Segment {
        let client = Endpoint::v4([10, 0, 0, 1], 40_000);
        let server = Endpoint::v4([10, 0, 0, 2], 80);
        let (key, sender) = match self.from {
            Client => Key::of(client, server, None),
            Server => Key::of(server, client, None),
        };
        Segment {
            key,
            sender,
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            missing: self.missing,
            label: Label::default(),
        }
    }
}

/// A handshake: the streams begin at 101 and 501.
pub(super) fn handshake() -> Vec<Sent> {
    vec![
        sent(Client, SYN, 100, 0, b""),
        sent(Server, SYN | ACK, 500, 101, b""),
        sent(Client, ACK, 101, 501, b""),
    ]
}

/// One connection as it was told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) opening: Opening,
    pub(super) streams: [Stream; 2],
    pub(super) closed: Option<Close>,
    pub(super) cleartext: Option<Both<u64>>,
}

/// One direction as it was told.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The first copy of each byte.
    bytes: BTreeMap<u64, u8>,
    pub(super) passed: Vec<(u64, u64)>,
    pub(super) lost: Vec<(u64, u64)>,
    pub(super) anchor: Option<u64>,
    pub(super) acked: u64,
    pub(super) end: Option<u64>,
}

impl Stream {
    /// The bytes without a hole from the beginning on.
    pub(super) fn text(&self) -> String {
        let start = self.anchor.unwrap_or(0);
        let bytes: Vec<u8> = (start..)
            .map_while(|offset| self.bytes.get(&offset).copied())
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Told {
    pub(super) fn to_server(&self) -> &Stream {
        &self.streams[0]
    }

    pub(super) fn to_client(&self) -> &Stream {
        &self.streams[1]
    }
}

/// Writes down what it is told.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) connections: Vec<Told>,
    /// Names of the calls in order.
    pub(super) calls: Vec<&'static str>,
}

impl Recorder {
    fn stream(&mut self, id: usize, dir: Direction, call: &'static str) -> &mut Stream {
        self.calls.push(call);
        let told = &mut self.connections[id];
        assert_eq!(told.closed, None, "{call} after close");
        &mut told.streams[usize::from(dir == Direction::ToClient)]
    }
}

impl Streams for Recorder {
    type Id = usize;

    fn open(&mut self, opening: Opening, _: Nanos) -> usize {
        self.calls.push("open");
        self.connections.push(Told {
            opening,
            streams: Default::default(),
            closed: None,
            cleartext: None,
        });
        self.connections.len() - 1
    }

    fn is_open(&self, id: usize) -> bool {
        self.connections[id].closed.is_none()
    }

    fn set_process(&mut self, id: usize, process: Process) {
        self.calls.push("set_process");
        self.connections[id].opening.process = Some(process);
    }

    fn set_task(&mut self, _: usize, _: Option<Task>) {
        self.calls.push("set_task");
    }

    fn chunk(&mut self, id: usize, dir: Direction, offset: u64, bytes: &[u8], _: Nanos) {
        let stream = self.stream(id, dir, "chunk");
        for (offset, byte) in (offset..).zip(bytes) {
            stream.bytes.entry(offset).or_insert(*byte);
        }
    }

    fn passed(&mut self, id: usize, dir: Direction, offset: u64, len: u64, _: Nanos) {
        self.stream(id, dir, "passed").passed.push((offset, len));
    }

    fn lost(&mut self, id: usize, dir: Direction, offset: u64, len: u64, _: Nanos) {
        self.stream(id, dir, "lost").lost.push((offset, len));
    }

    fn anchor(&mut self, id: usize, dir: Direction, offset: u64, _: Nanos) {
        let stream = self.stream(id, dir, "anchor");
        assert_eq!(stream.anchor, None, "anchored twice");
        stream.anchor = Some(offset);
    }

    fn cleartext(&mut self, id: usize, at: Both<u64>, _: Start, _: Nanos) {
        self.calls.push("cleartext");
        self.connections[id].cleartext = Some(at);
    }

    fn acked(&mut self, id: usize, dir: Direction, upto: u64, _: Nanos) {
        let stream = self.stream(id, dir, "acked");
        assert!(upto > stream.acked, "acknowledgements advance");
        stream.acked = upto;
    }

    fn end(&mut self, id: usize, dir: Direction, offset: u64, _: Nanos) {
        let stream = self.stream(id, dir, "end");
        assert_eq!(stream.end, None, "ended twice");
        stream.end = Some(offset);
    }

    fn close(&mut self, id: usize, how: Close, _: Nanos) {
        self.calls.push("close");
        assert_eq!(self.connections[id].closed, None, "closed twice");
        self.connections[id].closed = Some(how);
    }
}

/// Runs segments through a flow table, and the end of the capture after them.
pub(super) fn play(segments: &[Sent]) -> (Recorder, TcpStats) {
    let mut flows = Flows::new();
    let mut recorder = Recorder::default();
    let mut at = Moment {
        packet: 0,
        time: Nanos(0),
        now: Nanos(0),
    };
    for sent in segments {
        at.packet += 1;
        at.time = Nanos(sent.ms * 1_000_000);
        at.now = at.now.max(at.time);
        flows.segment(&sent.segment(), &sent.data, at, &mut recorder);
    }
    flows.finish(at, &mut recorder);
    (recorder, flows.stats)
}

/// The only connection of a recording.
pub(super) fn only(recorder: &Recorder) -> &Told {
    assert_eq!(recorder.connections.len(), 1, "{:#?}", recorder.connections);
    &recorder.connections[0]
}
