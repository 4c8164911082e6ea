//! The keys of the configuration one by one, as the schema has them.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::tree::Config;

/// A key with a value: a leaf of the tree.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Its place, such as `metrics.listen`.
    pub(crate) path: String,
    /// What its values are.
    pub(crate) kind: Kind,
    /// The flag of `wirespan agent` that sets it, without its dashes.
    pub(crate) flag: Option<String>,
    /// The variable that sets it.
    pub(crate) variable: String,
    /// Whether it takes effect while the agent runs.
    pub(crate) reload: bool,
    /// Whether its value is not to be shown.
    pub(crate) secret: bool,
    /// What it means.
    pub(crate) description: String,
    /// Its value where nobody says anything.
    pub(crate) default: Value,
}

/// What the values of a key are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Boolean,
    Number,
    Text,
    /// Text such as `10s`; in the variables of OpenTelemetry, milliseconds.
    Duration,
    /// A list of texts, or of numbers.
    Texts,
    /// See `Texts`.
    Numbers,
    /// Names with texts.
    Map,
}

impl Kind {
    /// As people call it.
    #[cfg(test)]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Number => "number",
            Self::Text => "text",
            Self::Duration => "duration",
            Self::Texts => "list of texts",
            Self::Numbers => "list of numbers",
            Self::Map => "names with texts",
        }
    }

    /// What each value of a list is.
    pub(crate) const fn of_one(self) -> Self {
        match self {
            Self::Numbers => Self::Number,
            Self::Texts => Self::Text,
            kind => kind,
        }
    }

    fn of(schema: &Value) -> Self {
        let is = |name: &str| match &schema["type"] {
            Value::String(kind) => kind == name,
            Value::Array(kinds) => kinds.iter().any(|kind| kind == name),
            _ => false,
        };
        match () {
            () if is("boolean") => Self::Boolean,
            () if is("integer") || is("number") => Self::Number,
            () if is("object") => Self::Map,
            () if is("array") && schema["items"]["type"] == "integer" => Self::Numbers,
            () if is("array") => Self::Texts,
            () if is_duration(schema) => Self::Duration,
            () => Self::Text,
        }
    }
}

/// An optional duration is either that or null.
fn is_duration(schema: &Value) -> bool {
    let alternatives = schema["anyOf"].as_array().into_iter().flatten();
    let mut schemas = std::iter::once(schema).chain(alternatives);
    schemas.any(|schema| schema["format"] == "duration")
}

/// The JSON Schema of the configuration, without references.
pub(crate) fn schema() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<Config>();
    schema.insert("title".to_owned(), "wirespan agent".into());
    schema.to_value()
}

/// All keys in alphabetical order, those of a section before the sections in it.
pub(crate) fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    collect(&schema(), "", &defaults, &mut keys);
    keys
}

fn collect(schema: &Value, prefix: &str, defaults: &Value, keys: &mut Vec<Key>) {
    let mut sections = Vec::new();
    for (name, schema) in properties(schema).into_iter().flatten() {
        let path = join(prefix, name);
        if properties(schema).is_some() {
            sections.push((schema, path, &defaults[name]));
            continue;
        }
        let text = |extension: &str| schema[extension].as_str().map(str::to_owned);
        // Not by the flag: Kubernetes sets WIRESPAN_PORT where a service is called wirespan.
        let named = || format!("WIRESPAN_{}", path.replace('.', "_").to_uppercase());
        keys.push(Key {
            kind: Kind::of(schema),
            variable: text("x-env").unwrap_or_else(named),
            flag: text("x-flag"),
            reload: schema["x-reload"] == true,
            secret: schema["x-secret"] == true,
            description: text("description").unwrap_or_default(),
            default: defaults[name].clone(),
            path,
        });
    }
    for (schema, path, defaults) in sections {
        collect(schema, &path, defaults, keys);
    }
}

/// The path of what is called `name` in the section `prefix`.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    match prefix {
        "" => name.to_owned(),
        prefix => format!("{prefix}.{name}"),
    }
}

/// What a section holds; `None` of what is none.
pub(crate) fn properties(schema: &Value) -> Option<&serde_json::Map<String, Value>> {
    schema["properties"].as_object()
}

/// What a section is about, by its path.
pub(crate) fn sections() -> BTreeMap<String, String> {
    fn collect(schema: &Value, prefix: &str, sections: &mut BTreeMap<String, String>) {
        for (name, schema) in properties(schema).into_iter().flatten() {
            if properties(schema).is_none() {
                continue;
            }
            let path = join(prefix, name);
            collect(schema, &path, sections);
            let about = schema["description"].as_str().unwrap_or_default();
            sections.insert(path, about.to_owned());
        }
    }
    let mut sections = BTreeMap::new();
    collect(&schema(), "", &mut sections);
    sections
}

/// The value at a path of a tree.
pub(crate) fn at<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |tree, name| tree.get(name))
}

/// What a tree says of the key at a path; null where a section that the key is in is null.
///
/// # Errors
///
/// A section that is none.
pub(crate) fn said<'a>(tree: &'a Value, path: &str) -> Result<Option<&'a Value>, String> {
    let mut value = tree;
    for (end, _) in path.match_indices('.').chain([(path.len(), "")]) {
        let name = path[..end].rsplit('.').next().unwrap_or_default();
        let Some(inner) = value.get(name) else {
            return Ok(None);
        };
        if inner.is_null() || end == path.len() {
            return Ok(Some(inner));
        }
        if !inner.is_object() {
            return Err(format!("{}: expected a section with keys", &path[..end]));
        }
        value = inner;
    }
    Ok(None)
}

/// Puts a value at a path of a tree; sections that are not there are made.
pub(crate) fn put(tree: &mut Value, path: &str, value: Value) {
    let mut place = tree;
    for name in path.split('.') {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = &mut place[name];
    }
    *place = value;
}
