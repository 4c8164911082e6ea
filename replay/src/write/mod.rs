//! Streams to a capture file that `replay` and any packet analyser read: a recording.
//!
//! docs/RECORDINGS.md describes the file. What the calls say and TCP cannot is in the comments of
//! [`label`](crate::label); `connection/recorded.rs` reads it all back.

mod blocks;
mod headers;
mod output;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use wirespan_engine::api::Direction;
use wirespan_engine::{Address, Both, Close, Nanos, Opening, Process, Start, Task};

use crate::ip::LARGEST_LOSS;
use crate::label::{Introduction, Lane, Note};
use headers::{Control, LARGEST_PAYLOAD, Segment};
use output::Output;

/// Writes what is observed of connections as a synthetic capture, such that a replay makes the
/// same calls to an engine, in the same order and at the same times.
///
/// The calls are those of [`Engine`](wirespan_engine::Engine), and mean the same. Calls that name
/// a closed connection do nothing. Directions are relative to [`Opening::client`] and
/// [`Opening::server`]. Sequence numbers cannot leap: where bytes lie more than 512 MiB behind all
/// that was told of their stream, those between are written as lost.
///
/// Calls return nothing, since whoever captures has other things to do: see
/// [`StreamWriter::flush`]. Blocks are handed to the sink whole, after at most 64 KiB or a second of
/// capture time, so that the file of a program that was killed can be read. Give it the file itself
/// and no buffer around it.
pub struct StreamWriter<W> {
    output: Output<W>,
    /// Interfaces, in the order in which they were described.
    lanes: Vec<Lane>,
    connections: HashMap<StreamId, Connection>,
    /// Lanes and addresses of open connections.
    taken: HashSet<(Lane, [SocketAddr; 2])>,
    /// Connections so far.
    count: u64,
    left_out: u64,
}

/// Names a connection of one [`StreamWriter`]. Never used again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct StreamId(u64);

struct Connection {
    lane: Lane,
    /// Index of its interface.
    interface: u32,
    client: SocketAddr,
    server: SocketAddr,
    streams: Both<Stream>,
}

/// What was written of a direction.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// Sequence number of offset 0.
    base: u32,
    /// Every byte before it was written, or told lost.
    tip: u64,
    /// End of the highest byte that was.
    next: u64,
    ended: bool,
}

impl Stream {
    fn seq(&self, offset: u64) -> u32 {
        // Numbers wrap, RFC 9293 §3.4.
        self.base.wrapping_add(offset as u32)
    }

    /// What its receiver acknowledges: a FIN takes a number of its own.
    fn acknowledged(&self) -> u32 {
        let fin = u64::from(self.ended && self.tip >= self.next);
        self.seq(self.tip + fin)
    }

    fn note(&mut self, from: u64, to: u64) {
        self.next = self.next.max(to);
        if from <= self.tip {
            self.tip = self.tip.max(to);
        }
    }
}

impl<W: Write> StreamWriter<W> {
    /// Begins a recording.
    #[must_use]
    pub fn new(sink: W) -> Self {
        Self {
            output: Output::new(sink),
            lanes: Vec::new(),
            connections: HashMap::new(),
            taken: HashSet::new(),
            count: 0,
            left_out: 0,
        }
    }

    /// Introduces a connection. IPv4 addresses in IPv6 are written as IPv4; Unix sockets, and peers
    /// with the same address and port, get made-up ones, and the true ones stand in a comment.
    ///
    /// Of one side and layer, at most 255 connections with the same addresses may be open at once;
    /// what is beyond is left out and counted.
    pub fn open(&mut self, opening: &Opening, time: Nanos) -> StreamId {
        let id = StreamId(self.count);
        self.count += 1;
        let peers = [opening.client, opening.server].map(canonical);
        let (told, (client, server)) = match peers {
            [Address::Inet(client), Address::Inet(server)] if client != server => {
                (None, (client, server))
            }
            _ => (Some(Arc::new(peers)), made_up(id)),
        };
        let Some(lane) = self.lane(opening, [client.min(server), client.max(server)]) else {
            self.left_out += 1;
            return id;
        };
        let interface = self.interface(lane, time);
        // Initial numbers far from each other tell connections with the same addresses apart.
        let base = (self.count as u32).wrapping_mul(0x9e37_79b1);
        let stream = |base| Stream {
            base,
            ..Stream::default()
        };
        let connection = Connection {
            lane,
            interface,
            client,
            server,
            streams: Both {
                to_server: stream(base),
                to_client: stream(!base),
            },
        };
        let introduction = Note::Open(Introduction {
            start: opening.start,
            roles: opening.roles,
            process: opening.process,
            peers: told,
        });
        let (there, back) = (Direction::ToServer, Direction::ToClient);
        let segment = |dir, control| connection.segment(dir, connection.next(dir), control);
        let before = |segment: Segment<'static>| Segment {
            seq: segment.seq.wrapping_sub(1),
            ..segment
        };
        let first = match opening.start {
            Start::Beginning => before(segment(there, Control::Syn)),
            Start::Middle => segment(there, Control::Ack),
        };
        self.output
            .packet(interface, time, &first, Some(introduction));
        if opening.start == Start::Beginning {
            let answer = before(segment(back, Control::SynAck));
            self.output.packet(interface, time, &answer, None);
            self.output
                .packet(interface, time, &segment(there, Control::Ack), None);
        }
        self.connections.insert(id, connection);
        id
    }

    /// Takes the news that another process uses the observed socket now.
    pub fn set_process(&mut self, id: StreamId, process: Process, time: Nanos) {
        self.remark(id, Note::Process(process), time);
    }

    /// Takes the news that what comes next was moved by this task of the process.
    pub fn set_task(&mut self, id: StreamId, task: Option<Task>, time: Nanos) {
        self.remark(id, Note::Task(task), time);
    }

    /// Takes captured bytes of a direction.
    pub fn chunk(&mut self, id: StreamId, dir: Direction, offset: u64, bytes: &[u8], time: Nanos) {
        self.approach(id, dir, offset, time);
        let mut from = offset;
        for payload in bytes.chunks(LARGEST_PAYLOAD) {
            let to = from + payload.len() as u64;
            self.stretch(id, dir, (from, to), payload, time, None);
            from = to;
        }
    }

    /// Takes the news that `len` bytes from `offset` on went by and were not copied.
    ///
    /// More than 512 MiB in a row are told in parts.
    pub fn passed(&mut self, id: StreamId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        self.approach(id, dir, offset, time);
        self.without(id, dir, (offset, len), time, None);
    }

    /// Takes the news that `len` bytes from `offset` on will never come.
    ///
    /// More than 512 MiB in a row are told in parts.
    pub fn lost(&mut self, id: StreamId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        self.approach(id, dir, offset, time);
        self.without(id, dir, (offset, len), time, Some(Note::Lost));
    }

    /// Takes the offset from which a direction of a connection joined in the middle is read.
    pub fn anchor(&mut self, id: StreamId, dir: Direction, offset: u64, time: Nanos) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let stream = &mut connection.streams[dir];
        stream.note(0, offset);
        let (interface, seq) = (connection.interface, connection.streams[dir].seq(offset));
        let segment = connection.segment(dir, seq, Control::Ack);
        self.output
            .packet(interface, time, &segment, Some(Note::Anchor));
    }

    /// Takes the news that from the offsets `at` on, both streams are what goes on inside TLS.
    pub fn cleartext(&mut self, id: StreamId, at: Both<u64>, start: Start, time: Nanos) {
        for dir in [Direction::ToServer, Direction::ToClient] {
            self.approach(id, dir, at[dir], time);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.streams[dir].note(0, at[dir]);
            }
        }
        self.remark(id, Note::Cleartext(start), time);
    }

    /// Takes the news that the receiver of `dir` has acknowledged its bytes before `upto`.
    pub fn acked(&mut self, id: StreamId, dir: Direction, upto: u64, time: Nanos) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let stream = &connection.streams[dir];
        // What was written is acknowledged by the segments that follow it.
        if upto > stream.tip {
            let ack = stream.seq(upto);
            let back = dir.reverse();
            let segment = connection.segment(back, connection.next(back), Control::Ack);
            let segment = Segment { ack, ..segment };
            self.output
                .packet(connection.interface, time, &segment, None);
        }
    }

    /// Takes the news that a direction has no bytes at or after `offset`.
    pub fn end(&mut self, id: StreamId, dir: Direction, offset: u64, time: Nanos) {
        self.approach(id, dir, offset, time);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut connection.streams[dir].ended, true) {
            return;
        }
        let seq = connection.streams[dir].seq(offset);
        connection.streams[dir].next = offset;
        let segment = connection.segment(dir, seq, Control::Fin);
        self.output
            .packet(connection.interface, time, &segment, None);
    }

    /// Closes a connection. Every connection is to be closed at last, but those that are open when
    /// the recording ends.
    pub fn close(&mut self, id: StreamId, how: Close, time: Nanos) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        let interface = connection.interface;
        let mut note = Some(Note::Close(how));
        let (there, back) = (Direction::ToServer, Direction::ToClient);
        if how == Close::Finished {
            for dir in [there, back] {
                if !connection.streams[dir].ended {
                    let segment = connection.segment(dir, connection.next(dir), Control::Fin);
                    connection.streams[dir].ended = true;
                    self.output.packet(interface, time, &segment, note.take());
                }
            }
        }
        let control = match how {
            Close::Reset => Control::Rst,
            _ => Control::Ack,
        };
        let fin = u32::from(connection.streams[there].ended);
        let seq = connection.next(there).wrapping_add(fin);
        let last = connection.segment(there, seq, control);
        self.output.packet(interface, time, &last, note);
        self.taken.remove(&connection.place());
    }

    /// Connections that were left out for want of an interface.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Hands everything to the sink. To be called about once a second, since blocks go out with the
    /// next packet only.
    ///
    /// # Errors
    /// What the sink failed with, now or in the calls before. It is said once; the recording ends
    /// there, and further calls do nothing.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// Ends the recording and gives the sink back. Connections that are open stay so: a replay
    /// closes them at the end of the file.
    ///
    /// # Errors
    /// As [`StreamWriter::flush`].
    pub fn finish(mut self) -> io::Result<W> {
        self.output.flush()?;
        Ok(self.output.into_sink())
    }

    /// A packet that says nothing but its note.
    fn remark(&mut self, id: StreamId, note: Note, time: Nanos) {
        if let Some(connection) = self.connections.get(&id) {
            let there = Direction::ToServer;
            let segment = connection.segment(there, connection.next(there), Control::Ack);
            self.output
                .packet(connection.interface, time, &segment, Some(note));
        }
    }

    /// Bytes of a stream that are not there: `len` from `offset` on.
    fn without(
        &mut self,
        id: StreamId,
        dir: Direction,
        (offset, len): (u64, u64),
        time: Nanos,
        note: Option<Note>,
    ) {
        let end = offset.saturating_add(len);
        let mut from = offset;
        while from < end {
            let to = end.min(from.saturating_add(u64::from(LARGEST_LOSS)));
            self.stretch(id, dir, (from, to), &[], time, note.clone());
            from = to;
        }
    }

    /// Bytes of a stream: those of `payload`, or as many that are not there.
    fn stretch(
        &mut self,
        id: StreamId,
        dir: Direction,
        (from, to): (u64, u64),
        payload: &[u8],
        time: Nanos,
        note: Option<Note>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let missing = (to - from).saturating_sub(payload.len() as u64);
        let seq = connection.streams[dir].seq(from);
        let segment = Segment {
            payload,
            missing: u32::try_from(missing).unwrap_or(LARGEST_LOSS),
            ..connection.segment(dir, seq, Control::Ack)
        };
        connection.streams[dir].note(from, to);
        self.output
            .packet(connection.interface, time, &segment, note);
    }

    /// A reader takes sequence numbers that leap by more than a window, RFC 7323 §2.2, for
    /// another connection's. What lies so far back will not come any more.
    fn approach(&mut self, id: StreamId, dir: Direction, offset: u64, time: Nanos) {
        let next = match self.connections.get(&id) {
            Some(connection) => connection.streams[dir].next,
            None => return,
        };
        if offset.saturating_sub(next) > u64::from(LARGEST_LOSS) {
            self.without(id, dir, (next, offset - next), time, Some(Note::Lost));
        }
    }

    /// A lane on which no open connection has these addresses.
    fn lane(&mut self, opening: &Opening, peers: [SocketAddr; 2]) -> Option<Lane> {
        let mut lanes = (1..=u8::MAX).map(|number| Lane {
            side: opening.side,
            layer: opening.layer,
            number,
        });
        lanes.find(|lane| self.taken.insert((*lane, peers)))
    }

    /// The interface of a lane, described when it is first used.
    fn interface(&mut self, lane: Lane, time: Nanos) -> u32 {
        let known = self.lanes.iter().position(|known| *known == lane);
        let index = known.unwrap_or_else(|| {
            self.lanes.push(lane);
            let name = lane.to_string();
            self.output.interface(&name, time);
            self.lanes.len() - 1
        });
        // At most 255 for each side and layer.
        index as u32
    }
}

/// An address as a packet has it.
fn canonical(address: Address) -> Address {
    match address {
        Address::Inet(socket) => (socket.ip().to_canonical(), socket.port()).into(),
        Address::Unix(_) => address,
    }
}

/// Addresses for a connection whose peers have none, or the same one: those of a loopback interface,
/// with a port that no TCP connection has.
fn made_up(StreamId(id): StreamId) -> (SocketAddr, SocketAddr) {
    let [.., a, b, c] = id.to_be_bytes();
    let client = Ipv4Addr::new(127, a, b, c);
    ((client, 0).into(), (Ipv4Addr::UNSPECIFIED, 0).into())
}

impl Connection {
    /// A segment without payload, acknowledging what was written of the other direction.
    fn segment(&self, dir: Direction, seq: u32, control: Control) -> Segment<'static> {
        let (from, to) = match dir {
            Direction::ToServer => (self.client, self.server),
            Direction::ToClient => (self.server, self.client),
        };
        Segment {
            from,
            to,
            seq,
            ack: self.streams[dir.reverse()].acknowledged(),
            control,
            payload: &[],
            missing: 0,
        }
    }

    /// Sequence number of the next byte of a direction.
    fn next(&self, dir: Direction) -> u32 {
        let stream = &self.streams[dir];
        stream.seq(stream.next)
    }

    fn place(&self) -> (Lane, [SocketAddr; 2]) {
        let (client, server) = (self.client, self.server);
        (self.lane, [client.min(server), client.max(server)])
    }
}
