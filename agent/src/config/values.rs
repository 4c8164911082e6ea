//! Values of keys: text that must mean something, checked while it is read so that an error can tell
//! the line.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::ValueEnum;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wirespan_capture::{ExecutablePattern, HookSet, MAX_CALL_BYTES};
use wirespan_export::semconv::Route;

use crate::filter::{Network, trace_prefix};
use crate::units::Duration;
use crate::workers;

/// A text that may be written as a number or as true and false, as YAML reads `404`.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(crate) struct Setting(pub(crate) String);

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Setting;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Setting, E> {
                Ok(Setting(text.to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Setting, E> {
                Ok(Setting(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Setting, E> {
                Ok(Setting(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Setting, E> {
                Ok(Setting(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Setting, E> {
                Ok(Setting(value.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// What is hidden of statements and targets. Credentials are in any case.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Redact {
    /// Literals become `?`, values never appear.
    #[default]
    On,
    /// Nothing: statements and targets are shown as sent.
    Off,
    /// All of statements and keys, and the values of all parameters of URLs.
    Full,
}

/// The least that the agent says of itself.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// What went wrong.
    Error,
    /// What may be wrong.
    Warn,
    /// What it does.
    #[default]
    Info,
    /// How it does it.
    Debug,
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(&String::deserialize(deserializer)?)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "duration",
            "pattern": "^[0-9.]+ ?(ns|us|µs|μs|ms|s|m|min)$",
        })
    }
}

fn parsed<T: FromStr, E: Error>(text: &str) -> Result<T, E>
where
    T::Err: ToString,
{
    let parsed = text.parse();
    parsed.map_err(|error: T::Err| E::custom(format_args!("{text}: {}", error.to_string())))
}

/// Texts, of which some may look like numbers.
pub(crate) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<Setting>::deserialize(deserializer)?;
    Ok(texts.into_iter().map(|text| text.0).collect())
}

/// Texts that can each be read as `T`.
fn checked<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error>
where
    T::Err: ToString,
{
    let texts = texts(deserializer)?;
    for text in &texts {
        parsed::<T, _>(text)?;
    }
    Ok(texts)
}

pub(crate) fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    checked::<Network, D>(from)
}

pub(crate) fn executables<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    checked::<ExecutablePattern, D>(from)
}

pub(crate) fn routes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    checked::<Route, D>(from)
}

pub(crate) fn hooks<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let hooks = Option::<String>::deserialize(from)?;
    if let Some(name) = &hooks {
        parsed::<HookSet, _>(name)?;
    }
    Ok(hooks)
}

pub(crate) fn trace<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let Some(text) = Option::<Setting>::deserialize(from)? else {
        return Ok(None);
    };
    let prefix = trace_prefix(&text.0);
    prefix.map(Some).map_err(D::Error::custom)
}

pub(crate) fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(from)?;
    match (0.0..=1.0).contains(&share) {
        true => Ok(share),
        false => {
            let found = Unexpected::Float(share);
            Err(D::Error::invalid_value(found, &"a number from 0 to 1"))
        }
    }
}

pub(crate) fn processors<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let number = Option::<f64>::deserialize(from)?;
    match number {
        Some(number) if number <= 0.0 || !number.is_finite() => {
            let found = Unexpected::Float(number);
            Err(D::Error::invalid_value(
                found,
                &"a number above 0, such as 0.5",
            ))
        }
        number => Ok(number),
    }
}

/// An address and port, or `none`.
pub(crate) fn address_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let fits = text == "none" || text.parse::<SocketAddr>().is_ok();
    let expected = "an address and port, such as 127.0.0.1:9464, or none";
    match fits {
        true => Ok(text),
        false => Err(D::Error::invalid_value(Unexpected::Str(&text), &expected)),
    }
}

/// An address and port, if there is one.
pub(crate) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    if let Some(text) = &text {
        parsed::<SocketAddr, _>(text)?;
    }
    Ok(text)
}

pub(crate) fn call_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let bytes = u32::deserialize(from)?;
    match bytes <= MAX_CALL_BYTES {
        true => Ok(bytes),
        false => {
            let found = Unexpected::Unsigned(bytes.into());
            Err(D::Error::invalid_value(found, &"at most 65536 bytes"))
        }
    }
}

/// A section, which in YAML is null where all its keys are commented out.
pub(crate) fn section<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// How many workers there can be.
pub(crate) fn workers<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    let number = Option::<u16>::deserialize(from)?;
    match number {
        Some(number) if !(1..=workers::MOST).contains(&number) => {
            let found = Unexpected::Unsigned(number.into());
            Err(D::Error::invalid_value(found, &"a number from 1 to 64"))
        }
        number => Ok(number),
    }
}
