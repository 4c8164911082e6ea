//! How soon after a loss exchanges are whole again.
#![allow(missing_docs)]

mod common;

use common::*;
use wirespan_postgres::Postgres;
use wirespan_testkit::{Fixture, RECOVERY, recovers};

fn round_trip(n: usize) -> [Vec<u8>; 2] {
    let answer = if n.is_multiple_of(2) {
        [row_description(), row(b"1"), complete("SELECT 1"), ready()].concat()
    } else {
        [error("23505"), ready()].concat()
    };
    [query(&format!("SELECT a FROM t{n}")), answer]
}

fn connected() -> Fixture {
    Fixture::new().client(&startup()).server(&welcome())
}

#[test]
fn simple_queries_are_paired_again_soon() {
    let mut fixture = connected();
    for i in 0..2 {
        fixture = fixture
            .client(&query(&format!("SELECT a{i} FROM t WHERE b = 'c'")))
            .server(&[row_description(), row(b"some value"), row(b"another")].concat())
            .server(&[complete("SELECT 2"), ready()].concat())
            .client(&query(&format!("UPDATE t SET a{i} = 1")))
            .server(&[error("23505"), ready()].concat());
    }
    recovers(Postgres, &fixture, 0, RECOVERY, round_trip);
}

#[test]
fn queries_are_paired_again_soon_after_pipelines() {
    let batch = [extended("SELECT a"), extended("SELECT b"), sync()].concat();
    let answer = [
        extended_answer("SELECT 1"),
        extended_answer("SELECT 1"),
        ready(),
    ];
    let fixture = connected()
        .client(&batch)
        .server(&answer.concat())
        .client(&[batch.clone(), batch].concat())
        .server(&answer.concat())
        .server(&answer.concat());
    recovers(Postgres, &fixture, 0, RECOVERY, round_trip);
}
