//! The laws that every parser keeps.

use wirespan_example::Example;
use wirespan_testkit::{Fixture, RECOVERY, laws, recovers};

#[test]
fn requests_with_and_without_bodies_and_errors() {
    laws(
        Example,
        &Fixture::new()
            .client(b"EXAMPLE/1\r\n")
            .client(b"GET item:1\r\n")
            .server(b"OK 5\r\nhello")
            .client(b"PUT item:2 8\r\nnew data")
            .server(b"OK\r\n")
            .client(b"GET item:3\r\n")
            .server(b"ERR NOTFOUND\r\n")
            .client(b"DELETE item:1\r\n")
            .server(b"OK\r\n"),
    );
}

#[test]
fn pipelined_requests() {
    laws(
        Example,
        &Fixture::new()
            .client(b"EXAMPLE/1\r\nGET item:1\r\nGET item:2\r\nPUT item:3 3\r\nabc")
            .server(b"OK 2\r\nhi")
            .server(b"ERR NOTFOUND\r\nOK\r\n")
            .client(b"GET item:4\r\nGET item:5\r\n")
            .server(b"ERR DENIED\r\nOK 3\r\nend"),
    );
}

#[test]
fn after_a_loss_requests_are_paired_again_soon() {
    let fixture = Fixture::new()
        .client(b"EXAMPLE/1\r\nGET item:1\r\n")
        .server(b"OK 5\r\nhello")
        .client(b"PUT item:2 8\r\nnew data")
        .server(b"OK\r\n");
    recovers(Example, &fixture, 0, RECOVERY, |n| {
        let request = format!("GET item:{n}\r\n");
        [request.into(), b"ERR NOTFOUND\r\n".to_vec()]
    });
}
