//! A TCP connection: what a segment means to it.
//!
//! Rules, in the order in which a segment meets them:
//!
//! 1. A connection is opened by a SYN (its sender is the client), a SYN with ACK (its sender is
//!    the server), or anything else but a RST: then it is joined in the middle, and a port below
//!    1024, or else the lower one, is taken for the server's. A second SYN from the other side is
//!    a simultaneous open and changes no roles.
//! 2. A SYN with another initial sequence number is a new connection on the same addresses. A SYN
//!    with ACK that acknowledges the present connection is not: of several answers to a SYN the
//!    one counts that the client acknowledges, as far as that shows, else the first.
//! 3. After the end of a connection late segments are dropped. New bytes later than [`LINGER`]
//!    after it are a connection again, joined in the middle.
//! 4. A RST counts when its number lies near the bytes in flight. Its payload is a message to
//!    people (RFC 9293 §3.5.2), no stream data.
//! 5. An acknowledgement is passed on before the payload of the segment that carries it. It also
//!    says where the other stream begins when its SYN was missed.
//! 6. Offset 0 is the byte after the SYN. Bytes before a stream's beginning, keep-alive probes,
//!    bytes after a FIN and numbers more than 1 GiB away are dropped. Overlaps are passed on: the
//!    engine keeps the first copy. Urgent data are in the stream like any other, RFC 6093.
//! 7. Where a stream that is joined in the middle begins is said at [`Holding`](crate::flow::Holding).
//! 8. Bytes that the capture cut off have passed at the time of their segment: whoever did not need
//!    them has lost nothing.
//! 9. A connection is finished when both FINs are acknowledged and every byte before them was seen.

mod recorded;

use wirespan_engine::api::Direction;
use wirespan_engine::{Close, Nanos, Opening, Roles, Start};

use crate::flow::Half;
use crate::label::Note;
use crate::segment::{End, Segment};
use crate::stats::TcpStats;
use crate::tcp::{Moment, Streams};

/// Nanoseconds after the end of a connection during which new bytes are taken for late ones.
const LINGER: u64 = 1_000_000_000;

/// A connection and its two streams.
pub(crate) struct Connection<Id> {
    id: Id,
    number: u64,
    client: End,
    /// Bytes that the client sends.
    to_server: Half,
    /// Bytes that the server sends.
    to_client: Half,
    closed: Option<Nanos>,
    /// Whether a note introduced it: then the rules are those of [`recorded`].
    is_introduced: bool,
}

/// What becomes of a segment.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It belongs to the connection.
    Take,
    /// Its numbers do not fit the connection, and it opens no other.
    OutOfWindow,
    /// The connection has ended.
    Late,
    /// It belongs to a new connection.
    Replace,
}

impl<Id: Copy> Connection<Id> {
    /// The connection that a segment opens, if it may open one. The segment is still to be taken.
    pub(crate) fn open<S: Streams<Id = Id>>(
        segment: &Segment,
        at: Moment,
        streams: &mut S,
    ) -> Option<Self> {
        if let Some(Note::Open(introduction)) = &segment.label.note {
            return Some(Self::introduced(segment, introduction, at, streams));
        }
        if segment.has(Segment::RST) {
            return None;
        }
        let syn = segment.has(Segment::SYN);
        let (source, destination) = segment.peers();
        let sender_is_client = match (syn, segment.has(Segment::ACK)) {
            (true, ack) => !ack,
            // Ports below 1024 are the lowest of all.
            (false, _) => destination.port() <= source.port(),
        };
        let (client, server) = if sender_is_client {
            (source, destination)
        } else {
            (destination, source)
        };
        let (side, layer) = segment.observed();
        let opening = Opening {
            number: at.packet,
            client: client.socket().into(),
            server: server.socket().into(),
            roles: if syn { Roles::Known } else { Roles::Assumed },
            start: if syn { Start::Beginning } else { Start::Middle },
            side,
            layer,
            process: None,
        };
        let half = if syn { Half::default } else { Half::middle };
        Some(Self {
            id: streams.open(opening, at.now),
            number: at.packet,
            client: if sender_is_client {
                segment.sender
            } else {
                segment.sender.other()
            },
            to_server: half(),
            to_client: half(),
            closed: None,
            is_introduced: false,
        })
    }

    /// Number of the packet that opened it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Whether its end will be told, however long it is silent.
    pub(crate) fn is_introduced(&self) -> bool {
        self.is_introduced
    }

    /// Whether a segment with `len` bytes of payload belongs to this connection.
    pub(crate) fn verdict<S: Streams<Id = Id>>(
        &self,
        segment: &Segment,
        len: u64,
        now: Nanos,
        streams: &S,
    ) -> Verdict {
        if let Some(Note::Open(_)) = segment.label.note {
            return Verdict::Replace;
        }
        if self.is_introduced {
            return self.verdict_when_introduced(streams);
        }
        let dir = self.direction(segment);
        if let Some(closed) = self.closed {
            return self.verdict_after_close(segment, dir, len, now.since(closed));
        }
        if segment.has(Segment::SYN) {
            return self.verdict_on_syn(segment, dir);
        }
        if segment.has(Segment::RST) && !self.half(dir).allows_reset(segment.seq) {
            return Verdict::OutOfWindow;
        }
        if len > 0 && !streams.is_open(self.id) {
            // The engine closed it: at the end of both streams, or for want of room.
            let ended = self.to_server.fin.is_some() && self.to_client.fin.is_some();
            return if ended {
                Verdict::Late
            } else {
                Verdict::Replace
            };
        }
        Verdict::Take
    }

    /// Takes a segment; true when its bytes are the first of a stream whose beginning is looked
    /// for from now on.
    pub(crate) fn take<S: Streams<Id = Id>>(
        &mut self,
        segment: &Segment,
        payload: &[u8],
        at: Moment,
        streams: &mut S,
        stats: &mut TcpStats,
    ) -> bool {
        if self.is_introduced {
            self.take_when_introduced(segment, payload, at, streams, stats);
            return false;
        }
        let dir = self.direction(segment);
        if segment.has(Segment::SYN) {
            self.synchronise(segment, dir, at, streams);
        }
        if segment.has(Segment::RST) {
            self.close(Close::Reset, at, streams);
            return false;
        }
        if segment.has(Segment::ACK) {
            self.acknowledge(segment.ack, dir.reverse(), at, streams);
        }
        let mut held = self.payload(segment, payload, dir, at, streams, stats);
        if segment.has(Segment::FIN) {
            let len = payload.len() as u32;
            let end = segment
                .data_seq()
                .wrapping_add(len)
                .wrapping_add(segment.missing);
            held |= self.fin(end, dir, at, streams, stats);
        }
        for dir in [Direction::ToServer, Direction::ToClient] {
            if self
                .half(dir)
                .holding
                .as_ref()
                .is_some_and(|holding| holding.is_due(at.now))
            {
                self.settle(dir, at, streams);
            }
        }
        self.close_when_finished(at, streams);
        held
    }

    /// Settles where both streams begin, with what is there; true when that closed the connection.
    pub(crate) fn settle_all<S: Streams<Id = Id>>(&mut self, at: Moment, streams: &mut S) -> bool {
        if self.is_closed() {
            return false;
        }
        self.settle(Direction::ToServer, at, streams);
        self.settle(Direction::ToClient, at, streams);
        self.close_when_finished(at, streams);
        self.is_closed()
    }

    /// Ends the connection, unless it has ended.
    pub(crate) fn close<S: Streams<Id = Id>>(&mut self, how: Close, at: Moment, streams: &mut S) {
        if self.is_closed() {
            return;
        }
        self.settle(Direction::ToServer, at, streams);
        self.settle(Direction::ToClient, at, streams);
        self.closed = Some(at.now);
        streams.close(self.id, how, at.time);
    }

    fn verdict_after_close(
        &self,
        segment: &Segment,
        dir: Direction,
        len: u64,
        since: u64,
    ) -> Verdict {
        let half = self.half(dir);
        let syn = segment.has(Segment::SYN);
        let new_bytes = len > 0
            && half
                .place(segment.data_seq())
                .is_none_or(|from| from + len.cast_signed() > half.next.cast_signed());
        let reopens = new_bytes && since > LINGER && !segment.has(Segment::RST);
        if (syn && !half.begins_with(segment.data_seq())) || (!syn && reopens) {
            Verdict::Replace
        } else {
            Verdict::Late
        }
    }

    fn verdict_on_syn(&self, segment: &Segment, dir: Direction) -> Verdict {
        let half = self.half(dir);
        let peer = self.half(dir.reverse());
        let ack = segment.has(Segment::ACK);
        // Whether the SYN answers the peer's SYN of this connection, or none that is known.
        let answers = !ack || !peer.is_based() || peer.has_sent(segment.ack);
        let fits = match &half.holding {
            _ if !half.is_based() => answers,
            None => half.begins_with(segment.data_seq()),
            Some(holding) => half
                .offset(segment.data_seq())
                .is_some_and(|start| holding.allows_start(start)),
        };
        match fits {
            true => Verdict::Take,
            false if ack && answers => Verdict::OutOfWindow,
            false => Verdict::Replace,
        }
    }

    /// Takes the beginnings of the streams from a SYN.
    fn synchronise<S: Streams<Id = Id>>(
        &mut self,
        segment: &Segment,
        dir: Direction,
        at: Moment,
        streams: &mut S,
    ) {
        self.begin(segment.data_seq(), dir, at, streams);
        if segment.has(Segment::ACK) {
            self.begin(segment.ack, dir.reverse(), at, streams);
        }
    }

    /// A SYN said that a stream begins with the byte numbered `seq`. Known beginnings stay.
    fn begin<S: Streams<Id = Id>>(
        &mut self,
        seq: u32,
        dir: Direction,
        at: Moment,
        streams: &mut S,
    ) {
        let half = self.half_mut(dir);
        if !half.is_based() {
            half.set_base(seq);
        }
        let start = half.offset(seq);
        let Some((holding, start)) = half.holding.as_ref().zip(start) else {
            return;
        };
        if holding.allows_start(start) {
            self.settle_at(start, dir, at, streams);
        }
    }

    /// The receiver of `dir` has everything before the byte numbered `ack`.
    fn acknowledge<S: Streams<Id = Id>>(
        &mut self,
        ack: u32,
        dir: Direction,
        at: Moment,
        streams: &mut S,
    ) {
        let id = self.id;
        let half = self.half_mut(dir);
        if !half.is_based() || half.began_elsewhere(ack) {
            half.set_base(ack);
        }
        let Some(upto) = half.offset(ack) else {
            return;
        };
        if let Some(holding) = &mut half.holding {
            holding.acked(upto);
        }
        if upto <= half.acked {
            return;
        }
        let before = half.acknowledged();
        half.acked = upto;
        if half.holding.is_none() && half.acknowledged() > before {
            streams.acked(id, dir, half.acknowledged(), at.time);
        }
    }

    fn payload<S: Streams<Id = Id>>(
        &mut self,
        segment: &Segment,
        payload: &[u8],
        dir: Direction,
        at: Moment,
        streams: &mut S,
        stats: &mut TcpStats,
    ) -> bool {
        let id = self.id;
        let half = self.half_mut(dir);
        let len = payload.len() as i64 + i64::from(segment.missing);
        if len > 0 && !half.is_based() {
            half.set_base(segment.data_seq());
        }
        let from = half.place(segment.data_seq());
        let is_probe = from.is_some_and(|from| from + 1 == half.next.cast_signed());
        if len <= 1 && is_probe && segment.flags & (Segment::SYN | Segment::FIN) == 0 {
            stats.keepalives += 1;
            return false;
        }
        if len == 0 {
            return false;
        }
        let after_fin = |from: i64| half.fin.is_some_and(|fin| from + len > fin.cast_signed());
        let Some(from) = from.filter(|from| !after_fin(*from)) else {
            stats.out_of_window += 1;
            return false;
        };
        let start = half.start.cast_signed();
        let to = from + len;
        if to <= start {
            stats.before_start += 1;
            return false;
        }
        let cut = (start - from).clamp(0, payload.len() as i64) as usize;
        let bytes = payload.get(cut..).unwrap_or_default();
        // All of these are at or after `start`, which is not negative.
        let (from, to) = (from.max(start).cast_unsigned(), to.cast_unsigned());
        stats.duplicate_bytes += half.note(from, to);
        let held = half
            .holding
            .as_mut()
            .is_some_and(|holding| holding.hold(from, to, at.now));
        if !bytes.is_empty() {
            streams.chunk(id, dir, from, bytes, at.time);
        }
        let captured = from + bytes.len() as u64;
        if captured < to {
            streams.passed(id, dir, captured, to - captured, at.time);
        }
        held
    }

    /// A FIN said that a stream ends before the byte numbered `seq`.
    fn fin<S: Streams<Id = Id>>(
        &mut self,
        seq: u32,
        dir: Direction,
        at: Moment,
        streams: &mut S,
        stats: &mut TcpStats,
    ) -> bool {
        let id = self.id;
        let half = self.half_mut(dir);
        if !half.is_based() {
            half.set_base(seq);
        }
        let end = half.offset(seq);
        // Bytes after its end were seen: this is not the end.
        let Some(end) = end.filter(|end| *end >= half.next.max(half.start)) else {
            stats.out_of_window += u64::from(half.fin.is_none());
            return false;
        };
        if half.fin.is_some() {
            return false;
        }
        half.fin = Some(end);
        match &mut half.holding {
            Some(holding) => holding.hold(end, end, at.now),
            None => {
                streams.end(id, dir, end, at.time);
                false
            }
        }
    }

    /// Settles where a stream begins, by what is held of it.
    fn settle<S: Streams<Id = Id>>(&mut self, dir: Direction, at: Moment, streams: &mut S) {
        let half = self.half(dir);
        let Some(holding) = &half.holding else { return };
        if let Some(start) = holding.start().or(half.fin) {
            self.settle_at(start, dir, at, streams);
        }
    }

    fn settle_at<S: Streams<Id = Id>>(
        &mut self,
        start: u64,
        dir: Direction,
        at: Moment,
        streams: &mut S,
    ) {
        let id = self.id;
        let half = self.half_mut(dir);
        half.begin_at(start);
        streams.anchor(id, dir, start, at.time);
        if half.acknowledged() > start {
            streams.acked(id, dir, half.acknowledged(), at.time);
        }
        if let Some(end) = half.fin {
            streams.end(id, dir, end.max(start), at.time);
        }
    }

    fn close_when_finished<S: Streams<Id = Id>>(&mut self, at: Moment, streams: &mut S) {
        if self.is_finished() {
            self.close(Close::Finished, at, streams);
        }
    }

    fn is_finished(&self) -> bool {
        self.to_server.is_finished() && self.to_client.is_finished()
    }

    /// Where a segment goes.
    fn direction(&self, segment: &Segment) -> Direction {
        if segment.sender == self.client {
            Direction::ToServer
        } else {
            Direction::ToClient
        }
    }

    fn half(&self, dir: Direction) -> &Half {
        match dir {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn half_mut(&mut self, dir: Direction) -> &mut Half {
        match dir {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}
