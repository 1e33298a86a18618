//! What a line tells, and what it does not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, VARY};
use proptest::prelude::*;
use weir_config::{MemoryEnvironment, Method, parse};

use super::{Line, Veil, mark};
use crate::cache::Unstorable;
use crate::route::{Found, RouteTable};
use crate::{AgentId, Answer, Call, Cause, Identity, Millis, Outcome, RequestView, TenantId};

const BEGAN: Millis = Millis(1_700_000_000_000);

/// A configuration with these routes.
pub(super) fn config(routes: &str) -> weir_config::Config {
    let text = format!(
        "[edge]\ndata_dir = \"d\"\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\ntrusted_headers = true\n[core]\npeers = [\"c:1\"]\n\
         [identity]\ntenant = \"header.x-tenant-id\"\nagent = \"header.x-agent-id\"\n{routes}"
    );
    let parsed = parse(&MemoryEnvironment::new().file("weir.toml", text), Path::new("weir.toml"));
    parsed.unwrap_or_else(|problems| panic!("{problems}")).config
}

const ROUTES: &str = r#"
[[route]]
name = "files"
match = { method = "GET", path = "/v1/files/{channel}/{file*}" }
class = "download"
action = "cache"
key = ["path.channel", "path.file", "query.os", "header.x-os"]
shared = true
[[route]]
name = "config"
match = { method = "POST", path = "/v1/config" }
class = "config"
action = "cache"
key = ["body./policy"]
"#;

/// A request by its method, path, query, headers, body and who asks: tenant and agent.
#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: String,
    tenant: Option<String>,
    agent: Option<String>,
}

impl Asked {
    fn get(path: &str, query: Option<&str>) -> Self {
        let (path, query) = (path.to_owned(), query.map(str::to_owned));
        Self {
            method: Method::Get,
            path,
            query,
            headers: HeaderMap::new(),
            body: String::new(),
            tenant: None,
            agent: None,
        }
    }

    fn line(&self) -> Line {
        let routes = config(ROUTES).routes;
        let veil = Veil::new([7; 32], "salt".into(), &routes);
        let table = RouteTable::new(&routes);
        let Found::Route { route, parameters, .. } = table.find(self.method, "h", &self.path) else {
            panic!("{self:?}")
        };
        let identity = Identity {
            agent: self.agent.as_deref().and_then(AgentId::new),
            tenant: self.tenant.as_deref().and_then(TenantId::new),
        };
        let request = RequestView {
            method: self.method,
            path: &self.path,
            query: self.query.as_deref(),
            host: "h",
            headers: &self.headers,
            body: self.body.as_bytes(),
        };
        let call = Call {
            request,
            route: &Arc::clone(route),
            parameters: &parameters,
            identity: &identity,
            now: Millis(BEGAN.0 + 5),
        };
        let headers = ["x-os".to_owned(), "x-more".to_owned()];
        let mut line = Line::of(&call, &veil, &headers, BEGAN);
        let mut answer = Answer::empty(200, Outcome::Miss)
            .with(CACHE_CONTROL, HeaderValue::from_static("max-age=60, x=acme"))
            .with(AGE, HeaderValue::from_static("7"))
            .with(ETAG, HeaderValue::from_static("\"acme\""))
            .with(VARY, HeaderValue::from_static("X-Os, acme"))
            .because(Cause::Unstorable(Unstorable::TooLarge));
        answer.body = Bytes::from_static(b"acme");
        line.answered(&answer, &veil, &headers, BEGAN, Duration::from_millis(12));
        line
    }
}

#[test]
fn a_line_keeps_what_the_configuration_spells_out_and_veils_the_rest() {
    let line = Asked::get("/v1/files/stable/win/v1/a.msi", Some("os=win&build=7&os=&late")).line();
    let veil = Veil::new([7; 32], "salt".into(), &[]);
    let over = |text: &str| veil.over(text);
    let expected = format!("/v1/files/{}/{}/{}/{}", over("stable"), over("win"), over("v1"), over("a.msi"));
    assert_eq!(line.path, expected);
    let (build, late) = (mark("salt", "build"), mark("salt", "late"));
    let expected = format!("os={}&{build}={}&os={}&{late}", over("win"), over("7"), over(""));
    assert_eq!(line.query.as_deref(), Some(&*expected));
    assert_eq!((line.at, line.core, line.age, line.said.as_deref()), (5, Some(12), Some(7), Some("max-age=60")));
    assert_eq!(line.vary, ["x-os"]);
    assert_eq!((line.cause.as_deref(), line.tag), (Some("too-large"), Some(over("\"acme\""))));
    assert_eq!((line.route.as_str(), line.class.as_str(), line.method.as_str()), ("files", "download", "GET"));
}

proptest! {
    /// Whatever agents name, wherever they name it, is not in the trace.
    #[test]
    fn nothing_that_agents_say_is_in_a_line(name in "[A-Z]{3}[A-Z0-9_.-]{5,12}", place in 0_usize..9) {
        let mut asked = Asked::get("/v1/files/stable/x", None);
        let value = HeaderValue::from_str(&name).unwrap();
        match place {
            0 => asked.path = format!("/v1/files/{name}/x"),
            1 => asked.path = format!("/v1/files/stable/x/{name}//{name}"),
            2 => asked.query = Some(format!("os={name}")),
            3 => asked.query = Some(format!("{name}=os&os&{name}")),
            4 => asked.tenant = Some(name.clone()),
            5 => asked.agent = Some(name.clone()),
            6 => drop(asked.headers.insert("x-os", value)),
            7 => drop(asked.headers.insert("x-unnamed", value)),
            _ => {
                (asked.method, asked.path) = (Method::Post, "/v1/config".into());
                asked.body = format!("{{\"policy\":\"{name}\",\"{name}\":1}}");
            }
        }
        let written = serde_json::to_string(&asked.line()).unwrap();
        prop_assert!(!written.contains(&name), "{written}");
        prop_assert!(!written.contains("acme"), "{written}");
    }
}
