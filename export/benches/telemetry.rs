//! What an exchange costs beyond being found: counting it, and making a span of it. The exchanges
//! are those that the real parsers make of requests as they are on the wire.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use wirespan_engine::api::Direction;
use wirespan_engine::{
    Config, Engine, Exchange, Layer, Nanos, Opening, Registry, Roles, Side, Sink, Start,
};
use wirespan_export::metrics::{Metrics, Options, Scratch};
use wirespan_export::owner::Ends;
use wirespan_export::semconv::{Facts, Routes};
use wirespan_export::spans::{self, Spans};

const HTTP: [&str; 2] = [
    "GET /api/users/4711/orders?page=2 HTTP/1.1\r\nHost: shop.example:8080\r\n\
     User-Agent: curl/8.5.0\r\nAccept: */*\r\n\
     traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
];
const REDIS: [&str; 2] = ["*2\r\n$3\r\nGET\r\n$8\r\nuser:471\r\n", "$2\r\nhi\r\n"];

/// Runs benchmarks on the first exchange.
struct Bench<'a> {
    criterion: &'a mut Criterion,
    name: &'static str,
    done: bool,
}

impl Sink for Bench<'_> {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        self.done = true;
        let (name, criterion) = (self.name, &mut *self.criterion);
        let routes = Routes::default();
        criterion.bench_function(&format!("{name}/facts"), |bencher| {
            let mut route = String::new();
            bencher.iter(|| {
                black_box(
                    Facts::of(exchange, &routes, &mut route)
                        .error_type
                        .is_some(),
                )
            });
        });
        for (what, edges) in [("aggregate", false), ("aggregate with edge", true)] {
            let options = Options {
                edges,
                ..Options::default()
            };
            let (metrics, mut scratch) = (Metrics::new(options), Scratch::default());
            let mut route = String::new();
            let facts = Facts::of(exchange, &routes, &mut route);
            let span = Some(([7; 16], [7; 8]));
            criterion.bench_function(&format!("{name}/{what}"), |bencher| {
                bencher.iter(|| metrics.record(exchange, &facts, span, &mut scratch));
            });
        }
        let mut spans = Spans::new(spans::Options::default());
        let mut route = String::new();
        let facts = Facts::of(exchange, &routes, &mut route);
        criterion.bench_function(&format!("{name}/span"), |bencher| {
            bencher.iter(|| {
                let place = spans.place(exchange, &facts);
                black_box(spans.make(exchange, &facts, &Ends::default(), place))
            });
        });
    }
}

fn run(criterion: &mut Criterion, name: &'static str, said: [&str; 2]) {
    let registry = Registry::builder()
        .with(wirespan_http::Http)
        .with(wirespan_redis::Redis);
    let registry = registry.build().expect("different names");
    let mut engine = Engine::new(Arc::new(registry), Config::default());
    let time = Nanos(1_798_761_599_000_000_001);
    let opening = Opening {
        number: 1,
        client: ([10, 0, 0, 1], 40_000).into(),
        server: ([10, 0, 0, 2], 6379).into(),
        roles: Roles::Known,
        start: Start::Beginning,
        side: Side::Wire,
        layer: Layer::Transport,
        process: None,
    };
    let mut bench = Bench {
        criterion,
        name,
        done: false,
    };
    let id = engine.open(&opening, time, &mut bench);
    for (dir, bytes) in [Direction::ToServer, Direction::ToClient]
        .into_iter()
        .zip(said)
    {
        engine.chunk(id, dir, 0, bytes.as_bytes(), time, &mut bench);
    }
    engine.finish(time, &mut bench);
    assert!(bench.done, "{name} gave no exchange");
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    run(&mut criterion, "http", HTTP);
    run(&mut criterion, "redis", REDIS);
    criterion.final_summary();
}
