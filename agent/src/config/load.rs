//! From a file, the environment and the command line to one configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::document;
use super::keys::{self, Key};
use super::layers::Layer;
use super::tree::Config;

/// What is wrong with a configuration, with the file and the line or the key that it is wrong in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) file: Option<PathBuf>,
    pub(crate) environment: Layer,
    pub(crate) flags: Layer,
    pub(crate) keys: Vec<Key>,
}

/// A configuration that is in effect, or could be.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    pub(crate) config: Config,
    /// The same as a tree of values.
    pub(crate) tree: Value,
    /// Who has said the value of a key, by its path; of those that are not here, nobody has.
    origins: BTreeMap<String, String>,
}

impl Sources {
    /// Reads it all: flags before the environment before the file before defaults.
    ///
    /// # Errors
    ///
    /// What is wrong, and where.
    pub(crate) fn load(&self) -> Result<Effective, Fault> {
        self.load_under(&Layer::default())
    }

    /// The same under what was said while the agent ran, which comes before all.
    ///
    /// # Errors
    ///
    /// What is wrong, and where.
    pub(crate) fn load_under(&self, dynamic: &Layer) -> Result<Effective, Fault> {
        let mut tree = Value::Object(serde_json::Map::new());
        let mut origins = BTreeMap::new();
        if let Some(path) = &self.file {
            tree = read(path)?;
            let name = path.display().to_string();
            let said = |key: &&Key| keys::at(&tree, &key.path).is_some();
            let said = self.keys.iter().filter(said);
            origins.extend(said.map(|key| (key.path.clone(), name.clone())));
        }
        for layer in [&self.environment, &self.flags, dynamic] {
            for said in &layer.values {
                keys::put(&mut tree, &said.path, said.value.clone());
                origins.insert(said.path.clone(), said.place.clone());
            }
        }
        Effective::of(&tree, origins)
    }
}

impl Effective {
    /// Makes a configuration of what was said.
    pub(crate) fn of(said: &Value, origins: BTreeMap<String, String>) -> Result<Self, Fault> {
        let config: Config = serde_path_to_error::deserialize(said).map_err(|error| {
            let path = error.path().to_string();
            let about = |(key, _): &(&String, _)| path.starts_with(key.as_str());
            let who = origins.iter().rev().find(about);
            let is_variable = |place: &str| keys::keys().iter().any(|key| key.variable == place);
            let who = match who {
                Some((_, place)) if place.starts_with("--") || is_variable(place) => place.clone(),
                Some((_, place)) => format!("{place}: {path}"),
                None => path,
            };
            Fault(match unknown(said) {
                Some(message) => message,
                None => format!("{who}: {}", in_words(&error.inner().to_string())),
            })
        })?;
        let tree = serde_json::to_value(&config).map_err(|error| Fault(error.to_string()))?;
        Ok(Self {
            config,
            tree,
            origins,
        })
    }

    /// The same, but with the values that `current` has of keys that only count at the start; and
    /// the names of those that would be others.
    ///
    /// # Errors
    ///
    /// None but those of [`Effective::of`], which there should not be.
    pub(crate) fn keeping(
        mut self,
        current: &Self,
        keys: &[Key],
    ) -> Result<(Self, Vec<String>), Fault> {
        let mut kept = Vec::new();
        for key in keys.iter().filter(|key| !key.reload) {
            if self.value(key) == current.value(key) {
                continue;
            }
            keys::put(&mut self.tree, &key.path, current.value(key).clone());
            match current.origins.get(&key.path) {
                Some(origin) => self.origins.insert(key.path.clone(), origin.clone()),
                None => self.origins.remove(&key.path),
            };
            kept.push(key.path.clone());
        }
        Ok((Self::of(&self.tree, self.origins)?, kept))
    }

    /// The keys whose values are others than those of `before`.
    pub(crate) fn changed(&self, before: &Self, keys: &[Key]) -> Vec<String> {
        let changed = keys
            .iter()
            .filter(|key| self.value(key) != before.value(key));
        changed.map(|key| key.path.clone()).collect()
    }

    /// All keys with their values and who says so; secrets are not shown.
    pub(crate) fn told(&self, keys: &[Key]) -> Value {
        let told = keys.iter().map(|key| {
            let of = serde_json::json!({
                "value": document::shown(key, self.value(key)),
                "origin": self.origin(key),
                "reload": key.reload,
            });
            (key.path.clone(), of)
        });
        Value::Object(told.collect())
    }

    /// Who has said the value of a key: a file, a variable or a flag; `default` where nobody has.
    pub(crate) fn origin(&self, key: &Key) -> &str {
        self.origins
            .get(&key.path)
            .map_or("default", String::as_str)
    }

    /// The value of a key.
    pub(crate) fn value(&self, key: &Key) -> &Value {
        keys::at(&self.tree, &key.path).unwrap_or(&Value::Null)
    }
}

/// The languages of configuration files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Language {
    Yaml,
    Toml,
}

/// What is wrong with a text, and in which line.
struct Misread {
    message: String,
    line: Option<u64>,
}

impl Language {
    /// By the name of the file: YAML, of which JSON is a part, unless it ends with `.toml`.
    fn of(path: &Path) -> Self {
        match path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            true => Self::Toml,
            false => Self::Yaml,
        }
    }

    fn read<T: DeserializeOwned>(self, text: &str) -> Result<T, Misread> {
        match self {
            Self::Yaml => serde_saphyr::from_str(text).map_err(|error| {
                let error = error.without_snippet();
                let line = error.location().map(|location| location.line());
                let message = error.to_string();
                let behind = line.and_then(|line| message.find(&format!(" at line {line}")));
                Misread {
                    message: message[..behind.unwrap_or(message.len())].to_owned(),
                    line: line.filter(|line| *line > 0),
                }
            }),
            Self::Toml => toml::from_str(text).map_err(|error: toml::de::Error| {
                let before = error.span().and_then(|span| text.get(..span.start));
                Misread {
                    message: error.message().to_owned(),
                    line: before.map(|text| text.matches('\n').count() as u64 + 1),
                }
            }),
        }
    }
}

/// Reads a file as it stands: the tree of what it says.
pub(crate) fn read(path: &Path) -> Result<Value, Fault> {
    let name = path.display();
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| Fault(format!("{name}: {error}")))?;
    let language = Language::of(path);
    let tree = language.read::<Option<Value>>(&text);
    let place = |line: Option<u64>| match line {
        Some(line) => format!("{name}:{line}"),
        None => name.to_string(),
    };
    let tree = tree.map_err(|bad| Fault(format!("{}: {}", place(bad.line), bad.message)))?;
    // A file that says nothing is one that leaves everything as it is.
    let Some(tree) = tree.filter(|tree| !tree.is_null()) else {
        return Ok(Value::Object(serde_json::Map::new()));
    };
    // Read as what it is meant to be, errors know their line.
    if let Err(bad) = language.read::<Config>(&text) {
        let message = unknown(&tree).or_else(|| no_section(&tree));
        let message = message.unwrap_or_else(|| in_words(&bad.message));
        return Err(Fault(format!("{}: {message}", place(bad.line))));
    }
    Ok(tree)
}

/// The message of a reader, with words instead of the names of types.
fn in_words(message: &str) -> String {
    const WORDS: [(&str, &str); 5] = [
        ("u16", "a number from 0 to 65535"),
        ("u32", "a whole number"),
        ("u64", "a whole number"),
        ("floating point", "a number"),
        ("boolean", "true or false"),
    ];
    let said = |(name, words): &(&str, &str)| {
        let is_name = message == format!("invalid {name}");
        is_name.then(|| format!("expected {words}")).or_else(|| {
            let before = message.strip_suffix(&format!("expected {name}"))?;
            Some(format!("{before}expected {words}"))
        })
    };
    WORDS
        .iter()
        .find_map(said)
        .unwrap_or_else(|| message.to_owned())
}

/// The first section of a tree that is none.
fn no_section(tree: &Value) -> Option<String> {
    let keys = keys::keys();
    keys.iter()
        .find_map(|key| keys::said(tree, &key.path).err())
}

/// The first key of a tree that there is not, and the one that may have been meant.
pub(crate) fn unknown(tree: &Value) -> Option<String> {
    let (path, known) = first_unknown(tree, &keys::schema(), "")?;
    let (section, name) = path.rsplit_once('.').unwrap_or(("", &path));
    let near = known.iter().map(|key| (distance(name, key), key));
    let near = near
        .min()
        .filter(|(d, key)| *d <= key.len().max(name.len()) / 2);
    let all = keys::keys();
    let elsewhere = all
        .iter()
        .find(|key| key.path.rsplit('.').next() == Some(name));
    let meant = match (near, elsewhere) {
        (Some((_, key)), _) if section.is_empty() => key.clone(),
        (Some((_, key)), _) => format!("{section}.{key}"),
        (None, Some(key)) => key.path.clone(),
        (None, None) => {
            return Some(format!(
                "unknown key {path}; known are {}",
                known.join(", ")
            ));
        }
    };
    Some(format!("unknown key {path}; did you mean {meant}?"))
}

fn first_unknown(tree: &Value, schema: &Value, prefix: &str) -> Option<(String, Vec<String>)> {
    let known = keys::properties(schema)?;
    for (name, value) in tree.as_object()? {
        let path = keys::join(prefix, name);
        let Some(schema) = known.get(name) else {
            return Some((path, known.keys().cloned().collect()));
        };
        if let Some(found) = first_unknown(value, schema, &path) {
            return Some(found);
        }
    }
    None
}

/// Characters to insert, remove or replace to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
