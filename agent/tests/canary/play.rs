//! Plays a conversation to an engine with all parsers, and renders what comes out in every way that
//! the program has.

use std::net::Ipv4Addr;
use std::sync::Arc;

use wirespan_engine::api::{Direction, Policy, Redaction};
use wirespan_engine::{
    Close, Closed, Config, Engine, Exchange, Layer, Nanos, Opening, Process, Roles, Side, Sink,
    Start, TICK,
};
use wirespan_export::honesty::Block;
use wirespan_export::metrics::Metrics;
use wirespan_export::observe::Observer;
use wirespan_export::prometheus::{self, Format};
use wirespan_export::record::RecordWriter;
use wirespan_export::red::Red;
use wirespan_export::semconv::Routes;
use wirespan_export::spans::{self, Spans};
use wirespan_export::table::{self, Colour, LineWriter, Rows};
use wirespan_telemetry::{Collection, JsonLines, Resource, metrics_request};

use crate::support;
use crate::talk::Talk;

/// What may be shown, and from where on the connection is seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) redaction: Redaction,
    pub(crate) start: Start,
    pub(crate) side: Side,
}

impl Scene {
    pub(crate) const WHOLE: Self = Self {
        redaction: Redaction::On,
        start: Start::Beginning,
        side: Side::Server,
    };
}

/// Part of what was said.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) dir: Direction,
    pub(crate) offset: u64,
    pub(crate) time: Nanos,
    pub(crate) bytes: Vec<u8>,
    pub(crate) fate: Fate,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Arrives,
    /// Is told to be lost.
    Lost,
    /// Never arrives, and nobody says so.
    Missing,
}

/// Time between what is said.
const STEP: u64 = 100_000_000;

/// The whole conversation, a piece for each time that somebody speaks.
pub(crate) fn pieces(talk: &Talk) -> Vec<Piece> {
    let mut next = [0u64; 2];
    let mut time = 1_000_000_000_000;
    let mut pieces = Vec::new();
    for (dir, bytes) in &talk.said {
        let offset = &mut next[usize::from(*dir == Direction::ToClient)];
        pieces.push(Piece {
            dir: *dir,
            offset: *offset,
            time: Nanos(time),
            bytes: bytes.clone(),
            fate: Fate::Arrives,
        });
        *offset += bytes.len() as u64;
        time += STEP;
    }
    pieces
}

/// Cuts the pieces at `at`, counted over all of them: what is before and what is behind.
pub(crate) fn split(pieces: &[Piece], at: usize) -> (Vec<Piece>, Vec<Piece>) {
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    let mut left = at;
    for piece in pieces {
        let cut = left.min(piece.bytes.len());
        left -= cut;
        let part = |bytes: &[u8], skip: usize| Piece {
            offset: piece.offset + skip as u64,
            bytes: bytes.to_vec(),
            ..piece.clone()
        };
        let (a, b) = piece.bytes.split_at(cut);
        before.extend((!a.is_empty()).then(|| part(a, 0)));
        behind.extend((!b.is_empty()).then(|| part(b, cut)));
    }
    (before, behind)
}

/// Everything that the program would put out of these pieces of `talk`.
pub(crate) fn output(talk: &Talk, scene: Scene, pieces: &[Piece]) -> Vec<u8> {
    let mut config = Config::default();
    config.policy = Policy::of(scene.redaction);
    config.report_open = Some(TICK);
    let mut engine = Engine::new(support::registry(), config);
    let mut renderings = Renderings::new();
    let now = pieces.first().map_or(Nanos(1), |piece| piece.time);
    let id = engine.open(&opening(talk.port, scene), now, &mut renderings);
    let mut last = now;
    let mut anchored = [scene.start == Start::Beginning; 2];
    for piece in pieces {
        last = piece.time;
        engine.tick(last, &mut renderings);
        let anchored = &mut anchored[usize::from(piece.dir == Direction::ToClient)];
        if !std::mem::replace(anchored, true) {
            engine.anchor(id, piece.dir, piece.offset, last, &mut renderings);
        }
        let len = piece.bytes.len() as u64;
        match piece.fate {
            Fate::Arrives => {
                engine.chunk(
                    id,
                    piece.dir,
                    piece.offset,
                    &piece.bytes,
                    last,
                    &mut renderings,
                );
            }
            Fate::Lost => engine.lost(id, piece.dir, piece.offset, len, last, &mut renderings),
            Fate::Missing => {}
        }
    }
    last.0 += 10 * STEP;
    engine.tick(last, &mut renderings);
    engine.close(id, Close::Finished, last, &mut renderings);
    engine.finish(last, &mut renderings);
    let stats = engine.stats();
    assert_eq!(stats.parser_faults, 0, "{}: a parser panicked", talk.name);
    let mut block = Block::default();
    block.engine(&stats);
    let mut out = renderings.finish();
    out.extend(format!("{stats:?}\n{}", block.render()).into_bytes());
    out
}

fn opening(port: u16, scene: Scene) -> Opening {
    Opening {
        number: 0,
        client: (Ipv4Addr::LOCALHOST, 40_000).into(),
        server: (Ipv4Addr::LOCALHOST, port).into(),
        roles: Roles::Known,
        start: scene.start,
        side: scene.side,
        layer: Layer::Transport,
        process: Some(Process::new(7, b"server")),
    }
}

/// Renders exchanges as records, lines, spans, metrics and statistics.
struct Renderings {
    out: Vec<u8>,
    records: RecordWriter,
    lines: LineWriter,
    spans: JsonLines,
    observer: Observer,
    red: Red,
}

impl Renderings {
    fn new() -> Self {
        let spans = Spans::new(spans::Options::default());
        let routes = Arc::new(Routes::default());
        Self {
            out: Vec::new(),
            records: RecordWriter::default(),
            lines: LineWriter::new(Colour::Off),
            spans: JsonLines::new(Resource::default()),
            observer: Observer::new(Arc::new(Metrics::default()), routes, Some(spans)),
            red: Red::default(),
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let collection = Collection {
            snapshot: self.observer.metrics().snapshot(),
            ..Collection::default()
        };
        let mut text = String::new();
        for format in [Format::Text, Format::OpenMetrics] {
            prometheus::write(&mut text, &collection.snapshot, &[], format);
        }
        table::red(&mut text, &self.red, 1.0, Rows::All, Colour::Off);
        text += &format!("{:?}", metrics_request(&collection, &Resource::default()));
        self.out.extend(text.into_bytes());
        self.out
    }
}

impl Sink for Renderings {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        self.progress(exchange);
        self.red.record(exchange);
        if let Some(span) = self.observer.exchange(exchange) {
            self.spans.span(&mut self.out, &span);
        }
    }

    fn progress(&mut self, exchange: &Exchange<'_>) {
        self.records.write(&mut self.out, exchange);
        self.lines.write(&mut self.out, exchange);
    }

    fn closed(&mut self, connection: &Closed<'_>) {
        self.out.extend(format!("{connection:?}\n").into_bytes());
    }
}
