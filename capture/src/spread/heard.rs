//! What a worker's engine and feed have told, on its way to the one sink and the one tap.

use std::cell::{Cell, RefCell};

use wirespan_engine::api::Direction;
use wirespan_engine::{
    Both, Calls, Close, Closed, ConnectionId, Exchange, Nanos, Opening, Process, Sink, Start, Task,
};

use crate::tap::Tap;

/// Calls of a sink and of a tap, each with the place of the event that it came of in its turn.
#[derive(Debug, Default)]
pub(super) struct Heard {
    marks: Vec<Mark>,
    sink: Calls,
    tap: Vec<Told>,
    /// Bytes of chunks, behind each other.
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    place: u32,
    call: Call,
}

/// By their numbers.
#[derive(Clone, Copy, Debug)]
enum Call {
    Sink(usize),
    Tap(usize),
}

/// A call of a tap.
#[derive(Debug)]
struct Told {
    id: ConnectionId,
    time: Nanos,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Large, and rarer than the others.
    Open(Box<Opening>),
    Process(Process),
    Task(Option<Task>),
    Anchor(Direction, u64),
    Cleartext(Both<u64>, Start),
    Acked(Direction, u64),
    /// Where the bytes are, and how many.
    Chunk(Direction, u64, (usize, usize)),
    Passed(Direction, u64, u64),
    Lost(Direction, u64, u64),
    End(Direction, u64),
    Close(Close),
}

impl Heard {
    /// Forgets everything, and keeps the room for more.
    pub(super) fn clear(&mut self) {
        self.marks.clear();
        self.sink.clear();
        self.tap.clear();
        self.bytes.clear();
    }

    /// Hears what `act` tells. The place of what it works on is to be kept in `place`; of what streams
    /// carry, it hears where `streams` says so.
    pub(super) fn hear(
        &mut self,
        place: &Cell<u32>,
        streams: bool,
        act: impl FnOnce(&mut dyn Sink, &mut dyn Tap),
    ) {
        let marks = RefCell::new(std::mem::take(&mut self.marks));
        let marks_of = Marks {
            place,
            marks: &marks,
        };
        let mut sink = SinkEar {
            calls: &mut self.sink,
            marks: marks_of,
        };
        let mut tap = TapEar {
            calls: &mut self.tap,
            bytes: &mut self.bytes,
            marks: marks_of,
            streams,
        };
        act(&mut sink, &mut tap);
        self.marks = marks.into_inner();
    }

    /// The place of a call, by its number.
    fn place(&self, number: usize) -> Option<u32> {
        self.marks.get(number).map(|mark| mark.place)
    }

    fn tell(&self, number: usize, sink: &mut dyn Sink, tap: &mut dyn Tap) {
        match self.marks.get(number).map(|mark| mark.call) {
            Some(Call::Sink(call)) => self.sink.tell(call, sink),
            Some(Call::Tap(call)) => {
                if let Some(told) = self.tap.get(call) {
                    told.tell(&self.bytes, tap);
                }
            }
            None => {}
        }
    }
}

/// Tells what several have heard in a turn, in the order of the events that it came of.
pub(super) fn tell_in_order(heard: &[Heard], sink: &mut dyn Sink, tap: &mut dyn Tap) {
    let mut next = vec![0; heard.len()];
    loop {
        let places = heard.iter().zip(&next).enumerate();
        let places = places.filter_map(|(n, (heard, next))| Some((heard.place(*next)?, n)));
        let Some((place, n)) = places.min() else {
            return;
        };
        while heard[n].place(next[n]) == Some(place) {
            heard[n].tell(next[n], sink, tap);
            next[n] += 1;
        }
    }
}

#[derive(Clone, Copy)]
struct Marks<'a> {
    place: &'a Cell<u32>,
    marks: &'a RefCell<Vec<Mark>>,
}

impl Marks<'_> {
    fn mark(&self, call: Call) {
        let place = self.place.get();
        self.marks.borrow_mut().push(Mark { place, call });
    }
}

struct SinkEar<'a> {
    calls: &'a mut Calls,
    marks: Marks<'a>,
}

impl Sink for SinkEar<'_> {
    fn begun(&mut self, request: &Exchange<'_>) {
        self.marks.mark(Call::Sink(self.calls.len()));
        self.calls.begun(request);
    }

    fn exchange(&mut self, exchange: &Exchange<'_>) {
        self.marks.mark(Call::Sink(self.calls.len()));
        self.calls.exchange(exchange);
    }

    fn progress(&mut self, exchange: &Exchange<'_>) {
        self.marks.mark(Call::Sink(self.calls.len()));
        self.calls.progress(exchange);
    }

    fn closed(&mut self, connection: &Closed<'_>) {
        self.marks.mark(Call::Sink(self.calls.len()));
        self.calls.closed(connection);
    }
}

struct TapEar<'a> {
    calls: &'a mut Vec<Told>,
    bytes: &'a mut Vec<u8>,
    marks: Marks<'a>,
    streams: bool,
}

impl TapEar<'_> {
    fn keep(&mut self, id: ConnectionId, time: Nanos, what: What) {
        self.marks.mark(Call::Tap(self.calls.len()));
        self.calls.push(Told { id, time, what });
    }

    fn keep_of_stream(&mut self, id: ConnectionId, time: Nanos, what: What) {
        if self.streams {
            self.keep(id, time, what);
        }
    }
}

impl Tap for TapEar<'_> {
    fn open(&mut self, id: ConnectionId, opening: &Opening, time: Nanos) {
        self.keep(id, time, What::Open(Box::new(*opening)));
    }

    fn set_process(&mut self, id: ConnectionId, process: Process, time: Nanos) {
        self.keep(id, time, What::Process(process));
    }

    fn set_task(&mut self, id: ConnectionId, task: Option<Task>, time: Nanos) {
        self.keep_of_stream(id, time, What::Task(task));
    }

    fn anchor(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        self.keep_of_stream(id, time, What::Anchor(dir, offset));
    }

    fn cleartext(&mut self, id: ConnectionId, at: Both<u64>, start: Start, time: Nanos) {
        self.keep_of_stream(id, time, What::Cleartext(at, start));
    }

    fn acked(&mut self, id: ConnectionId, dir: Direction, upto: u64, time: Nanos) {
        self.keep_of_stream(id, time, What::Acked(dir, upto));
    }

    fn chunk(&mut self, id: ConnectionId, dir: Direction, offset: u64, bytes: &[u8], time: Nanos) {
        if self.streams {
            let at = (self.bytes.len(), bytes.len());
            self.bytes.extend_from_slice(bytes);
            self.keep(id, time, What::Chunk(dir, offset, at));
        }
    }

    fn passed(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        self.keep_of_stream(id, time, What::Passed(dir, offset, len));
    }

    fn lost(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        self.keep_of_stream(id, time, What::Lost(dir, offset, len));
    }

    fn end(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        self.keep_of_stream(id, time, What::End(dir, offset));
    }

    fn close(&mut self, id: ConnectionId, how: Close, time: Nanos) {
        self.keep(id, time, What::Close(how));
    }
}

impl Told {
    fn tell(&self, bytes: &[u8], tap: &mut dyn Tap) {
        let (id, time) = (self.id, self.time);
        match self.what {
            What::Open(ref opening) => tap.open(id, opening, time),
            What::Process(process) => tap.set_process(id, process, time),
            What::Task(task) => tap.set_task(id, task, time),
            What::Anchor(dir, offset) => tap.anchor(id, dir, offset, time),
            What::Cleartext(at, start) => tap.cleartext(id, at, start, time),
            What::Acked(dir, upto) => tap.acked(id, dir, upto, time),
            What::Chunk(dir, offset, (from, len)) => {
                tap.chunk(id, dir, offset, &bytes[from..from + len], time);
            }
            What::Passed(dir, offset, len) => tap.passed(id, dir, offset, len, time),
            What::Lost(dir, offset, len) => tap.lost(id, dir, offset, len, time),
            What::End(dir, offset) => tap.end(id, dir, offset, time),
            What::Close(how) => tap.close(id, how, time),
        }
    }
}
