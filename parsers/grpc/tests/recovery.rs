//! How soon after a loss exchanges are whole again.

mod common;

use common::*;
use wirespan_grpc::Http2;
use wirespan_testkit::{RECOVERY, recovers};

fn round_trip(n: usize) -> [Vec<u8>; 2] {
    let stream = 101 + 2 * n as u32;
    if n.is_multiple_of(2) {
        return [get(stream, "/x"), answer(stream, "404")];
    }
    let request = [
        call(stream, "/s/m"),
        frame(DATA, END_STREAM, stream, &messages(&[4])),
    ];
    let answer = [
        call_headers(stream),
        frame(DATA, 0, stream, &messages(&[4])),
        trailers(stream, "5"),
    ];
    [request.concat(), answer.concat()]
}

#[test]
fn streams_are_whole_again_soon() {
    let fixture = start()
        .client(&call(1, "/p.S/A"))
        .client(&frame(DATA, END_STREAM, 1, &messages(&[10])))
        .server(&call_headers(1))
        .server(&frame(DATA, 0, 1, &messages(&[5])))
        .server(&trailers(1, "0"))
        .client(&[get(3, "/x?q=1"), get(5, "/y")].concat())
        .server(&[answer(5, "404"), answer(3, "200")].concat());
    recovers(Http2, &fixture, 0, RECOVERY, round_trip);
}
