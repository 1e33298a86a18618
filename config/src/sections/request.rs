//! What one route says about its requests, held against its action: methods, and the parts of its key.

use crate::diagnostic::nearest;
use crate::section::Reader;
use crate::tree::Node;
use crate::{Action, KeyPart, Method, Route};

/// Refuses methods that the action cannot take.
pub(super) fn judge_methods(route: &Route, reader: &mut Reader<'_, '_>) {
    let (action, allowed): (_, &[Method]) = match route.action {
        Action::Cache(_) => ("cache", &[Method::Get, Method::Head, Method::Post]),
        Action::Lookup(_) => ("lookup", &[Method::Get, Method::Head, Method::Post]),
        Action::Aggregate(_) => ("aggregate", &[Method::Post]),
        Action::Forward(_) => return,
    };
    let names: Vec<&str> = allowed.iter().map(|method| method.as_str()).collect();
    let at = find(reader.node("match"), "method").map_or(reader.place("match"), |node| node.at);
    for method in route.methods.iter().filter(|method| !allowed.contains(method)) {
        reader
            .context
            .findings
            .error(at, format!("a route with `action = \"{action}\"` cannot take {}", method.as_str()))
            .label(format!("expected {}", names.join(", ")));
    }
}

/// Refuses parts of a key that a request of this route cannot have or that contradict `shared`.
pub(super) fn judge_key(route: &Route, reader: &mut Reader<'_, '_>) {
    let (key, shared, node) = match &route.action {
        Action::Cache(cache) => (&cache.key, cache.shared, reader.node("key")),
        Action::Lookup(lookup) => (&lookup.key, lookup.shared, find(reader.node("lookup"), "key")),
        Action::Aggregate(_) | Action::Forward(_) => return,
    };
    for (index, part) in key.iter().enumerate() {
        let Some(at) = node.and_then(|node| node.elements().get(index)).map(|node| node.at) else { continue };
        let findings = &mut reader.context.findings;
        match part {
            KeyPart::Path(name) if !route.path.parameters().any(|known| known == name) => {
                let draft = findings.error(at, format!("the path has no parameter `{name}`"));
                draft.note(format!("the path is {}", route.path));
                if let Some(near) = nearest(name, route.path.parameters()) {
                    draft.help(format!("did you mean \"path.{near}\"?"));
                }
            }
            KeyPart::Body(_) if route.methods != [Method::Post] => {
                let other = route
                    .methods
                    .iter()
                    .find(|method| **method != Method::Post)
                    .map_or("GET", |method| method.as_str());
                findings
                    .error(at, format!("`{part}` in the key of a route that takes {other}"))
                    .note("only the body of a POST is read for a key")
                    .help("put POST on a route of its own, with `match = { method = \"POST\", ... }`");
            }
            KeyPart::Agent | KeyPart::Tenant if shared => {
                findings
                    .error(at, format!("`{part}` in the key of a `shared` route"))
                    .note("`shared = true` says that one tenant's answer may go to another; an answer that depends on who asks may not")
                    .help(format!("leave `{part}` out of the key, or set `shared = false`"));
            }
            _ => {}
        }
    }
    let takes_posts = matches!(route.action, Action::Cache(_)) && route.methods.contains(&Method::Post);
    if takes_posts && !key.iter().any(|part| matches!(part, KeyPart::Body(_))) {
        reader
            .warning("key", "a cached POST whose key has no part of the body")
            .note("every body would get the same answer")
            .help("name what the answer depends on, as in `key = [\"body./policy\"]`");
    }
}

fn find<'t>(table: Option<&'t Node>, key: &str) -> Option<&'t Node> {
    table?.table()?.node(key)
}
