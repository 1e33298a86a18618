//! Keys of two requests. First the declared parts, then for each request its query, its header's lines, its path
//! parameter, tenant, agent and body, each a section. Requests share a key exactly when a naive reading finds the same
//! in both: above all, bodies whose pointed values differ never do.

#![no_main]

use std::sync::Arc;

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weir_config::{Action, ByteSize, Class, CoreId, ForwardRoute, KeyPart, Method, PathPattern, Route};
use weir_fuzz::{field, sections};
use weir_logic::key::{KeyError, NamedValue, Scope, parts};
use weir_logic::{AgentId, CacheKey, Call, Identity, Millis, RequestView, TenantId};

fuzz_target!(|input: &str| {
    let mut input = sections(input);
    let mut next = || input.next().unwrap_or_default();
    let declared: Vec<KeyPart> = next().split_ascii_whitespace().filter_map(|part| part.parse().ok()).collect();
    let (first, second) = (Sent::read(&mut next), Sent::read(&mut next));
    let route = Arc::new(route());
    for scope in [Scope::Shared, Scope::Tenant] {
        let [one, other] = [&first, &second].map(|sent| sent.key(&declared, scope, &route));
        if let (Ok(one), Ok(other)) = (&one, &other) {
            let naive = |sent: &Sent<'_>| sent.naive(&declared, scope);
            assert_eq!(one == other, naive(&first) == naive(&second), "keys and values disagree");
        }
    }
});

/// What one request says.
struct Sent<'a> {
    query: Option<&'a str>,
    headers: HeaderMap,
    parameters: Vec<(&'a str, &'a str)>,
    identity: Identity,
    body: &'a str,
}

impl<'a> Sent<'a> {
    fn read(next: &mut impl FnMut() -> &'a str) -> Self {
        let query = Some(next()).filter(|query| !query.is_empty());
        let headers = next().split('\n').filter_map(field).map(|value| (HEADER, value)).collect();
        let parameters =
            Some(next()).filter(|value| !value.is_empty()).map(|value| ("id", value)).into_iter().collect();
        let identity = Identity { tenant: TenantId::new(next()), agent: AgentId::new(next()) };
        Self { query, headers, parameters, identity, body: next() }
    }

    fn key(&self, declared: &[KeyPart], scope: Scope, route: &Arc<Route>) -> Result<CacheKey, KeyError> {
        let request = RequestView {
            method: Method::Post,
            path: "/a",
            query: self.query,
            host: "edge",
            headers: &self.headers,
            body: self.body.as_bytes(),
        };
        let call =
            Call { request, route, parameters: &self.parameters, identity: &self.identity, now: Millis::default() };
        let key = CacheKey::of(declared, scope, &call);
        let readable = parts(declared, scope, &call);
        assert_eq!(key.as_ref().map(drop), readable.as_ref().map(drop), "one reading fails where the other does not");
        if let Ok(readable) = readable {
            self.is_told_as_it_is(declared, &readable);
        }
        assert_eq!(CacheKey::of(declared, scope, &call), key);
        key
    }

    /// The values that the core is told are those of a naive reading.
    fn is_told_as_it_is(&self, declared: &[KeyPart], readable: &[NamedValue]) {
        for (part, (name, value)) in declared.iter().rev().zip(readable.iter().rev()) {
            assert_eq!(*name, part.to_string());
            let found = self.find(part);
            match part {
                KeyPart::Query(_) => {
                    assert_eq!(value.as_deref().unwrap_or_default(), found.join(","));
                    assert_eq!(value.is_some(), !found.is_empty());
                }
                KeyPart::Body(_) => assert_eq!(value.is_some(), !found.is_empty()),
                _ => assert_eq!(value.as_ref(), found.first()),
            }
        }
    }

    fn naive(&self, declared: &[KeyPart], scope: Scope) -> Vec<Vec<String>> {
        let tenant = if scope == Scope::Tenant { self.find(&KeyPart::Tenant) } else { Vec::new() };
        std::iter::once(tenant).chain(declared.iter().map(|part| self.find(part))).collect()
    }

    /// The values of a part, found the plain way.
    fn find(&self, part: &KeyPart) -> Vec<String> {
        match part {
            KeyPart::Agent => self.identity.agent.iter().map(ToString::to_string).collect(),
            KeyPart::Tenant => self.identity.tenant.iter().map(ToString::to_string).collect(),
            KeyPart::Path(name) => {
                self.parameters.iter().filter(|(known, _)| known == name).map(|(_, value)| value.to_string()).collect()
            }
            KeyPart::Query(name) => {
                let pairs = self.query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty());
                let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                pairs.filter(|(known, _)| known == name).map(|(_, value)| value.to_owned()).collect()
            }
            KeyPart::Header(name) => {
                let lines: Vec<&str> = self
                    .headers
                    .get_all(name)
                    .iter()
                    .filter_map(|line| std::str::from_utf8(line.as_bytes()).ok())
                    .collect();
                (!lines.is_empty()).then(|| lines.join(", ")).into_iter().collect()
            }
            KeyPart::Body(pointer) => {
                let value: Value = serde_json::from_str(self.body).expect("a body with a key is JSON");
                value.pointer(pointer).map(|found| self.as_sent(pointer, found)).into_iter().collect()
            }
        }
    }

    /// A pointed value as text: a string and its spelling are one, numbers and the like count as they are spelt.
    fn as_sent(&self, pointer: &str, found: &Value) -> String {
        if found.is_string() {
            return found.to_string();
        }
        let tokens = pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"));
        let mut text = self.body.trim_ascii().to_owned();
        for token in tokens {
            text = child(&text, &token);
        }
        text
    }
}

/// The text of a member or an element that is known to be there.
fn child(text: &str, token: &str) -> String {
    type Raw = Box<serde_json::value::RawValue>;
    if text.starts_with('[') {
        let elements: Vec<Raw> = serde_json::from_str(text).expect("an array");
        return elements[token.parse::<usize>().expect("an index")].get().to_owned();
    }
    let members: std::collections::BTreeMap<String, Raw> = serde_json::from_str(text).expect("an object");
    members[token].get().to_owned()
}

const HEADER: http::HeaderName = http::HeaderName::from_static("x");

fn route() -> Route {
    let action = Action::Forward(ForwardRoute { websocket: false, max_body_bytes: ByteSize::mib(1) });
    let path: PathPattern = "/a".parse().expect("a path");
    Route {
        name: "r".to_owned(),
        methods: vec![Method::Post],
        path,
        host: None,
        class: Class::Config,
        core: CoreId(0),
        agent_limit: None,
        action,
    }
}
