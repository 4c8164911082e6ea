//! A connection of a recording: its first packet introduces it, and nothing has to be guessed.
//!
//! The rules of [`connection`](super) make the best of what a wire shows. Here every
//! packet stands for one call that was made when the recording was written, in the same order:
//!
//! | packet | call |
//! | --- | --- |
//! | note `open`, sent by the client | `open`; offset 0 is the byte after a SYN, or without one the sequence number for the client's stream and the acknowledgement for the server's |
//! | note `anchor` | `anchor` at its sequence number |
//! | note `process` | `set_process` |
//! | note `task` | `set_task` |
//! | note `cleartext` | `cleartext` from its sequence number and its acknowledgement on |
//! | note `close` | `close`; what else the packet says is for other readers |
//! | payload | `chunk`; what the capture cut off: `passed`, with the note `lost`: `lost` |
//! | FIN | `end` |
//! | none of these | `acked` |
//!
//! A recording without its first packets, or without its notes, is read like any other capture.

use wirespan_engine::{Both, Opening, Start};

use super::{Connection, Verdict};
use crate::flow::Half;
use crate::label::{Introduction, Note};
use crate::segment::Segment;
use crate::stats::TcpStats;
use crate::tcp::{Moment, Streams};

impl<Id: Copy> Connection<Id> {
    /// The connection that a segment introduces.
    pub(super) fn introduced<S: Streams<Id = Id>>(
        segment: &Segment,
        introduction: &Introduction,
        at: Moment,
        streams: &mut S,
    ) -> Self {
        let (client, server) = segment.peers();
        let made = || [client, server].map(|peer| peer.socket().into());
        let [client, server] = introduction.peers.as_deref().copied().unwrap_or_else(made);
        let (side, layer) = segment.observed();
        let opening = Opening {
            number: at.packet,
            client,
            server,
            roles: introduction.roles,
            start: introduction.start,
            side,
            layer,
            process: introduction.process,
        };
        let to_client = match introduction.start {
            Start::Beginning => Half::default(),
            Start::Middle => Half::beginning_with(segment.ack),
        };
        Self {
            id: streams.open(opening, at.now),
            number: at.packet,
            client: segment.sender,
            to_server: Half::beginning_with(segment.data_seq()),
            to_client,
            closed: None,
            is_introduced: true,
        }
    }

    /// Whether a segment belongs to this connection, which was introduced.
    pub(super) fn verdict_when_introduced<S: Streams<Id = Id>>(&self, streams: &S) -> Verdict {
        if self.is_closed() || !streams.is_open(self.id) {
            Verdict::Late
        } else {
            Verdict::Take
        }
    }

    /// Takes a segment of a connection that was introduced.
    pub(super) fn take_when_introduced<S: Streams<Id = Id>>(
        &mut self,
        segment: &Segment,
        payload: &[u8],
        at: Moment,
        streams: &mut S,
        stats: &mut TcpStats,
    ) {
        let (id, dir) = (self.id, self.direction(segment));
        match segment.label.note {
            Some(Note::Open(_)) => {}
            Some(Note::Anchor) => {
                if let Some(start) = self.half(dir).offset(segment.seq) {
                    streams.anchor(id, dir, start, at.time);
                }
            }
            Some(Note::Process(process)) => streams.set_process(id, process),
            Some(Note::Task(task)) => streams.set_task(id, task),
            Some(Note::Cleartext(start)) => {
                let back = dir.reverse();
                let (here, there) = (self.half(dir), self.half(back));
                if let (Some(sent), Some(received)) =
                    (here.offset(segment.seq), there.offset(segment.ack))
                {
                    let mut from = Both::default();
                    (from[dir], from[back]) = (sent, received);
                    streams.cleartext(id, from, start, at.time);
                }
            }
            Some(Note::Close(how)) => self.close(how, at, streams),
            None if segment.has(Segment::SYN) => self.half_mut(dir).set_base(segment.data_seq()),
            None if segment.has(Segment::FIN) => {
                if let Some(end) = self.half(dir).offset(segment.seq) {
                    streams.end(id, dir, end, at.time);
                }
            }
            None if payload.is_empty() && segment.missing == 0 => {
                if let Some(upto) = self.half(dir.reverse()).offset(segment.ack) {
                    streams.acked(id, dir.reverse(), upto, at.time);
                }
            }
            None | Some(Note::Lost) => {
                self.stretch(segment, payload, at, streams, stats);
            }
        }
    }

    /// Bytes as they were told, repeated ones and those behind an end included: the engine has heard
    /// them too.
    fn stretch<S: Streams<Id = Id>>(
        &mut self,
        segment: &Segment,
        payload: &[u8],
        at: Moment,
        streams: &mut S,
        stats: &mut TcpStats,
    ) {
        let (id, dir) = (self.id, self.direction(segment));
        let half = self.half_mut(dir);
        if !half.is_based() {
            half.set_base(segment.seq);
        }
        let Some(from) = half.offset(segment.seq) else {
            stats.out_of_window += 1;
            return;
        };
        let missing = u64::from(segment.missing);
        let captured = from + payload.len() as u64;
        stats.duplicate_bytes += half.note(from, captured + missing);
        if !payload.is_empty() {
            streams.chunk(id, dir, from, payload, at.time);
        }
        match segment.label.note {
            _ if missing == 0 => {}
            Some(Note::Lost) => streams.lost(id, dir, captured, missing, at.time),
            _ => streams.passed(id, dir, captured, missing, at.time),
        }
    }
}
