//! What one route says about its requests, held against its action: methods, and the parts of its key.
//!
//! The table is judged as it stands, not the route that it becomes, so that one wrong key does not hide another.

use std::str::FromStr;

use crate::diagnostic::nearest;
use crate::section::Reader;
use crate::tree::{Node, Value};
use crate::{BodyPointer, FILL_HEADERS_OF_ITS_OWN, KeyPart, PathPattern};

/// Refuses methods that the action cannot take.
pub(super) fn judge_methods(action: &str, reader: &mut Reader<'_, '_>) {
    let allowed: &[&str] = match action {
        "cache" | "lookup" => &["GET", "HEAD", "POST"],
        "aggregate" => &["POST"],
        _ => return,
    };
    let given = find(reader.node("match"), "method");
    if given.is_none() && !allowed.contains(&"GET") && reader.has("match") {
        reader
            .error("match", format!("a route with `action = \"{action}\"` cannot take GET"))
            .label("`method` is left out, which means GET")
            .help(format!("add `method = \"{}\"`", allowed[0]));
    }
    for node in given.map(Node::elements).unwrap_or_default() {
        let Some(method) = node.text().filter(|method| METHODS.contains(method) && !allowed.contains(method)) else {
            continue;
        };
        reader
            .context
            .findings
            .error(node.at, format!("a route with `action = \"{action}\"` cannot take {method}"))
            .label(format!("expected {}", allowed.join(", ")));
    }
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Refuses parts of a key that a request of this route cannot have or that contradict `shared`.
pub(super) fn judge_key(action: &str, reader: &mut Reader<'_, '_>) {
    let key = match action {
        "cache" => reader.node("key"),
        "lookup" => find(reader.node("lookup"), "key"),
        _ => return,
    };
    let pattern =
        find(reader.node("match"), "path").and_then(Node::text).and_then(|text| PathPattern::from_str(text).ok());
    let methods = find(reader.node("match"), "method").map(Node::elements).unwrap_or_default();
    let methods: Vec<&str> = methods.iter().filter_map(Node::text).collect();
    let shared = reader.node("shared").is_some_and(|node| matches!(node.value, Value::Boolean(true)));
    let mut of_body = false;
    for node in key.map(Node::elements).unwrap_or_default() {
        let Some(part) = node.text().and_then(|text| KeyPart::from_str(text).ok()) else { continue };
        match &part {
            KeyPart::Path(name) => judge_parameter(name, pattern.as_ref(), node, reader),
            KeyPart::Body(_) => {
                of_body = true;
                judge_body(&part, &methods, node, reader);
            }
            KeyPart::Agent | KeyPart::Tenant if shared => {
                reader
                    .context
                    .findings
                    .error(node.at, format!("`{part}` in the key of a `shared` route"))
                    .note(
                        "an answer that depends on who asks may not go to another tenant, which `shared = true` allows",
                    )
                    .help(format!("leave `{part}` out of the key, or set `shared = false`"));
            }
            _ => {}
        }
    }
    if action == "cache" && methods.contains(&"POST") && !of_body {
        reader
            .warning("key", "a cached POST whose key has no part of the body")
            .note("every body would get the same answer")
            .help("name what the answer depends on, as in `key = [\"body./policy\"]`");
    }
}

fn judge_parameter(name: &str, pattern: Option<&PathPattern>, node: &Node, reader: &mut Reader<'_, '_>) {
    let Some(pattern) = pattern else { return };
    if pattern.parameters().any(|known| known == name) {
        return;
    }
    let draft = reader.context.findings.error(node.at, format!("the path has no parameter `{name}`"));
    match nearest(name, pattern.parameters()) {
        Some(near) => draft.help(format!("did you mean \"path.{near}\"?")),
        None => draft.note(format!("the path is {pattern}")),
    };
}

fn judge_body(part: &KeyPart, methods: &[&str], node: &Node, reader: &mut Reader<'_, '_>) {
    let other = if methods.is_empty() { Some(&"GET") } else { methods.iter().find(|method| **method != "POST") };
    let Some(other) = other else { return };
    reader
        .context
        .findings
        .error(node.at, format!("`{part}` in the key of a route that takes {other}"))
        .note("only the body of a POST is read for a key")
        .help("put POST on a route of its own, with `match = { method = \"POST\", ... }`");
}

/// Refuses headers that the core cannot be left to choose by.
pub(super) fn judge_vary(action: &str, reader: &mut Reader<'_, '_>) {
    if action != "cache" {
        return;
    }
    let key = reader.node("key").map(Node::elements).unwrap_or_default();
    let parts: Vec<KeyPart> =
        key.iter().filter_map(Node::text).filter_map(|text| KeyPart::from_str(text).ok()).collect();
    for node in reader.node("vary").map(Node::elements).unwrap_or_default() {
        let Some(name) = node.text() else { continue };
        let findings = &mut reader.context.findings;
        if parts.iter().any(|part| matches!(part, KeyPart::Header(known) if known == name)) {
            findings
                .error(node.at, format!("`{name}` is in the key and in `vary`"))
                .note("the key tells answers apart by it whatever the core says")
                .help(format!("leave it out of `vary`, or `header.{name}` out of the key"));
        } else if SAYS_WHO_ASKS.contains(&name) {
            findings
                .error(node.at, format!("`{name}` says who asks and cannot be in `vary`"))
                .note("an answer that does not name it in Vary would go to everyone with the key")
                .help(format!("name it in the key, as \"header.{name}\""));
        } else if NOT_THE_AGENTS.contains(&name) || FILL_HEADERS_OF_ITS_OWN.contains(&name) {
            findings
                .error(node.at, format!("`{name}` cannot be in `vary`"))
                .note("the node writes it itself or leaves it out, so that no answer can depend on an agent's");
        }
    }
}

/// Headers by which answers are somebody's own.
const SAYS_WHO_ASKS: [&str; 2] = ["authorization", "cookie"];

/// Further headers that the node says itself, or that are about caching.
const NOT_THE_AGENTS: [&str; 2] = ["cache-control", "user-agent"];

/// Refuses an entity tag that would be part of the key, and warns of one where no body is read.
pub(super) fn judge_etag(action: &str, reader: &mut Reader<'_, '_>) {
    if action != "cache" {
        return;
    }
    let Some(node) = find(reader.node("etag"), "request") else { return };
    let Some(etag) = node.text().and_then(|text| BodyPointer::from_str(text).ok()) else { return };
    let methods = find(reader.node("match"), "method").map(Node::elements).unwrap_or_default();
    let reads_bodies = methods.iter().filter_map(Node::text).any(|method| method == "POST");
    let key = reader.node("key").map(Node::elements).unwrap_or_default();
    let parts = key.iter().filter_map(Node::text).filter_map(|text| KeyPart::from_str(text).ok());
    let holds = |part: &KeyPart| matches!(part, KeyPart::Body(pointer) if meet(pointer, &etag.0));
    let in_key = parts.into_iter().find(holds);
    if !reads_bodies {
        reader
            .warning("etag", "an entity tag in the body on a route that does not take POST")
            .note("only the body of a POST is read; other requests have If-None-Match");
    } else if let Some(part) = in_key {
        reader
            .context
            .findings
            .error(node.at, format!("the entity tag is in the key, as part of `{part}`"))
            .note("agents with different tags would each have an answer of their own");
    }
}

/// Whether one of the two places is inside the other.
fn meet(left: &str, right: &str) -> bool {
    let inside = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    inside(left, right) || inside(right, left)
}

fn find<'t>(table: Option<&'t Node>, key: &str) -> Option<&'t Node> {
    table?.table()?.node(key)
}
