//! The laws that every parser keeps.
#![allow(missing_docs)]

mod common;

use common::*;
use wirespan_postgres::Postgres;
use wirespan_testkit::{Fixture, laws, strangers};

#[test]
fn simple_queries_keep_the_laws() {
    let mut fixture = Fixture::new()
        .client(&ssl_request())
        .server(b"N")
        .client(&startup())
        .server(&welcome());
    for i in 0..4 {
        fixture = fixture
            .client(&query(&format!("SELECT a{i} FROM t WHERE b = 'c'")))
            .server(&[row_description(), row(b"some value"), row(b"another")].concat())
            .server(&[complete("SELECT 2"), ready()].concat())
            .client(&query(&format!("UPDATE t SET a{i} = 1")))
            .server(&[error("23505"), ready()].concat());
    }
    laws(Postgres, &fixture);
}

#[test]
fn pipelines_keep_the_laws() {
    let mut fixture = Fixture::new().client(&startup()).server(&welcome());
    for i in 0..3 {
        let text = |part: char| format!("SELECT {part}{i}");
        let prepare = [parse(&format!("s{i}"), &text('p')), sync()].concat();
        let batch = [
            extended(&text('a')),
            extended(&text('b')),
            extended(&text('c')),
            sync(),
        ];
        let second = [bind("", &format!("s{i}")), execute(""), sync()];
        let answers = [
            extended_answer("SELECT 1"),
            message(b'1', b""),
            error("42703"),
            ready(),
            message(b'2', b""),
            row(b"1"),
            complete("SELECT 1"),
            ready(),
        ];
        fixture = fixture
            .client(&prepare)
            .server(&[message(b'1', b""), ready()].concat())
            .client(&[batch.concat(), second.concat()].concat())
            .server(&answers.concat());
    }
    laws(Postgres, &fixture);
}

#[test]
fn copies_keep_the_laws() {
    let fixture = Fixture::new()
        .client(&startup())
        .server(&welcome())
        .client(&query("COPY t FROM STDIN"))
        .server(&message(b'G', &[0, 0, 1, 0, 0]))
        .client(&[message(b'd', b"1\t2\n"), message(b'c', b"")].concat())
        .server(&[complete("COPY 1"), ready()].concat())
        .client(&query("COPY t TO STDOUT"))
        .server(&[message(b'H', &[0, 0, 1, 0, 0]), message(b'd', b"1\t2\n")].concat())
        .server(&[message(b'c', b""), complete("COPY 1"), ready()].concat())
        .client(&query("SELECT 1"))
        .server(&[row_description(), complete("SELECT 1"), ready()].concat());
    laws(Postgres, &fixture);
}

#[test]
fn other_protocols_are_not_taken_for_it() {
    let kafka = b"\0\0\0\x1b\0\x03\0\0\0\0\0\x01\0\x07rdkafka\0\0\0\x01\0\x01t";
    let mysql = b"\x4a\0\0\0\x0a8.0.31\0\x08\0\0\0abcdefgh\0\xff\xf7\xff\x02\0\xff\xdf\x15\0\0";
    let mongodb = b"\x3a\0\0\0\x01\0\0\0\0\0\0\0\xd4\x07\0\0\0\0\0\0admin.$cmd\0\0\0\0\0\x01\0\0\0";
    let others = [
        Fixture::new()
            .client(b"GET / HTTP/1.1\r\n\r\n")
            .server(b"HTTP/1.1 200 OK\r\n\r\n"),
        Fixture::new()
            .client(b"*1\r\n$4\r\nPING\r\n")
            .server(b"+PONG\r\n"),
        Fixture::new().client(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        Fixture::new()
            .client(kafka)
            .server(b"\0\0\0\x08\0\0\0\x01\0\0\0\0"),
        Fixture::new()
            .server(mysql)
            .client(b"\x21\0\0\x01\x85\xa6\xff\x01\0\0\0\x01"),
        Fixture::new().client(mongodb),
        Fixture::new()
            .client(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03")
            .server(b"\x16\x03\x03"),
        Fixture::new()
            .client(b"SSH-2.0-OpenSSH_9.2\r\n")
            .server(b"SSH-2.0-OpenSSH_9.2\r\n"),
        Fixture::new()
            .client(b"EHLO me\r\n")
            .server(b"220 here ESMTP\r\n"),
        Fixture::new().client(&[0; 64]).server(&[0; 64]),
    ];
    strangers(&Postgres, &others);
}
