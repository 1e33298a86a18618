//! Which requests share an answer.

use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::cache::fill::tests::{GET, cached};

const LANGUAGE: (&str, &str) = ("accept-language", "de");

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    list.iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
        .collect()
}

fn called<T>(headers: &HeaderMap, ask: impl FnOnce(&Call<'_>) -> T) -> T {
    GET.called(headers, &cached(Vec::new(), true), ask)
}

fn asked(vary: &[&str], list: &[(&str, &str)]) -> Selection {
    let vary: Vec<String> = vary.iter().map(|name| (*name).to_owned()).collect();
    called(&headers(list), |call| Selection::of(call, &vary)).unwrap()
}

fn said(name: &str, values: &[&str]) -> Option<String> {
    let list: Vec<_> = values.iter().map(|value| (name, *value)).collect();
    let selection = asked(&[name], &list);
    selection.sent().next().map(|(_, value)| value.to_str().unwrap().to_owned())
}

#[test]
fn an_answer_is_chosen_by_what_its_vary_names_and_the_route_allows() {
    let request = asked(&["accept-language", "accept-encoding"], &[LANGUAGE, ("accept-encoding", "br")]);
    let chosen = |vary: &[(&str, &str)]| {
        let chosen = request.chosen_by(&headers(vary));
        chosen.fields.iter().map(|(name, _)| name.as_str().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(chosen(&[]), "");
    assert_eq!(chosen(&[("vary", "Accept-Language")]), "accept-language");
    assert_eq!(
        chosen(&[("vary", "x, ,accept-encoding"), ("vary", "accept-language")]),
        "accept-encoding accept-language"
    );
    assert_eq!(chosen(&[("vary", "user-agent, x-ring")]), "", "these were not sent");
    for whole in ["*", "accept-language, *", "\u{e4}"] {
        assert_eq!(chosen(&[("vary", whole)]), "accept-encoding accept-language", "{whole}");
    }
}

#[test]
fn an_answer_serves_who_says_the_same_in_what_it_was_chosen_by() {
    let vary = ["accept-language", "x-a"];
    let stored = asked(&vary, &[LANGUAGE, ("x-a", "1")]).chosen_by(&headers(&[("vary", "accept-language")]));
    assert!(stored.answers(&asked(&vary, &[LANGUAGE, ("x-a", "2")])));
    assert!(!stored.answers(&asked(&vary, &[("accept-language", "en")])));
    assert!(!stored.answers(&asked(&vary, &[])) && !stored.answers(&asked(&vary, &[("accept-language", "")])));
    assert!(!stored.answers(&asked(&["x-a"], &[LANGUAGE])), "the operator has taken the header back");
    let of_absence = asked(&vary, &[]).chosen_by(&headers(&[("vary", "accept-language")]));
    assert!(of_absence.answers(&asked(&vary, &[("x-a", "2")])));
    assert!(!of_absence.answers(&asked(&vary, &[("accept-language", "")])), "absent is not empty");
    assert!(Selection::default().answers(&asked(&vary, &[LANGUAGE])));
}

#[test]
fn the_part_of_a_request_that_matters_is_named_by_what_is_stored() {
    let vary = ["accept-language", "x-a"];
    let stored = asked(&["accept-language"], &[]);
    let request = asked(&vary, &[LANGUAGE, ("x-a", "2")]);
    assert_eq!(request.named_as(&stored), Some(asked(&["accept-language"], &[LANGUAGE])));
    assert_eq!(request.named_as(&Selection::default()), Some(Selection::default()));
    assert_eq!(asked(&["x-a"], &[]).named_as(&stored), None);
    assert!(stored.names_the_same(&asked(&["accept-language"], &[LANGUAGE])));
    assert!(!stored.names_the_same(&asked(&["x-a"], &[])) && !stored.names_the_same(&request));
}

#[test]
fn spellings_that_mean_the_same_are_one() {
    let encoding = |values: &[&str]| said("accept-encoding", values);
    assert_eq!(encoding(&["gzip, br"]).unwrap(), "br, gzip");
    assert_eq!(encoding(&["BR ,\tGZip", "gzip"]), encoding(&["gzip, br"]));
    assert_eq!(encoding(&["gzip ; q=0.5"]), encoding(&["gzip;q=0.5"]));
    assert_ne!(encoding(&["gzip;q=0"]), encoding(&["gzip"]));
    assert_ne!(encoding(&["gz ip"]), encoding(&["gzip"]), "what breaks the grammar is not mended");
    assert_eq!((encoding(&[]), encoding(&[" , "]).unwrap().as_str()), (None, ""));
    assert_eq!(said("accept-language", &["DE-de;q=1,en"]).unwrap(), "de-de;q=1, en");
    assert_ne!(
        said("accept-language", &["de, en"]),
        said("accept-language", &["en, de"]),
        "the order may say something"
    );
    assert_eq!(said("accept", &["A/b; X=Y ,c/d"]).unwrap(), "A/b;X=Y, c/d");
    assert_eq!(said("accept", &["a/b;x=\"1, 2\" ,c/d"]).unwrap(), "a/b;x=\"1, 2\" ,c/d");
    assert_eq!(said("x-a", &[" B,a", "c"]).unwrap(), "B,a, c");
}

#[test]
fn a_value_that_is_not_text_makes_no_selection() {
    let bytes = HeaderValue::from_bytes(b"\xff").unwrap();
    let headers: HeaderMap = [(ACCEPT_LANGUAGE, bytes)].into_iter().collect();
    let selection = called(&headers, |call| Selection::of(call, &["accept-language".to_owned()]));
    assert_eq!(selection, Err(KeyError::NotText));
}

fn request() -> impl Strategy<Value = Selection> {
    let value = prop::option::of("[ab]{0,2}");
    (value.clone(), value).prop_map(|(first, second)| {
        let fields = [("x-a", first), ("x-b", second)];
        let list: Vec<_> = fields.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
        asked(&["x-a", "x-b"], &list)
    })
}

proptest! {
    /// One fill for all who would be given its answer, and for nobody else.
    #[test]
    fn two_requests_have_one_key_exactly_when_one_answer_serves_both(one in request(), other in request(), vary in "(x-a)?,(x-b)?") {
        let answer = headers(&[("vary", &vary)]);
        let (mine, theirs) = (one.chosen_by(&answer), other.chosen_by(&answer));
        let key = called(&HeaderMap::new(), |call| CacheKey::of(&[], crate::key::Scope::Shared, call)).unwrap();
        prop_assert_eq!(mine.answers(&other), mine.key(&key) == theirs.key(&key));
        prop_assert_eq!(mine.answers(&other), mine == theirs);
        prop_assert_eq!(one.named_as(&theirs), Some(mine.clone()));
        prop_assert_eq!(mine.key(&key) == key, mine.is_empty());
    }
}
