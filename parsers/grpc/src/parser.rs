//! The frame layer: what of the bytes is header block, payload to skip, or nothing we know.

use wirespan_parser_api::{
    AfterGap, Direction, Emit, Event, ExchangeId, Gap, Init, Input, Next, ParseError, Parser,
    Policy, Step,
};

use crate::blocks::{Blocks, Collected};
use crate::exchanges::{Exchanges, Frames};
use crate::hpack::Decoder;
use crate::resync;
use crate::streams::Kind as StreamKind;
use crate::wire::{self, DEFAULT_MAX_FRAME, HEAD, Head, Kind, PREFACE, Payload, flag};

/// Most streams of a connection that are kept.
const MAX_STREAMS: usize = 4096;
/// Frames in a row that break a rule, after which we are taken to be out of step.
const MAX_FAULTS: u8 = 3;
/// Largest payload there can be.
const ANY_FRAME: u32 = 0xff_ffff;
/// SETTINGS_HEADER_TABLE_SIZE and SETTINGS_MAX_FRAME_SIZE.
const HEADER_TABLE_SIZE: u16 = 1;
const MAX_FRAME_SIZE: u16 = 5;

/// One connection.
#[derive(Debug)]
pub(crate) struct Http2Parser {
    to_server: Side,
    to_client: Side,
    exchanges: Exchanges,
    /// Most bytes that may be asked for at once.
    max_message: usize,
    blocks: Blocks,
}

/// One direction.
#[derive(Debug)]
struct Side {
    place: Place,
    hpack: Decoder,
    /// A header block that is passed over, until its last CONTINUATION.
    passing: Option<Passing>,
    /// Largest payload that its receiver takes.
    max_frame: u32,
    /// Frames in a row that broke a rule.
    faults: u8,
}

/// Where in a frame a direction stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Before a frame's header.
    Head,
    /// Behind the header of a frame, at this offset, whose payload is read.
    Payload(Head, u64),
    /// In the payload of a gRPC stream's DATA.
    Data(Data),
    /// In a payload that ends before this offset and is passed over.
    Rest(u64),
}

/// A header block whose contents are lost.
#[derive(Clone, Copy, Debug)]
struct Passing {
    kind: Kind,
    frames: Frames,
}

#[derive(Clone, Copy, Debug)]
struct Data {
    stream: u32,
    /// Offset behind the data.
    data_end: u64,
    /// Offset behind the padding.
    end: u64,
}

impl Side {
    const fn new() -> Self {
        Self {
            place: Place::Head,
            hpack: Decoder::new(),
            passing: None,
            max_frame: DEFAULT_MAX_FRAME,
            faults: 0,
        }
    }
}

impl Parser for Http2Parser {
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        match self.side(dir).place {
            Place::Head => self.frame(dir, input, out),
            Place::Payload(head, at) => self.payload(dir, head, at, input, out),
            Place::Data(data) => Ok(self.walk(dir, data, input.bytes, input.offset, 0)),
            Place::Rest(end) => {
                self.side(dir).place = Place::Head;
                Ok(skip(0, end.saturating_sub(input.offset)))
            }
        }
    }

    fn gap(&mut self, dir: Direction, gap: Gap<'_>, out: &mut dyn Emit) -> AfterGap {
        let end = match self.side(dir).place {
            Place::Head => gap.offset,
            Place::Payload(head, at) => {
                self.lose_payload(dir, head, at, out);
                at.saturating_add(head.size())
            }
            Place::Data(data) => {
                if let Some(stream) = self.exchanges.stream(data.stream) {
                    stream.half(dir).messages.lose();
                }
                data.end
            }
            Place::Rest(end) => end,
        };
        let behind = gap.offset.saturating_add(gap.len);
        if behind > end {
            return AfterGap::Resync;
        }
        self.side(dir).place = match self.side(dir).place {
            _ if behind == end => Place::Head,
            Place::Data(data) => Place::Data(data),
            _ => Place::Rest(end),
        };
        AfterGap::Continue
    }

    fn resync(&mut self, dir: Direction, window: &[u8]) -> Option<usize> {
        // Whatever led here, frames of any kind may have gone by.
        self.lose(dir);
        resync::find(dir, window, self.exchanges.highest())
    }

    fn progress(&self, id: ExchangeId, out: &mut dyn Emit) {
        self.exchanges.progress(id, out);
    }

    fn heap_bytes(&self) -> usize {
        [
            self.to_server.hpack.heap_bytes(),
            self.to_client.hpack.heap_bytes(),
            self.exchanges.heap_bytes(),
            self.blocks.heap_bytes(),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    fn set_policy(&mut self, policy: &Policy) {
        self.exchanges.policy = policy.clone();
    }
}

impl Http2Parser {
    pub(crate) fn new(init: &Init<'_>) -> Self {
        let max_open = init.limits.max_in_flight.min(MAX_STREAMS);
        let mut parser = Self {
            to_server: Side::new(),
            to_client: Side::new(),
            exchanges: Exchanges::new(max_open, init),
            max_message: init.limits.max_message,
            blocks: Blocks::default(),
        };
        if init.late_attach {
            parser.lose(Direction::ToServer);
            parser.lose(Direction::ToClient);
        }
        parser
    }

    fn side(&mut self, dir: Direction) -> &mut Side {
        match dir {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// Notes that frames were lost.
    fn lose(&mut self, dir: Direction) {
        let side = self.side(dir);
        side.place = Place::Head;
        side.hpack.lose();
        side.passing = None;
        side.faults = 0;
        // Settings may have been among them, for what comes the other way.
        let other = self.side(dir.reverse());
        other.hpack.lose_limit();
        other.max_frame = ANY_FRAME;
        self.exchanges.lose(dir);
    }

    /// Reads a frame's header, and what is read of the frame with it.
    fn frame(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let bytes = input.bytes;
        if dir == Direction::ToServer && bytes.first() == PREFACE.first() {
            if bytes.starts_with(PREFACE) {
                return Ok(Step::more(PREFACE.len()));
            }
            if PREFACE.starts_with(bytes) {
                return Ok(Step::need(PREFACE.len()));
            }
        }
        let Some(head) = wire::head(bytes) else {
            return Ok(Step::need(HEAD));
        };
        self.check(dir, &head)?;
        if let Some(what) = head.fault() {
            return self.fault(dir, &head, what, out);
        }
        let needs = self.needs(dir, &head);
        if bytes.len() < needs {
            return Ok(Step::need(needs));
        }
        self.side(dir).faults = 0;
        let payload = bytes.get(HEAD..).unwrap_or_default();
        match head.kind {
            Kind::DATA => Ok(self.data(dir, &head, payload, input.offset, out)),
            Kind::CONTINUATION => Ok(self.pass_over(dir, &head, input.offset, out)),
            Kind::HEADERS
            | Kind::PUSH_PROMISE
            | Kind::SETTINGS
            | Kind::RST_STREAM
            | Kind::GOAWAY
            | Kind::WINDOW_UPDATE => {
                if head.payload() > self.max_message {
                    out.emit(Event::Error {
                        error: ParseError::too_large("header block"),
                    });
                    self.lose_payload(dir, head, input.offset, out);
                    return Ok(skip(HEAD, head.len.into()));
                }
                let rest = Input {
                    bytes: payload,
                    offset: input.offset.saturating_add(HEAD as u64),
                };
                let step = self.payload(dir, head, input.offset, rest, out)?;
                if step.consumed == 0 && matches!(step.next, Next::Need(_)) {
                    self.side(dir).place = Place::Payload(head, input.offset);
                }
                let consumed = step.consumed.saturating_add(HEAD);
                Ok(Step { consumed, ..step })
            }
            _ => Ok(skip(HEAD, head.len.into())),
        }
    }

    /// Whether a frame can stand here at all; otherwise we are out of step.
    fn check(&mut self, dir: Direction, head: &Head) -> Result<(), ParseError> {
        // Some senders do not keep to it; on a stream that is open, we are not out of step.
        let known = head.kind == Kind::DATA && self.exchanges.stream(head.stream).is_some();
        let side = self.side(dir);
        // Nobody sends large frames of a kind that nobody knows. Out of step, such are frequent.
        let max_frame = match head.kind {
            Kind(0..=9) => side.max_frame,
            _ => DEFAULT_MAX_FRAME,
        };
        if head.len > max_frame && !known {
            return Err(ParseError::malformed("length of frame"));
        }
        // A header block is not interrupted (RFC 9113 §4.3).
        let inside = side.passing.map(|block| block.frames.stream);
        let continues = (head.kind == Kind::CONTINUATION).then_some(head.stream);
        if inside != continues {
            return Err(ParseError::malformed("CONTINUATION"));
        }
        Ok(())
    }

    /// Passes over a frame that breaks a rule, unless there were several.
    fn fault(
        &mut self,
        dir: Direction,
        head: &Head,
        what: &'static str,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let error = ParseError::malformed(what);
        let side = self.side(dir);
        side.faults = side.faults.saturating_add(1);
        if side.faults >= MAX_FAULTS {
            return Err(error);
        }
        if matches!(head.kind, Kind::HEADERS | Kind::PUSH_PROMISE) {
            side.hpack.lose();
        }
        out.emit(Event::Error { error });
        Ok(skip(HEAD, head.len.into()))
    }

    /// How many bytes of a frame are needed to begin with it.
    fn needs(&mut self, dir: Direction, head: &Head) -> usize {
        match head.kind {
            // Undecided streams show by their first message what they are.
            Kind::DATA if head.len >= 5 && self.is_undecided(dir, head.stream) => HEAD + 5,
            Kind::DATA if head.has(flag::PADDED) && head.len > 0 => HEAD + 1,
            _ => HEAD,
        }
    }

    fn is_undecided(&mut self, dir: Direction, stream: u32) -> bool {
        let stream = self.exchanges.stream(stream);
        stream.is_some_and(|s| matches!(s.kind, StreamKind::Maybe(_)) && !s.half(dir).data)
    }

    /// A DATA frame. Of its payload only the prefixes of gRPC messages are looked at.
    fn data(
        &mut self,
        dir: Direction,
        head: &Head,
        payload: &[u8],
        at: u64,
        out: &mut dyn Emit,
    ) -> Step {
        let end = at.saturating_add(head.size());
        let padding = match (head.has(flag::PADDED) && head.len > 0, payload.first()) {
            (true, Some(padding)) => Some(*padding),
            _ => None,
        };
        let used = HEAD.saturating_add(padding.map_or(0, |_| 1));
        let data_start = at.saturating_add(used as u64);
        let data_end = end.saturating_sub(padding.unwrap_or(0).into());
        let Some(len) = data_end
            .checked_sub(data_start)
            .filter(|_| padding.is_some() || !head.has(flag::PADDED))
        else {
            out.emit(Event::Error {
                error: ParseError::malformed("padding"),
            });
            return skip(HEAD, head.len.into());
        };
        let frames = Frames {
            stream: head.stream,
            end_stream: head.has(flag::END_STREAM),
            at,
            end,
        };
        let data = payload.get(used.saturating_sub(HEAD)..).unwrap_or_default();
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.exchanges.data(dir, &frames, data, len, out);
        let data_place = Data {
            stream: head.stream,
            data_end,
            end,
        };
        self.walk(dir, data_place, data, data_start, used)
    }

    /// Walks along the gRPC messages in the payload of a DATA frame, from `at` on; `used` bytes before
    /// it are done with.
    fn walk(&mut self, dir: Direction, data: Data, bytes: &[u8], at: u64, used: usize) -> Step {
        let side_place = |parser: &mut Self, place| parser.side(dir).place = place;
        let left = data.data_end.saturating_sub(at);
        let stream = self.exchanges.stream(data.stream);
        let messages = match stream.filter(|stream| stream.kind == StreamKind::Grpc) {
            Some(stream) => &mut stream.half(dir).messages,
            None => {
                side_place(self, Place::Head);
                return skip(used, data.end.saturating_sub(at));
            }
        };
        let mut taken = 0u64;
        if messages.skippable() == 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            taken = messages.take(bytes.get(..most).unwrap_or_default()) as u64;
        }
        let left = left.saturating_sub(taken);
        let passed = messages.skippable().min(left);
        messages.skip(passed);
        let consumed = used.saturating_add(usize::try_from(taken).unwrap_or(0));
        if passed == left {
            side_place(self, Place::Head);
            return skip(consumed, data.end.saturating_sub(at).saturating_sub(taken));
        }
        side_place(self, Place::Data(data));
        skip(consumed, passed)
    }

    /// A CONTINUATION of a header block that is passed over.
    fn pass_over(&mut self, dir: Direction, head: &Head, at: u64, out: &mut dyn Emit) -> Step {
        if let Some(mut block) = self.side(dir).passing {
            block.frames.end = at.saturating_add(head.size());
            self.pass(dir, block, head.has(flag::END_HEADERS), out);
        }
        skip(HEAD, head.len.into())
    }

    /// The payload of a frame is lost, or too large. Where it was (part of) a header block, the
    /// dynamic table is too.
    fn lose_payload(&mut self, dir: Direction, head: Head, at: u64, out: &mut dyn Emit) {
        if !matches!(head.kind, Kind::HEADERS | Kind::PUSH_PROMISE) {
            return;
        }
        self.side(dir).hpack.lose();
        let frames = Frames {
            stream: head.stream,
            end_stream: head.has(flag::END_STREAM),
            at,
            end: at.saturating_add(head.size()),
        };
        let block = Passing {
            kind: head.kind,
            frames,
        };
        if !head.has(flag::END_HEADERS) {
            out.emit(Event::Mark { at });
        }
        self.pass(dir, block, head.has(flag::END_HEADERS), out);
    }

    /// Frames of a header block were passed over; `last`: all of them.
    fn pass(&mut self, dir: Direction, block: Passing, last: bool, out: &mut dyn Emit) {
        self.side(dir).passing = Some(block).filter(|_| !last);
        // What is pushed is not reported.
        if last && block.kind == Kind::HEADERS {
            self.exchanges.headers(dir, block.frames, None, out);
        }
    }

    /// Reads the payload of a frame that began at `at`.
    fn payload(
        &mut self,
        dir: Direction,
        head: Head,
        at: u64,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let len = head.payload();
        let Some(bytes) = input.bytes.get(..len) else {
            return Ok(Step::need(len));
        };
        let payload = match wire::payload(&head, bytes) {
            Ok(payload) => payload,
            Err(what) => {
                self.side(dir).place = Place::Head;
                let error = ParseError::malformed(what);
                out.emit(Event::Error { error });
                self.lose_payload(dir, head, at, out);
                return Ok(skip(len, 0));
            }
        };
        match payload {
            Payload::Headers(fragment) | Payload::PushPromise(_, fragment) => {
                return self.block(dir, head, at, fragment, input, out);
            }
            Payload::Settings(settings) => self.settings(dir, settings),
            Payload::Reset(code) => self.exchanges.reset(dir, head.stream, code, out),
            Payload::GoAway(last) if dir == Direction::ToClient => {
                self.exchanges.go_away(last, out);
            }
            Payload::GoAway(_) | Payload::Window => {}
        }
        self.side(dir).place = Place::Head;
        Ok(skip(len, 0))
    }

    /// Reads a header block that begins with `fragment`, in the payload that `input` begins with.
    fn block(
        &mut self,
        dir: Direction,
        head: Head,
        at: u64,
        fragment: &[u8],
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let max = self.max_message;
        let used = match self.blocks.collect(&head, input.bytes, max)? {
            Collected::Whole(len) => len,
            Collected::Need(n) => return Ok(Step::need(n)),
            Collected::TooLarge => {
                self.side(dir).place = Place::Head;
                let error = ParseError::too_large("header block");
                out.emit(Event::Error { error });
                self.lose_payload(dir, head, at, out);
                // An empty frame was done with when its header was.
                return match head.payload() {
                    0 => self.frame(dir, input, out),
                    len => Ok(skip(len, 0)),
                };
            }
        };
        let side = match dir {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        side.place = Place::Head;
        let message = self.blocks.read(fragment, &mut side.hpack, out);
        if head.kind == Kind::PUSH_PROMISE {
            let kind = "server push";
            out.emit(Event::Push { at, kind });
        } else {
            let frames = Frames {
                stream: head.stream,
                end_stream: head.has(flag::END_STREAM),
                at,
                end: input.offset.saturating_add(used as u64),
            };
            self.exchanges.headers(dir, frames, message, out);
        }
        Ok(skip(used, 0))
    }

    /// Settings of the sender bind the other direction.
    fn settings(&mut self, dir: Direction, settings: &[u8]) {
        let other = self.side(dir.reverse());
        for (id, value) in wire::settings(settings) {
            match id {
                HEADER_TABLE_SIZE => other.hpack.allow(value as usize),
                // They hold from their acknowledgement on, which is not waited for.
                MAX_FRAME_SIZE => other.max_frame = other.max_frame.max(value.min(ANY_FRAME)),
                _ => {}
            }
        }
    }
}

/// Done with `consumed` bytes; the `n` behind them are not needed.
const fn skip(consumed: usize, n: u64) -> Step {
    match n {
        0 => Step::more(consumed),
        n => Step {
            consumed,
            next: Next::Skip(n),
        },
    }
}
