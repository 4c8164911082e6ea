//! The laws that every parser keeps, over conversations that each show one side of Redis.

use wirespan_redis::Redis;
use wirespan_testkit::{Fixture, laws, strangers};

#[test]
fn commands_one_after_another_keep_the_laws() {
    let fixture = Fixture::new()
        .client(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n")
        .server(b"+OK\r\n")
        .client(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        .server(b"$5\r\nhello\r\n")
        .client(b"*3\r\n$5\r\nLPUSH\r\n$1\r\nk\r\n$1\r\nx\r\n")
        .server(b"-WRONGTYPE Operation against a key\r\n")
        .client(b"*1\r\n$4\r\nPING\r\n")
        .server(b"+PONG\r\n")
        .client(b"*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n")
        .server(b"$-1\r\n");
    laws(Redis, &fixture);
}

#[test]
fn pipelined_commands_keep_the_laws() {
    let fixture = Fixture::new()
        .client(
            b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n*1\r\n$4\r\nPING\r\n",
        )
        .server(b":1\r\n-ERR value is not an integer\r\n")
        .server(b"+PONG\r\n")
        .client(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nl\r\n")
        .server(b"$1\r\n1\r\n-WRONGTYPE Operation\r\n");
    laws(Redis, &fixture);
}

#[test]
fn nested_replies_keep_the_laws() {
    let fixture = Fixture::new()
        .client(b"*1\r\n$4\r\nEXEC\r\n")
        .server(b"-ERR EXEC without MULTI\r\n")
        .client(b"*4\r\n$6\r\nLRANGE\r\n$1\r\nl\r\n$1\r\n0\r\n$2\r\n-1\r\n")
        .server(b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n*-1\r\n$2\r\nbc\r\n")
        .client(b"*2\r\n$3\r\nGET\r\n$1\r\nl\r\n")
        .server(b"-WRONGTYPE Operation\r\n");
    laws(Redis, &fixture);
}

#[test]
fn a_transaction_keeps_the_laws() {
    let fixture = Fixture::new()
        .client(b"*1\r\n$5\r\nMULTI\r\n")
        .server(b"+OK\r\n")
        .client(b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n")
        .server(b"+QUEUED\r\n")
        .client(b"*1\r\n$6\r\nNOSUCH\r\n")
        .server(b"-ERR unknown command\r\n")
        .client(b"*1\r\n$4\r\nEXEC\r\n")
        .server(b"-EXECABORT Transaction discarded\r\n");
    laws(Redis, &fixture);
}

#[test]
fn resp3_with_pushes_keeps_the_laws() {
    let fixture = Fixture::new()
        .client(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n")
        .server(b"%1\r\n$5\r\nproto\r\n:3\r\n")
        .client(b"*2\r\n$7\r\nHGETALL\r\n$1\r\nh\r\n")
        .server(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n%1\r\n$1\r\nf\r\n,1.5\r\n")
        .client(b"*2\r\n$3\r\nGET\r\n$1\r\nh\r\n")
        .server(b"-WRONGTYPE Operation\r\n");
    laws(Redis, &fixture);
}

#[test]
fn subscriptions_keep_the_laws() {
    let fixture = Fixture::new()
        .client(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        .server(b"$-1\r\n")
        .client(b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n")
        .server(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n")
        .server(b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n")
        .client(b"*2\r\n$11\r\nUNSUBSCRIBE\r\n$4\r\nnews\r\n")
        .server(b"*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n");
    laws(Redis, &fixture);
}

#[test]
fn inline_commands_keep_the_laws() {
    let fixture = Fixture::new()
        .client(b"PING\r\n")
        .server(b"+PONG\r\n")
        .client(b"SET k v\r\n")
        .server(b"+OK\r\n")
        .client(b"LPUSH k x\r\n")
        .server(b"-WRONGTYPE Operation\r\n");
    laws(Redis, &fixture);
}

#[test]
fn no_other_protocol_is_taken_for_redis() {
    let other = |bytes: &[u8]| Fixture::new().client(bytes);
    strangers(
        &Redis,
        &[
            other(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").server(b"HTTP/1.1 200 OK\r\n\r\n"),
            other(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
            other(b"EXAMPLE/1\r\nGET item:1\r\n").server(b"OK 5\r\nhello"),
            other(b"get key\r\n").server(b"VALUE key 0 1\r\nx\r\nEND\r\n"),
            other(b"\x16\x03\x01\0\x2f\x01\0\0\x2b\x03\x03"),
            other(b"\0\0\0\x08\x04\xd2\x16\x2f").server(b"N"),
            other(b"a login u p\r\n").server(b"* OK IMAP4 ready\r\na OK\r\n"),
            other(b"USER u\r\n").server(b"+OK POP3 ready\r\n-ERR no\r\n"),
            Fixture::new()
                .server(b"220 mail ESMTP\r\n")
                .client(b"EHLO h\r\nQUIT\r\n"),
        ],
    );
}
