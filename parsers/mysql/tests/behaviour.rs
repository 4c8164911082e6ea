//! Commands and their responses, one behaviour per test.

mod packets;

use packets::*;
use wirespan_mysql::MySql;
use wirespan_parser_api::Outcome;
use wirespan_testkit::{Fixture, Run, Seen};

/// What is seen behind the login.
fn seen(fixture: &Fixture) -> Vec<Seen> {
    let run = Run::of(MySql, fixture);
    assert!(run.stats.errors.is_empty(), "{:?}", run.stats.errors);
    let mut seen = run.seen;
    seen.retain(|seen| seen.operation != "HANDSHAKE");
    seen
}

/// Operation, target and status of each.
fn told(seen: &[Seen]) -> Vec<(&str, &str, &str)> {
    seen.iter()
        .map(|seen| (&*seen.operation, &*seen.target, &*seen.status))
        .collect()
}

fn has(seen: &Seen, key: &str, value: &str) -> bool {
    let wanted = format!("Attr {{ key: Key({key:?}), value: Str({value:?}) }}");
    seen.attrs.contains(&wanted)
}

fn names(seen: &Seen, key: &str) -> bool {
    seen.attrs
        .iter()
        .any(|attr| attr.contains(&format!("{key:?}")))
}

#[test]
fn a_login_is_an_exchange_with_its_schema() {
    let run = Run::of(MySql, &connected(Style::Eof));
    assert_eq!(told(&run.seen), [("HANDSHAKE", "", "OK")]);
    assert!(has(&run.seen[0], "db.namespace", "shop"));
    assert!(has(&run.seen[0], "db.system.name", "mysql"));
    assert_eq!(run.seen[0].response_bytes, 11);
    assert!(
        !format!("{run:?}").contains("CANA"),
        "a credential left the parser"
    );
}

#[test]
fn a_version_of_mariadb_is_told_apart() {
    for version in ["5.5.5-10.11.6-MariaDB-log", "11.4.2-MariaDB"] {
        let fixture = Fixture::new()
            .server(&greeting(version))
            .client(&login(1, 0, None))
            .server(&ok(2));
        assert!(has(
            &Run::of(MySql, &fixture).seen[0],
            "db.system.name",
            "mariadb"
        ));
    }
}

#[test]
fn a_refused_login_has_number_and_sqlstate() {
    let fixture = Fixture::new()
        .server(&greeting("8.4.0"))
        .client(&login(1, 0, None))
        .server(&err(2, 1045, "28000"));
    let run = Run::of(MySql, &fixture);
    assert_eq!(told(&run.seen), [("HANDSHAKE", "", "1045")]);
    assert_eq!(run.seen[0].outcome, Some(Outcome::Error));
    assert!(has(&run.seen[0], "wirespan.mysql.sqlstate", "28000"));
    assert!(!format!("{run:?}").contains("CANARY"));
}

#[test]
fn a_server_that_refuses_instead_of_greeting_is_reported() {
    let refusal = packet(0, b"\xFF\x10\x04Too many connections");
    let run = Run::of(MySql, &Fixture::new().server(&refusal));
    assert_eq!(told(&run.seen), [("HANDSHAKE", "", "1040")]);
    assert_eq!(
        (run.seen[0].request_bytes, run.seen[0].response_bytes),
        (0, 27)
    );
}

#[test]
fn a_connection_that_turns_to_tls_is_left_alone() {
    let fixture = Fixture::new()
        .server(&greeting("8.4.0"))
        .client(&tls_request())
        .client(b"\x16\x03\x01\0\x2f\x01\0\0\x2b\x03\x03");
    let run = Run::of(MySql, &fixture);
    assert!(run.seen.is_empty() && run.stats.errors.is_empty());
    assert_eq!(run.stats.opaque.get("tls"), Some(&1));
}

#[test]
fn a_query_is_reported_without_literals() {
    let fixture = connected(Style::Deprecated)
        .client(&query(
            "/* a comment */ select c from t where c = 'CANARY' and d = 5",
        ))
        .server(&result_set(1, &["CANARY"], Style::Deprecated, 0));
    let seen = seen(&fixture);
    assert_eq!(
        told(&seen),
        [("SELECT", "select c from t where c = ? and d = ?", "OK")]
    );
    assert!(has(
        &seen[0],
        "db.query.text",
        "select c from t where c = ? and d = ?"
    ));
    assert!(has(&seen[0], "db.query.summary", "select t"));
    assert!(has(&seen[0], "db.namespace", "shop"));
    assert!(seen[0].flags.is_empty());
}

#[test]
fn an_error_has_number_and_sqlstate() {
    let fixture = connected(Style::Eof)
        .client(&query("INSERT INTO t VALUES (1)"))
        .server(&err(1, 1062, "23000"));
    let seen = seen(&fixture);
    assert_eq!(
        (&*seen[0].status, seen[0].outcome),
        ("1062", Some(Outcome::Error))
    );
    assert!(has(&seen[0], "db.response.status_code", "1062"));
    assert!(has(&seen[0], "wirespan.mysql.sqlstate", "23000"));
}

#[test]
fn an_error_among_rows_is_the_status() {
    let mut rows = result_set(1, &["a"], Style::Eof, 0);
    rows.truncate(rows.len() - 9);
    let fixture = connected(Style::Eof)
        .client(&query("SELECT c FROM t"))
        .server(&rows)
        .server(&err(5, 1317, "70100"));
    assert_eq!(
        told(&seen(&fixture)),
        [("SELECT", "SELECT c FROM t", "1317")]
    );
}

#[test]
fn the_schema_follows_the_connection() {
    let ping = command(0x0E, b"");
    let tracked = packet(1, b"\0\0\0\x02\x40\0\0\0\x08\x01\x06\x05local");
    let fixture = connected(Style::Eof)
        .client(&command(0x02, b"one"))
        .server(&ok(1))
        .client(&ping)
        .server(&ok(1))
        .client(&query("use `two`"))
        .server(&ok(1))
        .client(&ping)
        .server(&ok(1))
        .client(&command(0x02, b"none"))
        .server(&err(1, 1049, "42000"))
        .client(&ping)
        .server(&ok(1))
        .client(&query("SET @x = 1"))
        .server(&tracked)
        .client(&ping)
        .server(&ok(1))
        .client(&command(0x11, b"app\0\0three\0\x08\0"))
        .server(&ok(1))
        .client(&ping)
        .server(&ok(1));
    let seen = seen(&fixture);
    let pings = seen.iter().filter(|seen| seen.operation == "PING");
    for (ping, schema) in pings.zip(["one", "two", "two", "local", "three"]) {
        assert!(has(ping, "db.namespace", schema), "{schema}: {ping:?}");
    }
    assert_eq!((&*seen[0].operation, &*seen[0].target), ("INIT_DB", "one"));
}

#[test]
fn an_executed_statement_reports_its_text() {
    for style in Style::BOTH {
        let fixture = connected(style)
            .client(&prepare("SELECT c FROM t WHERE c = ?"))
            .server(&prepared(7, 1, 1, style))
            .client(&execute(7))
            .server(&result_set(1, &["\0a"], style, 0))
            .client(&execute(8))
            .server(&err(1, 1243, "HY000"));
        let text = "SELECT c FROM t WHERE c = ?";
        let seen = seen(&fixture);
        let expected = [
            ("PREPARE", text, "OK"),
            ("SELECT", text, "OK"),
            ("", "", "1243"),
        ];
        assert_eq!(told(&seen), expected);
        assert!(has(&seen[1], "db.query.text", text));
        assert!(!names(&seen[2], "db.query.text"));
    }
}

#[test]
fn a_reset_connection_forgets_its_statements() {
    let fixture = connected(Style::Deprecated)
        .client(&prepare("DELETE FROM t"))
        .server(&prepared(1, 0, 0, Style::Deprecated))
        .client(&command(0x1F, b""))
        .server(&ok(1))
        .client(&execute(1))
        .server(&err(1, 1243, "HY000"));
    let seen = seen(&fixture);
    assert_eq!(
        told(&seen)[1..],
        [("RESET_CONNECTION", "", "OK"), ("", "", "1243")]
    );
}

#[test]
fn mariadb_executes_before_it_knows_the_id() {
    let fixture = connected(Style::Deprecated)
        .client(&[prepare("UPDATE t SET c = ?"), execute(u32::MAX)].concat())
        .server(&[prepared(1, 0, 1, Style::Deprecated), ok(1)].concat());
    let seen = seen(&fixture);
    let text = "UPDATE t SET c = ?";
    assert_eq!(
        told(&seen),
        [("PREPARE", text, "OK"), ("UPDATE", text, "OK")]
    );
}

#[test]
fn many_rows_of_parameters_are_one_execution() {
    let bulk = command(0xFA, &[1, 0, 0, 0, 128, 0, 3, 0, 0, 1, b'a', 0, 1, b'b']);
    let fixture = connected(Style::Eof)
        .client(&prepare("INSERT INTO t VALUES (?)"))
        .server(&prepared(1, 0, 1, Style::Eof))
        .client(&bulk)
        .server(&ok(1));
    assert_eq!(
        told(&seen(&fixture))[1],
        ("INSERT", "INSERT INTO t VALUES (?)", "OK")
    );
}

#[test]
fn fetched_rows_are_exchanges() {
    let fixture = connected(Style::Deprecated)
        .client(&prepare("SELECT c FROM t"))
        .server(&prepared(1, 1, 0, Style::Deprecated))
        .client(&command(0x17, &[1, 0, 0, 0, 1, 1, 0, 0, 0]))
        .server(&[packet(1, &[1]), column(2), ok_eof(3, 0x40)].concat())
        .client(&command(0x1C, &[1, 0, 0, 0, 9, 0, 0, 0]))
        .server(&[packet(1, b"\0\0\x01a"), ok_eof(2, 0x80)].concat());
    let text = "SELECT c FROM t";
    let expected = [
        ("PREPARE", text, "OK"),
        ("SELECT", text, "OK"),
        ("FETCH", text, "OK"),
    ];
    assert_eq!(told(&seen(&fixture)), expected);
}

#[test]
fn commands_without_response_are_no_exchanges() {
    let fixture = connected(Style::Eof)
        .client(&command(0x18, &[1, 0, 0, 0, 0, 0, b'x']))
        .client(&command(0x19, &[1, 0, 0, 0]))
        .client(&command(0x0E, b""))
        .server(&ok(1))
        .client(&command(0x01, b""));
    assert_eq!(told(&seen(&fixture)), [("PING", "", "OK")]);
}

#[test]
fn each_statement_of_a_query_is_an_exchange() {
    for style in Style::BOTH {
        let fixture = connected(style)
            .client(&query("SELECT c FROM t; DELETE FROM t;"))
            .server(&result_set(1, &["a"], style, MORE))
            .server(&ok(1 + packets(1, style)));
        let seen = seen(&fixture);
        let expected = [
            ("SELECT", "SELECT c FROM t;", "OK"),
            ("DELETE", "DELETE FROM t;", "OK"),
        ];
        assert_eq!(told(&seen), expected);
        let sizes: u64 = seen.iter().map(|seen| seen.request_bytes).sum();
        assert_eq!(sizes, query("SELECT c FROM t; DELETE FROM t;").len() as u64);
        assert_eq!(seen[1].response_bytes, 11);
    }
}

#[test]
fn statements_behind_one_that_fails_have_no_status() {
    let fixture = connected(Style::Eof)
        .client(&query("DELETE FROM a; DELETE FROM b; DELETE FROM c"))
        .server(&ok_with(1, MORE))
        .server(&err(2, 1146, "42S02"))
        .client(&command(0x0E, b""))
        .server(&ok(1));
    let mut all = seen(&fixture);
    all.sort_by_key(|seen| seen.offset);
    let statuses: Vec<_> = all.iter().map(|seen| &*seen.status).collect();
    assert_eq!(statuses, ["OK", "1146", "", "OK"]);
}

#[test]
fn a_call_among_other_statements_takes_its_results() {
    let style = Style::Deprecated;
    let fixture = connected(style)
        .client(&query("CALL p(); DELETE FROM t"))
        .server(&result_set(1, &["a"], style, MORE))
        .server(&result_set(5, &["b"], style, MORE))
        .server(&ok_with(9, MORE))
        .server(&ok(10));
    let expected = [
        ("CALL", "CALL p();", "OK"),
        ("DELETE", "DELETE FROM t", "OK"),
    ];
    assert_eq!(told(&seen(&fixture)), expected);
}

#[test]
fn a_stored_program_is_one_statement() {
    for text in [
        "CREATE DEFINER=`a`@`b` PROCEDURE p() BEGIN SELECT 1; SELECT 2; END",
        "BEGIN NOT ATOMIC SELECT 1; SELECT 2; END",
        "IF 1 THEN SELECT 1; END IF",
    ] {
        let fixture = connected(Style::Eof).client(&query(text)).server(&ok(1));
        assert_eq!(seen(&fixture).len(), 1, "{text}");
    }
    let tables = query("CREATE TABLE a (event INT); CREATE TABLE b (c INT)");
    let fixture = connected(Style::Eof)
        .client(&tables)
        .server(&ok_with(1, MORE))
        .server(&ok(2));
    assert_eq!(seen(&fixture).len(), 2);
}

#[test]
fn statements_are_not_parted_where_only_one_is_allowed() {
    let mut login = login(1, 0, None);
    login[6] = 0x08;
    let fixture = Fixture::new()
        .server(&greeting("8.4.0"))
        .client(&login)
        .server(&ok(2))
        .client(&query("SELECT 1; SELECT 2"))
        .server(&err(1, 1064, "42000"));
    assert_eq!(
        told(&seen(&fixture)),
        [("SELECT", "SELECT ?; SELECT ?", "1064")]
    );
}

#[test]
fn a_file_that_the_client_sends_is_skipped() {
    let data: Vec<u8> = query("DROP TABLE t").repeat(3);
    let fixture = connected(Style::Eof)
        .client(&query("LOAD DATA LOCAL INFILE 'CANARY' INTO TABLE t"))
        .server(&packet(1, b"\xFBCANARY"))
        .client(&packet(2, &data))
        .client(&packet(0, &data))
        .client(&packet(1, b""))
        .server(&ok(2))
        .client(&command(0x0E, b""))
        .server(&ok(1));
    let seen = seen(&fixture);
    let text = "LOAD DATA LOCAL INFILE ? INTO TABLE t";
    assert_eq!(told(&seen), [("LOAD", text, "OK"), ("PING", "", "OK")]);
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_trace_context_is_read_from_a_comment() {
    let text = format!("SELECT 1 /*traceparent='{TRACE}'*/");
    let fixture = connected(Style::Eof).client(&query(&text)).server(&ok(1));
    let seen = seen(&fixture);
    assert!(seen[0].trace.is_some());
    assert_eq!(seen[0].target, "SELECT ?");
}

#[test]
fn a_trace_context_is_read_from_query_attributes() {
    let mut attributes = vec![2, 1, 0b10, 1];
    attributes.extend(b"\xFE\0\x0btraceparent\x08\0\x01n");
    attributes.push(TRACE.len() as u8);
    attributes.extend(TRACE.bytes());
    let parameters = [&attributes[..1], &attributes[2..]].concat();
    attributes.extend(b"SELECT 1");
    let execute = [&[1, 0, 0, 0, 8, 1, 0, 0, 0][..], &parameters].concat();
    let fixture = connected(Style::Eof)
        .client(&command(0x03, &attributes))
        .server(&ok(1))
        .client(&prepare("DELETE FROM t"))
        .server(&prepared(1, 0, 0, Style::Eof))
        .client(&command(0x17, &execute))
        .server(&ok(1))
        .client(&command(0x03, b"\0\x01SELECT 2"))
        .server(&ok(1));
    let seen = seen(&fixture);
    let carried: Vec<_> = seen.iter().map(|seen| seen.trace.is_some()).collect();
    assert_eq!(carried, [true, false, true, false]);
    assert_eq!(told(&seen)[0], ("SELECT", "SELECT ?", "OK"));
    assert_eq!(told(&seen)[3], ("SELECT", "SELECT ?", "OK"));
}

#[test]
fn progress_is_no_error() {
    let progress = packet(1, b"\xFF\xFF\xFF\x01\x01\x02\0\0\0\x05Stage");
    let fixture = connected(Style::Eof)
        .client(&query("ALTER TABLE t ADD d INT"))
        .server(&progress)
        .server(&ok(2));
    assert_eq!(
        told(&seen(&fixture)),
        [("ALTER", "ALTER TABLE t ADD d INT", "OK")]
    );
}

#[test]
fn result_sets_without_definitions_are_read() {
    let bare = [packet(1, &[1, 0]), packet(2, b"\x01a"), ok_eof(3, 0)].concat();
    let fixture = connected(Style::Deprecated)
        .client(&query("SELECT c FROM t"))
        .server(&bare)
        .client(&command(0x0E, b""))
        .server(&ok(1));
    let seen = seen(&fixture);
    assert_eq!(seen[0].response_bytes, bare.len() as u64);
    assert_eq!(seen.len(), 2);
}

#[test]
fn odd_responses_end_where_they_end() {
    let fixture = connected(Style::Eof)
        .client(&command(0x09, b""))
        .server(&packet(1, b"Uptime: 5  Threads: 1"))
        .client(&command(0x04, b"t\0"))
        .server(&[column(1), column(2), eof(3)].concat())
        .client(&command(0x1B, &[0, 0]))
        .server(&eof(1))
        .client(&command(0x0A, b""))
        .server(&result_set(1, &["a"], Style::Eof, 0));
    let seen = seen(&fixture);
    let operations: Vec<_> = seen.iter().map(|seen| &*seen.operation).collect();
    assert_eq!(
        operations,
        ["STATISTICS", "FIELD_LIST", "SET_OPTION", "PROCESS_INFO"]
    );
    assert!(seen.iter().all(|seen| seen.status == "OK"));
}

#[test]
fn a_replica_reads_a_stream() {
    let fixture = connected(Style::Eof)
        .client(&command(0x12, &[4, 0, 0, 0, 0, 0, 1, 0, 0, 0]))
        .server(&packet(1, b"\0event"))
        .server(&packet(2, b"\0event"));
    let seen = seen(&fixture);
    assert_eq!(told(&seen), [("BINLOG_DUMP", "", "OK")]);
    assert_eq!(seen[0].flags.to_string(), "truncated,streaming");
}

#[test]
fn a_farewell_is_no_response() {
    let fixture = connected(Style::Eof)
        .client(&command(0x0E, b""))
        .server(&ok(1))
        .server(&err(0, 4031, "HY000"));
    let run = Run::of(MySql, &fixture);
    assert_eq!(run.stats.protocols["mysql"].pushes.get("error"), Some(&1));
    assert_eq!(run.stats.protocols["mysql"].orphans, 0);
}

#[test]
fn a_long_statement_is_cut_and_flagged() {
    let text = format!("SELECT c FROM t WHERE c IN ({})", "1, ".repeat(10_000));
    let fixture = connected(Style::Eof)
        .client(&query(&text))
        .server(&err(1, 1064, "42000"))
        .client(&prepare(&text))
        .server(&prepared(1, 0, 0, Style::Eof))
        .client(&execute(1))
        .server(&ok(1));
    let seen = seen(&fixture);
    assert!(
        seen.iter()
            .all(|seen| seen.flags.to_string() == "truncated")
    );
    assert_eq!(seen[0].request_bytes, text.len() as u64 + 5);
}

#[test]
fn bytes_that_are_no_text_do_not_matter() {
    let fixture = connected(Style::Eof)
        .client(&command(
            0x03,
            b"INSERT INTO t VALUES ('\xFF\xFE;\x80'); DELETE FROM t",
        ))
        .server(&ok_with(1, MORE))
        .server(&ok(2));
    let expected = [
        ("INSERT", "INSERT INTO t VALUES (?);", "OK"),
        ("DELETE", "DELETE FROM t", "OK"),
    ];
    assert_eq!(told(&seen(&fixture)), expected);
}
