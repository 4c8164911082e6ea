//! Compressed packets: frames that carry the stream of packets, cut anywhere.
//!
//! The engine sees frames, and the offsets that it is told are theirs; the packets inside have
//! offsets of their own. What begins inside a frame begins at the frame, or as far behind its
//! beginning as in the frame's content; what ends inside it ends with it. Sizes are those of the
//! frames.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use wirespan_parser_api::{Emit, Event, ExchangeId, Input, Next, ParseError, Step};

use crate::inflate::Inflater;
use crate::wire::{self, FRAME};

/// Longest frame that is read at once, so that the engine still knows when its first byte came.
const MAX_WHOLE: usize = 32 * 1024;

/// Reads the packets inside: the parser's own contract, over their stream.
pub(crate) type Parse<'a> = dyn FnMut(Input<'_>, &mut dyn Emit) -> Result<Step, ParseError> + 'a;

/// One direction of a compressed connection.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    current: Option<Current>,
    inflater: Inflater,
    content: Content,
}

/// The frame that is being read.
#[derive(Clone, Copy, Debug)]
struct Current {
    /// Its bytes that are to come.
    left: u32,
    /// Bytes of its content that are to come.
    content_left: u32,
    is_deflated: bool,
}

impl Frames {
    /// Reads a frame, or part of one.
    ///
    /// # Errors
    ///
    /// When the frame, or a packet inside it, is not what it should be. The direction then begins
    /// anew with a frame.
    pub(crate) fn parse(
        &mut self,
        input: Input<'_>,
        parse: &mut Parse<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let result = self.step(input, parse, out);
        if result.is_err() {
            self.lose();
        }
        result
    }

    /// Forgets the frame and the packet that were hit by a loss.
    pub(crate) fn lose(&mut self) {
        self.current = None;
        self.inflater.end();
        self.content.lose();
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let inflater = self.inflater.heap_bytes();
        inflater.saturating_add(self.content.heap_bytes())
    }

    fn step(
        &mut self,
        input: Input<'_>,
        parse: &mut Parse<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let (mut current, header) = match self.current {
            Some(current) => (current, 0),
            None => {
                let Some(frame) = wire::frame(input.bytes) else {
                    return Ok(Step::need(FRAME));
                };
                if frame.len == 0 {
                    return Err(ParseError::malformed("compressed length"));
                }
                let total = FRAME.saturating_add(frame.len as usize);
                if total > input.bytes.len() && total <= MAX_WHOLE {
                    return Ok(Step::need(total));
                }
                let Some(&first) = input.bytes.get(FRAME) else {
                    return Ok(Step::need(FRAME.saturating_add(1)));
                };
                if total > MAX_WHOLE && frame.inflated > 0 {
                    // What it begins is seen when it is decoded, which may be at its end.
                    out.emit(Event::Mark { at: input.offset });
                }
                (self.begin(frame, first, input.offset), FRAME)
            }
        };
        let most = usize::try_from(current.left).unwrap_or(usize::MAX);
        let bytes = input.bytes.get(header..).unwrap_or_default();
        let bytes = bytes.get(..most).unwrap_or(bytes);
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        current.left = current.left.saturating_sub(len);
        if current.is_deflated {
            self.inflate(bytes, &mut current, parse, out)?;
        } else {
            self.content.push(bytes, parse, out)?;
        }
        self.current = Some(current).filter(|current| current.left > 0);
        Ok(Step::more(header.saturating_add(bytes.len())))
    }

    /// Begins a frame whose payload begins with the byte `first`.
    fn begin(&mut self, frame: wire::Frame, first: u8, at: u64) -> Current {
        let is_deflated = frame.inflated > 0;
        let content = if is_deflated {
            frame.inflated
        } else {
            frame.len
        };
        let end = at
            .saturating_add(FRAME as u64)
            .saturating_add(u64::from(frame.len));
        self.content.expect(content, at, end);
        if is_deflated {
            self.inflater.begin(first, content);
        }
        Current {
            left: frame.len,
            content_left: content,
            is_deflated,
        }
    }

    /// Inflates bytes of the current frame. Its content is never longer than it says.
    fn inflate(
        &mut self,
        bytes: &[u8],
        current: &mut Current,
        parse: &mut Parse<'_>,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let (content, left) = (&mut self.content, &mut current.content_left);
        self.inflater.feed(bytes, &mut |inflated| {
            let len = u32::try_from(inflated.len()).unwrap_or(u32::MAX);
            *left = left
                .checked_sub(len)
                .ok_or(ParseError::malformed("compressed length"))?;
            content.push(inflated, parse, out)
        })?;
        if current.left > 0 {
            return Ok(());
        }
        self.inflater.end();
        match current.content_left {
            0 => Ok(()),
            _ => Err(ParseError::malformed("compressed length")),
        }
    }
}

/// The stream of packets inside the frames of one direction.
#[derive(Debug, Default)]
struct Content {
    /// Offset of the first of `held`.
    pos: u64,
    /// Bytes that the parser has not taken.
    held: Vec<u8>,
    /// Bytes that the parser does not need.
    skip: u64,
    /// Bytes that must be visible before the parser is called.
    need: usize,
    places: Places,
}

impl Content {
    /// A frame begins: its content is the next `len` bytes.
    fn expect(&mut self, len: u32, at: u64, end: u64) {
        let tip = self.tip();
        self.places.spans.push_back(Span {
            content: tip,
            content_end: tip.saturating_add(u64::from(len)),
            at,
            end,
        });
    }

    /// Takes content, and gives it to the parser.
    fn push(
        &mut self,
        mut bytes: &[u8],
        parse: &mut Parse<'_>,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let skipped = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
        if self.held.is_empty() {
            self.skip = self.skip.saturating_sub(skipped as u64);
            self.pos = self.pos.saturating_add(skipped as u64);
            bytes = bytes.get(skipped..).unwrap_or_default();
        }
        self.held.extend_from_slice(bytes);
        let mut used = 0usize;
        loop {
            let rest = self.held.get(used..).unwrap_or_default();
            if rest.is_empty() || rest.len() < self.need {
                break;
            }
            if self.skip > 0 {
                let n = usize::try_from(self.skip).map_or(rest.len(), |skip| skip.min(rest.len()));
                self.skip = self.skip.saturating_sub(n as u64);
                self.pos = self.pos.saturating_add(n as u64);
                used = used.saturating_add(n);
                continue;
            }
            self.need = 0;
            let input = Input {
                bytes: rest,
                offset: self.pos,
            };
            let mut outward = Outward {
                places: &mut self.places,
                out,
            };
            let step = parse(input, &mut outward)?;
            self.pos = self.pos.saturating_add(step.consumed as u64);
            used = used.saturating_add(step.consumed);
            match step.next {
                Next::Need(total) => self.need = total,
                Next::Skip(n) => self.skip = n,
                Next::More => {}
                // The end of what can be read in here.
                _ => self.skip = u64::MAX,
            }
        }
        self.held.drain(..used.min(self.held.len()));
        let tip = self.tip();
        self.places.advance(self.pos, tip, out);
        Ok(())
    }

    fn tip(&self) -> u64 {
        self.pos.saturating_add(self.held.len() as u64)
    }

    fn lose(&mut self) {
        self.pos = self.tip();
        self.held.clear();
        self.skip = 0;
        self.need = 0;
        self.places = Places::default();
    }

    fn heap_bytes(&self) -> usize {
        let spans = self.places.spans.capacity();
        spans
            .saturating_mul(size_of::<Span>())
            .saturating_add(self.held.capacity())
    }
}

/// Where the contents of frames are.
#[derive(Debug, Default)]
struct Places {
    /// Frames whose content is still of interest, in order.
    spans: VecDeque<Span>,
    /// The message that was begun last, and where it begins in the stream of frames.
    began: Option<(ExchangeId, u64)>,
    /// The end of a message that lies ahead of the content seen so far.
    ahead: Option<End>,
}

/// A frame, and the offsets of its content.
#[derive(Clone, Copy, Debug)]
struct Span {
    content: u64,
    content_end: u64,
    at: u64,
    end: u64,
}

/// The end of a message.
#[derive(Clone, Copy, Debug)]
struct End {
    id: ExchangeId,
    is_request: bool,
    at: u64,
    /// Where the message begins, in the stream of frames.
    began: u64,
}

impl Places {
    /// Where what begins at a content's offset begins.
    fn at(&self, content: u64) -> u64 {
        let span = self.spans.iter().find(|span| span.content_end > content);
        span.or(self.spans.back()).map_or(0, |span| {
            let inside = content.saturating_sub(span.content);
            let last = span.end.saturating_sub(1);
            span.at.saturating_add(inside).min(last)
        })
    }

    /// Where a message begins that begins at a content's offset, which may be long gone by.
    fn begin(&mut self, id: ExchangeId, content: u64) -> u64 {
        match self.began {
            Some((begun, at)) if begun == id => at,
            _ => {
                let at = self.at(content);
                self.began = Some((id, at));
                at
            }
        }
    }

    /// Where what ends before a content's offset ends; `None` while that frame has not come.
    fn end(&self, content: u64) -> Option<u64> {
        let span = self.spans.iter().find(|span| span.content_end >= content);
        span.map(|span| span.end)
    }

    /// The content before `tip` has come, and that before `pos` is done with.
    fn advance(&mut self, pos: u64, tip: u64, out: &mut dyn Emit) {
        if let Some(end) = self.ahead
            && end.at <= tip
        {
            self.ahead = None;
            self.tell(end, out);
        }
        while self.spans.len() > 1
            && self
                .spans
                .front()
                .is_some_and(|span| span.content_end <= pos)
        {
            self.spans.pop_front();
        }
    }

    fn tell(&mut self, end: End, out: &mut dyn Emit) {
        let Some(at) = self.end(end.at) else {
            self.ahead = Some(end);
            return;
        };
        let size = at.saturating_sub(end.began);
        out.emit(match end.is_request {
            true => Event::RequestEnd {
                id: end.id,
                at,
                size,
            },
            false => Event::ResponseEnd {
                id: end.id,
                at,
                size,
            },
        });
    }
}

/// Passes events on, with offsets of frames.
struct Outward<'a> {
    places: &'a mut Places,
    out: &'a mut dyn Emit,
}

impl Outward<'_> {
    fn end(&mut self, id: ExchangeId, at: u64, is_request: bool) {
        let end = End {
            id,
            is_request,
            at,
            began: self.places.began.map_or(0, |(_, began)| began),
        };
        self.places.tell(end, self.out);
    }
}

impl Emit for Outward<'_> {
    fn emit(&mut self, event: Event<'_>) {
        let event = match event {
            Event::Request { id, at, request } => Event::Request {
                id,
                at: self.places.begin(id, at),
                request,
            },
            Event::ResponseStart { id, at } => Event::ResponseStart {
                id,
                at: self.places.begin(id, at),
            },
            Event::Response { id, at, response } => Event::Response {
                id,
                at: self.places.begin(id, at),
                response,
            },
            Event::RequestEnd { id, at, .. } => return self.end(id, at, true),
            Event::ResponseEnd { id, at, .. } => return self.end(id, at, false),
            Event::Orphan { at } => Event::Orphan {
                at: self.places.at(at),
            },
            Event::Push { at, kind } => Event::Push {
                at: self.places.at(at),
                kind,
            },
            Event::Abandon { id, why } => {
                self.places.ahead = self.places.ahead.filter(|end| end.id != id);
                Event::Abandon { id, why }
            }
            other => other,
        };
        self.out.emit(event);
    }
}
