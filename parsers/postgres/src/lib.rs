//! PostgreSQL's protocol 3: simple and extended queries, pipelines, `COPY`, start-up.
//!
//! It does not decrypt, does not read rows, and does not know the catalogue. Passwords and data are
//! skipped unread.
//!
//! Decisions that the records show:
//!
//! - Each statement of a simple query is an exchange, beginning at its own text within the message.
//! - `Parse`, `Bind` and `Describe` belong to the `Execute` behind them. A `Parse` that is followed
//!   by `Sync`, or by `Flush` without `Bind`, is an exchange of its own, `PREPARE`; so are `BIND`
//!   and `DESCRIBE`, where no `Execute` follows.
//! - Each `Execute` is an exchange, also of a portal that was suspended.
//! - After an error the server drops everything up to `Sync`, and the rest of a simple query: those
//!   statements have no status, as they never ran.
//! - `CopyData` are not counted as bytes of the request. An exchange that starts replication ends
//!   with `CopyBothResponse`, flag `streaming`.
//! - `CancelRequest` has no answer and is counted as a push.
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

mod client;
mod message;
mod probe;
mod request;
mod server;
mod session;
mod statements;
mod wire;

use wirespan_parser_api::{
    AfterGap, Direction, Emit, Gap, Init, Input, ParseError, Parser, Policy, Probe, ProbeInput,
    Protocol, ProtocolName, Step,
};

use client::Client;
use session::Session;

/// The name in records, metrics and configuration.
const NAME: ProtocolName = ProtocolName("postgresql");
/// The usual port.
const PORT: u16 = 5_432;

/// The PostgreSQL protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Postgres;

impl Protocol for Postgres {
    fn name(&self) -> ProtocolName {
        NAME
    }

    fn description(&self) -> &'static str {
        "PostgreSQL: simple and extended queries, pipelines, COPY"
    }

    fn ports(&self) -> &[u16] {
        &[PORT]
    }

    fn probe(&self, head: &ProbeInput<'_>) -> Probe {
        probe::probe(head)
    }

    fn parser(&self, init: &Init<'_>) -> Box<dyn Parser> {
        Box::new(PostgresParser {
            client: Client::new(init.late_attach, init.policy.redaction),
            session: Session::new(init.late_attach, init.limits.max_in_flight),
        })
    }
}

/// One connection.
#[derive(Debug)]
struct PostgresParser {
    client: Client,
    session: Session,
}

impl Parser for PostgresParser {
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let Self { client, session } = self;
        match dir {
            Direction::ToServer => client.parse(input, session, out),
            Direction::ToClient => server::parse(input, client, session, out),
        }
    }

    fn gap(&mut self, dir: Direction, _: Gap<'_>, out: &mut dyn Emit) -> AfterGap {
        match dir {
            Direction::ToServer => self.client.lose(&mut self.session, out),
            Direction::ToClient => {
                self.client.stop_negotiating();
                self.session.lose_responses(out);
            }
        }
        AfterGap::Resync
    }

    fn resync(&mut self, dir: Direction, window: &[u8]) -> Option<usize> {
        probe::boundary(dir, window)
    }

    fn heap_bytes(&self) -> usize {
        self.client
            .heap_bytes()
            .saturating_add(self.session.heap_bytes())
    }

    fn set_policy(&mut self, policy: &Policy) {
        self.client.set_redaction(policy.redaction);
    }
}
