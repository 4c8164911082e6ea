//! What the parser makes of conversations.
#![allow(missing_docs)]

mod common;

use common::*;

#[test]
fn start_up_is_one_handshake_and_names_the_database() {
    let mut talk = Talk::from_start();
    talk.client(&startup())
        .server(&message(
            b'R',
            &[0, 0, 0, 10, b'S', b'C', b'R', b'A', b'M', 0, 0],
        ))
        .client(&message(b'p', b"SCRAM\0\0\0\0\x06CANARY"))
        .server(&message(b'R', &[0, 0, 0, 11, 1, 2]))
        .client(&message(b'p', b"CANARY"))
        .server(&welcome())
        .client(&query("SELECT 1"))
        .server(&[complete("SELECT 1"), ready()].concat());
    let (records, _) = talk.finish();
    assert_eq!(records.lines, ["HANDSHAKE||OK|", "SELECT|SELECT ?|OK|"]);
    assert_eq!(records.times[0], (Some(5_000), Some(1_000)));
    assert!(records.attrs[1].contains("db.namespace") && records.attrs[1].contains("shop"));
    assert!(records.attrs[1].contains("postgresql"));
    assert!(!records.attrs.concat().contains("CANARY"));
}

#[test]
fn a_refused_start_up_has_the_sqlstate() {
    let mut talk = Talk::from_start();
    talk.client(&startup()).server(&error("28P01"));
    assert_eq!(talk.lines(), ["HANDSHAKE||28P01|"]);
}

#[test]
fn refused_encryption_is_followed_by_start_up() {
    let mut talk = Talk::from_start();
    talk.client(&opening(80_877_104, b"")).server(b"N");
    talk.client(&ssl_request()).server(b"N");
    talk.client(&startup()).server(&welcome());
    assert_eq!(talk.lines(), ["HANDSHAKE||OK|"]);
}

#[test]
fn accepted_encryption_leaves_nothing_to_read() {
    for (request, answer, reason) in [
        (ssl_request(), b"S", "tls"),
        (opening(80_877_104, b""), b"G", "finished"),
    ] {
        let mut talk = Talk::from_start();
        talk.client(&request)
            .server(answer)
            .client(b"\x16\x03\x01\x00\x05hello");
        let (records, stats) = talk.finish();
        assert!(records.lines.is_empty());
        assert_eq!(stats.opaque.get(reason), Some(&1));
        assert!(stats.errors.is_empty(), "{:?}", stats.errors);
    }
}

#[test]
fn a_cancel_request_is_counted_and_no_exchange() {
    let mut talk = Talk::from_start();
    talk.client(&opening(80_877_102, &[7; 8]));
    let (records, stats) = talk.finish();
    assert!(records.lines.is_empty());
    assert_eq!(stats.protocols["postgresql"].pushes["cancel request"], 1);
}

#[test]
fn each_statement_of_a_simple_query_is_an_exchange() {
    let mut talk = Talk::new_session();
    let sent = query("SELECT 'a;b'; UPDATE t SET a = 1;; COMMIT;");
    let answer = [
        row_description(),
        row(b"a;b"),
        complete("SELECT 1"),
        complete("UPDATE 3"),
        complete("COMMIT"),
        ready(),
    ];
    talk.client(&sent).server(&answer.concat());
    let (records, _) = talk.finish();
    assert_eq!(
        records.lines,
        [
            "SELECT|SELECT ?|OK|",
            "UPDATE|UPDATE t SET a = ?|OK|",
            "COMMIT|COMMIT|OK|"
        ]
    );
    let requests: u64 = records.sizes.iter().map(|(request, _)| request).sum();
    let responses: u64 = records.sizes.iter().map(|(_, response)| response).sum();
    assert_eq!(requests, sent.len() as u64);
    assert_eq!(responses, (answer.concat().len() - ready().len()) as u64);
    assert!(
        records
            .times
            .iter()
            .all(|times| *times == (Some(1_000), Some(1_000)))
    );
}

#[test]
fn statements_behind_an_error_never_ran_and_have_no_status() {
    let mut talk = Talk::new_session();
    talk.client(&query("SELECT 1; SELECT 1/0; SELECT 3"));
    talk.server(&[complete("SELECT 1"), error("22012"), ready()].concat());
    let (records, stats) = talk.finish();
    assert_eq!(
        records.lines,
        [
            "SELECT|SELECT ?|OK|",
            "SELECT|SELECT ?/?|22012|",
            "SELECT|SELECT ?||no_response"
        ]
    );
    assert!(!records.attrs.concat().contains("CANARY"));
    assert_eq!(stats.protocols["postgresql"].orphans, 0);
}

#[test]
fn an_empty_query_is_answered() {
    let mut talk = Talk::new_session();
    talk.client(&query(""))
        .server(&[message(b'I', b""), ready()].concat());
    talk.client(&query(" ; "))
        .server(&[message(b'I', b""), ready()].concat());
    assert_eq!(talk.lines(), ["||OK|", "|;|OK|"]);
}

#[test]
fn an_extended_query_is_one_exchange() {
    let mut talk = Talk::new_session();
    let sent = extended("SELECT a FROM t WHERE b = $1");
    talk.client(&[sent.clone(), sync()].concat());
    talk.server(&[extended_answer("SELECT 1"), ready()].concat());
    let (records, _) = talk.finish();
    assert_eq!(records.lines, ["SELECT|SELECT a FROM t WHERE b = $1|OK|"]);
    let answer = extended_answer("SELECT 1").len() as u64;
    assert_eq!(records.sizes, [(sent.len() as u64, answer)]);
    assert!(records.attrs[0].contains("SELECT t"), "the summary");
}

#[test]
fn a_parse_alone_is_prepare_and_an_execution_reports_its_text() {
    let mut talk = Talk::new_session();
    let prepared = [
        parse("s1", "DELETE FROM t WHERE a = $1"),
        describe_statement("s1"),
        sync(),
    ];
    talk.client(&prepared.concat());
    let described = [
        message(b'1', b""),
        message(b't', &[0, 0]),
        message(b'n', b""),
        ready(),
    ];
    talk.server(&described.concat());
    for _ in 0..2 {
        talk.client(&[bind("", "s1"), execute(""), sync()].concat());
        talk.server(&[message(b'2', b""), complete("DELETE 1"), ready()].concat());
    }
    talk.client(&[close_statement("s1"), sync()].concat());
    talk.server(&[message(b'3', b""), ready()].concat());
    talk.client(&[bind("", "s1"), execute(""), sync()].concat());
    talk.server(&[error("26000"), ready()].concat());
    assert_eq!(
        talk.lines(),
        [
            "PREPARE|DELETE FROM t WHERE a = $1|OK|",
            "DELETE|DELETE FROM t WHERE a = $1|OK|",
            "DELETE|DELETE FROM t WHERE a = $1|OK|",
            "CLOSE||OK|",
            "||26000|"
        ]
    );
}

#[test]
fn a_parse_before_flush_is_prepare_unless_it_is_bound() {
    let mut talk = Talk::new_session();
    talk.client(&[parse("", "SELECT a"), describe_statement(""), flush()].concat());
    talk.server(
        &[
            message(b'1', b""),
            message(b't', &[0, 0]),
            row_description(),
        ]
        .concat(),
    );
    talk.client(&[bind("", ""), execute(""), sync()].concat());
    talk.server(&[message(b'2', b""), complete("SELECT 0"), ready()].concat());
    talk.client(&[parse("", "SELECT b"), bind("", ""), flush()].concat());
    talk.server(&[message(b'1', b""), message(b'2', b"")].concat());
    talk.client(&[execute(""), sync()].concat());
    talk.server(&[complete("SELECT 0"), ready()].concat());
    assert_eq!(
        talk.lines(),
        [
            "PREPARE|SELECT a|OK|",
            "SELECT|SELECT a|OK|",
            "SELECT|SELECT b|OK|"
        ]
    );
}

#[test]
fn what_is_not_executed_is_named_by_what_it_is() {
    let mut talk = Talk::new_session();
    let prepared = [parse("s1", "SELECT a"), parse("s2", "SELECT b"), sync()];
    talk.client(&prepared.concat());
    talk.server(&[message(b'1', b""), message(b'1', b""), ready()].concat());
    talk.client(&[describe_statement("s1"), sync()].concat());
    talk.server(&[message(b't', &[0, 0]), row_description(), ready()].concat());
    talk.client(&[bind("p", "s2"), sync()].concat());
    talk.server(&[message(b'2', b""), ready()].concat());
    talk.client(&[describe_portal("p"), execute("p"), sync()].concat());
    talk.server(&[row_description(), complete("SELECT 0"), ready()].concat());
    assert_eq!(
        talk.lines(),
        [
            "PREPARE|SELECT a|OK|",
            "PREPARE|SELECT b|OK|",
            "DESCRIBE|SELECT a|OK|",
            "BIND|SELECT b|OK|",
            "SELECT|SELECT b|OK|"
        ]
    );
}

#[test]
fn the_messages_of_a_query_may_come_one_at_a_time() {
    let mut talk = Talk::new_session();
    for part in [parse("", "SELECT a"), bind("", ""), execute(""), sync()] {
        for byte in part {
            talk.client(&[byte]);
        }
    }
    talk.server(
        &[
            message(b'1', b""),
            message(b'2', b""),
            complete("SELECT 0"),
            ready(),
        ]
        .concat(),
    );
    let (records, _) = talk.finish();
    assert_eq!(records.lines, ["SELECT|SELECT a|OK|"]);
    let len = extended("SELECT a").len() - describe_portal("").len();
    let wait = sync().len() as u64 + 1;
    let times = (Some((len as u64 + wait - 1) * 1_000), Some(wait * 1_000));
    assert_eq!(records.times, [times], "from the first byte");
}

#[test]
fn a_pipeline_of_a_hundred_is_a_hundred_exchanges() {
    let mut talk = Talk::new_session();
    let statements = (0..100).map(|i| extended(&format!("SELECT a{i}")));
    let mut sent: Vec<u8> = statements.collect::<Vec<_>>().concat();
    sent.extend(sync());
    talk.client(&sent);
    let mut answers = extended_answer("SELECT 1").repeat(100);
    answers.extend(ready());
    talk.server(&answers);
    let (records, _) = talk.finish();
    assert_eq!(records.lines.len(), 100);
    for (i, line) in records.lines.iter().enumerate() {
        assert_eq!(*line, format!("SELECT|SELECT a{i}|OK|"));
    }
}

#[test]
fn after_an_error_a_pipeline_is_dropped_up_to_sync() {
    let mut talk = Talk::new_session();
    let sent = [
        extended("SELECT a"),
        extended("SELECT b"),
        extended("SELECT c"),
        sync(),
        extended("SELECT d"),
        sync(),
    ];
    talk.client(&sent.concat());
    let answers = [
        extended_answer("SELECT 1"),
        message(b'1', b""),
        error("42703"),
        ready(),
        extended_answer("SELECT 1"),
        ready(),
    ];
    talk.server(&answers.concat());
    let (records, stats) = talk.finish();
    assert_eq!(
        records.lines,
        [
            "SELECT|SELECT a|OK|",
            "SELECT|SELECT b|42703|",
            "SELECT|SELECT c||no_response",
            "SELECT|SELECT d|OK|"
        ]
    );
    assert_eq!(stats.protocols["postgresql"].orphans, 0);
}

#[test]
fn what_is_sent_after_an_error_and_before_sync_is_dropped_too() {
    let mut talk = Talk::new_session();
    talk.client(&[extended("SELECT a"), flush()].concat())
        .server(&error("42703"));
    talk.client(&[extended("SELECT b"), flush()].concat());
    talk.client(&sync()).server(&ready());
    talk.client(&[extended("SELECT c"), sync()].concat());
    talk.server(&[extended_answer("SELECT 1"), ready()].concat());
    assert_eq!(
        talk.lines(),
        [
            "SELECT|SELECT a|42703|",
            "SELECT|SELECT b||no_response",
            "SELECT|SELECT c|OK|"
        ]
    );
}

#[test]
fn each_execution_of_a_portal_is_an_exchange() {
    let mut talk = Talk::new_session();
    talk.client(&[parse("", "SELECT a"), bind("p", ""), execute("p"), flush()].concat());
    talk.server(
        &[
            message(b'1', b""),
            message(b'2', b""),
            row(b"1"),
            message(b's', b""),
        ]
        .concat(),
    );
    talk.client(&[execute("p"), sync()].concat());
    talk.server(&[row(b"2"), complete("SELECT 1"), ready()].concat());
    assert_eq!(talk.lines(), ["SELECT|SELECT a|OK|", "SELECT|SELECT a|OK|"]);
}

#[test]
fn copy_in_of_a_simple_query_is_one_exchange() {
    let mut talk = Talk::new_session();
    talk.client(&query("COPY t FROM STDIN"));
    talk.server(&message(b'G', &[0, 0, 1, 0, 0]));
    talk.client(&[message(b'd', b"CANARY\n"), message(b'c', b"")].concat());
    talk.server(&[complete("COPY 1"), ready()].concat());
    talk.client(&query("SELECT 1"))
        .server(&[complete("SELECT 1"), ready()].concat());
    assert_eq!(
        talk.lines(),
        ["COPY|COPY t FROM STDIN|OK|", "SELECT|SELECT ?|OK|"]
    );
}

#[test]
fn the_sync_that_copy_swallows_is_not_counted() {
    let mut talk = Talk::new_session();
    talk.client(&[extended("COPY t FROM STDIN"), sync()].concat());
    let asked = [message(b'1', b""), message(b'2', b""), message(b'n', b"")];
    talk.server(&[asked.concat(), message(b'G', &[0, 0, 1, 0, 0])].concat());
    talk.client(&[message(b'd', b"1\n"), message(b'c', b""), sync()].concat());
    talk.server(&[complete("COPY 1"), ready()].concat());
    talk.client(&query("SELECT 1"))
        .server(&[complete("SELECT 1"), ready()].concat());
    let (records, stats) = talk.finish();
    assert_eq!(
        records.lines,
        ["COPY|COPY t FROM STDIN|OK|", "SELECT|SELECT ?|OK|"]
    );
    assert_eq!(stats.protocols["postgresql"].orphans, 0);
}

#[test]
fn copy_in_that_fails_has_the_sqlstate() {
    let mut talk = Talk::new_session();
    talk.client(&query("COPY t FROM STDIN"))
        .server(&message(b'G', &[0, 0, 1, 0, 0]));
    talk.client(&[message(b'd', b"x"), message(b'f', b"no\0")].concat());
    talk.server(&[error("57014"), ready()].concat());
    assert_eq!(talk.lines(), ["COPY|COPY t FROM STDIN|57014|"]);
}

#[test]
fn copy_out_is_one_exchange_with_all_its_bytes() {
    let mut talk = Talk::new_session();
    talk.client(&query("COPY t TO STDOUT"));
    let data = message(b'd', &[b'x'; 100_000]);
    let head = message(b'H', &[0, 0, 1, 0, 0]);
    let tail = [message(b'c', b""), complete("COPY 1")].concat();
    talk.server(&head);
    data.chunks(1_000).for_each(|part| {
        talk.server(part);
    });
    talk.server(&[tail.clone(), ready()].concat());
    let (records, stats) = talk.finish();
    assert_eq!(records.lines, ["COPY|COPY t TO STDOUT|OK|"]);
    assert_eq!(
        records.sizes[0].1,
        (head.len() + data.len() + tail.len()) as u64
    );
    assert_eq!(
        records.times[0],
        (Some(103_000), Some(1_000)),
        "the first byte counts"
    );
    let skipped = stats.protocols["postgresql"].bytes.to_client.skipped;
    assert!(skipped > 90_000, "data are skipped: {skipped}");
}

#[test]
fn replication_is_reported_when_it_starts() {
    let mut talk = Talk::new_session();
    talk.client(&query("START_REPLICATION SLOT s LOGICAL 0/0"));
    talk.server(&message(b'W', &[0, 0, 0]));
    assert_eq!(talk.lines().len(), 1);
    talk.server(&message(b'd', b"w..."));
    talk.client(&message(b'd', b"r..."))
        .client(&message(b'c', b""));
    talk.server(&[message(b'c', b""), complete("COPY 0"), ready()].concat());
    talk.client(&query("SELECT 1"))
        .server(&[complete("SELECT 1"), ready()].concat());
    let (records, stats) = talk.finish();
    assert!(
        records.lines[0].ends_with("|OK|streaming"),
        "{:?}",
        records.lines
    );
    assert_eq!(records.lines[1], "SELECT|SELECT ?|OK|");
    assert_eq!(stats.protocols["postgresql"].orphans, 0);
}

#[test]
fn a_function_call_is_an_exchange() {
    let mut talk = Talk::new_session();
    talk.client(&message(b'F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
    talk.server(&[message(b'V', &[255, 255, 255, 255]), ready()].concat());
    assert_eq!(talk.lines(), ["FUNCTION_CALL||OK|"]);
}

#[test]
fn notifications_and_notices_are_no_exchanges() {
    let mut talk = Talk::new_session();
    talk.server(&message(b'A', b"\0\0\0\x01rules\0CANARY\0"));
    talk.client(&query("SELECT 1"));
    talk.server(&message(b'N', b"SWARNING\0C01000\0MCANARY\0\0"));
    talk.server(&[complete("SELECT 1"), ready()].concat());
    let (records, stats) = talk.finish();
    assert_eq!(records.lines, ["SELECT|SELECT ?|OK|"]);
    assert_eq!(stats.protocols["postgresql"].pushes["notification"], 1);
}

#[test]
fn trace_context_is_that_of_the_request_that_brought_the_text() {
    let comment = "/*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/";
    let text = format!("SELECT a {comment}");
    let mut talk = Talk::new_session();
    talk.client(&query(&text))
        .server(&[complete("SELECT 1"), ready()].concat());
    talk.client(&[extended(&text), sync()].concat());
    talk.server(&[extended_answer("SELECT 1"), ready()].concat());
    talk.client(&[bind("", ""), execute(""), sync()].concat());
    talk.server(&[message(b'2', b""), complete("SELECT 1"), ready()].concat());
    let (records, _) = talk.finish();
    assert_eq!(records.lines, ["SELECT|SELECT a|OK|"; 3]);
    assert_eq!(records.trace_ids, [0x4bf92f3577b34da6a3ce929d0e0e4736; 2]);
}

#[test]
fn a_long_text_is_cut_and_the_rest_skipped() {
    let text = format!("INSERT INTO t VALUES ('{}')", "x".repeat(1 << 20));
    for sent in [query(&text), [extended(&text), sync()].concat()] {
        let mut talk = Talk::new_session();
        sent.chunks(1_448).for_each(|part| {
            talk.client(part);
        });
        let mut answer = complete("INSERT 0 1");
        if sent[0] == b'P' {
            answer = extended_answer("INSERT 0 1");
        }
        talk.server(&[answer, ready()].concat());
        let (records, _) = talk.finish();
        assert_eq!(
            records.lines,
            ["INSERT|INSERT INTO t VALUES (?|OK|truncated"]
        );
        let chunks = sent.len().div_ceil(1_448) as u64;
        assert_eq!(
            records.times[0].0,
            Some(chunks * 1_000),
            "from the first byte"
        );
    }
}

#[test]
fn a_long_parameter_is_skipped_and_timed_from_its_first_byte() {
    let mut talk = Talk::new_session();
    let long = bind_long("", "", 1 << 20);
    talk.client(&[parse("", "SELECT $1"), long[..1_000].to_vec()].concat());
    long[1_000..].chunks(1_448).for_each(|part| {
        talk.client(part);
    });
    talk.client(&[execute(""), sync()].concat());
    talk.server(
        &[
            message(b'1', b""),
            message(b'2', b""),
            complete("SELECT 1"),
            ready(),
        ]
        .concat(),
    );
    let (records, stats) = talk.finish();
    assert_eq!(records.lines, ["SELECT|SELECT $1|OK|"]);
    let chunks = (long.len() - 1_000).div_ceil(1_448) as u64;
    assert_eq!(records.times[0], (Some((chunks + 2) * 1_000), Some(1_000)));
    assert!(stats.protocols["postgresql"].bytes.to_server.skipped > 1_000_000);
}

#[test]
fn a_text_of_another_encoding_is_readable() {
    let mut talk = Talk::new_session();
    talk.client(&message(
        b'Q',
        b"SELECT stra\xdfe FROM t WHERE a = '\xe4'\0",
    ));
    talk.server(&[complete("SELECT 1"), ready()].concat());
    assert_eq!(
        talk.lines(),
        ["SELECT|SELECT stra_e FROM t WHERE a = ?|OK|"]
    );
}

#[test]
fn names_without_an_end_are_an_error_and_no_panic() {
    for broken in [
        message(b'B', b"no end of it"),
        message(b'B', b"\0no end here"),
        message(b'P', b"no end"),
        message(b'P', b"\0no end"),
        message(b'E', b"no end"),
        message(b'D', b"Sno end"),
        message(b'D', b"Xx\0"),
        message(b'C', b"Pno end"),
        message(b'Q', b"no end"),
        message(b'Q', b"two\0ends\0"),
    ] {
        let mut talk = Talk::new_session();
        talk.client(&broken);
        talk.client(&[query("SELECT 1"), query("SELECT 2")].concat());
        let (_, stats) = talk.finish();
        assert_eq!(stats.errors.values().sum::<u64>(), 1, "{broken:?}");
    }
}

#[test]
fn statements_are_remembered_in_bounded_memory() {
    let mut talk = Talk::new_session();
    for i in 0..20_000 {
        let text = format!("SELECT {}", "a".repeat(200));
        talk.client(&[parse(&format!("s{i}"), &text), sync()].concat());
        talk.server(&[message(b'1', b""), ready()].concat());
    }
    for (name, target) in [("s0", ""), ("s19999", "SELECT aaa")] {
        talk.client(&[bind("", name), execute(""), sync()].concat());
        talk.server(&[message(b'2', b""), complete("SELECT 1"), ready()].concat());
        let last = talk
            .lines()
            .last()
            .unwrap()
            .split('|')
            .nth(1)
            .unwrap()
            .to_string();
        assert!(
            last.starts_with(target) && last.is_empty() == target.is_empty(),
            "{last}"
        );
    }
}
