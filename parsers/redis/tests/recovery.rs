//! How soon after a loss exchanges are whole again.

use wirespan_redis::Redis;
use wirespan_testkit::{Fixture, RECOVERY, recovers};

const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
const HELLO: &[u8] = b"$5\r\nhello\r\n";

fn round_trip(n: usize) -> [Vec<u8>; 2] {
    let key = format!("key:{n:03}");
    let request = format!("*2\r\n$4\r\nINCR\r\n$7\r\n{key}\r\n");
    let answer = if n.is_multiple_of(2) {
        ":17\r\n"
    } else {
        "-WRONGTYPE Operation\r\n"
    };
    [request.into(), answer.into()]
}

#[test]
fn a_client_that_waits_is_paired_again_soon() {
    let fixture = Fixture::new()
        .client(GET)
        .server(HELLO)
        .client(b"*4\r\n$6\r\nLRANGE\r\n$1\r\nl\r\n$1\r\n0\r\n$2\r\n-1\r\n")
        .server(b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n*-1\r\n$2\r\nbc\r\n")
        .client(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n")
        .server(b"+OK\r\n");
    recovers(Redis, &fixture, 0, RECOVERY, round_trip);
}

#[test]
fn a_client_that_sends_in_bursts_and_waits_is_paired_again_soon() {
    let habit = Fixture::new()
        .client(&GET.repeat(3))
        .server(&HELLO.repeat(3))
        .client(GET)
        .server(HELLO);
    let fixture = habit
        .clone()
        .client(&GET.repeat(5))
        .server(&HELLO.repeat(5))
        .client(&GET.repeat(2))
        .server(&HELLO.repeat(2));
    recovers(Redis, &fixture, habit.len(), RECOVERY, round_trip);
}

#[test]
fn a_transaction_that_lost_a_part_does_not_last() {
    let fixture = Fixture::new()
        .client(GET)
        .server(HELLO)
        .client(b"*1\r\n$5\r\nMULTI\r\n")
        .server(b"+OK\r\n")
        .client(b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n")
        .server(b"+QUEUED\r\n")
        .client(b"*1\r\n$4\r\nEXEC\r\n")
        .server(b"*1\r\n:1\r\n");
    recovers(Redis, &fixture, 0, RECOVERY, round_trip);
}
