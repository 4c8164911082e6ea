use wirespan_engine::api::Direction;
use wirespan_engine::{Config, Engine, Layer, Opening, Process, Registry, Roles, Start};

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Passes exchanges on to a board.
struct To<'a>(&'a mut Board, Nanos);

impl wirespan_engine::Sink for To<'_> {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        self.0.record(exchange, &Ends::default(), self.1);
    }
}

fn board() -> Board {
    Board::new(10 * SECOND, Arc::default())
}

/// One request of `path` at `second`, answered with `status` after as many milliseconds.
fn asks(board: &mut Board, service: &str, path: &str, status: u16, second: u64, millis: u64) {
    let registry = Registry::builder().with(wirespan_http::Http).build();
    let mut engine = Engine::new(Arc::new(registry.expect("one name")), Config::default());
    let opening = Opening {
        number: 0,
        client: ([10, 0, 0, 1], 40_000).into(),
        server: ([10, 0, 0, 2], 80).into(),
        roles: Roles::Known,
        start: Start::Beginning,
        side: Side::Server,
        layer: Layer::Transport,
        process: Some(Process::new(7, service.as_bytes())),
    };
    let began = Nanos(1_800_000_000 * SECOND + second * SECOND);
    let ended = Nanos(began.0 + millis * 1_000_000);
    let sink = &mut To(board, ended);
    let id = engine.open(&opening, began, sink);
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    engine.chunk(id, Direction::ToServer, 0, request.as_bytes(), began, sink);
    let response = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
    engine.chunk(id, Direction::ToClient, 0, response.as_bytes(), ended, sink);
    engine.finish(ended, sink);
}

fn at(second: u64) -> Nanos {
    Nanos(1_800_000_000 * SECOND + second * SECOND)
}

#[test]
fn a_request_is_counted_in_each_table_and_in_all() {
    let mut board = board();
    asks(&mut board, "shop", "/cart/17", 200, 0, 5);
    asks(&mut board, "shop", "/cart/18", 500, 1, 9);
    let picture = board.picture(at(2), 3);
    let [service] = &picture.services[..] else {
        panic!("{:?}", picture.services)
    };
    assert_eq!((&*service.service, &*service.side), ("shop", "server"));
    let [operation] = &picture.operations[..] else {
        panic!("{:?}", picture.operations)
    };
    assert_eq!(operation.operation, "GET /cart/{id}");
    let [edge] = &picture.edges[..] else {
        panic!("{:?}", picture.edges)
    };
    assert_eq!((&*edge.service, &*edge.peer), ("10.0.0.1", "shop"));
    for of in [
        service.figures,
        operation.figures,
        edge.figures,
        picture.total,
    ] {
        assert_eq!((of.count, of.errors, of.ever), (2, 1, 2));
        assert_eq!(of.max, Some(9_000_000));
    }
    assert_eq!(picture.lost_events, 3);
}

#[test]
fn what_is_older_than_both_halves_is_forgotten_but_for_its_number() {
    let mut board = board();
    asks(&mut board, "shop", "/", 200, 0, 5);
    asks(&mut board, "shop", "/", 200, 12, 5);
    assert_eq!(board.picture(at(13), 0).total.count, 2);
    assert_eq!(board.picture(at(23), 0).total.count, 1);
    let picture = board.picture(at(60), 0);
    assert_eq!((picture.total.count, picture.total.ever), (0, 2));
    assert_eq!(picture.services[0].figures.p50, None);
    assert!(picture.slowest.is_empty());
    assert!(board.picture(at(400), 0).services.is_empty());
}

#[test]
fn the_rate_is_over_the_time_that_was_counted() {
    let mut board = board();
    assert!(board.picture(at(0), 0).seconds.abs() < 1e-9);
    for second in 1..=30 {
        asks(&mut board, "shop", "/", 200, second, 5);
        let picture = board.picture(at(second), 0);
        let counted = picture.total.count as f64;
        // Both ends of the time may fall on a request.
        assert!((counted - picture.seconds).abs() < 1.1, "{picture:?}");
        assert!(picture.seconds < 20.5, "{picture:?}");
    }
}

#[test]
fn the_slowest_come_first_and_the_latest_failure() {
    let mut board = board();
    for i in 0..80 {
        asks(
            &mut board,
            "shop",
            &format!("/{i}"),
            200,
            0,
            (i * 37) % 80 + 1,
        );
    }
    asks(&mut board, "shop", "/first", 500, 1, 1);
    asks(&mut board, "shop", "/second", 503, 2, 1);
    let picture = board.picture(at(3), 0);
    let durations: Vec<_> = picture.slowest.iter().map(|r| r.duration).collect();
    let expected: Vec<_> = (31..=80).rev().map(|ms| Some(ms * 1_000_000)).collect();
    assert_eq!(durations, expected);
    let failed: Vec<_> = picture.failed.iter().map(|r| &*r.target).collect();
    assert_eq!(failed, ["/second", "/first"]);
}

#[test]
fn rows_are_bounded_and_none_is_lost() {
    let mut board = board();
    for i in 0..MAX_ROWS + 20 {
        asks(&mut board, &format!("s{i}"), "/", 200, 0, 5);
    }
    let picture = board.picture(at(1), 0);
    assert_eq!(picture.services.len(), MAX_ROWS + 1);
    let others = picture.services.iter().find(|row| row.service == OTHERS);
    assert_eq!(others.map(|row| row.figures.count), Some(20));
    let sum: u64 = picture.services.iter().map(|row| row.figures.count).sum();
    assert_eq!(sum, picture.total.count);
}

#[test]
fn text_from_the_wire_cannot_drive_the_terminal() {
    let mut board = board();
    asks(&mut board, "a\u{1b}[2J", "/\u{202e}x", 500, 0, 5);
    let picture = board.picture(at(1), 0);
    let text = serde_json::to_string(&picture).expect("JSON");
    assert!(!text.contains('\u{202e}'), "{text}");
    assert!(!picture.services[0].service.contains('\u{1b}'));
}
