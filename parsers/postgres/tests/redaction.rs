//! What is shown of statements.
#![allow(missing_docs)]

mod common;

use common::*;
use wirespan_engine::api::Redaction;

#[test]
fn without_redaction_only_credentials_vanish() {
    let mut talk = Talk::unredacted();
    talk.client(&startup()).server(&welcome());
    for text in ["SELECT 'a' /* b */;", "ALTER ROLE a PASSWORD 'CANARY'"] {
        talk.client(&query(text))
            .server(&[complete("SELECT 1"), ready()].concat());
    }
    assert_eq!(
        talk.lines()[1..],
        [
            "SELECT|SELECT 'a' /* b */;|OK|",
            "ALTER|ALTER ROLE a PASSWORD ?|OK|"
        ]
    );
}

#[test]
fn texts_of_before_are_not_shown_when_they_are_redacted_otherwise() {
    let mut talk = Talk::unredacted();
    talk.client(&startup()).server(&welcome());
    talk.client(&[parse("s", "SELECT 'a'"), bind("", "s"), execute(""), sync()].concat());
    let done = [message(b'2', b""), complete("SELECT 1"), ready()].concat();
    talk.server(&[message(b'1', b""), done.clone()].concat());
    for redaction in [Redaction::On, Redaction::Full] {
        talk.set_redaction(redaction);
        talk.client(&[bind("", "s"), execute(""), sync()].concat())
            .server(&done);
        talk.client(&query("SELECT 'b'"))
            .server(&[complete("SELECT 1"), ready()].concat());
    }
    talk.set_redaction(Redaction::Off);
    talk.client(&[bind("", "s"), execute(""), sync()].concat())
        .server(&done);
    assert_eq!(
        talk.lines()[1..],
        [
            "SELECT|SELECT 'a'|OK|",
            "SELECT||OK|",
            "SELECT|SELECT ?|OK|",
            "SELECT||OK|",
            "SELECT||OK|",
            "SELECT|SELECT 'a'|OK|",
        ]
    );
}
