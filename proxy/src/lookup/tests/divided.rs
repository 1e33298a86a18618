//! Bulk requests that the core refuses for one of their keys.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use weir_logic::{Answer, Outcome};

use super::support::{Bench, names, rest, text};
use crate::upstream::{OriginAnswer, OriginError};

#[expect(clippy::unnecessary_wraps, reason = "scripts read better")]
fn refused(status: u16) -> Result<OriginAnswer, OriginError> {
    let status = StatusCode::from_u16(status).unwrap();
    Ok(OriginAnswer { status, headers: HeaderMap::new(), body: Bytes::new() })
}

fn holds(question: &Value, agent: &str) -> bool {
    question["keys"].as_array().unwrap().iter().any(|key| key["key"]["identity.agent"] == agent)
}

fn window_of(keys: usize) -> Bench {
    Bench::new(|route| (route.window, route.max_keys) = (Duration::from_secs(3_600), keys))
}

async fn all(bench: &Bench, agents: &[String]) -> Vec<Answer> {
    join_all(agents.iter().map(|agent| bench.ask(agent))).await
}

fn agents(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

#[tokio::test]
async fn a_key_that_the_core_refuses_fails_alone_and_rests() {
    for (status, bad) in [(400, 0), (413, 37), (422, 99)] {
        let bench = window_of(100);
        let agents = agents("a", 100);
        let name = agents[bad].clone();
        bench.script(move |question| if holds(question, &name) { refused(status) } else { names(question) });
        let answers = all(&bench, &agents).await;
        for (at, answer) in answers.iter().enumerate() {
            if at == bad {
                assert_eq!((answer.status, answer.outcome), (502, Outcome::Failed));
                assert!((60..=120).contains(&rest(answer)));
            } else {
                assert_eq!((answer.status, text(answer)), (200, &*format!("{:?}", agents[at])));
            }
        }
        assert!(bench.asked() <= 1 + 2 * 7, "{} requests", bench.asked());
        let before = bench.asked();
        assert_eq!(bench.ask_later(&agents[bad], Duration::from_secs(59)).await.outcome, Outcome::Failed);
        assert_eq!(bench.asked(), before, "the key rests");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_for_all_comes_in_halves() {
    let bench = window_of(8);
    bench.script(|question| {
        let few = question["keys"].as_array().unwrap().len() <= 2;
        if few { names(question) } else { Err(OriginError::TooLarge(1)) }
    });
    assert!(all(&bench, &agents("a", 8)).await.iter().all(|answer| answer.status == 200));
    assert_eq!(bench.asked(), 7);
}

#[tokio::test]
async fn a_core_that_refuses_every_part_is_asked_for_whole_windows_for_a_time() {
    let bench = window_of(8);
    bench.script(|_| refused(400));
    assert!(all(&bench, &agents("a", 8)).await.iter().all(|answer| answer.status == 502));
    assert_eq!(bench.asked(), 1 + 2 * 3 + 4);
    assert!(all(&bench, &agents("b", 8)).await.iter().all(|answer| answer.status == 502));
    assert_eq!(bench.asked(), 12, "it is not a key that is at fault");
    bench.hand.advance(Duration::from_secs(1));
    bench.script(|question| if holds(question, "c-3") { refused(400) } else { names(question) });
    let answers = all(&bench, &agents("c", 8)).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 7);
}

#[tokio::test]
async fn what_is_not_about_the_keys_is_not_divided() {
    for status in [401, 403, 404, 405, 429, 500, 503] {
        let bench = window_of(8);
        bench.script(move |_| refused(status));
        assert!(all(&bench, &agents("a", 8)).await.iter().all(|answer| answer.status >= 500), "{status}");
        assert_eq!(bench.asked(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_core_that_fails_between_two_parts_is_not_asked_for_the_others() {
    let bench = window_of(8);
    let mut asked = 0;
    bench.script(move |question| {
        asked += 1;
        match asked {
            1 => refused(400),
            2 => names(question),
            _ => Err(OriginError::Timeout),
        }
    });
    let statuses: Vec<u16> = all(&bench, &agents("a", 8)).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 504, 504, 504, 504]);
    assert_eq!(bench.asked(), 3);
}
