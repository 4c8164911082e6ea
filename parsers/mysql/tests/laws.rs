//! The laws that every parser keeps, over conversations that each show one side of MySQL.

mod packets;

use packets::*;
use wirespan_mysql::MySql;
use wirespan_testkit::{Fixture, laws, strangers};

#[test]
fn queries_one_after_another_keep_the_laws() {
    for style in Style::BOTH {
        let fixture = connected(style)
            .client(&query("SELECT c FROM t WHERE c = 'CANARY'"))
            .server(&result_set(1, &["a", "", "ccc"], style, 0))
            .client(&query("INSERT INTO t VALUES (1)"))
            .server(&ok(1))
            .client(&query("SELECT nothing"))
            .server(&err(1, 1054, "42S22"))
            .client(&command(0x0E, b""))
            .server(&ok(1))
            .client(&command(0x02, b"other"))
            .server(&err(1, 1049, "42000"))
            .client(&query("SELECT c FROM t LIMIT 0"))
            .server(&result_set(1, &[], style, 0))
            .client(&command(0x01, b""));
        laws(MySql, &fixture);
    }
}

#[test]
fn prepared_statements_keep_the_laws() {
    for style in Style::BOTH {
        let fixture = connected(style)
            .client(&prepare("SELECT c FROM t WHERE c = ?"))
            .server(&prepared(1, 1, 1, style))
            .client(&execute(1))
            .server(&result_set(1, &["\0a", "\0b"], style, 0))
            .client(&prepare("DELETE FROM t WHERE c = ?"))
            .server(&prepared(2, 0, 1, style))
            .client(&[command(0x18, &[2, 0, 0, 0, 0, 0, b'x']), execute(2)].concat())
            .server(&err(1, 1451, "23000"))
            .client(&command(0x1A, &[2, 0, 0, 0]))
            .server(&ok(1))
            .client(&command(0x19, &[1, 0, 0, 0]))
            .client(&query("SELECT nothing"))
            .server(&err(1, 1054, "42S22"));
        laws(MySql, &fixture);
    }
}

#[test]
fn several_statements_in_a_query_keep_the_laws() {
    for style in Style::BOTH {
        let second = 1 + packets(1, style);
        let fixture = connected(style)
            .client(&query(
                "SELECT c FROM t; INSERT INTO t VALUES (2); SELECT nothing",
            ))
            .server(&result_set(1, &["a"], style, MORE))
            .server(&ok_with(second, MORE))
            .server(&err(second + 1, 1054, "42S22"))
            .client(&query("INSERT INTO t VALUES (3); SELECT c FROM t"))
            .server(&ok_with(1, MORE))
            .server(&result_set(2, &["a"], style, 0))
            .client(&query("SELECT nothing; SELECT c FROM t"))
            .server(&err(1, 1054, "42S22"));
        laws(MySql, &fixture);
    }
}

#[test]
fn a_call_keeps_the_laws() {
    for style in Style::BOTH {
        let second = 1 + packets(1, style);
        let third = second + packets(2, style);
        let fixture = connected(style)
            .client(&query("CALL p(1)"))
            .server(&result_set(1, &["a"], style, MORE))
            .server(&result_set(second, &["b", "c"], style, MORE))
            .server(&ok(third))
            .client(&query("DROP TABLE nothing"))
            .server(&err(1, 1051, "42S02"))
            .client(&query("SELECT c FROM t"))
            .server(&result_set(1, &["a"], style, 0));
        laws(MySql, &fixture);
    }
}

#[test]
fn a_local_file_keeps_the_laws() {
    let fixture = connected(Style::Deprecated)
        .client(&query("LOAD DATA LOCAL INFILE 'f' INTO TABLE t"))
        .server(&packet(1, b"\xFBf"))
        .client(&packet(2, b"1,2\n3,4\n"))
        .client(&packet(3, b"5,6\n"))
        .client(&packet(4, b""))
        .server(&ok(5))
        .client(&query("SELECT nothing"))
        .server(&err(1, 1054, "42S22"));
    laws(MySql, &fixture);
}

#[test]
fn authentication_in_several_rounds_keeps_the_laws() {
    let fixture = Fixture::new()
        .server(&greeting("5.5.5-10.11.6-MariaDB"))
        .client(&login(1, 0, None))
        .server(&packet(
            2,
            b"\xFEmysql_native_password\0saltsaltsaltsaltsalt\0",
        ))
        .client(&packet(3, b"01234567890123456789"))
        .server(&packet(4, &[1, 4]))
        .client(&packet(5, b"CANARY\0"))
        .server(&ok(6))
        .client(&command(0x11, b"other\0\x04CANAshop\0"))
        .server(&packet(
            1,
            b"\xFEmysql_native_password\0saltsaltsaltsaltsalt\0",
        ))
        .client(&packet(2, b"01234567890123456789"))
        .server(&ok(3))
        .client(&command(0x1F, b""))
        .server(&ok(1))
        .client(&query("SELECT nothing"))
        .server(&err(1, 1054, "42S22"));
    laws(MySql, &fixture);
}

#[test]
fn cursors_keep_the_laws() {
    let style = Style::Eof;
    let head = [packet(1, &[1]), column(2), eof_with(3, 0x40)].concat();
    let fixture = connected(style)
        .client(&prepare("SELECT c FROM t"))
        .server(&prepared(1, 1, 0, style))
        .client(&execute(1))
        .server(&head)
        .client(&command(0x1C, &[1, 0, 0, 0, 2, 0, 0, 0]))
        .server(
            &[
                packet(1, b"\0\0\x01a"),
                packet(2, b"\0\0\x01b"),
                eof_with(3, 0x40),
            ]
            .concat(),
        )
        .client(&command(0x1C, &[9, 0, 0, 0, 2, 0, 0, 0]))
        .server(&err(1, 1243, "HY000"));
    laws(MySql, &fixture);
}

#[test]
fn a_prepare_with_its_execution_keeps_the_laws() {
    let style = Style::Deprecated;
    let fixture = connected(style)
        .client(&[prepare("UPDATE t SET c = ?"), execute(u32::MAX)].concat())
        .server(&prepared(1, 0, 1, style))
        .server(&ok(1))
        .client(&[prepare("SELECT nothing"), execute(u32::MAX)].concat())
        .server(&err(1, 1054, "42S22"))
        .server(&err(1, 1243, "HY000"));
    laws(MySql, &fixture);
}

#[test]
fn no_other_protocol_is_taken_for_mysql() {
    let other = |bytes: &[u8]| Fixture::new().client(bytes);
    strangers(
        &MySql,
        &[
            other(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").server(b"HTTP/1.1 200 OK\r\n\r\n"),
            other(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
            other(b"*1\r\n$4\r\nPING\r\n").server(b"+PONG\r\n"),
            other(b"\x16\x03\x01\0\x2f\x01\0\0\x2b\x03\x03"),
            other(b"\0\0\0\x08\x04\xd2\x16\x2f").server(b"N"),
            other(b"\0\0\0\x29\0\x03\0\0user\0app\0database\0shop\0\0")
                .server(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")
                .client(b"Q\0\0\0\x0dSELECT 1\0"),
            other(b"\x01\x01\0\x58\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            Fixture::new()
                .server(b"220 mail ESMTP\r\n")
                .client(b"EHLO h\r\nQUIT\r\n"),
            Fixture::new().server(b"SSH-2.0-OpenSSH_9.6\r\n"),
        ],
    );
}
