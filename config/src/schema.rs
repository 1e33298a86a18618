//! The JSON Schema of the file, for editors.
//!
//! It is stricter than no schema and looser than the parser: contradictions between keys are left to `weir check`. A
//! string may hold a variable or name a secret file wherever it stands, so every pattern lets those through.

use serde_json::{Map, Value, json};

use crate::key::{Absent, Choice, Description, Key, Kind};
use crate::sections::ROOT_DESCRIPTION;

/// The JSON Schema (draft 2020-12) of a configuration file. Made from the same descriptions as the parser.
pub fn schema() -> Value {
    let Value::Object(mut root) = table(&ROOT_DESCRIPTION) else { return Value::Null };
    // A file that is included need not have what the whole must have.
    root.remove("required");
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("Weir"));
    schema.extend(root);
    let mut definitions = Map::new();
    define(&ROOT_DESCRIPTION, &mut definitions);
    schema.insert("$defs".to_owned(), Value::Object(definitions));
    Value::Object(schema)
}

/// Gathers the tables below a table, each under its name.
fn define(description: &Description, definitions: &mut Map<String, Value>) {
    for inner in description.all_keys().into_iter().filter_map(|key| key.kind.description()) {
        definitions.insert(name(inner), table(inner));
        define(inner, definitions);
    }
}

/// The name of a table: its title without brackets.
fn name(description: &Description) -> String {
    description.title.replace(['[', ']'], "")
}

fn reference(description: &Description) -> Value {
    json!({ "$ref": format!("#/$defs/{}", name(description)) })
}

fn table(description: &Description) -> Value {
    let keys = description.all_keys();
    let properties: Map<String, Value> = keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> = description.keys.iter().filter(|key| is_required(key)).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "description": description.doc,
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if let Some(variants) = &description.variants {
        let cases = variants.cases.iter().map(|(name, keys)| case(description, variants.selector, name, keys));
        schema["allOf"] = Value::Array(cases.collect());
    }
    schema
}

/// With one value of the selector: the keys that are needed, and those of other values refused.
fn case(description: &Description, selector: &str, name: &str, keys: &[Key]) -> Value {
    let own = description.keys_of(Some(name));
    let foreign = description.all_keys().into_iter().filter(|key| !own.iter().any(|known| known.name == key.name));
    let refused: Map<String, Value> = foreign.map(|key| (key.name.to_owned(), Value::Bool(false))).collect();
    let required: Vec<&str> = keys.iter().filter(|key| is_required(key)).map(|key| key.name).collect();
    let is_default = |key: &Key| key.name == selector && matches!(key.absent, Absent::Default(text) if text == name);
    let mut condition = json!({ "properties": { selector: { "const": name } } });
    if !description.keys.iter().any(is_default) {
        condition["required"] = json!([selector]);
    }
    json!({ "if": condition, "then": { "properties": refused, "required": required } })
}

fn is_required(key: &Key) -> bool {
    matches!(key.absent, Absent::Required(_))
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind, key);
    schema["description"] = json!(key.doc);
    let sample = key.sample().and_then(|text| as_json(&key.kind.literal(text)));
    match (key.absent, sample) {
        (Absent::Default(_), Some(value)) => schema["default"] = value,
        (_, Some(value)) if !value.is_string() || value != "" => schema["examples"] = json!([value]),
        _ => {}
    }
    schema
}

/// A value written as TOML, as JSON.
fn as_json(literal: &str) -> Option<Value> {
    let table: toml::Table = format!("value = {literal}").parse().ok()?;
    serde_json::to_value(table.get("value")?).ok()
}

fn kind(kind: &Kind, key: &Key) -> Value {
    match kind {
        Kind::Text(_) | Kind::File => text(key.form.pattern()),
        Kind::Duration => text(Some("^ *([0-9]+ *(d|h|m|s|ms|us|ns) *)+$")),
        Kind::Size => text(Some("^ *[0-9]+ *([KMGT]i?)?B *$")),
        Kind::Ratio => json!({ "anyOf": [
            { "type": "number", "minimum": 0, "maximum": 1 },
            text(Some("^ *[0-9.]+ *%? *$")),
        ] }),
        Kind::Integer => integer(key),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Choice(choices) => choice(choices),
        Kind::List(element) => list(&self::kind(element, key), key),
        Kind::Table(description) if key.off => json!({ "anyOf": [reference(description), { "const": false }] }),
        Kind::Table(description) => reference(description),
        Kind::Either(first, second) => json!({ "anyOf": [self::kind(first, key), self::kind(second, key)] }),
    }
}

fn text(pattern: Option<&str>) -> Value {
    match pattern {
        Some(pattern) => json!({ "type": "string", "anyOf": [{ "pattern": pattern }, { "pattern": EXPANDED }] }),
        None => json!({ "type": "string" }),
    }
}

/// A string that holds a variable or names a secret file.
const EXPANDED: &str = "\\$\\{|^file:";

fn integer(key: &Key) -> Value {
    let mut schema = json!({ "type": "integer" });
    if let Some((least, most)) = key.between {
        schema["minimum"] = json!(least.parse::<i64>().unwrap_or(0));
        schema["maximum"] = json!(most.parse::<i64>().unwrap_or(i64::MAX));
    }
    schema
}

fn choice(choices: &[Choice]) -> Value {
    let mut words: Vec<Value> =
        choices.iter().map(|choice| json!({ "const": choice.name, "description": choice.doc })).collect();
    words.push(json!({ "pattern": EXPANDED }));
    json!({ "type": "string", "anyOf": words })
}

/// A list, or a lone element.
fn list(element: &Value, key: &Key) -> Value {
    let mut array = json!({ "type": "array", "items": element });
    if key.filled {
        array["minItems"] = json!(1);
    }
    json!({ "anyOf": [array, element] })
}
