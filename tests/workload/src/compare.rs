//! Records of a live capture against what the clients saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde_json::Value;

use crate::truth::{Seen, Side, Transport, Truth};

/// How much longer a record may say that an exchange took than its client says, and how far its
/// start may lie outside of the client's time: clocks are read one after the other.
const CLOCK_SLACK_NS: u64 = 2_000_000;

/// Flags that a record has when nothing went wrong.
const HARMLESS: [&str; 2] = ["midstream", "streaming"];

/// Where a capture looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hooks {
    /// At the socket, by kprobes.
    Kprobe,
    /// At the socket, by fentry and fexit.
    Fentry,
    /// At system calls.
    Tracepoint,
}

/// Where records and truth part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Target of the exchange.
    pub target: String,
    /// Side of the record, where it has one.
    pub side: String,
    /// What is wrong, with both values.
    pub what: String,
}

/// Every way in which `records` (objects of `wirespan.record/1`) are not what `truth` says.
///
/// Each exchange must be there once for each side that `hooks` can see, and agree in everything
/// that its client knows. Records that belong to no exchange are differences when they are of one
/// of the truth's servers, or of one of its scenarios (`/scenario/pid-...`); others are not looked at.
#[must_use]
pub fn compare(truth: &[Truth], records: &[Value], hooks: Hooks) -> Vec<Difference> {
    let ours = Ours::of(truth);
    let mut found: BTreeMap<(&str, &str, &str), Vec<&Value>> = BTreeMap::new();
    for record in records.iter().filter(|record| ours.holds(record)) {
        let (target, side) = (text(record, "target"), text(record, "side"));
        let key = (target, side, ours.server(record));
        found.entry(key).or_default().push(record);
    }
    let mut differences = Vec::new();
    for truth in truth {
        for side in Side::BOTH {
            let key = (
                truth.target.as_str(),
                side.name(),
                truth.server.address.as_str(),
            );
            let records = found.remove(&key);
            let faults = judge(truth, side, &records.unwrap_or_default(), hooks);
            differences.extend(faults.into_iter().map(|what| Difference {
                target: truth.target.clone(),
                side: side.name().into(),
                what,
            }));
        }
    }
    let extra = found.into_values().flatten();
    let extra = extra.filter(|record| !ours.may_be_broken(record));
    differences.extend(extra.map(|record| Difference {
        target: text(record, "target").into(),
        side: text(record, "side").into(),
        what: format!("nobody sent it: {record}"),
    }));
    differences
}

/// As [`compare`], where the kernel has passed over some runs of the programs that observe (it counts
/// them itself: it does so where a task was preempted within the same program).
///
/// What these runs would have seen is missing, so exchanges may be missing, and what says of itself
/// that it is incomplete is not looked at. All that is left must be right.
#[must_use]
pub fn compare_incomplete(truth: &[Truth], records: &[Value], hooks: Hooks) -> Vec<Difference> {
    let met_late = |record: &Value| {
        let of_it = |truth: &&Truth| truth.target == text(record, "target");
        let expected = truth.iter().find(of_it).is_some_and(|t| t.midstream);
        flags(record).contains(&"midstream") && !expected
    };
    let complete = |record: &&Value| {
        flags(record).iter().all(|flag| HARMLESS.contains(flag)) && !met_late(record)
    };
    let records: Vec<Value> = records.iter().filter(complete).cloned().collect();
    let mut truth = truth.to_vec();
    for party in truth
        .iter_mut()
        .flat_map(|t| [&mut t.client, &mut t.server])
    {
        party.seen = Seen::Perhaps;
    }
    compare(&truth, &records, hooks)
}

/// What tells the workload's own records from those of others.
struct Ours<'a> {
    servers: BTreeSet<&'a str>,
    scenarios: BTreeSet<&'a str>,
    /// Connections, client first, on which a record may lack what could not be seen.
    broken: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Ours<'a> {
    fn of(truth: &'a [Truth]) -> Self {
        let addresses = |t: &'a Truth| (t.client.address.as_str(), t.server.address.as_str());
        let perhaps = |t: &&Truth| {
            let seen = [t.client.seen, t.server.seen];
            seen.iter().any(|seen| *seen != Seen::Always)
        };
        Self {
            servers: truth
                .iter()
                .map(|t| t.server.address.as_str())
                .filter(|address| !address.is_empty())
                .collect(),
            scenarios: truth.iter().filter_map(|t| scenario(&t.target)).collect(),
            broken: truth.iter().filter(perhaps).map(addresses).collect(),
        }
    }

    fn holds(&self, record: &Value) -> bool {
        let of_scenario = |name| self.scenarios.contains(name);
        self.servers.contains(text(record, "server"))
            || scenario(text(record, "target")).is_some_and(of_scenario)
    }

    /// The server of a record; none where it is not one of the truth's, as on Unix sockets.
    fn server(&self, record: &'a Value) -> &'a str {
        let known = |server: &&str| self.servers.contains(server);
        Some(text(record, "server"))
            .filter(known)
            .unwrap_or_default()
    }

    /// Whether `record` is what is left of an exchange of which one direction could not be seen.
    fn may_be_broken(&self, record: &Value) -> bool {
        let connection = (text(record, "client"), text(record, "server"));
        text(record, "target").is_empty() && self.broken.contains(&connection)
    }
}

/// `/scenario/pid` of `/scenario/pid-number`: who else plays the scenario is not of this truth.
fn scenario(target: &str) -> Option<&str> {
    target.rsplit_once('-').map(|(played, _)| played)
}

/// What is wrong with the records of one side of an exchange.
fn judge(truth: &Truth, side: Side, records: &[&Value], hooks: Hooks) -> Vec<String> {
    let at_socket = hooks != Hooks::Tracepoint;
    let expected = match truth.party(side).seen {
        Seen::Always => 1..=1,
        Seen::AtSocket if at_socket => 1..=1,
        Seen::AtSocket | Seen::Never => 0..=0,
        Seen::Perhaps => 0..=1,
    };
    if !expected.contains(&records.len()) {
        let (low, high) = (expected.start(), expected.end());
        let should = if low == high {
            low.to_string()
        } else {
            format!("{low} or {high}")
        };
        return vec![format!("recorded {} times, not {should}", records.len())];
    }
    records
        .iter()
        .flat_map(|record| faults(truth, side, record))
        .collect()
}

fn faults(truth: &Truth, side: Side, record: &Value) -> Vec<String> {
    let party = truth.party(side);
    let mut faults = Faults(Vec::new());
    for (key, wanted) in [
        ("schema", "wirespan.record/1"),
        ("protocol", &truth.protocol),
        ("operation", &truth.operation),
        ("status", &truth.status),
        ("trace_id", &truth.trace_id),
    ] {
        faults.check(key, text(record, key), wanted);
    }
    if truth.transport == Transport::Tcp {
        faults.check("client", text(record, "client"), &truth.client.address);
        faults.check("server", text(record, "server"), &truth.server.address);
    }
    for (key, wanted) in [
        ("request_bytes", truth.request_bytes),
        ("response_bytes", truth.response_bytes),
    ] {
        faults.check(key, &record[key].to_string(), &wanted.to_string());
    }
    let process = &record["process"];
    faults.check(
        "process.pid",
        &process["pid"].to_string(),
        &party.process.pid.to_string(),
    );
    faults.check("process.name", text(process, "name"), &party.process.name);
    faults.times(truth, record);
    faults.flags(truth, record);
    faults.0
}

/// What was found to be wrong so far.
struct Faults(Vec<String>);

impl Faults {
    fn check(&mut self, key: &str, found: &str, wanted: &str) {
        if found != wanted {
            self.0.push(format!("{key} is {found:?}, not {wanted:?}"));
        }
    }

    fn times(&mut self, truth: &Truth, record: &Value) {
        let longest = truth.duration_ns + CLOCK_SLACK_NS;
        match record["duration_ns"].as_u64() {
            None => self.0.push("duration_ns is not known".into()),
            Some(took) if (truth.pause_ns..=longest).contains(&took) => {}
            Some(took) => self.0.push(format!(
                "duration_ns is {took}, not from {} to {longest}",
                truth.pause_ns
            )),
        }
        let start = text(record, "start");
        let (first, last) = (
            truth.start_ns.saturating_sub(CLOCK_SLACK_NS),
            truth.start_ns + longest,
        );
        match unix_nanos(start) {
            Some(start) if (first..=last).contains(&start) => {}
            _ => self.0.push(format!(
                "start is {start}, not in the client's time, {first} to {last}"
            )),
        }
    }

    fn flags(&mut self, truth: &Truth, record: &Value) {
        let flags = flags(record);
        if flags.contains(&"midstream") != truth.midstream {
            let should = if truth.midstream { "" } else { "not " };
            let what = format!("flags are {flags:?} and should {should}hold midstream");
            self.0.push(what);
        }
        // Who joins in the middle pairs on trust until a round trip has shown that he may.
        let known = |flag| HARMLESS.contains(&flag) || (truth.midstream && flag == "guessed");
        if let Some(flag) = flags.into_iter().find(|flag| !known(flag)) {
            self.0.push(format!("it has the flag {flag}"));
        }
    }
}

fn flags(record: &Value) -> Vec<&str> {
    let flags = record["flags"].as_array().into_iter().flatten();
    flags.filter_map(Value::as_str).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Nanoseconds since 1970 of `YYYY-MM-DDThh:mm:ss.nnnnnnnnnZ` (RFC 3339 §5.6), from 1970 on.
fn unix_nanos(text: &str) -> Option<u64> {
    let number = |range: Range<usize>| text.get(range)?.parse::<u64>().ok();
    let marks = [
        (4, "-"),
        (7, "-"),
        (10, "T"),
        (13, ":"),
        (16, ":"),
        (19, "."),
        (29, "Z"),
    ];
    let marked = |(at, mark): (usize, &str)| text.get(at..at + 1) == Some(mark);
    if text.len() != 30 || !marks.into_iter().all(marked) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Years begin in March, so that the leap day comes last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(DAYS_TO_1970)?;
    let seconds = days * 86_400 + number(11..13)? * 3_600 + number(14..16)? * 60 + number(17..19)?;
    Some(seconds * 1_000_000_000 + number(20..29)?)
}

/// Days from the first of March of the year 0 to the first of January 1970.
const DAYS_TO_1970: u64 = 719_468;

impl FromStr for Hooks {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "kprobe" => Ok(Self::Kprobe),
            "fentry" => Ok(Self::Fentry),
            "tracepoint" => Ok(Self::Tracepoint),
            _ => Err(format!(
                "not a set of hooks: {name} (kprobe, fentry, tracepoint)"
            )),
        }
    }
}

impl fmt::Display for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kprobe => "kprobe",
            Self::Fentry => "fentry",
            Self::Tracepoint => "tracepoint",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} side): {}", self.target, self.side, self.what)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::truth::tests::truth;

    /// The record of `truth` at `side`, as it should be.
    fn record(truth: &Truth, side: Side) -> Value {
        let process = &truth.party(side).process;
        json!({
            "schema": "wirespan.record/1", "start": "2027-01-15T08:00:00.001000000Z",
            "duration_ns": 25_000_000, "protocol": truth.protocol, "operation": truth.operation,
            "target": truth.target, "status": truth.status, "trace_id": truth.trace_id,
            "client": truth.client.address, "server": truth.server.address, "side": side.name(),
            "request_bytes": truth.request_bytes, "response_bytes": truth.response_bytes,
            "flags": [], "process": {"pid": process.pid, "name": process.name},
        })
    }

    fn both(truth: &Truth) -> Vec<Value> {
        Side::BOTH.map(|side| record(truth, side)).into()
    }

    fn differences(truth: &Truth, records: &[Value], hooks: Hooks) -> Vec<String> {
        let differences = compare(std::slice::from_ref(truth), records, hooks);
        differences.iter().map(Difference::to_string).collect()
    }

    #[test]
    fn records_that_agree_have_no_differences() {
        let truth = truth();
        assert_eq!(differences(&truth, &both(&truth), Hooks::Kprobe), [""; 0]);
    }

    #[test]
    fn a_side_without_record_is_a_difference() {
        let truth = truth();
        let records = &both(&truth)[..1];
        assert_eq!(
            differences(&truth, records, Hooks::Kprobe),
            ["/recvmsg/7-1 (server side): recorded 0 times, not 1"]
        );
    }

    #[test]
    fn where_runs_were_passed_over_exchanges_may_be_missing_but_not_wrong() {
        let truth = truth();
        let incomplete = |records: &[Value]| {
            compare_incomplete(std::slice::from_ref(&truth), records, Hooks::Fentry).len()
        };
        let records = both(&truth);
        assert_eq!(incomplete(&records), 0);
        assert_eq!(incomplete(&records[..1]), 0);
        for flag in ["gap", "midstream"] {
            let mut flagged = records.clone();
            flagged[0]["flags"] = json!([flag]);
            flagged[0]["status"] = json!("");
            assert_eq!(incomplete(&flagged), 0, "{flag}");
        }
        let mut wrong = records.clone();
        wrong[0]["status"] = json!("200");
        assert_eq!(incomplete(&wrong), 1);
        let twice = [records[0].clone(), records[0].clone()];
        assert_eq!(incomplete(&twice), 1);
    }

    #[test]
    fn a_record_that_is_there_twice_is_a_difference() {
        let truth = truth();
        let mut records = both(&truth);
        records.push(records[0].clone());
        assert_eq!(
            differences(&truth, &records, Hooks::Kprobe),
            ["/recvmsg/7-1 (client side): recorded 2 times, not 1"]
        );
    }

    #[test]
    fn every_key_that_the_client_knows_is_compared() {
        let truth = truth();
        for (key, wrong) in [
            ("schema", json!("wirespan.record/2")),
            ("start", json!("2027-01-15T08:00:01.001000000Z")),
            ("duration_ns", json!(19_000_000)),
            ("duration_ns", json!(33_000_000)),
            ("duration_ns", Value::Null),
            ("protocol", json!("redis")),
            ("operation", json!("POST")),
            ("status", json!("200")),
            ("trace_id", json!("4bf92f3577b34da6a3ce929d0e0e4737")),
            ("client", json!("127.0.0.1:1")),
            ("server", json!("127.0.0.1:1")),
            ("request_bytes", json!(1)),
            ("response_bytes", json!(1)),
            ("flags", json!(["midstream"])),
            ("flags", json!(["gap"])),
            ("process", json!({"pid": 1, "name": "wl-client"})),
            ("process", json!({"pid": 10, "name": "init"})),
        ] {
            let mut records = both(&truth);
            records[0][key] = wrong.clone();
            let found = differences(&truth, &records, Hooks::Kprobe);
            // Of another server: one is missing, and there is one that nobody sent.
            let wanted = if key == "server" { 2 } else { 1 };
            assert_eq!(found.len(), wanted, "{key} {wrong}: {found:?}");
        }
    }

    #[test]
    fn a_record_that_nobody_sent_is_a_difference() {
        let truth = truth();
        for (key, value) in [("target", "/recvmsg/7-2"), ("target", "")] {
            let mut records = both(&truth);
            records.push(records[0].clone());
            records[2][key] = json!(value);
            assert_eq!(differences(&truth, &records, Hooks::Kprobe).len(), 1);
        }
    }

    #[test]
    fn records_of_other_programs_are_not_looked_at() {
        let truth = truth();
        let mut records = both(&truth);
        records.push(json!({"target": "/other", "server": "127.0.0.1:9", "side": "client"}));
        assert_eq!(differences(&truth, &records, Hooks::Kprobe), [""; 0]);
    }

    #[test]
    fn what_system_calls_do_not_show_is_wanted_of_socket_hooks_alone() {
        let mut truth = truth();
        truth.client.seen = Seen::AtSocket;
        let records = &both(&truth)[1..];
        assert_eq!(differences(&truth, records, Hooks::Tracepoint), [""; 0]);
        assert_eq!(differences(&truth, records, Hooks::Fentry).len(), 1);
        assert_eq!(
            differences(&truth, &both(&truth), Hooks::Tracepoint).len(),
            1
        );
    }

    #[test]
    fn what_may_be_seen_must_be_right() {
        let mut truth = truth();
        truth.client.seen = Seen::Perhaps;
        let mut records = both(&truth);
        assert_eq!(differences(&truth, &records, Hooks::Kprobe), [""; 0]);
        records[0]["status"] = json!("500");
        assert_eq!(differences(&truth, &records, Hooks::Kprobe).len(), 1);
        assert_eq!(differences(&truth, &records[1..], Hooks::Kprobe), [""; 0]);
    }

    #[test]
    fn a_connection_that_was_open_before_is_marked() {
        let mut truth = truth();
        truth.midstream = true;
        let mut records = both(&truth);
        assert_eq!(differences(&truth, &records, Hooks::Kprobe).len(), 2);
        records[0]["flags"] = json!(["midstream"]);
        records[1]["flags"] = json!(["midstream", "guessed"]);
        assert_eq!(differences(&truth, &records, Hooks::Kprobe), [""; 0]);
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        let second = 1_000_000_000;
        for (text, nanos) in [
            ("1970-01-01T00:00:00.000000000Z", Some(0)),
            (
                "2000-02-29T12:00:00.000000001Z",
                Some(951_825_600 * second + 1),
            ),
            (
                "2027-01-15T08:00:00.000000000Z",
                Some(1_800_000_000 * second),
            ),
            ("2027-01-15 08:00:00.000000000Z", None),
            ("2027-01-15T08:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(unix_nanos(text), nanos, "{text}");
        }
    }
}
