//! What flags and variables say, as values of keys.

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde_json::{Map, Number, Value};

use super::keys::{self, Key, Kind};

/// Values from one kind of place, nearer to the user than those below it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    pub(crate) values: Vec<Said>,
}

/// What somebody said of a key.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) path: String,
    /// Where: `--listen`, `WIRESPAN_LISTEN`.
    pub(crate) place: String,
    pub(crate) value: Value,
}

impl Layer {
    /// What was given on the command line of `wirespan agent`. Flags that only have a default, or
    /// come from a variable, are none.
    pub(crate) fn flags(keys: &[Key], matches: &ArgMatches) -> Self {
        let mut layer = Self::default();
        for key in keys {
            let Some(flag) = &key.flag else { continue };
            let id = flag.replace('-', "_");
            if matches.value_source(&id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let given = matches.get_raw(&id).into_iter().flatten();
            let given: Vec<String> = given.map(|raw| raw.to_string_lossy().into()).collect();
            let value = match key.kind {
                // Clap has taken lists apart, where a comma does.
                Kind::Texts | Kind::Numbers => given
                    .iter()
                    .map(|word| value(key.kind.of_one(), word))
                    .collect(),
                // A switch has no word of its own; one that switches off is called no-….
                Kind::Boolean if given.iter().all(|word| word == "true") => {
                    Value::Bool(!flag.starts_with("no-"))
                }
                kind => value(kind, given.last().map_or("", String::as_str)),
            };
            layer.say(key, format!("--{flag}"), value);
        }
        layer
    }

    /// What the environment says; a variable that is empty says nothing.
    pub(crate) fn environment(
        keys: &[Key],
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let mut layer = Self::default();
        for key in keys {
            let Some(text) = variable(&key.variable).filter(|text| !text.trim().is_empty()) else {
                continue;
            };
            let of_otel = key.variable.starts_with("OTEL_");
            let value = match key.kind {
                Kind::Duration if of_otel && text.trim().bytes().all(|b| b.is_ascii_digit()) => {
                    Value::String(format!("{}ms", text.trim()))
                }
                Kind::Map => {
                    let pairs = wirespan_telemetry::read_pairs(&text);
                    // The values may be credentials: they are not shown.
                    let expected = || format!("{}: expected key=value,key=value", key.variable);
                    let pairs = pairs.ok_or_else(expected)?.into_iter();
                    Value::Object(
                        pairs
                            .map(|(k, v)| (k, Value::String(v)))
                            .collect::<Map<_, _>>(),
                    )
                }
                kind => value(kind, &text),
            };
            layer.say(key, key.variable.clone(), value);
        }
        Ok(layer)
    }

    /// The layer with a patch put into it (RFC 7396): a key that is null is not said any more, nor
    /// are those of a section that is.
    ///
    /// # Errors
    ///
    /// A key that there is not, or that only counts at the start, and a section that is none.
    pub(crate) fn patched(&self, patch: &Value, keys: &[Key], place: &str) -> Result<Self, String> {
        if !patch.is_object() {
            return Err("expected an object, such as {\"filter\": {\"errors\": true}}".to_owned());
        }
        if let Some(message) = super::load::unknown(patch) {
            return Err(message);
        }
        let mut layer = self.clone();
        let mut said = 0;
        for key in keys {
            let Some(value) = keys::said(patch, &key.path)? else {
                continue;
            };
            said += 1;
            // There is nothing to take back of the others.
            if !key.reload && !value.is_null() {
                return Err(format!("{}: counts at the start only", key.path));
            }
            layer.values.retain(|said| said.path != key.path);
            if !value.is_null() {
                layer.say(key, place.to_owned(), value.clone());
            }
        }
        match said {
            0 => Err("there is no key in it".to_owned()),
            _ => Ok(layer),
        }
    }

    fn say(&mut self, key: &Key, place: String, value: Value) {
        self.values.push(Said {
            path: key.path.clone(),
            place,
            value,
        });
    }
}

/// The value that a text stands for; one that is none stays text, which the tree refuses.
fn value(kind: Kind, text: &str) -> Value {
    let text = text.trim();
    let as_text = || Value::String(text.to_owned());
    match kind {
        Kind::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Value::Bool(true),
            "false" | "off" | "no" | "0" => Value::Bool(false),
            _ => as_text(),
        },
        Kind::Number => match text.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => {
                let number = text.parse().ok().and_then(Number::from_f64);
                number.map_or_else(as_text, Value::Number)
            }
        },
        Kind::Texts | Kind::Numbers => list(kind, text),
        Kind::Text | Kind::Duration | Kind::Map => as_text(),
    }
}

fn list(kind: Kind, text: &str) -> Value {
    let words = text.split(',').filter(|word| !word.trim().is_empty());
    words.map(|word| value(kind.of_one(), word)).collect()
}

/// A value as the text of its variable, as OpenTelemetry reads it; `None` where there is none.
pub(crate) fn text(kind: Kind, value: &Value) -> Option<String> {
    match (kind, value) {
        (_, Value::Null) => None,
        (Kind::Duration, Value::String(text)) => {
            let duration: crate::units::Duration = text.parse().ok()?;
            Some((duration.0 / 1_000_000).to_string())
        }
        (_, Value::String(text)) => Some(text.clone()),
        (_, Value::Object(map)) => {
            let pairs = map.iter();
            let pairs = pairs.map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default()));
            let pairs = wirespan_telemetry::write_pairs(pairs);
            (!pairs.is_empty()).then_some(pairs)
        }
        (Kind::Texts, Value::Array(list)) => {
            let texts: Vec<_> = list.iter().filter_map(Value::as_str).collect();
            (!texts.is_empty()).then(|| texts.join(","))
        }
        (_, value) => Some(value.to_string()),
    }
}
