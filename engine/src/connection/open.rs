//! Exchanges that are open for long, and those that end before their time.

use wirespan_parser_api::{Emit, Event, ExchangeId, Flags};

use super::step::guarded;
use super::{Connection, Context};
use crate::both::Both;
use crate::stats::add;
use crate::table::{Fate, Table};
use crate::types::Nanos;

impl Connection {
    /// Reports the exchanges that are open for long, and gives up those that have waited too long.
    pub(super) fn look_after_open(&mut self, now: Nanos, cx: &mut Context<'_>) {
        if now < self.table.due() {
            return;
        }
        let mut index = 0usize;
        while index < self.table.len() {
            let Some(before) = self
                .table
                .before(index)
                .filter(|_| self.table.is_due(index, now))
            else {
                index = index.saturating_add(1);
                continue;
            };
            self.note_progress(index, cx);
            let (table, mut outlet) = self.exchanges(cx);
            let reports = table.report(index, now, &mut outlet);
            let fate = table.expire(index, now);
            if fate == Fate::Expired {
                table.abandon_at(index, Flags::NONE, &mut outlet);
                add(&mut cx.stats.expired_exchanges, 1);
            } else {
                table.go_back(index, before);
                index = index.saturating_add(1);
            }
            add(&mut cx.stats.open_reports, reports);
        }
        self.table.reckon();
    }

    /// Reports the oldest open exchange as it stands.
    pub(super) fn give_up_oldest(&mut self, flags: Flags, cx: &mut Context<'_>) {
        self.note_progress(0, cx);
        let (table, mut outlet) = self.exchanges(cx);
        table.abandon_at(0, flags, &mut outlet);
    }

    /// How far both directions have been read.
    pub(super) fn read(&self) -> Both<u64> {
        Both {
            to_server: self.streams.to_server.pos,
            to_client: self.streams.to_client.pos,
        }
    }

    /// Asks the parser how far an exchange has come, and counts for itself what that leaves open.
    fn note_progress(&mut self, index: usize, cx: &mut Context<'_>) {
        let (Some(id), Some(mut parser)) = (self.table.id_at(index), self.parser.take()) else {
            return;
        };
        let table = &mut self.table;
        let told = guarded(&mut parser, |parser| {
            let mut answer = Answer {
                id,
                table,
                told: false,
            };
            parser.progress(id, &mut answer);
            answer.told
        });
        // It was only asked, so that its state is what it was even if it has panicked.
        self.parser = Some(parser);
        match told {
            Some(true) => {}
            Some(false) => self.table.measure(id, &self.read()),
            None => add(&mut cx.stats.parser_faults, 1),
        }
    }
}

/// Takes what a parser says of the progress of one exchange.
struct Answer<'a> {
    id: ExchangeId,
    table: &'a mut Table,
    told: bool,
}

impl Emit for Answer<'_> {
    fn emit(&mut self, event: Event<'_>) {
        if let Event::Progress {
            id,
            request_bytes,
            response_bytes,
            attrs,
        } = event
            && id == self.id
            && !self.told
        {
            let bytes = Both {
                to_server: request_bytes,
                to_client: response_bytes,
            };
            self.table.progress(id, bytes, attrs);
            self.told = true;
        }
    }
}
