//! Redis serialization protocol: RESP2, RESP3 and inline commands
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
//!
//! Values are walked element by element with one counter, so memory stays constant however large
//! or deep a value is, and payloads are skipped rather than buffered. The parser does not read the
//! replication stream behind `SYNC` and `PSYNC`, nor the arguments of a command behind the first;
//! it knows the meaning only of those commands that change how the connection goes on.
//!
//! Streamed strings and aggregates (`$?`, `*?`) are refused: RESP3 has them, but no server sends
//! them.
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

mod command;
mod inline;
mod probe;
mod replies;
mod requests;
mod session;
mod walk;
mod wire;

use alloc::boxed::Box;

use wirespan_parser_api::{
    AfterGap, Direction, Emit, Gap, Init, Input, Next, ParseError, Parser, Policy, Probe,
    ProbeInput, Protocol, ProtocolName, Step,
};

use replies::Replies;
use requests::Requests;
use session::Session;
use wire::Stop;

const NAME: ProtocolName = ProtocolName("redis");

/// The Redis protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redis;

impl Protocol for Redis {
    fn name(&self) -> ProtocolName {
        NAME
    }

    fn description(&self) -> &'static str {
        "Redis: RESP2, RESP3, inline commands, pub/sub"
    }

    fn ports(&self) -> &[u16] {
        &[6379]
    }

    fn probe(&self, head: &ProbeInput<'_>) -> Probe {
        probe::probe(head)
    }

    fn parser(&self, init: &Init<'_>) -> Box<dyn Parser> {
        Box::new(RedisParser {
            requests: Requests::new(init.late_attach, init.policy.redaction),
            replies: Replies::default(),
            session: Session::new(init.late_attach, init.limits.max_in_flight),
        })
    }
}

/// One connection.
#[derive(Debug)]
struct RedisParser {
    requests: Requests,
    replies: Replies,
    session: Session,
}

impl Parser for RedisParser {
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        // Messages are small, and often many lie in one packet: as many as there are, in one step.
        let mut done = 0usize;
        loop {
            let rest = Input {
                bytes: input.bytes.get(done..).unwrap_or_default(),
                offset: input.offset.saturating_add(done as u64),
            };
            if rest.bytes.is_empty() {
                return Ok(Step::more(done));
            }
            let step = match self.message(dir, rest, out) {
                Ok(step) => step,
                // Met again at the next call, as its first.
                Err(_) if done > 0 => return Ok(Step::more(done)),
                Err(error) => return Err(error),
            };
            done = done.saturating_add(step.consumed);
            if step.next != Next::More {
                return Ok(Step {
                    consumed: done,
                    next: step.next,
                });
            }
        }
    }

    fn gap(&mut self, dir: Direction, gap: Gap<'_>, out: &mut dyn Emit) -> AfterGap {
        match dir {
            Direction::ToServer => self.requests.lose(gap.offset, &mut self.session, out),
            Direction::ToClient => self.replies.lose(&mut self.session, out),
        }
        AfterGap::Resync
    }

    fn resync(&mut self, dir: Direction, window: &[u8]) -> Option<usize> {
        match dir {
            Direction::ToServer => probe::find_command(window),
            Direction::ToClient => probe::find_reply(window),
        }
    }

    fn heap_bytes(&self) -> usize {
        self.requests
            .heap_bytes()
            .saturating_add(self.session.heap_bytes())
    }

    fn set_policy(&mut self, policy: &Policy) {
        self.requests.set_redaction(policy.redaction);
    }
}

impl RedisParser {
    /// Reads one message, or more of one.
    fn message(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let result = match dir {
            Direction::ToServer => self.requests.parse(input, &mut self.session, out),
            Direction::ToClient => self.replies.parse(input, &mut self.session, out),
        };
        match result {
            Ok(step) => Ok(step),
            Err(Stop::Short) => Ok(Step::need(input.bytes.len().saturating_add(1))),
            Err(Stop::Bad(error)) => Err(error),
        }
    }
}
