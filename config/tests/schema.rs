//! The JSON Schema takes what the parser takes, as far as one key at a time can tell.

use serde_json::{Map, Value};
use weir_config::{EXAMPLE, schema};

/// The values of the example as an editor's validator would see them.
fn example() -> Value {
    let table: toml::Table = EXAMPLE.parse().expect("the example is TOML");
    serde_json::to_value(table).expect("TOML without dates is JSON")
}

#[test]
fn the_example_is_valid() {
    let schema = schema();
    assert_eq!(faults(&schema, &example(), ""), [""; 0]);
}

#[test]
fn the_sketch_is_valid() {
    let table: toml::Table = include_str!("sketch.toml").parse().expect("the sketch is TOML");
    let sketch = serde_json::to_value(table).expect("TOML without dates is JSON");
    assert_eq!(faults(&schema(), &sketch, ""), [""; 0]);
}

#[test]
fn unknown_keys_and_wrong_types_are_invalid() {
    let wrong = |text: &str| {
        let table: toml::Table = text.parse().expect("TOML");
        faults(&schema(), &serde_json::to_value(table).expect("JSON"), "")
    };
    assert_eq!(wrong("[edge]\nregoin = \"a\""), ["edge.regoin is unknown"]);
    assert_eq!(wrong("[limits]\nmax_requests = 0"), ["limits.max_requests is out of bounds"]);
    assert_eq!(wrong("[shutdown]\ndrain = 5"), ["shutdown.drain is no string"]);
    assert_eq!(wrong("presence = false"), [""; 0]);
    assert!(!wrong("presence = true").is_empty());
    let other_action =
        "[[route]]\nname = \"a\"\nmatch = { path = \"/a\" }\nclass = \"update\"\naction = \"forward\"\nttl = \"5s\"";
    assert!(!wrong(other_action).is_empty());
}

#[test]
fn every_property_says_what_it_is() {
    let mut silent = Vec::new();
    walk(&schema(), "", &mut silent);
    assert_eq!(silent, [""; 0]);
}

fn walk(schema: &Value, path: &str, silent: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if property["description"].as_str().is_none_or(str::is_empty) {
            silent.push(format!("{path}.{name}"));
        }
    }
    for (name, table) in schema["$defs"].as_object().into_iter().flatten() {
        assert!(!table["description"].as_str().is_none_or(str::is_empty), "{name}");
        walk(table, name, silent);
    }
}

/// What is wrong with a value by the part of JSON Schema that the schema uses; patterns are not judged.
fn faults(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let Some(schema) = schema.as_object() else {
        return if schema == &Value::Bool(false) { vec![format!("{path} is not allowed")] } else { vec![] };
    };
    let mut found = Vec::new();
    for (word, rule) in schema {
        match word.as_str() {
            "$ref" => found.extend(faults(definition(rule), value, path)),
            "type" => {
                found.extend(wrong_type(rule, value).then(|| format!("{path} is no {}", rule.as_str().unwrap_or("?"))));
            }
            "const" => found.extend((rule != value).then(|| format!("{path} is not {rule}"))),
            "minimum" => found
                .extend(out_of(value, rule, |value, bound| value < bound).then(|| format!("{path} is out of bounds"))),
            "maximum" => found
                .extend(out_of(value, rule, |value, bound| value > bound).then(|| format!("{path} is out of bounds"))),
            "required" => found.extend(missing(rule, value, path)),
            "properties" => found.extend(properties(rule, value, path)),
            "additionalProperties" => found.extend(unknown(schema, value, path)),
            "items" => found.extend(value.as_array().into_iter().flatten().flat_map(|value| faults(rule, value, path))),
            "anyOf" => found.extend(any_of(rule, value, path)),
            "allOf" => found.extend(rule.as_array().into_iter().flatten().flat_map(|rule| faults(rule, value, path))),
            "if" if faults(rule, value, path).is_empty() => found.extend(faults(&schema["then"], value, path)),
            _ => {}
        }
    }
    found
}

/// The table that a reference names.
fn definition(reference: &Value) -> &'static Value {
    static SCHEMA: std::sync::LazyLock<Value> = std::sync::LazyLock::new(schema);
    let name = reference.as_str().and_then(|text| text.strip_prefix("#/$defs/")).unwrap_or_default();
    SCHEMA["$defs"].get(name).unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

fn wrong_type(rule: &Value, value: &Value) -> bool {
    match rule.as_str().unwrap_or_default() {
        "object" => !value.is_object(),
        "array" => !value.is_array(),
        "string" => !value.is_string(),
        "integer" => !value.is_i64() && !value.is_u64(),
        "number" => !value.is_number(),
        "boolean" => !value.is_boolean(),
        _ => true,
    }
}

fn out_of(value: &Value, bound: &Value, past: fn(f64, f64) -> bool) -> bool {
    value.as_f64().zip(bound.as_f64()).is_some_and(|(value, bound)| past(value, bound))
}

fn missing(rule: &Value, value: &Value, path: &str) -> Vec<String> {
    let Some(object) = value.as_object() else { return vec![] };
    let names = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
    names.filter(|name| !object.contains_key(*name)).map(|name| format!("{path} lacks {name}")).collect()
}

fn properties(rule: &Value, value: &Value, path: &str) -> Vec<String> {
    let (Some(rules), Some(object)) = (rule.as_object(), value.as_object()) else { return vec![] };
    let known = object.iter().filter_map(|(name, value)| Some((rules.get(name)?, name, value)));
    known.flat_map(|(rule, name, value)| faults(rule, value, &step(path, name))).collect()
}

fn unknown(schema: &Map<String, Value>, value: &Value, path: &str) -> Vec<String> {
    let Some(object) = value.as_object() else { return vec![] };
    let names = object.keys().filter(|name| schema["properties"].get(name.as_str()).is_none());
    names.map(|name| format!("{} is unknown", step(path, name))).collect()
}

/// The faults of the option that fits best.
fn any_of(rule: &Value, value: &Value, path: &str) -> Vec<String> {
    let options = rule.as_array().into_iter().flatten().map(|rule| faults(rule, value, path));
    options.min_by_key(Vec::len).unwrap_or_default()
}

fn step(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
