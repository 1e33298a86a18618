//! Keys: equal only for what the operator declared equal.

use std::sync::Arc;

use http::HeaderMap;
use proptest::prelude::*;
use weir_config::{Action, Class, CoreId, ForwardRoute, KeyPart, Method, PathPattern, Route, Segment};

use super::*;
use crate::{AgentId, Headers, Identity, Millis, RequestView};

fn route(name: &str) -> Arc<Route> {
    Arc::new(Route {
        name: name.into(),
        methods: vec![Method::Get, Method::Post],
        path: PathPattern { text: "/v1/{p}".into(), segments: vec![Segment::Parameter("p".into())] },
        host: None,
        class: Class::Config,
        core: CoreId(0),
        agent_limit: None,
        action: Action::Forward(ForwardRoute { websocket: false, max_body_bytes: weir_config::ByteSize::kib(1) }),
    })
}

#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    path: String,
    query: Option<String>,
    headers: Vec<(&'static str, String)>,
    body: String,
    identity: Identity,
}

impl Default for Asked {
    fn default() -> Self {
        let identity = Identity { agent: AgentId::new("a-1"), tenant: TenantId::new("t-1") };
        Self { method: Method::Get, path: "x".into(), query: None, headers: vec![], body: String::new(), identity }
    }
}

impl Asked {
    fn with<T>(&self, ask: impl FnOnce(&Call<'_>) -> T) -> T {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let parameters = vec![("p", self.path.as_str())];
        let headers: &dyn Headers = &headers;
        ask(&Call {
            request: RequestView {
                method: self.method,
                path: "/v1/x",
                query: self.query.as_deref(),
                host: "edge",
                headers,
                body: self.body.as_bytes(),
            },
            route: &route("r"),
            parameters: &parameters,
            identity: &self.identity,
            now: Millis(0),
        })
    }

    fn key(&self, parts: &[KeyPart], scope: Scope) -> Result<CacheKey, KeyError> {
        self.with(|call| CacheKey::of(parts, scope, call))
    }

    fn post(body: &str) -> Self {
        Self { method: Method::Post, body: body.into(), ..Self::default() }
    }
}

fn every_part() -> Vec<KeyPart> {
    vec![
        KeyPart::Path("p".into()),
        KeyPart::Query("q".into()),
        KeyPart::Header("h".into()),
        KeyPart::Body("/b".into()),
        KeyPart::Agent,
    ]
}

#[test]
fn what_is_not_declared_is_not_in_the_key() {
    let plain = Asked::default().key(&[], Scope::Tenant).unwrap();
    let noisy = Asked {
        path: "y".into(),
        query: Some("os=win".into()),
        headers: vec![("cookie", "c".into()), ("authorization", "Bearer b".into())],
        ..Asked::default()
    };
    assert_eq!(noisy.key(&[], Scope::Tenant).unwrap(), plain);
}

#[test]
fn head_has_the_key_of_get_and_post_has_its_own() {
    let get = Asked::default();
    let head = Asked { method: Method::Head, ..get.clone() };
    let post = Asked { method: Method::Post, ..get.clone() };
    assert_eq!(get.key(&[], Scope::Shared), head.key(&[], Scope::Shared));
    assert_ne!(get.key(&[], Scope::Shared), post.key(&[], Scope::Shared));
}

#[test]
fn a_route_that_is_not_shared_needs_a_tenant() {
    let nobody = Asked { identity: Identity::default(), ..Asked::default() };
    assert_eq!(nobody.key(&[], Scope::Tenant), Err(KeyError::Unidentified));
    assert!(nobody.key(&[], Scope::Shared).is_ok());
    assert_eq!(nobody.key(&[KeyPart::Agent], Scope::Shared), Err(KeyError::Unidentified));
    assert_eq!(Refusal::from(KeyError::Unidentified), Refusal::Unidentified);
}

#[test]
fn values_cannot_run_into_one_another() {
    let parts = [KeyPart::Query("a".into()), KeyPart::Query("b".into())];
    let key = |query: &str| Asked { query: Some(query.into()), ..Asked::default() }.key(&parts, Scope::Shared).unwrap();
    let queries = ["a=1&b=2", "a=12", "b=12", "a=1&a=2", "a=1,2", "a=", "", "a=&b=", "a&b&a", "a=1&b=2&b="];
    for (i, left) in queries.iter().enumerate() {
        for right in &queries[i + 1..] {
            assert_ne!(key(left), key(right), "{left} and {right}");
        }
    }
    assert_eq!(key("a=1&b=2"), key("b=2&x=3&a=1"), "order between parameters and undeclared ones do not count");
    assert_eq!(key("a"), key("a="));
}

#[test]
fn several_header_lines_are_one_joined_value() {
    let parts = [KeyPart::Header("x".into())];
    let two = Asked { headers: vec![("x", "a".into()), ("x", "b".into())], ..Asked::default() };
    let one = Asked { headers: vec![("x", "a, b".into())], ..Asked::default() };
    assert_eq!(two.key(&parts, Scope::Shared), one.key(&parts, Scope::Shared));
}

#[test]
fn pointers_find_members_elements_and_escapes() {
    let asked = Asked::post(r#"{"a/b":{"~":[10,{"k":"v\u0041"}]},"n":1e400,"list":[1, 2]}"#);
    let at = |pointer: &str| asked.with(|call| body::pointed(&call.request, pointer).unwrap().map(Pointed::into_text));
    assert_eq!(at("/a~1b/~0/1/k").as_deref(), Some("vA"));
    assert_eq!(at("/a~1b/~0/0").as_deref(), Some("10"));
    assert_eq!(at("/a~1b/~0/00"), None);
    assert_eq!(at("/a~1b/~0/2"), None);
    assert_eq!(at("/n").as_deref(), Some("1e400"), "digits are kept, not rounded");
    assert_eq!(at("/list").as_deref(), Some("[1, 2]"));
    assert_eq!(at("/n/deeper"), None);
    assert_eq!(at("/absent"), None);
}

#[test]
fn what_a_pointer_finds_is_emptied_where_it_stands() {
    let emptied = |json: &str, pointer| {
        body::emptied(json.as_bytes(), pointer).map(|body| String::from_utf8(body.into()).unwrap())
    };
    assert_eq!(
        emptied(r#"{"a":1, "etag" : "v\u00377" ,"b":"v7"}"#, "/etag").unwrap(),
        r#"{"a":1, "etag" : "" ,"b":"v7"}"#
    );
    assert_eq!(emptied(r#"{"h":[0,{"e":17}]}"#, "/h/1/e").unwrap(), r#"{"h":[0,{"e":null}]}"#);
    assert_eq!(emptied(r#" {"a":1} "#, "/etag").unwrap(), r#" {"a":1} "#);
    assert_eq!(emptied(r#"{"etag":"a","ETAG":"b"}"#, "/etag"), Err(KeyError::BadBody));
    assert_eq!(emptied("", "/etag"), Err(KeyError::BadBody));
}

#[test]
fn a_string_and_the_same_json_text_are_different_values() {
    let parts = [KeyPart::Body("/b".into())];
    let key = |body: &str| Asked::post(body).key(&parts, Scope::Shared).unwrap();
    assert_ne!(key(r#"{"b":"1"}"#), key(r#"{"b":1}"#));
    assert_ne!(key(r#"{"b":null}"#), key("{}"));
    assert_eq!(key(r#"{"b":"A"}"#), key(r#"{ "x":[], "b" : "\u0041" }"#));
}

#[test]
fn bodies_that_two_readers_could_read_differently_are_refused() {
    let parts = [KeyPart::Body("/policy".into())];
    let bodies = [
        r#"{"policy":1,"policy":2}"#,
        r#"{"policy":1,"Policy":2}"#,
        r#"{"POLICY":1}"#,
        r#"{"p\u006flicy":1,"policy":1}"#,
        r#"{"policy":1} {}"#,
        r#"{"policy":1"#,
        "",
        "\u{feff}{}",
    ];
    for body in bodies {
        assert_eq!(Asked::post(body).key(&parts, Scope::Shared), Err(KeyError::BadBody), "{body}");
    }
}

#[test]
fn an_encoded_body_is_refused_and_the_identity_encoding_is_none() {
    let parts = [KeyPart::Body("/b".into())];
    let mut asked = Asked::post("{}");
    asked.headers.push(("content-encoding", "gzip".into()));
    assert_eq!(asked.key(&parts, Scope::Shared), Err(KeyError::EncodedBody));
    asked.headers[0].1 = "Identity".into();
    assert!(asked.key(&parts, Scope::Shared).is_ok());
}

#[test]
fn a_deeply_nested_body_costs_no_stack() {
    let deep = format!(r#"{{"b":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
    assert!(Asked::post(&deep).key(&[KeyPart::Body("/b".into())], Scope::Shared).is_ok());
}

#[test]
fn parts_name_the_tenant_first_and_missing_values_as_none() {
    let asked = Asked { query: Some("q=1&q=2".into()), ..Asked::default() };
    let list = asked.with(|call| parts(&every_part(), Scope::Tenant, call)).unwrap();
    let list: Vec<_> = list.iter().map(|(name, value)| (name.as_ref(), value.as_deref())).collect();
    let expected = [
        ("identity.tenant", Some("t-1")),
        ("path.p", Some("x")),
        ("query.q", Some("1,2")),
        ("header.h", None),
        ("body./b", None),
        ("identity.agent", Some("a-1")),
    ];
    assert_eq!(list, expected);
}

fn anything() -> impl Strategy<Value = Asked> {
    let text = "[ab=&,./%{}\" 0-2]{0,6}";
    let body = prop_oneof![
        Just(String::new()),
        text.prop_map(|value| serde_json::json!({ "b": value }).to_string()),
        any::<u8>().prop_map(|value| format!("{{\"b\":{value}}}")),
        text,
    ];
    let header = prop::collection::vec(text.prop_map(|value| ("h", value)), 0..3);
    (any::<bool>(), text, prop::option::of("(q|x)?[=&q0-2]{0,6}"), header, body).prop_map(
        |(post, path, query, headers, body)| Asked {
            method: if post { Method::Post } else { Method::Get },
            path,
            query,
            headers,
            body,
            ..Asked::default()
        },
    )
}

/// What a key must tell apart, as plain data.
fn meaning(asked: &Asked) -> impl PartialEq + std::fmt::Debug + use<> {
    let query: Vec<_> = query_values(asked.query.as_deref(), "q").map(str::to_owned).collect();
    let header = asked.with(|call| header_text(call, "h").unwrap().map(Cow::into_owned));
    let body = asked.with(|call| {
        body::pointed(&call.request, "/b").map(|value| value.map(|found| (found.tag(), found.into_text())))
    });
    (asked.method, asked.path.clone(), query, header, body)
}

proptest! {
    #[test]
    fn keys_of_two_tenants_are_never_equal(left in anything(), right in anything(), tenants in ("[a-c0-2]{1,4}", "[a-c0-2]{1,4}")) {
        prop_assume!(tenants.0 != tenants.1);
        let of = |asked: Asked, tenant: &str| {
            let identity = Identity { tenant: TenantId::new(tenant), ..asked.identity.clone() };
            Asked { identity, ..asked }.key(&every_part(), Scope::Tenant)
        };
        if let (Ok(left), Ok(right)) = (of(left, &tenants.0), of(right, &tenants.1)) {
            prop_assert_ne!(left, right);
        }
    }

    #[test]
    fn keys_are_equal_exactly_when_their_meaning_is(left in anything(), right in anything()) {
        if let (Ok(a), Ok(b)) = (left.key(&every_part(), Scope::Tenant), right.key(&every_part(), Scope::Tenant)) {
            prop_assert_eq!(a == b, meaning(&left) == meaning(&right));
        }
    }

    #[test]
    fn any_body_gives_a_key_or_an_error(body in ".{0,64}") {
        let _key = Asked::post(&body).key(&[KeyPart::Body("/a/0/b".into())], Scope::Shared);
    }
}
