//! WebSocket (RFC 6455): reached from HTTP by a 101 response, never by detection.
//!
//! Messages are counted as pushes by their kind. Payloads are skipped, so that neither masking nor
//! compression (RFC 7692) matters.

use wirespan_parser_api::{
    Direction, Emit, Event, Init, Input, Next, ParseError, Parser, Probe, ProbeInput, Protocol,
    ProtocolName, Step,
};

use crate::WEBSOCKET;
use crate::read::Read;
use crate::wire::{self, FrameHeader};

/// The WebSocket protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct WebSocket;

impl Protocol for WebSocket {
    fn name(&self) -> ProtocolName {
        WEBSOCKET
    }

    fn description(&self) -> &'static str {
        "WebSocket after an HTTP/1.1 upgrade: messages counted by kind"
    }

    fn probe(&self, _: &ProbeInput<'_>) -> Probe {
        Probe::Reject
    }

    fn parser(&self, _: &Init<'_>) -> Box<dyn Parser> {
        Box::new(WebSocketParser::default())
    }
}

#[derive(Debug, Default)]
struct WebSocketParser {
    to_server: Side,
    to_client: Side,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    /// Whether a message has begun whose last frame has not come.
    in_message: bool,
    /// Whether a Close frame has been seen, after which nothing may follow.
    closed: bool,
}

impl Parser for WebSocketParser {
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let (header, len) = match wire::frame_header(input.bytes) {
            Read::Done(header, len) => (header, len),
            Read::Short(n) => return Ok(Step::need(n)),
            Read::Bad(what) => return Err(ParseError::malformed(what)),
        };
        let (side, peer_closed) = match dir {
            Direction::ToServer => (&mut self.to_server, self.to_client.closed),
            Direction::ToClient => (&mut self.to_client, self.to_server.closed),
        };
        if let Some(kind) = side.frame(&header, dir)? {
            out.emit(Event::Push {
                at: input.offset,
                kind,
            });
        }
        let next = match (side.closed, peer_closed, header.payload) {
            (true, true, _) => Next::Stop,
            (true, false, _) => Next::SkipToEnd,
            (false, _, 0) => Next::More,
            (false, _, payload) => Next::Skip(payload),
        };
        Ok(Step {
            consumed: len,
            next,
        })
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Side {
    /// Takes a frame; the kind of the message that it begins.
    fn frame(
        &mut self,
        header: &FrameHeader,
        dir: Direction,
    ) -> Result<Option<&'static str>, ParseError> {
        // Only the client masks (RFC 6455 §5.1). The first reserved bit marks compression.
        if header.masked != (dir == Direction::ToServer) {
            return Err(ParseError::malformed("frame mask"));
        }
        if header.reserved & 0x3 != 0 {
            return Err(ParseError::malformed("frame reserved bits"));
        }
        let kind = match header.opcode {
            0x0 if self.in_message => None,
            0x1 if !self.in_message => Some("text"),
            0x2 if !self.in_message => Some("binary"),
            0x0..=0x2 => return Err(ParseError::malformed("frame order")),
            0x8 => Some("close"),
            0x9 => Some("ping"),
            0xa => Some("pong"),
            _ => return Err(ParseError::malformed("frame opcode")),
        };
        if header.opcode < 0x8 {
            self.in_message = !header.fin;
        } else if !header.fin || header.payload > 125 {
            return Err(ParseError::malformed("control frame"));
        }
        self.closed |= header.opcode == 0x8;
        Ok(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kinds(Vec<&'static str>);

    impl Emit for Kinds {
        fn emit(&mut self, event: Event<'_>) {
            if let Event::Push { kind, .. } = event {
                self.0.push(kind);
            }
        }
    }

    #[derive(Default)]
    struct Session {
        parser: WebSocketParser,
        kinds: Kinds,
    }

    impl Session {
        /// What the parser wants after a frame from the server.
        fn server(&mut self, frame: &[u8]) -> Result<Next, &'static str> {
            self.step(Direction::ToClient, frame)
        }

        /// What the parser wants after a frame from the client.
        fn client(&mut self, frame: &[u8]) -> Result<Next, &'static str> {
            self.step(Direction::ToServer, frame)
        }

        fn step(&mut self, dir: Direction, bytes: &[u8]) -> Result<Next, &'static str> {
            let input = Input { bytes, offset: 0 };
            let step = self.parser.parse(dir, input, &mut self.kinds);
            step.map(|step| step.next).map_err(|error| error.what)
        }
    }

    #[test]
    fn a_message_is_counted_once_and_its_payload_skipped() {
        let mut session = Session::default();
        assert_eq!(session.client(&[0x81, 0x85, 1, 2, 3, 4]), Ok(Next::Skip(5)));
        assert_eq!(session.server(&[0x82, 0x7e, 1, 0]), Ok(Next::Skip(256)));
        assert_eq!(session.server(&[0xc1, 0x00]), Ok(Next::More), "compressed");
        assert_eq!(session.kinds.0, ["text", "binary", "text"]);
    }

    #[test]
    fn a_fragmented_message_is_one_message_and_may_hold_control_frames() {
        let mut session = Session::default();
        for frame in [[0x01, 1], [0x00, 1], [0x89, 0], [0x8a, 0], [0x80, 1]] {
            assert!(session.server(&frame).is_ok());
        }
        assert_eq!(session.kinds.0, ["text", "ping", "pong"]);
    }

    #[test]
    fn it_ends_when_both_sides_have_closed() {
        let mut session = Session::default();
        assert_eq!(
            session.client(&[0x88, 0x80, 1, 2, 3, 4]),
            Ok(Next::SkipToEnd)
        );
        assert_eq!(session.server(&[0x81, 0x01]), Ok(Next::Skip(1)));
        assert_eq!(session.server(&[0x88, 0x02]), Ok(Next::Stop));
        assert_eq!(session.kinds.0, ["close", "text", "close"]);
    }

    #[test]
    fn frames_that_break_the_rules_are_errors() {
        let server = |frame: &[u8]| Session::default().server(frame).unwrap_err();
        assert_eq!(server(&[0x81, 0x80, 1, 2, 3, 4]), "frame mask");
        assert_eq!(
            Session::default().client(&[0x81, 0x00]).unwrap_err(),
            "frame mask"
        );
        assert_eq!(server(&[0xa1, 0x00]), "frame reserved bits");
        assert_eq!(server(&[0x83, 0x00]), "frame opcode");
        assert_eq!(server(&[0x8b, 0x00]), "frame opcode");
        assert_eq!(server(&[0x80, 0x00]), "frame order", "continues nothing");
        assert_eq!(server(&[0x09, 0x00]), "control frame", "in fragments");
        assert_eq!(server(&[0x89, 0x7e, 0, 126]), "control frame", "too long");
        let mut session = Session::default();
        assert!(session.server(&[0x01, 0x00]).is_ok());
        assert_eq!(session.server(&[0x81, 0x00]).unwrap_err(), "frame order");
    }

    #[test]
    fn a_short_frame_asks_for_more() {
        let mut session = Session::default();
        assert_eq!(session.server(&[0x81]), Ok(Next::Need(2)));
        assert_eq!(session.client(&[0x81, 0xfe]), Ok(Next::Need(4)));
        assert!(session.kinds.0.is_empty());
    }
}
