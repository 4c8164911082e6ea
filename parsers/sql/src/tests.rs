use std::prelude::v1::*;
use std::{eprintln, format};

use proptest::prelude::*;

use super::*;
use Dialect::{MySql, Postgres};

fn text(dialect: Dialect, sql: &str) -> String {
    Reader::new(dialect, Redaction::On)
        .whole(sql, Extent::Complete)
        .text
        .into()
}

fn summary(sql: &str) -> String {
    Reader::new(Postgres, Redaction::On)
        .whole(sql, Extent::Complete)
        .summary
        .into()
}

fn shown(dialect: Dialect, sql: &str) -> String {
    Reader::new(dialect, Redaction::Off)
        .whole(sql, Extent::Complete)
        .text
        .into()
}

/// The trace id and the `tracestate`.
fn trace(dialect: Dialect, sql: &str) -> Option<(u128, String)> {
    Reader::new(dialect, Redaction::On)
        .whole(sql, Extent::Complete)
        .trace
        .map(|trace| (u128::from_be_bytes(trace.trace_id), trace.tracestate.into()))
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: u128 = 0x4bf92f3577b34da6a3ce929d0e0e4736;

#[test]
fn the_official_vectors_hold_in_both_dialects() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/vectors/otel-db-sql-test-cases.json"
    );
    let Ok(json) = std::fs::read(path) else {
        eprintln!("skipped: {path} is not there");
        return;
    };
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&json).unwrap();
    assert_eq!(cases.len(), 24);
    for case in cases {
        let sql = case["input"]["query"].as_str().unwrap();
        let expected = &case["expected"];
        let texts = expected["db.query.text"].as_array().unwrap();
        for dialect in [MySql, Postgres] {
            let got = text(dialect, sql);
            let name = &case["name"];
            assert!(texts.iter().any(|text| *text == got), "{name}: {got}");
        }
        assert_eq!(summary(sql), expected["db.query.summary"], "{sql}");
    }
}

#[test]
fn literals_of_postgresql_become_question_marks() {
    for (sql, expected) in [
        (
            "SELECT E'it\\'s', U&'d\\0061t', B'101', x'FF', N'a'",
            "SELECT ?, ?, ?, ?, ?",
        ),
        ("SELECT $$a'b$$, $x$ $$ $y$ $x$, $1", "SELECT ?, ?, $1"),
        ("SELECT 'a\\', b", "SELECT ?, b"),
        (
            "SELECT '1'::int4, $1::text[], a[1]",
            "SELECT ?::int4, $1::text[], a[?]",
        ),
        (
            "SELECT \"a\"\"1\".b FROM \"T 1\"",
            "SELECT \"a\"\"1\".b FROM \"T 1\"",
        ),
        (
            "SELECT U&\"d\\0061t\" FROM t",
            "SELECT U&\"d\\0061t\" FROM t",
        ),
        (
            "SELECT 1_000, 0o17, 0b1, .5e-3, 12abc",
            "SELECT ?, ?, ?, ?, ?",
        ),
        ("SELECT /* a /* b */ 'c' */ 1", "SELECT  ?"),
        (
            "SELECT a#b, a-1, a - 1, f(x)-1",
            "SELECT a#b, a-?, a - ?, f(x)-?",
        ),
        ("SELECT a->>'b' FROM t", "SELECT a->>? FROM t"),
        ("  SELECT TRUE, NULL -- done", "SELECT TRUE, NULL"),
    ] {
        assert_eq!(text(Postgres, sql), expected, "{sql}");
    }
}

#[test]
fn literals_of_mysql_become_question_marks() {
    for (sql, expected) in [
        (
            "SELECT \"it's\", 'it\\'s', 'a''b', \"\"",
            "SELECT ?, ?, ?, ?",
        ),
        ("SELECT `a``1`.b FROM `t 1`", "SELECT `a``1`.b FROM `t 1`"),
        (
            "SELECT 0xFF, x'FF', b'1', _utf8'a', \\N",
            "SELECT ?, ?, ?, _utf8?, \\N",
        ),
        (
            "SELECT @a, @@global.x, @b:=1",
            "SELECT @a, @@global.x, @b:=?",
        ),
        (
            "SELECT 1 # one\n, 2 -- two\n, 3--1",
            "SELECT ? \n, ? \n, ?-?",
        ),
        (
            "SELECT /*!50000 STRAIGHT_JOIN */ 'a'",
            "SELECT /*!50000 STRAIGHT_JOIN */ ?",
        ),
        ("SELECT /* a /* b */ 1", "SELECT  ?"),
        ("INSERT INTO t VALUES (?, ?)", "INSERT INTO t VALUES (?, ?)"),
        ("SELECT a$1, 'é'", "SELECT a$1, ?"),
    ] {
        assert_eq!(text(MySql, sql), expected, "{sql}");
    }
}

#[test]
fn what_is_no_sql_becomes_one_question_mark() {
    for sql in [
        "SELECT 'secret",
        "SELECT 'it\\'s', 'a secret\\'' FROM t",
        "SELECT $x$secret$y$",
        "SELECT \"secret",
        "SELECT 1 /* secret",
    ] {
        let mut reader = Reader::new(Postgres, Redaction::On);
        let statement = reader.whole(sql, Extent::Complete);
        let all = (statement.keyword, statement.text, statement.summary);
        assert_eq!(all, ("SELECT", "?", "SELECT"), "{sql}");
    }
    assert_eq!(text(MySql, "SELECT 'a' /*!50000 'b'"), "?");
}

#[test]
fn a_text_that_was_cut_keeps_what_is_before_the_cut() {
    let mut reader = Reader::new(MySql, Redaction::On);
    let statement = reader.whole("INSERT INTO t VALUES (1, 'abc", Extent::Cut);
    assert_eq!(statement.text, "INSERT INTO t VALUES (?, ?");
    assert_eq!(statement.summary, "INSERT t");
}

#[test]
fn summaries_name_operations_and_targets() {
    for (sql, expected) in [
        (
            "select * from a, b as x join only c on 1=1, d where e in (select f from g)",
            "select a b c d select g",
        ),
        (
            "SELECT * FROM (SELECT 1) x, t2 GROUP BY a, b",
            "SELECT SELECT t2",
        ),
        (
            "SELECT extract(year FROM day), count(*) FROM logs",
            "SELECT logs",
        ),
        ("SELECT a IS DISTINCT FROM b FROM t", "SELECT t"),
        (
            "WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM x",
            "DELETE a INSERT b SELECT x",
        ),
        ("UPDATE ONLY a SET b = 1 FROM c WHERE d = 2", "UPDATE a c"),
        ("DELETE FROM a USING b", "DELETE a"),
        (
            "INSERT INTO a VALUES (1) ON CONFLICT (b) DO UPDATE SET c = 1",
            "INSERT a",
        ),
        ("SELECT * FROM a FOR UPDATE", "SELECT a"),
        (
            "CREATE UNIQUE INDEX IF NOT EXISTS i ON t (a)",
            "CREATE INDEX i",
        ),
        (
            "CREATE TABLE IF NOT EXISTS a.b AS SELECT * FROM c",
            "CREATE TABLE a.b SELECT c",
        ),
        ("CREATE USER joe PASSWORD 'x'", "CREATE USER"),
        ("GRANT SELECT, UPDATE ON a TO b", "GRANT"),
        ("COPY a (b) FROM STDIN", "COPY a"),
        ("COPY (SELECT * FROM a) TO STDOUT", "COPY SELECT a"),
        ("EXPLAIN ANALYZE DELETE FROM a", "EXPLAIN DELETE a"),
        ("SET a TO b", "SET"),
        (
            "BEGIN; UPDATE a SET b = 1; COMMIT;",
            "BEGIN UPDATE a COMMIT",
        ),
        (
            "(SELECT 1 FROM a) UNION (SELECT 2 FROM b)",
            "SELECT a SELECT b",
        ),
        (
            "SELECT replace(a, 'b', 'c') FROM \"T 1\".\"x\"",
            "SELECT \"T 1\".\"x\"",
        ),
        (
            "MERGE INTO a USING b ON c = d WHEN MATCHED THEN DELETE",
            "MERGE a",
        ),
        ("TRUNCATE TABLE a", "TRUNCATE TABLE a"),
        ("CALL p(1)", "CALL p"),
        ("'nothing'", ""),
    ] {
        assert_eq!(summary(sql), expected, "{sql}");
    }
}

#[test]
fn a_summary_is_cut_at_a_token() {
    let tables: Vec<String> = (0..100).map(|i| format!("table{i:02}")).collect();
    let long = summary(&format!("SELECT * FROM {}", tables.join(", ")));
    assert_eq!(long, format!("SELECT {}", tables[..31].join(" ")));
    assert!(long.len() <= 255);
}

#[test]
fn keywords_are_first_words_in_upper_case() {
    for (sql, keyword) in [
        ("select 1", "SELECT"),
        (" /* a */ -- b\n ( Select 1)", "SELECT"),
        ("/*!40101 SET NAMES utf8 */", "SET"),
        ("", ""),
        (" ; ", ""),
        ("\"a\"", ""),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ""),
    ] {
        let mut reader = Reader::new(MySql, Redaction::On);
        assert_eq!(
            reader.whole(sql, Extent::Complete).keyword,
            keyword,
            "{sql}"
        );
    }
}

#[test]
fn statements_are_parted_at_semicolons_outside_of_anything() {
    let sql = "SELECT ';' ; /* ; */ CREATE RULE r AS DO (a; b);;\nSELECT $$;$$";
    let mut reader = Reader::new(Postgres, Redaction::On);
    let mut parts = Vec::new();
    let mut rest = sql;
    while !rest.is_empty() {
        let statement = reader.first(rest, Extent::Complete);
        parts.push((statement.text.to_string(), statement.empty));
        rest = &rest[statement.used..];
    }
    let expected = [
        ("SELECT ? ;", false),
        ("CREATE RULE r AS DO (a; b);", false),
        (";", true),
        ("SELECT ?", false),
    ];
    assert_eq!(
        parts,
        expected.map(|(text, empty)| (text.to_string(), empty))
    );
}

#[test]
fn the_body_of_a_function_is_one_statement() {
    let sql = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END";
    let mut reader = Reader::new(Postgres, Redaction::On);
    assert_eq!(reader.first(sql, Extent::Complete).used, sql.len());
}

#[test]
fn trace_context_is_read_from_comments() {
    let encoded = PARENT.replace('-', "%2D");
    for sql in [
        format!("SELECT 1 /*action='a',traceparent='{PARENT}',tracestate='a%3D1%2Cb%3D2'*/"),
        format!("SELECT 1 /*traceparent='{encoded}',tracestate='a%3D1%2Cb%3D2'*/;"),
        format!("/* traceparent: {PARENT}; tracestate: a=1,b=2 */ SELECT 1"),
        format!("SELECT 1 -- traceparent: {PARENT} tracestate: a=1,b=2\n FROM t"),
    ] {
        for dialect in [MySql, Postgres] {
            let (id, state) = trace(dialect, &sql).expect(&sql);
            assert_eq!((id, state.as_str()), (TRACE, "a=1,b=2"), "{sql}");
        }
    }
    let hash = format!("SELECT 1 # traceparent: {PARENT}, route: x");
    assert_eq!(trace(MySql, &hash), Some((TRACE, String::new())));
    assert_eq!(trace(Postgres, &hash), None, "an operator");
}

#[test]
fn trace_context_outside_of_comments_or_invalid_is_none() {
    for sql in [
        format!("SELECT 'traceparent: {PARENT}'"),
        format!("SELECT '/*traceparent={PARENT}*/'"),
        "SELECT 1 /*traceparent='00-0-0-01'*/".to_string(),
        "SELECT 1 /*traceparent*/".to_string(),
        "SELECT 1 /*traceparent=*/".to_string(),
    ] {
        assert_eq!(trace(Postgres, &sql), None, "{sql}");
    }
}

#[test]
fn the_last_trace_context_counts_and_nothing_is_left_of_the_statement_before() {
    let other = PARENT.replace("4bf9", "5bf9");
    let mut reader = Reader::new(Postgres, Redaction::On);
    let sql =
        format!("/*traceparent='{other}',tracestate='a%3D1'*/SELECT 1/*traceparent='{PARENT}'*/");
    let trace = reader.whole(&sql, Extent::Complete).trace.unwrap();
    assert_eq!(trace.trace_id, TRACE.to_be_bytes());
    assert_eq!(trace.tracestate, "");
    let plain = reader.whole("", Extent::Complete);
    assert_eq!(
        (plain.trace, plain.keyword, plain.text, plain.summary),
        (None, "", "", "")
    );
}

#[test]
fn without_redaction_the_text_is_as_sent() {
    let sql = " SELECT 'a', 1 /* b */ FROM t; ";
    assert_eq!(shown(Postgres, sql), sql);
    let mut reader = Reader::new(Postgres, Redaction::Off);
    assert_eq!(
        reader.first("SELECT 1; SELECT 2", Extent::Complete).text,
        "SELECT 1;"
    );
}

#[test]
fn credentials_vanish_without_redaction_too() {
    for (dialect, sql) in [
        (MySql, "CREATE USER a IDENTIFIED BY 'CANARY'"),
        (MySql, "SET PASSWORD = 'CANARY'"),
        (MySql, "CHANGE MASTER TO MASTER_PASSWORD=\"CANARY\""),
        (MySql, "SELECT AES_ENCRYPT('a', 'CANARY')"),
        (Postgres, "ALTER ROLE a PassWord 'CANARY'"),
        (Postgres, "ALTER ROLE a PASSWORD $$CANARY$$"),
        (
            Postgres,
            "CREATE SUBSCRIPTION s CONNECTION 'postgres://u:CANARY@h/d'",
        ),
        (Postgres, "SELECT dblink('password=CANARY')"),
        (Postgres, "ALTER ROLE a PASSWORD E'CANARY'"),
        (Postgres, "ALTER ROLE a PASSWORD E'CANARY"),
        (Postgres, "UPDATE t SET password = 'CANARY'"),
        (Postgres, "SELECT crypt('CANARY', gen_salt('bf'))"),
        (
            Postgres,
            "CREATE USER MAPPING FOR a SERVER b OPTIONS (user 'c', password 'CANARY')",
        ),
        (
            MySql,
            "ALTER USER a IDENTIFIED WITH mysql_native_password BY 'CANARY'",
        ),
        (MySql, "SET PASSWORD FOR 'a'@'b' = 'CANARY'"),
        (MySql, "SET PASSWORD FOR a = 'CANARY'"),
        (MySql, "ALTER USER a IDENTIFIED VIA ed25519 USING 'CANARY'"),
        (Postgres, "UPDATE t SET password /* to */ = 'CANARY'"),
        (Postgres, "SET app.password = CANARY"),
        (Postgres, "SET SESSION app.password TO CANARY;"),
        (Postgres, "ALTER ROLE a SET app.secret TO CANARY"),
        (Postgres, "ALTER ROLE a SET app.secret = \"CANARY\""),
        (Postgres, "SELECT pgp_sym_decrypt(a, 'CANARY') FROM t"),
        (MySql, "SELECT AES_DECRYPT (a.b, 'CANARY') FROM t"),
        (MySql, "SET @password := CANARY"),
        (
            MySql,
            "GRANT ALL ON *.* TO a IDENTIFIED BY PASSWORD 'CANARY'",
        ),
    ] {
        let shown = shown(dialect, sql);
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}

#[test]
fn of_a_cut_text_nothing_is_shown_where_the_mode_decides_what_a_literal_is() {
    // With NO_BACKSLASH_ESCAPES the first literal is `a\`, and SECRET is the second.
    let sql = "INSERT INTO t VALUES ('a\\', 'SECRET', 'b";
    let mut reader = Reader::new(MySql, Redaction::On);
    let cut = reader.whole(sql, Extent::Cut);
    assert_eq!(
        (cut.text, cut.summary, cut.keyword),
        ("?", "INSERT", "INSERT")
    );
    let plain = reader.whole("INSERT INTO t VALUES ('a', 'SECR", Extent::Cut);
    assert_eq!(plain.text, "INSERT INTO t VALUES (?, ?");
    for sql in [
        "SELECT 'a\\', 'SECRET', 'b'",
        "SELECT 'a\\', 'SECRET', 'b\\', 'c'",
    ] {
        let whole = reader.whole(sql, Extent::Complete);
        assert!(!whole.text.contains("SECRET"), "{}", whole.text);
    }
}

#[test]
fn a_query_that_only_names_a_credential_is_shown() {
    for sql in [
        "SELECT password FROM accounts WHERE username = 'a' OR 1 = 1",
        "SELECT a FROM t WHERE password = $1 AND b = 'c'",
        "UPDATE t SET password = NULL WHERE a = 'b'",
        "SELECT 'http://host:80/a@b', 'c'",
    ] {
        assert_eq!(shown(Postgres, sql), sql);
    }
}

#[test]
fn a_long_text_is_cut_on_a_character_boundary() {
    let long = format!("SELECT {}, 1 /*traceparent='{PARENT}'*/", "é".repeat(5_000));
    let mut reader = Reader::new(Postgres, Redaction::On);
    let statement = reader.whole(&long, Extent::Complete);
    assert!((4_095..=4_097).contains(&statement.text.len()));
    assert!(statement.trace.is_some(), "the end is still read");
}

proptest! {
    #[test]
    fn no_text_is_too_strange(sql in "[a-z0-9 '\"`$;,./*#@!\\\\\n(){}é-]{0,200}") {
        for dialect in [MySql, Postgres] {
            for extent in [Extent::Complete, Extent::Cut] {
                let mut reader = Reader::new(dialect, Redaction::On);
                let mut rest = sql.as_str();
                while !rest.is_empty() {
                    let statement = reader.first(rest, extent);
                    prop_assert!(statement.used > 0);
                    prop_assert!(statement.summary.len() <= 255);
                    rest = &rest[statement.used..];
                }
            }
        }
    }

    #[test]
    fn no_string_is_shown(secret in "[A-Z;,()$/*\" -]{0,20}", tail in "[a-z (),=]{0,20}") {
        let quoted = secret.replace('\'', "''");
        for dialect in [MySql, Postgres] {
            let got = text(dialect, &format!("select '{quoted}{quoted}', '{quoted}' {tail}"));
            prop_assert_eq!(got, format!("select ?, ? {}", tail).trim_ascii().to_string());
        }
    }
}
