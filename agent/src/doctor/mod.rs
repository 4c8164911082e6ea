//! `wirespan doctor`: what this machine and these rights allow, and what to do about the rest.

mod report;

use wirespan_capture::preflight::{self, Check, Facts, Grade};
use wirespan_capture::{Error, HookSet, processes, survey};

use crate::cli::{BUFFER, DoctorArgs};
use crate::exit::Exit;
use crate::explain;
use crate::terminal::Terminal;

/// Runs `doctor`.
pub(crate) fn run(args: &DoctorArgs, terminal: &Terminal) -> Exit {
    let facts = preflight::gather(BUFFER << 20);
    let checks = preflight::judge(&facts);
    let programs = preflight::programs();
    let files = args.targets.then(|| survey(&processes()));
    let text = if args.json {
        let mut value = report::json(&facts, &checks, &programs);
        if let Some(files) = &files {
            value["targets"] = explain::targets_json(files).into();
        }
        format!("{value}\n")
    } else {
        let marks = report::Marks::new(Terminal::is_unicode(), terminal.stdout_colour());
        let mut text = report::checks(&checks, marks);
        text.push_str(&report::programs(&programs));
        if let Some(files) = &files {
            text.push_str(&explain::targets(files));
        }
        text.push_str(&report::verdict(&facts));
        text
    };
    match (terminal.data(text.as_bytes()), preflight::usable(&facts)) {
        (Err(exit), _) => exit,
        (Ok(()), Some(_)) => Exit::Done,
        (Ok(()), None) => Exit::Preflight,
    }
}

/// Why live capture did not start, and what to do about it: the checks that failed, as `doctor`
/// shows them.
pub(crate) fn advice(error: &Error, sets: &[HookSet], ring_bytes: u32) -> String {
    let facts = preflight::gather(ring_bytes);
    let checks: Vec<_> = preflight::judge(&facts)
        .into_iter()
        .filter(|check| is_reason(check, &facts, sets))
        .collect();
    let marks = report::Marks::new(Terminal::is_unicode(), wirespan_export::table::Colour::Off);
    format!(
        "{}\n{}`wirespan doctor` shows all checks",
        error.reason(),
        report::checks(&checks, marks)
    )
}

/// Whether a check tells why the hook sets that were asked for did not work.
fn is_reason(check: &Check, facts: &Facts, sets: &[HookSet]) -> bool {
    match preflight::usable(facts) {
        // Another set would have worked.
        Some(_) => {
            let asked = |set: &HookSet| preflight::hooks_check(*set) == check.id;
            check.grade != Grade::Ok && sets.iter().any(asked)
        }
        None => check.grade == Grade::Fail && check.remedy.is_some(),
    }
}
