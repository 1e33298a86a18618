//! What the tables of a file say together: names that meet, addresses that collide, routes that cannot be told apart,
//! and parts that nothing uses.

use std::collections::HashMap;

use crate::diagnostic::{At, Findings};
use crate::key::quoted;
use crate::sections::Read;
use crate::tree::Node;
use crate::{Action, ClientAuth, IdentitySource, KeyPart, Listener, Method, Mode, Route, Segment};

/// Reports all contradictions between tables.
pub(crate) fn judge(read: &Read, findings: &mut Findings) {
    let named =
        read.listeners.iter().filter(|(_, node)| node.table().is_some_and(|table| table.node("name").is_some()));
    names_meet("listener", named.map(|(listener, node)| (listener.name.as_str(), node)), findings);
    names_meet("core", read.cores.iter().map(|(core, node)| (core.name.as_str(), node)), findings);
    names_meet("stream", read.streams.iter().map(|(stream, node)| (stream.name.as_str(), node)), findings);
    names_meet("route", read.routes.iter().map(|(route, node)| (route.name.as_str(), node)), findings);
    addresses_meet(read, findings);
    routes_meet(&read.routes, findings);
    keys_are_filled(read, findings);
    parameters_are_in_keys(read, findings);
    rollouts_know_agents(read, findings);
    records_fit(read, findings);
    // Doubts are worth saying only about what is otherwise right: a wrong route may be what leads to a stream.
    if !findings.has_errors() {
        unused(read, findings);
        tenants_are_known(read, findings);
        agents_are_known(read, findings);
        sources_are_there(read, findings);
    }
}

/// The place of a key's value in a table, or of the table.
fn place(node: &Node, key: &str) -> At {
    node.table().and_then(|table| table.node(key)).map_or(node.at, |node| node.at)
}

fn names_meet<'a>(what: &str, named: impl Iterator<Item = (&'a str, &'a Node)>, findings: &mut Findings) {
    let mut seen: HashMap<&str, &Node> = HashMap::new();
    for (name, node) in named {
        let Some(first) = seen.insert(name, node) else { continue };
        findings
            .error(place(node, "name"), format!("there are two {what}s named {}", quoted(name)))
            .label("named again here")
            .related(place(first, "name"), "named here already");
    }
}

fn addresses_meet(read: &Read, findings: &mut Findings) {
    for (index, (listener, node)) in read.listeners.iter().enumerate() {
        if listener.address.port() == 0 {
            continue;
        }
        let first = read.listeners[..index].iter().find(|(other, _)| other.address == listener.address);
        if let Some((_, first)) = first {
            findings
                .error(place(node, "address"), format!("two listeners bind {}", listener.address))
                .related(place(first, "address"), "first bound here");
        }
        if read.admin.as_ref().is_some_and(|admin| admin.address == listener.address) {
            findings
                .error(place(node, "address"), format!("a listener binds the admin address {}", listener.address))
                .help("give one of them another port");
        }
    }
}

/// Refuses pairs of routes that match one request and of which neither is more specific.
fn routes_meet(routes: &[(Route, Node)], findings: &mut Findings) {
    let mut seen: HashMap<Shape<'_>, Vec<&(Route, Node)>> = HashMap::new();
    for pair in routes {
        let (route, node) = pair;
        let alike = seen.entry(shape(route)).or_default();
        let meeting = alike.iter().find_map(|(first, other)| {
            let method = route.methods.iter().find(|method| first.methods.contains(method))?;
            Some((first, other, method.as_str()))
        });
        if let Some((first, other, method)) = meeting {
            let (one, two) = (quoted(&first.name), quoted(&route.name));
            findings
                .error(place(node, "match"), format!("the routes {one} and {two} match the same requests"))
                .label(format!("{method} {} again", route.path))
                .related(place(other, "match"), format!("{method} {} first", first.path))
                .note("which of them would answer cannot be told: same methods, same host, same shape of path");
        }
        alike.push(pair);
    }
}

/// What tells the requests of routes apart, whatever their parameters are called and whatever their methods. Of two that
/// match one request the lesser is the more specific.
type Shape<'r> = (bool, Option<&'r str>, Vec<(u8, &'r str)>);

fn shape(route: &Route) -> Shape<'_> {
    let segments = route.path.segments.iter().map(|segment| match segment {
        Segment::Literal(text) => (0, text.as_str()),
        Segment::Parameter(_) => (1, ""),
        Segment::Rest(_) => (2, ""),
    });
    (route.host.is_none(), route.host.as_deref(), segments.collect())
}

/// Sorts routes so that of those that match a request the most specific comes first; the order is total up to the
/// file's.
pub(crate) fn sort(routes: &mut [Route]) {
    // A route for HEAD comes before one for GET, which takes HEAD too where nothing else does.
    let rank = |route: &Route| route.methods.contains(&Method::Get);
    routes.sort_by(|one, two| shape(one).cmp(&shape(two)).then_with(|| rank(one).cmp(&rank(two))));
}

/// Doubts about streams and cores that nothing leads to.
fn unused(read: &Read, findings: &mut Findings) {
    for (stream, node) in &read.streams {
        let used =
            |(route, _): &(Route, Node)| matches!(&route.action, Action::Aggregate(to) if to.stream == stream.name);
        if !read.routes.iter().any(used) {
            findings
                .warning(place(node, "name"), format!("no route leads to the stream {}", quoted(&stream.name)))
                .note("what its journal and outbox still hold is sent nevertheless");
        }
    }
    for (index, (core, node)) in read.cores.iter().enumerate() {
        let by_route = read.routes.iter().any(|(route, _)| route.core.0 == index);
        let by_stream = read.streams.iter().any(|(stream, _)| stream.core.0 == index);
        let by_presence = matches!(&read.presence, Some(Some(presence)) if presence.core.0 == index);
        if index > 0 && !by_route && !by_stream && !by_presence {
            findings.warning(place(node, "name"), format!("nothing uses the core {}", quoted(&core.name)));
        }
    }
}

/// Refuses keys with a name that no source fills.
fn keys_are_filled(read: &Read, findings: &mut Findings) {
    let Some(identity) = &read.identity else { return };
    for (route, node) in &read.routes {
        let Some((key, _)) = key_and_shared(&route.action) else { continue };
        for (part, sources, name) in
            [(KeyPart::Agent, &identity.agent, "agent"), (KeyPart::Tenant, &identity.tenant, "tenant")]
        {
            if key.contains(&part) && sources.is_empty() {
                findings
                    .error(
                        place(node, "name"),
                        format!("the key of route {} has `{part}`, which nothing fills", quoted(&route.name)),
                    )
                    .note(format!("`[identity]` names no source of the {name}"))
                    .help(format!("add `{name} = \"certificate.cn\"`, or another source, to `[identity]`"));
            }
        }
    }
}

fn key_and_shared(action: &Action) -> Option<(&[KeyPart], bool)> {
    match action {
        Action::Cache(route) => Some((&route.key, route.shared)),
        Action::Lookup(route) => Some((&route.key, route.shared)),
        Action::Aggregate(_) | Action::Forward(_) => None,
    }
}

/// A fill sends the whole path, so a parameter that the key leaves out would let the first agent's path answer for all others.
fn parameters_are_in_keys(read: &Read, findings: &mut Findings) {
    let Some(identity) = &read.identity else { return };
    for (route, node) in &read.routes {
        let Action::Cache(cache) = &route.action else { continue };
        let names =
            |sources: &[IdentitySource], name: &str| matches!(sources, [IdentitySource::Path(known)] if known == name);
        let is_told_apart = |name: &str| {
            cache.key.iter().any(|part| matches!(part, KeyPart::Path(known) if known == name))
                || (names(&identity.tenant, name) && (!cache.shared || cache.key.contains(&KeyPart::Tenant)))
                || (names(&identity.agent, name) && cache.key.contains(&KeyPart::Agent))
        };
        for name in route.path.parameters().filter(|name| !is_told_apart(name)) {
            let at = node.table().and_then(|table| table.node("key")).map_or_else(|| place(node, "name"), |key| key.at);
            findings
                .error(at, format!("the key of route {} leaves out the path's `{name}`", quoted(&route.name)))
                .note("requests with other values would get the answer that the first one has fetched")
                .help(format!("add \"path.{name}\" to `key`"));
        }
    }
}

/// A rollout goes from agent to agent: it must know them, and they must share an answer.
fn rollouts_know_agents(read: &Read, findings: &mut Findings) {
    let Some(identity) = &read.identity else { return };
    for (route, node) in &read.routes {
        let Action::Cache(cache) = &route.action else { continue };
        if cache.rollout.is_none() {
            continue;
        }
        if identity.agent.is_empty() {
            findings
                .error(
                    place(node, "rollout"),
                    format!("route {} has a rollout, but agents are not known", quoted(&route.name)),
                )
                .note("`[identity]` names no source of the agent, so no agent would ever have its turn")
                .help("add `agent = \"certificate.cn\"`, or another source, to `[identity]`");
        }
        if cache.key.contains(&KeyPart::Agent) {
            findings
                .error(
                    place(node, "rollout"),
                    format!("route {} has a rollout, but each agent has an answer of its own", quoted(&route.name)),
                )
                .note("`identity.agent` is in its key")
                .help("leave one of both out");
        }
    }
}

/// Doubts about routes that are to keep tenants apart and cannot know them.
fn tenants_are_known(read: &Read, findings: &mut Findings) {
    if read.identity.as_ref().is_none_or(|identity| !identity.tenant.is_empty()) {
        return;
    }
    for (route, node) in &read.routes {
        if key_and_shared(&route.action).is_some_and(|(_, shared)| !shared) {
            findings
                .warning(
                    place(node, "name"),
                    format!("route {} is not `shared`, but tenants are not known", quoted(&route.name)),
                )
                .note("`[identity]` names no source of the tenant, so all requests count as one tenant's")
                .help("add `tenant = \"certificate.o\"`, or another source, to `[identity]`");
        }
    }
}

/// Doubts about what tells agents apart and cannot know them.
fn agents_are_known(read: &Read, findings: &mut Findings) {
    if read.identity.as_ref().is_none_or(|identity| !identity.agent.is_empty()) {
        return;
    }
    let help = "add `agent = \"certificate.cn\"`, or another source, to `[identity]`";
    for (stream, node) in read.streams.iter().filter(|(stream, _)| stream.mode != Mode::Raw) {
        findings
            .warning(
                place(node, "name"),
                format!("the stream {} merges repeats, but agents are not known", quoted(&stream.name)),
            )
            .note("`[identity]` names no source of the agent, so all records of a tenant count as one agent's")
            .help(help);
    }
    if let (Some(Some(_)), Some(node)) = (&read.presence, read.root.table().and_then(|root| root.node("presence"))) {
        findings
            .warning(node.at, "presence is reported, but agents are not known")
            .note("no agent will ever be in a report")
            .help(help);
    }
}

/// Doubts about sources of names that can never be there.
fn sources_are_there(read: &Read, findings: &mut Findings) {
    let Some(identity) = &read.identity else { return };
    let asks = |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| tls.client_auth != ClientAuth::Off);
    let certificates = read.listeners.iter().any(|(listener, _)| asks(listener));
    let headers = read.listeners.iter().any(|(listener, _)| listener.trusted_headers);
    let has_parameter =
        |name: &str| read.routes.iter().any(|(route, _)| route.path.parameters().any(|known| known == name));
    let table = read.root.table().and_then(|root| root.node("identity")).and_then(Node::table);
    let nodes = ["agent", "tenant"].iter().filter_map(|key| table?.node(key)).flat_map(Node::elements);
    for (source, node) in identity.agent.iter().chain(&identity.tenant).zip(nodes) {
        let why = match source {
            IdentitySource::Header(_) if headers => continue,
            IdentitySource::Header(_) => "no listener has `trusted_headers = true`".to_owned(),
            IdentitySource::Path(name) if has_parameter(name) => continue,
            IdentitySource::Path(name) => format!("no route has a parameter `{name}`"),
            _ if certificates => continue,
            _ => "no listener asks for certificates: `client_auth` is \"off\" on all of them".to_owned(),
        };
        findings.warning(node.at, format!("the identity source `{source}` never counts")).note(why);
    }
}

/// A record that is allowed must fit into a batch of every stream.
fn records_fit(read: &Read, findings: &mut Findings) {
    let Some(limits) = &read.limits else { return };
    for (stream, node) in &read.streams {
        if stream.batch.max_bytes < limits.max_record_bytes {
            findings
                .error(
                    place(node, "batch"),
                    format!("a batch of the stream {} cannot hold the longest record", quoted(&stream.name)),
                )
                .label(format!("`batch.max_bytes` is {}", stream.batch.max_bytes))
                .note(format!("`limits.max_record_bytes` is {}", limits.max_record_bytes));
        }
    }
}
