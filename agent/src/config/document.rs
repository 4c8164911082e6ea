//! The configuration for people: as a commented file, and as the reference page.

use std::collections::BTreeMap;

use serde_json::Value;

use super::keys::{self, Key};
use super::load::Effective;

/// What stands for a value that is not to be shown.
pub(crate) const HIDDEN: &str = "<hidden>";

/// A value as it may be shown: secrets that are set are not.
pub(crate) fn shown(key: &Key, value: &Value) -> Value {
    let is_set = match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    match key.secret && is_set {
        true => Value::String(HIDDEN.to_owned()),
        false => value.clone(),
    }
}

/// All keys as YAML: with what they mean, and commented out where they are the default; of a
/// configuration that is given, with the origin of each value.
pub(crate) fn yaml(keys: &[Key], effective: Option<&Effective>) -> String {
    let sections = keys::sections();
    let mut text = String::new();
    let mut open: Vec<&str> = Vec::new();
    for key in keys {
        let mut path: Vec<&str> = key.path.split('.').collect();
        let name = path.pop().unwrap_or_default();
        enter(&mut text, &mut open, &path, &sections, effective.is_none());
        let indent = "  ".repeat(path.len());
        match effective {
            Some(effective) => {
                let value = shown(key, effective.value(key));
                let origin = effective.origin(key);
                text.push_str(&format!("{indent}{name}: {value} # {origin}\n"));
            }
            None => {
                comment(&mut text, &indent, &key.description);
                text.push_str(&format!("{indent}# {name}: {}\n", key.default));
            }
        }
    }
    text
}

/// Writes the heads of the sections that `path` is in and the line before was not.
fn enter<'a>(
    text: &mut String,
    open: &mut Vec<&'a str>,
    path: &[&'a str],
    sections: &BTreeMap<String, String>,
    about: bool,
) {
    let common = open.iter().zip(path).take_while(|(a, b)| a == b).count();
    open.truncate(common);
    for name in &path[common..] {
        let indent = "  ".repeat(open.len());
        open.push(name);
        if about {
            text.push_str(if text.is_empty() { "" } else { "\n" });
            let about = sections.get(&open.join(".")).map_or("", String::as_str);
            comment(text, &indent, about);
        }
        text.push_str(&format!("{indent}{name}:\n"));
    }
}

fn comment(text: &mut String, indent: &str, words: &str) {
    for line in words.lines() {
        text.push_str(&format!("{indent}# {line}\n"));
    }
}

/// The tables of docs/CONFIG.md: a row for each key.
#[cfg(test)]
pub(crate) fn reference(keys: &[Key]) -> String {
    let sections = keys::sections();
    let mut text = String::new();
    let mut section = "";
    for key in keys {
        let (within, _) = key.path.rsplit_once('.').unwrap_or_default();
        if within != section {
            section = within;
            let about = sections.get(section).map_or("", String::as_str);
            let about = about.replace('\n', " ");
            text.push_str(&format!("\n### `{section}`\n\n{about}\n\n"));
            text.push_str("| key | value | default | flag, variable | what |\n");
            text.push_str("| --- | --- | --- | --- | --- |\n");
        }
        let flag = key.flag.as_ref().map(|flag| format!("`--{flag}`, "));
        let reload = if key.reload { "" } else { " †" };
        text.push_str(&format!(
            "| `{}`{reload} | {} | `{}` | {}`{}` | {} |\n",
            key.path,
            key.kind.name(),
            key.default,
            flag.unwrap_or_default(),
            key.variable,
            key.description.replace('\n', " ").replace('|', "\\|"),
        ));
    }
    text
}
