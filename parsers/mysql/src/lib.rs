//! The client/server protocol of MySQL 5.7 to 9 and of MariaDB.
//!
//! Rows, parameters and files are skipped packet by packet, never held. Values are not read, nor
//! messages of errors, nor anything of an authentication but the name of the schema. The X protocol
//! (port 33060) is another protocol.
//!
//! What a response looks like depends on what client and server have agreed on. Where a connection
//! is joined in the middle that is not known, and nearly all of it need not be: the packets of
//! either reading differ in length. What is left is inferred, and the exchange flagged.
//!
//! A query of several statements is an exchange for each of them. They begin at their own first
//! byte, except for the first, which begins at the packet's. Behind one that fails, the others are
//! closed without a status: the server does not run them. A `CALL` is one exchange, whatever it
//! returns; so is a text that holds a stored program.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;

mod ask;
mod command;
mod compress;
mod inflate;
mod probe;
mod replies;
mod reply;
mod requests;
mod session;
mod statements;
mod text;
mod wire;
mod zstd;

use alloc::boxed::Box;

use wirespan_parser_api::{
    AfterGap, Direction, Emit, Gap, Init, Input, ParseError, Parser, Policy, Probe, ProbeInput,
    Protocol, ProtocolName, Step,
};

use compress::Frames;
use replies::Replies;
use requests::Requests;
use session::Session;

/// Bytes that the engine keeps where no message was found to begin.
const KEPT: usize = 64;
const NAME: ProtocolName = ProtocolName("mysql");

/// The MySQL protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct MySql;

impl Protocol for MySql {
    fn name(&self) -> ProtocolName {
        NAME
    }

    fn description(&self) -> &'static str {
        "MySQL and MariaDB: queries, prepared statements, compressed packets"
    }

    fn ports(&self) -> &[u16] {
        &[3306]
    }

    fn probe(&self, head: &ProbeInput<'_>) -> Probe {
        probe::probe(head)
    }

    fn parser(&self, init: &Init<'_>) -> Box<dyn Parser> {
        Box::new(MySqlParser {
            requests: Requests::new(init.policy.redaction),
            replies: Replies::new(init.late_attach),
            session: Session::new(init.late_attach, init.limits.max_in_flight),
            up: Frames::default(),
            down: Frames::default(),
            passed: None,
        })
    }
}

/// One connection.
#[derive(Debug)]
struct MySqlParser {
    requests: Requests,
    replies: Replies,
    session: Session,
    /// Compressed packets to the server.
    up: Frames,
    /// Compressed packets to the client.
    down: Frames,
    /// Bytes that the search for a response has just passed over.
    passed: Option<u64>,
}

impl MySqlParser {
    fn lose(&mut self, dir: Direction, offset: u64, out: &mut dyn Emit) {
        match dir {
            Direction::ToServer => {
                self.up.lose();
                self.requests.lose(offset, &mut self.session, out);
            }
            Direction::ToClient => {
                self.down.lose();
                self.replies.lose(&mut self.session, out);
            }
        }
    }

    /// Where the next message could begin.
    fn find(&mut self, dir: Direction, window: &[u8]) -> Option<usize> {
        if self.session.is_compressed {
            return probe::find_frame(dir, window);
        }
        let found = match dir {
            Direction::ToServer => probe::find_command(window, self.session.awaits_login),
            Direction::ToClient => {
                let seq = self.session.next().map_or(1, |next| next.seq);
                probe::find_reply(window, seq)
            }
        };
        if !self.session.may_be_compressed() {
            return found;
        }
        let before = found.and_then(|at| window.get(..at)).unwrap_or(window);
        let frame = probe::find_zstd(dir, before).or_else(|| match dir {
            Direction::ToServer => probe::frame_around(window, found?),
            Direction::ToClient => None,
        });
        if frame.is_some() {
            self.session.assume_compression();
        }
        frame.or(found)
    }

    /// Reads compressed packets.
    fn inflate(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let session = &mut self.session;
        match dir {
            Direction::ToServer => {
                let requests = &mut self.requests;
                let mut parse =
                    |input: Input<'_>, out: &mut dyn Emit| requests.parse(input, session, out);
                self.up.parse(input, &mut parse, out)
            }
            Direction::ToClient => {
                let replies = &mut self.replies;
                let mut parse =
                    |input: Input<'_>, out: &mut dyn Emit| replies.parse(input, session, out);
                self.down.parse(input, &mut parse, out)
            }
        }
    }
}

impl Parser for MySqlParser {
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        if dir == Direction::ToClient {
            self.passed = None;
        }
        match (self.session.is_compressed, dir) {
            (false, Direction::ToServer) => self.requests.parse(input, &mut self.session, out),
            (false, Direction::ToClient) => self.replies.parse(input, &mut self.session, out),
            (true, _) => {
                let result = self.inflate(dir, input, out);
                if result.is_err() {
                    // Packets inside the frame may have been read before.
                    self.lose(dir, input.offset, out);
                }
                result
            }
        }
    }

    fn gap(&mut self, dir: Direction, gap: Gap<'_>, out: &mut dyn Emit) -> AfterGap {
        if dir == Direction::ToServer
            && !self.session.is_compressed
            && self.requests.salvage(gap, &mut self.session, out)
        {
            return AfterGap::Continue;
        }
        // Bytes that were seen and are no response. With one command in flight, the next response is
        // still its own: nobody else's can come before the client speaks again.
        let passed = dir == Direction::ToClient && self.passed.take() == Some(gap.len);
        if passed && self.replies.is_adrift() && self.session.commands_in_flight() <= 1 {
            return AfterGap::Resync;
        }
        self.lose(dir, gap.offset, out);
        AfterGap::Resync
    }

    fn resync(&mut self, dir: Direction, window: &[u8]) -> Option<usize> {
        let found = self.find(dir, window);
        if dir == Direction::ToClient {
            let passed = found.unwrap_or(window.len().saturating_sub(KEPT));
            self.passed = Some(passed as u64);
        }
        found
    }

    fn heap_bytes(&self) -> usize {
        let frames = self.up.heap_bytes().saturating_add(self.down.heap_bytes());
        frames
            .saturating_add(self.requests.heap_bytes())
            .saturating_add(self.session.heap_bytes())
    }

    fn set_policy(&mut self, policy: &Policy) {
        self.requests.set_redaction(policy.redaction);
    }
}
