//! A bulk answer is cut up so that everyone gets their own: whatever agents of several tenants say, whoever shares a window, and
//! however the core orders, leaves out and confirms.

use std::time::Duration;

use futures::future::join_all;
use http::{HeaderMap, HeaderName};
use proptest::prelude::*;
use serde_json::{Value, json};
use weir_config::KeyPart;
use weir_logic::{AgentId, Answer, Identity, TenantId};

use super::support::*;
use crate::upstream::{OriginAnswer, OriginError};

#[derive(Clone, Debug)]
struct Ask {
    tenant: String,
    query: Option<String>,
    ring: Option<String>,
    /// What the node makes nothing of, on this route.
    noise: Option<&'static str>,
}

impl Ask {
    async fn of(&self, bench: &Bench) -> Answer {
        let identity = Identity { agent: AgentId::new("a-1"), tenant: TenantId::new(&self.tenant) };
        let fields = [("x-ring", self.ring.as_deref()), (self.noise.unwrap_or("x"), Some("t-2"))];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let headers: HeaderMap =
            fields.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
        bench.ask_as(&identity, self.query.as_deref(), &headers, Duration::ZERO).await
    }

    /// The parts of its key.
    fn parts(&self, shared: bool) -> Value {
        let values =
            self.query.as_deref().unwrap_or_default().split('&').filter(|pair| pair.split('=').next() == Some("os"));
        let values: Vec<_> = values.map(|pair| pair.split_once('=').map_or("", |(_, value)| value)).collect();
        let mut parts = json!({"query.os": (!values.is_empty()).then(|| values.join(",")), "header.x-ring": self.ring});
        if !shared {
            parts["identity.tenant"] = json!(self.tenant);
        }
        parts
    }
}

/// A core that tells each key the parts that it was asked by, in the reverse order, but for some.
fn tells_parts(question: &Value, number: &mut usize) -> Result<OriginAnswer, OriginError> {
    *number += 1;
    if number.is_multiple_of(7) {
        return Err(OriginError::Broken);
    }
    let answers = question["keys"].as_array().unwrap().iter().rev().filter_map(|key| {
        *number += 1;
        let tag = format!("\"{}\"", key["key"].to_string().replace('"', "'"));
        match *number % 9 {
            2 => None,
            4 => Some(json!({"id": key["id"], "status": 503})),
            _ if key["etag"] == json!(tag) => Some(json!({"id": key["id"], "status": 304})),
            at => Some(json!({"id": key["id"], "status": 200, "etag": tag, "ttl": at % 3 * 10, "body": key["key"]})),
        }
    });
    bulk(answers.collect(), None)
}

fn ask() -> impl Strategy<Value = Ask> {
    let query = prop::option::of("(os=[a,=%]{0,2})?(&tenant=t-[123])?(&os=b)?");
    let noise = prop::sample::select(vec!["weir-tenant", "x-tenant-id", "authorization", "cookie", "x-forwarded-for"]);
    ("t-[123]", query, prop::option::of("(t-[12]|[ab]|)"), prop::option::of(noise))
        .prop_map(|(tenant, query, ring, noise)| Ask { tenant, query, ring, noise })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everyone_is_given_the_answer_to_their_own_key(
        shared in any::<bool>(),
        steps in prop::collection::vec((prop::collection::vec(ask(), 1..8), prop::sample::select(vec![0, 1, 15, 40])), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new(|route| {
                route.key = vec![KeyPart::Query("os".into()), KeyPart::Header("x-ring".into())];
                (route.window, route.refresh_window) = (Duration::from_millis(1), Duration::from_millis(1));
                route.shared = shared;
                route.stale_while_revalidate = Duration::from_secs(10);
                route.stale_if_error = Duration::from_secs(30);
            });
            let mut number = 0;
            bench.script(move |question| tells_parts(question, &mut number));
            for (asks, seconds) in steps {
                let answers = join_all(asks.iter().map(|ask| ask.of(&bench))).await;
                for (ask, answer) in asks.iter().zip(&answers) {
                    if answer.headers.iter().any(|(name, _)| name == "weir-refusal") {
                        continue;
                    }
                    assert_eq!(answer.status, 200, "{ask:?} got {answer:?}");
                    let parts: Value = serde_json::from_slice(&answer.body).unwrap();
                    assert_eq!(parts, ask.parts(shared), "{ask:?} got {answer:?}");
                    let tag = header(answer, http::header::ETAG).trim_matches('"').replace('\'', "\"");
                    assert_eq!(serde_json::from_str::<Value>(&tag).unwrap(), parts);
                }
                bench.hand.advance(Duration::from_secs(seconds));
            }
        });
    }
}
