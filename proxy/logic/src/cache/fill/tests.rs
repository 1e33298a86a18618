//! Fills: built from declared parts only.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use proptest::prelude::*;
use weir_config::{Action, ByteSize, Class, CoreId, FreshnessMode, PathPattern, Ratio, Route, Segment, StatusTtl};

use super::*;
use crate::cache::explain;
use crate::{AgentId, Identity, Millis, RequestView, TenantId};

pub(in crate::cache) fn cached(key: Vec<KeyPart>, shared: bool) -> CacheRoute {
    CacheRoute {
        vary: Vec::new(),
        max_variants: 8,
        key,
        shared,
        freshness: FreshnessMode::Override,
        ttl: StatusTtl { ok: Duration::from_secs(60), redirect: Duration::ZERO, not_found: Duration::ZERO },
        min_ttl: Duration::ZERO,
        max_ttl: Duration::from_secs(86_400),
        jitter: Ratio::default(),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        calm: None,
        obey_agents: false,
        max_body_bytes: ByteSize::kib(64),
        etag: None,
        payload: None,
        rollout: None,
        store: weir_config::AnswerStore::Memory,
        max_bytes_per_second: ByteSize::default(),
    }
}

pub(in crate::cache) struct Asked<'a> {
    method: Method,
    query: Option<&'a str>,
    headers: &'a [(&'static str, &'a str)],
    body: &'a [u8],
}

impl Asked<'_> {
    fn with<T>(&self, route: &CacheRoute, ask: impl FnOnce(&Call<'_>) -> T) -> T {
        let headers: HeaderMap =
            self.headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        self.called(&headers, route, ask)
    }

    pub(in crate::cache) fn called<T>(
        &self,
        headers: &HeaderMap,
        route: &CacheRoute,
        ask: impl FnOnce(&Call<'_>) -> T,
    ) -> T {
        let identity = Identity { agent: AgentId::new("a-1"), tenant: TenantId::new("t-1") };
        let whole = Arc::new(Route {
            name: "r".into(),
            methods: vec![Method::Get],
            path: PathPattern { text: "/v1".into(), segments: vec![Segment::Literal("v1".into())] },
            host: None,
            class: Class::Config,
            core: CoreId(0),
            agent_limit: None,
            action: Action::Cache(route.clone()),
        });
        ask(&Call {
            request: RequestView {
                method: self.method,
                path: "/v1",
                query: self.query,
                host: "edge",
                headers,
                body: self.body,
            },
            route: &whole,
            parameters: &vec![("channel", "stable")],
            identity: &identity,
            now: Millis(0),
        })
    }

    fn fill(&self, route: &CacheRoute) -> Result<FillRequest, KeyError> {
        self.with(route, |call| FillRequest::of(call, route))
    }
}

pub(in crate::cache) const GET: Asked<'_> = Asked { method: Method::Get, query: None, headers: &[], body: b"" };

#[test]
fn the_target_holds_declared_parameters_in_the_keys_order() {
    let route = cached(vec![KeyPart::Query("os".into()), KeyPart::Query("arch".into())], true);
    let asked = Asked { query: Some("x=1&arch=x64&os=win&osx=no&arch=arm&token=secret"), ..GET };
    assert_eq!(asked.fill(&route).unwrap().target, "/v1?os=win&arch=x64&arch=arm");
    assert_eq!(GET.fill(&route).unwrap().target, "/v1");
}

#[test]
fn credentials_cookies_and_undeclared_headers_stay_behind() {
    let asked = Asked {
        headers: &[
            ("authorization", "Bearer t"),
            ("cookie", "c"),
            ("x-ring", "beta"),
            ("range", "bytes=0-1"),
            ("weir-tenant", "t-2"),
        ],
        ..GET
    };
    let key = ["x-ring", "range", "weir-tenant"].map(|name| KeyPart::Header(name.into())).to_vec();
    let names = |shared| {
        let fill = asked.fill(&cached(key.clone(), shared)).unwrap();
        fill.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(names(true), ["x-ring: beta"], "a shared route tells nothing of who asks");
    assert_eq!(names(false), ["weir-tenant: t-1", "x-ring: beta"]);
}

#[test]
fn the_agent_is_named_only_where_the_key_names_it() {
    let fill = GET.fill(&cached(vec![KeyPart::Agent], true)).unwrap();
    assert_eq!(fill.headers, [(AGENT, HeaderValue::from_static("a-1"))]);
}

#[test]
fn head_fills_with_get_and_post_sends_its_json() {
    let head = Asked { method: Method::Head, body: b"dropped", ..GET }.fill(&cached(vec![], true)).unwrap();
    assert_eq!((head.method, head.body.len()), (http::Method::GET, 0));
    let post = Asked { method: Method::Post, body: b"{}", ..GET };
    let fill = post.fill(&cached(vec![], true)).unwrap();
    assert_eq!((&fill.method, &fill.body[..]), (&http::Method::POST, &b"{}"[..]));
    assert_eq!(fill.headers, [(header::CONTENT_TYPE, JSON)]);
    let encoded = Asked { headers: &[("content-encoding", "gzip")], ..post };
    assert_eq!(encoded.fill(&cached(vec![], true)), Err(KeyError::EncodedBody));
}

#[test]
fn only_a_get_with_validators_of_the_core_can_be_conditional() {
    let get = GET.fill(&cached(vec![], true)).unwrap();
    assert_eq!(get.conditional(&Validators::default()), None);
    let validators = Validators { etag: Some(HeaderValue::from_static("\"v\"")), last_modified: None };
    let asked = get.conditional(&validators).unwrap();
    assert_eq!(asked.headers, [(header::IF_NONE_MATCH, HeaderValue::from_static("\"v\""))]);
    let post = Asked { method: Method::Post, body: b"{}", ..GET }.fill(&cached(vec![], true)).unwrap();
    assert_eq!(post.conditional(&validators), None);
}

#[test]
fn an_explanation_shows_the_key_what_is_sent_and_what_is_dropped() {
    let route = cached(vec![KeyPart::Query("os".into()), KeyPart::Header("x-ring".into())], false);
    let route = CacheRoute { vary: vec!["accept-language".into(), "accept-encoding".into()], ..route };
    let asked = Asked { query: Some("os=win&token=s"), headers: &[("accept-encoding", "GZIP,br")], ..GET };
    let explanation = asked.with(&route, |call| explain(call, &route)).unwrap();
    assert_eq!(explanation.dropped_query, ["token"]);
    assert_eq!(explanation.fill.target, "/v1?os=win");
    let json = serde_json::to_value(&explanation).unwrap();
    let expected = serde_json::json!([["identity.tenant", "t-1"], ["query.os", "win"], ["header.x-ring", null]]);
    assert_eq!(json["key"], expected);
    assert_eq!(json["vary"], serde_json::json!([["accept-encoding", "br, gzip"], ["accept-language", null]]));
    let sent = serde_json::json!([["weir-tenant", "t-1"], ["accept-encoding", "br, gzip"]]);
    assert_eq!(json["fill"]["headers"], sent);
}

proptest! {
    /// What a fill sends depends on nothing that the key does not tell apart: two requests of one key send the same.
    #[test]
    fn requests_of_one_key_send_the_same_fill(
        left in ("(&?[qx](=[0-2]?)?){0,4}", "[a-c]{0,2}", "[a-c]{0,2}"),
        right in ("(&?[qx](=[0-2]?)?){0,4}", "[a-c]{0,2}", "[a-c]{0,2}"),
    ) {
        let route = cached(vec![KeyPart::Query("q".into()), KeyPart::Header("h".into())], false);
        let of = |(query, h, other): &(String, String, String)| {
            let headers: &[(&'static str, &str)] = &[("h", h), ("authorization", other), ("x", other)];
            let asked = Asked { query: Some(query), headers, ..GET };
            let key = asked.with(&route, |call| key::CacheKey::of(&route.key, Scope::Tenant, call).unwrap());
            (key, asked.fill(&route).unwrap())
        };
        let (left, right) = (of(&left), of(&right));
        prop_assert_eq!(left.0 == right.0, left.1 == right.1);
    }
}

#[test]
fn a_posts_entity_tag_is_left_out_of_what_the_core_is_asked() {
    let unchanged = weir_config::Unchanged { status: 304, body: String::new(), content_type: String::new() };
    let etag = weir_config::BodyEtag { request: weir_config::BodyPointer("/etag".into()), answer: None, unchanged };
    let route = CacheRoute { etag: Some(etag), ..cached(vec![KeyPart::Body("/policy".into())], true) };
    let asked = Asked { method: Method::Post, body: br#"{"policy":1,"etag":"v7"}"#, ..GET };
    assert_eq!(asked.fill(&route).unwrap().body, r#"{"policy":1,"etag":""}"#);
}
