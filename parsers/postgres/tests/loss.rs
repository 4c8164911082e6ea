//! Lost bytes, and connections joined in the middle.
#![allow(missing_docs)]

mod common;

use common::*;

/// One simple query and its answer.
fn round_trip(talk: &mut Talk, column: &str) {
    talk.client(&query(&format!("SELECT {column}")));
    talk.server(&[row_description(), row(b"1"), complete("SELECT 1"), ready()].concat());
}

#[test]
fn lost_rows_cost_nothing() {
    let mut talk = Talk::new_session();
    talk.client(&query("SELECT a"));
    let rows = row(&[b'x'; 100_000]);
    talk.server(&[row_description(), rows[..1_000].to_vec()].concat());
    talk.lose_server(rows.len() - 1_000);
    talk.server(&[complete("SELECT 1"), ready()].concat());
    let lines = talk.lines();
    assert!(lines[0].starts_with("SELECT|SELECT a|OK|"), "{lines:?}");
}

#[test]
fn a_lost_answer_costs_its_own_exchange_only() {
    let mut talk = Talk::new_session();
    round_trip(&mut talk, "a");
    talk.client(&query("SELECT b")).lose_server(40);
    round_trip(&mut talk, "c");
    round_trip(&mut talk, "d");
    assert_eq!(
        talk.lines(),
        [
            "SELECT|SELECT a|OK|",
            "SELECT|SELECT b||gap,no_response",
            "SELECT|SELECT c|OK|gap",
            "SELECT|SELECT d|OK|"
        ]
    );
}

#[test]
fn a_lost_request_does_not_shift_the_pairing() {
    let mut talk = Talk::new_session();
    round_trip(&mut talk, "a");
    talk.lose_client(20);
    talk.server(&[error("42703"), ready()].concat());
    round_trip(&mut talk, "c");
    let (records, stats) = talk.finish();
    assert_eq!(records.lines[0], "SELECT|SELECT a|OK|");
    assert_eq!(records.lines[1], "SELECT|SELECT c|OK|gap");
    assert_eq!(records.lines.len(), 2);
    assert_eq!(stats.protocols["postgresql"].orphans, 1);
}

#[test]
fn a_batch_that_lost_its_beginning_is_not_paired() {
    let mut talk = Talk::new_session();
    round_trip(&mut talk, "a");
    talk.lose_client(extended("SELECT lost").len());
    talk.client(&[extended("SELECT b"), sync()].concat());
    talk.server(
        &[
            extended_answer("SELECT 1"),
            extended_answer("SELECT 1"),
            ready(),
        ]
        .concat(),
    );
    round_trip(&mut talk, "c");
    round_trip(&mut talk, "d");
    assert_eq!(
        talk.lines(),
        [
            "SELECT|SELECT a|OK|",
            "SELECT|SELECT b||gap,no_response",
            "SELECT|SELECT c||gap,no_response",
            "SELECT|SELECT d|OK|gap"
        ]
    );
}

#[test]
fn a_batch_that_lost_its_end_is_answered_as_far_as_it_was_seen() {
    let mut talk = Talk::new_session();
    round_trip(&mut talk, "a");
    talk.client(&extended("SELECT b"))
        .lose_client(extended("SELECT lost").len());
    talk.client(&sync());
    talk.server(&[extended_answer("SELECT 1"), error("42703"), ready()].concat());
    round_trip(&mut talk, "c");
    round_trip(&mut talk, "d");
    assert_eq!(
        talk.lines(),
        [
            "SELECT|SELECT a|OK|",
            "SELECT|SELECT b|OK|",
            "SELECT|SELECT c||gap,no_response",
            "SELECT|SELECT d|OK|gap"
        ]
    );
}

#[test]
fn a_named_statement_from_before_a_loss_is_a_guess() {
    let mut talk = Talk::new_session();
    talk.client(&[parse("s", "SELECT a"), sync()].concat());
    talk.server(&[message(b'1', b""), ready()].concat());
    round_trip(&mut talk, "b");
    talk.lose_client(20);
    talk.server(&[complete("SELECT 1"), ready()].concat());
    round_trip(&mut talk, "c");
    talk.client(&[bind("", "s"), execute(""), sync()].concat());
    talk.server(&[message(b'2', b""), complete("SELECT 1"), ready()].concat());
    assert_eq!(talk.lines().last(), Some(&"SELECT|SELECT a|OK|guessed"));
}

#[test]
fn a_statement_without_a_name_is_forgotten_in_a_loss() {
    let mut talk = Talk::new_session();
    talk.client(&[extended("SELECT a"), sync()].concat());
    talk.server(&[extended_answer("SELECT 1"), ready()].concat());
    round_trip(&mut talk, "b");
    talk.lose_client(20);
    talk.server(&[complete("SELECT 1"), ready()].concat());
    round_trip(&mut talk, "c");
    talk.client(&[bind("", ""), execute(""), sync()].concat());
    talk.server(&[message(b'2', b""), complete("SELECT 1"), ready()].concat());
    assert_eq!(talk.lines().last(), Some(&"||OK|"));
}

#[test]
fn joined_in_the_middle_a_prepared_statement_is_unknown() {
    let mut talk = Talk::late();
    talk.client(&[bind("", "s1"), execute(""), sync()].concat());
    talk.server(&[message(b'2', b""), complete("SELECT 1"), ready()].concat());
    round_trip(&mut talk, "a");
    assert_eq!(
        talk.lines(),
        ["||OK|midstream,guessed", "SELECT|SELECT a|OK|midstream"]
    );
}

#[test]
fn joined_within_an_answer_the_next_query_is_paired() {
    let mut talk = Talk::late();
    let rest = row(&[b'x'; 300]);
    talk.server(&[&rest[50..], &complete("SELECT 1"), &ready()].concat());
    round_trip(&mut talk, "a");
    round_trip(&mut talk, "b");
    let (records, stats) = talk.finish();
    assert_eq!(
        records.lines,
        [
            "SELECT|SELECT a|OK|midstream,guessed",
            "SELECT|SELECT b|OK|midstream"
        ]
    );
    assert_eq!(stats.protocols["postgresql"].orphans, 1);
}
