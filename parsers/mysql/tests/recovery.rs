//! How soon after a loss exchanges are whole again.

mod packets;

use packets::*;
use wirespan_mysql::MySql;
use wirespan_testkit::{RECOVERY, recovers};

fn round_trip(n: usize) -> [Vec<u8>; 2] {
    let answer = if n.is_multiple_of(2) {
        ok(1)
    } else {
        err(1, 1146, "42S02")
    };
    [query(&format!("DELETE FROM t{n}")), answer]
}

#[test]
fn queries_are_paired_again_soon() {
    for style in Style::BOTH {
        let fixture = connected(style)
            .client(&query("SELECT c FROM t WHERE c = 'x'"))
            .server(&result_set(1, &["a", "", "ccc"], style, 0))
            .client(&query("INSERT INTO t VALUES (1)"))
            .server(&ok(1))
            .client(&query("SELECT nothing"))
            .server(&err(1, 1054, "42S22"));
        recovers(MySql, &fixture, 0, RECOVERY, round_trip);
    }
}

#[test]
fn statements_are_paired_again_soon_after_prepared_ones() {
    for style in Style::BOTH {
        let fixture = connected(style)
            .client(&prepare("SELECT c FROM t WHERE c = ?"))
            .server(&prepared(1, 1, 1, style))
            .client(&execute(1))
            .server(&result_set(1, &["\0a", "\0b"], style, 0))
            .client(&execute(1))
            .server(&err(1, 1451, "23000"));
        recovers(MySql, &fixture, 0, RECOVERY, round_trip);
    }
}
