//! The difference between expected and found records, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use wirespan_export::table::visible;

/// Most places that are shown.
const MAX_HUNKS: usize = 20;

/// How far apart, in records, both sides may be where they agree again.
const WINDOW: usize = 64;

/// Most characters of a record that are shown.
const MAX_LINE: usize = 240;

/// Describes how `found` differs from `expected`, two texts of a record to a line; `None` when they
/// are equal. A record that changed is shown by the fields that differ.
pub(crate) fn difference(expected: &str, found: &str) -> Option<String> {
    if expected == found {
        return None;
    }
    let (left, right): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let mut text = format!(
        "--- expected, {} records\n+++ found, {} records\n",
        left.len(),
        right.len()
    );
    let (mut i, mut j, mut hunks) = (0, 0, 0);
    while i < left.len() || j < right.len() {
        if left.get(i) == right.get(j) {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        if hunks == MAX_HUNKS {
            text.push_str("further differences are not shown\n");
            break;
        }
        hunks += 1;
        let (removed, added) = until_equal(&left[i..], &right[j..]);
        hunk(
            &mut text,
            (i, &left[i..i + removed]),
            (j, &right[j..j + added]),
        );
        (i, j) = (i + removed, j + added);
    }
    if hunks == 0 {
        text.push_str("only the ends of lines differ\n");
    }
    Some(text)
}

/// How many records to leave out on either side until both agree; the fewest together.
fn until_equal(left: &[&str], right: &[&str]) -> (usize, usize) {
    for skipped in 1..=2 * WINDOW {
        let fewest = skipped.saturating_sub(WINDOW.min(right.len()));
        for removed in fewest..=skipped.min(WINDOW).min(left.len()) {
            if left.get(removed) == right.get(skipped - removed) {
                return (removed, skipped - removed);
            }
        }
    }
    // Nothing agrees nearby: this record was changed, as probably the next one was.
    (left.len().min(1), right.len().min(1))
}

fn hunk(text: &mut String, (i, removed): (usize, &[&str]), (j, added): (usize, &[&str])) {
    let _ = writeln!(
        text,
        "@@ expected record {}, found record {} @@",
        i + 1,
        j + 1
    );
    let changed = removed.len().min(added.len());
    for (old, new) in removed.iter().zip(added) {
        if !fields_that_differ(text, old, new) {
            line(text, '-', old);
            line(text, '+', new);
        }
    }
    for old in &removed[changed..] {
        line(text, '-', old);
    }
    for new in &added[changed..] {
        line(text, '+', new);
    }
}

fn line(text: &mut String, sign: char, record: &str) {
    text.push(sign);
    text.push(' ');
    visible(text, record, MAX_LINE);
    text.push('\n');
}

/// Names the record and lists its fields that differ; false when there is nothing to list.
fn fields_that_differ(text: &mut String, old: &str, new: &str) -> bool {
    let (Some(old), Some(new)) = (fields(old), fields(new)) else {
        return false;
    };
    let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| old.get(*name) != new.get(*name));
    if names.is_empty() {
        return false;
    }
    let named = ["protocol", "operation", "target", "client", "server"];
    let words: Vec<_> = named
        .iter()
        .filter_map(|name| old.get(*name)?.as_str())
        .collect();
    line(text, ' ', &words.join(" "));
    for name in names {
        for (sign, side) in [('-', &old), ('+', &new)] {
            if let Some(value) = side.get(name) {
                line(text, sign, &format!("  {name}: {value}"));
            }
        }
    }
    true
}

/// The fields of a record, attributes included; `None` when it is not an object.
fn fields(record: &str) -> Option<BTreeMap<String, Value>> {
    let mut fields = BTreeMap::new();
    for (name, value) in serde_json::from_str::<serde_json::Map<_, _>>(record).ok()? {
        match value {
            Value::Object(nested) => {
                fields.extend(
                    nested
                        .into_iter()
                        .map(|(key, value)| (format!("{name}.{key}"), value)),
                );
            }
            value => drop(fields.insert(name, value)),
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: usize, status: &str) -> String {
        format!(
            "{{\"operation\":\"GET\",\"target\":\"/{n}\",\"status\":\"{status}\",\"attributes\":{{\"a\":{n}}}}}\n"
        )
    }

    fn records(numbers: impl IntoIterator<Item = usize>) -> String {
        numbers.into_iter().map(|n| record(n, "200")).collect()
    }

    #[test]
    fn equal_records_have_no_difference() {
        assert_eq!(difference(&records(0..5), &records(0..5)), None);
    }

    #[test]
    fn a_changed_record_is_shown_by_its_fields() {
        let expected = records(0..9);
        let found = expected.replacen(&record(4, "200"), &record(4, "503"), 1);
        assert_eq!(
            difference(&expected, &found).expect("a difference"),
            "--- expected, 9 records\n+++ found, 9 records\n\
             @@ expected record 5, found record 5 @@\n\
             \x20 GET /4\n\
             -   status: \"200\"\n\
             +   status: \"503\"\n"
        );
    }

    #[test]
    fn missing_and_further_records_are_shown_whole() {
        let text =
            difference(&records([0, 1, 2, 3]), &records([0, 2, 3, 4])).expect("a difference");
        assert!(text.contains(&format!(
            "@@ expected record 2, found record 2 @@\n- {}",
            record(1, "200")
        )));
        assert!(text.contains(&format!(
            "@@ expected record 5, found record 4 @@\n+ {}",
            record(4, "200")
        )));
        assert_eq!(text.matches("@@ ").count(), 2);
    }

    #[test]
    fn a_nested_field_has_a_path() {
        let text = difference(&record(1, "200"), &record(1, "200").replace(":1}", ":7}"));
        assert!(
            text.expect("a difference")
                .contains("-   attributes.a: 1\n+   attributes.a: 7\n")
        );
    }

    #[test]
    fn only_the_first_differences_are_shown() {
        let expected = records(0..100);
        let text = difference(&expected, &expected.replace("200", "500")).expect("a difference");
        assert_eq!(text.matches("@@ ").count(), MAX_HUNKS);
        assert!(text.ends_with("further differences are not shown\n"));
    }

    #[test]
    fn an_empty_side_is_a_difference() {
        assert!(
            difference("", &records(0..1))
                .expect("a difference")
                .contains("+ {")
        );
        assert!(
            difference(&records(0..1), "")
                .expect("a difference")
                .contains("- {")
        );
    }

    #[test]
    fn a_missing_last_line_feed_is_named() {
        let text = difference("{}\n", "{}").expect("a difference");
        assert!(text.ends_with("only the ends of lines differ\n"));
    }

    #[test]
    fn what_is_no_json_is_shown_as_it_is() {
        let text = difference("x\u{1b}\n", "y\n").expect("a difference");
        assert!(text.ends_with("- x\\u{1b}\n+ y\n"));
    }
}
