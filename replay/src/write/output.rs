//! Whole blocks to a file.

use std::io::{self, Write};

use wirespan_engine::Nanos;

use super::blocks;
use super::headers::{self, Segment};
use crate::label::Note;

/// Bytes that wait at most.
const PENDING: usize = 64 << 10;

/// Nanoseconds of capture time that bytes wait at most.
const FLUSH: u64 = 1_000_000_000;

/// Hands on whole blocks only, so that whatever a killed program leaves behind can be read.
pub(super) struct Output<W> {
    sink: W,
    pending: Vec<u8>,
    /// Headers of the packet in work.
    headers: Vec<u8>,
    handed_on: Nanos,
    state: State,
}

enum State {
    Good,
    /// Writing failed and nobody has heard of it.
    Failed(io::Error),
    /// Writing failed: nothing is written any more.
    Broken,
}

impl<W: Write> Output<W> {
    /// An output that begins with the section header.
    pub(super) fn new(sink: W) -> Self {
        let mut pending = Vec::new();
        blocks::section(&mut pending);
        Self {
            sink,
            pending,
            headers: Vec::new(),
            handed_on: Nanos(0),
            state: State::Good,
        }
    }

    /// Describes the next interface.
    pub(super) fn interface(&mut self, name: &str, time: Nanos) {
        blocks::interface(&mut self.pending, name);
        self.settle(time);
    }

    /// Writes a segment, with a note as its comment.
    pub(super) fn packet(
        &mut self,
        interface: u32,
        time: Nanos,
        segment: &Segment<'_>,
        note: Option<Note>,
    ) {
        let comment = note.map(|note| note.to_string()).unwrap_or_default();
        self.headers.clear();
        headers::write(&mut self.headers, segment);
        let packet = blocks::Packet {
            interface,
            time,
            headers: &self.headers,
            payload: segment.payload,
            missing: segment.missing,
            comment: &comment,
        };
        blocks::packet(&mut self.pending, &packet);
        self.settle(time);
    }

    /// Hands on all there is, and says, once, what went wrong.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.hand_on();
        match std::mem::replace(&mut self.state, State::Good) {
            State::Good => Ok(()),
            State::Failed(error) => {
                self.state = State::Broken;
                Err(error)
            }
            State::Broken => {
                self.state = State::Broken;
                Ok(())
            }
        }
    }

    pub(super) fn into_sink(self) -> W {
        self.sink
    }

    /// Hands on what has waited long enough.
    fn settle(&mut self, time: Nanos) {
        if self.pending.len() >= PENDING || time.since(self.handed_on) >= FLUSH {
            self.handed_on = time;
            self.hand_on();
        }
    }

    fn hand_on(&mut self) {
        if matches!(self.state, State::Good) {
            let written = self.sink.write_all(&self.pending);
            if let Err(error) = written.and_then(|()| self.sink.flush()) {
                self.state = State::Failed(error);
            }
        }
        self.pending.clear();
    }
}
