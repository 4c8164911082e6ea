//! The findings as text and as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use wirespan_capture::preflight::{self, Check, Facts, Grade, Outcome, Program};
use wirespan_export::table::Colour;

/// Schema of the JSON object. Keys are only ever added to it.
const SCHEMA: &str = "wirespan.doctor/1";

/// Columns before what was found: mark and name of the check.
const NAME_WIDTH: usize = 17;

/// How grades are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    unicode: bool,
    colour: Colour,
}

impl Marks {
    pub(super) const fn new(unicode: bool, colour: Colour) -> Self {
        Self { unicode, colour }
    }

    fn mark(self, grade: Grade) -> String {
        let (mark, code) = match (grade, self.unicode) {
            (Grade::Ok, true) => ("✓", 32),
            (Grade::Ok, false) => ("+", 32),
            (Grade::Warn, _) => ("!", 33),
            (Grade::Fail, true) => ("✗", 31),
            (Grade::Fail, false) => ("x", 31),
        };
        match self.colour {
            Colour::On => format!("\x1b[{code}m{mark}\x1b[0m"),
            Colour::Off => mark.to_owned(),
        }
    }

    const fn arrow(self) -> &'static str {
        if self.unicode { "→" } else { "->" }
    }
}

/// A line for each check, below it what to do.
pub(super) fn checks(checks: &[Check], marks: Marks) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = marks.mark(check.grade);
        text.push_str(&format!(
            "{mark} {:<NAME_WIDTH$}{}\n",
            check.id, check.found
        ));
        if let Some(remedy) = check.remedy {
            text.push_str(&format!("  {:NAME_WIDTH$}{} {remedy}\n", "", marks.arrow()));
        }
    }
    text
}

/// The programs by kind, and what they call.
pub(super) fn programs(programs: &[Program]) -> String {
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut helpers = BTreeSet::new();
    for program in programs {
        kinds.entry(program.kind).or_default().push(&program.name);
        helpers.extend(program.helpers.iter().map(String::as_str));
    }
    let mut text = String::from("\nPrograms (those of the hook set in use are attached)\n");
    for (kind, names) in kinds {
        text.push_str(&format!("  {kind:<NAME_WIDTH$}{}\n", names.join(" ")));
    }
    let helpers: Vec<_> = helpers.into_iter().collect();
    text.push_str(
        "They call nothing but these helpers, none of which changes what is observed\n  ",
    );
    text.push_str(&helpers.join(" "));
    text.push('\n');
    text
}

/// Whether live capture works.
pub(super) fn verdict(facts: &Facts) -> String {
    match preflight::usable(facts) {
        Some(set) => format!("\nLive capture works here, with {set} hooks.\n"),
        None => "\nLive capture does not work here.\n".to_owned(),
    }
}

/// All of it, for programs.
pub(super) fn json(facts: &Facts, checks: &[Check], programs: &[Program]) -> Value {
    json!({
        "schema": SCHEMA,
        "usable": preflight::usable(facts).is_some(),
        "hooks": preflight::usable(facts).map(|set| set.name()),
        "kernel": { "release": facts.release, "machine": facts.machine },
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
        "hook_sets": facts.hook_sets.iter().map(hook_set).collect::<Vec<_>>(),
        "programs": programs.iter().map(program).collect::<Vec<_>>(),
    })
}

fn check(check: &Check) -> Value {
    json!({
        "id": check.id,
        "grade": check.grade.name(),
        "found": check.found,
        "remedy": check.remedy,
    })
}

fn hook_set(attempt: &preflight::Attempt) -> Value {
    let mut without = Vec::new();
    let mut reason = None;
    match &attempt.outcome {
        Outcome::Works { without: omitted } => {
            without.extend(omitted.iter().map(|one| one.target.to_string()));
        }
        Outcome::Refused { reason: why, .. } => reason = Some(why.as_str()),
        Outcome::NotTried => reason = Some("not tried"),
    }
    let hooks = attempt
        .hooks
        .iter()
        .map(|(program, target)| json!({ "program": program, "target": target.to_string() }));
    json!({
        "name": attempt.set.name(),
        "works": reason.is_none(),
        "reason": reason,
        "without": without,
        "hooks": hooks.collect::<Vec<_>>(),
    })
}

fn program(program: &Program) -> Value {
    json!({
        "name": program.name,
        "kind": program.kind,
        "helpers": program.helpers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [Check; 2] {
        let check = |id, grade, remedy| Check {
            id,
            grade,
            found: "as found".to_owned(),
            remedy,
        };
        [
            check("kernel", Grade::Ok, None),
            check("tracefs", Grade::Fail, Some("mount it")),
        ]
    }

    #[test]
    fn remedy_stands_below_its_check() {
        let plain = Marks::new(false, Colour::Off);
        assert_eq!(
            checks(&both(), plain),
            "+ kernel           as found\n\
             x tracefs          as found\n\
             \u{20}                  -> mount it\n"
        );
    }

    #[test]
    fn marks_follow_locale_and_colour() {
        let coloured = checks(&both(), Marks::new(true, Colour::On));
        assert!(
            coloured.starts_with("\x1b[32m✓\x1b[0m kernel"),
            "{coloured}"
        );
        assert!(coloured.contains("\x1b[31m✗\x1b[0m tracefs"), "{coloured}");
        assert!(coloured.contains("→ mount it"), "{coloured}");
    }

    #[test]
    fn helpers_of_all_programs_are_listed_once() {
        let program = |name: &str, kind| Program {
            name: name.to_owned(),
            kind,
            helpers: BTreeSet::from(["bpf_ktime_get_ns".to_owned()]),
        };
        let listed = [program("one", "kprobe"), program("two", "kprobe")];
        let text = programs(&listed);
        assert_eq!(text.matches("bpf_ktime_get_ns").count(), 1);
        assert!(text.contains("one two\n"), "{text}");
    }
}
