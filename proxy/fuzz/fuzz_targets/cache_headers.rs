//! A core's header section, one field a line. What forbids keeping an answer is seen, what belongs to a connection or a
//! person is never kept, ages and waits are what they say, and a confirmation changes nothing that describes the body.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName};
use libfuzzer_sys::fuzz_target;
use weir_config::{ByteSize, CacheRoute, FreshnessMode, Ratio, StatusTtl};
use weir_fuzz::{field, sections};
use weir_logic::Millis;
use weir_logic::cache::{CachePolicy, Kept, Meaning, TagFrom, Terms, is_intact, kept, merged};
use weir_logic::retry::asked_wait;

fuzz_target!(|input: &str| {
    let mut input = sections(input);
    let mut next = || input.next().unwrap_or_default();
    let (headers, confirmation, body) = (fields(next()), fields(next()), next());
    let storable = forbids_what_is_forbidden(&headers);
    let kept = keeps_what_is_nobodys(&headers, body);
    if storable {
        let merged = merged(&kept, &confirmation);
        assert_eq!(
            merged.get(CONTENT_TYPE),
            kept_value(&kept, &CONTENT_TYPE),
            "a confirmation changes the body's type"
        );
        keeps_what_is_nobodys(&merged, body);
    }
    if !is_intact(200, &headers, body.as_bytes()) {
        assert!(serde_json::from_str::<serde_json::Value>(body).is_err(), "JSON, but not intact");
    }
    for wait in headers.get_all("retry-after") {
        waits(wait.as_bytes());
    }
});

fn fields(text: &str) -> HeaderMap {
    let pairs = text.split('\n').filter_map(|line| line.split_once(':'));
    pairs.filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, field(value)?))).collect()
}

/// A naive reading of `Cache-Control`, where no quotes make it difficult, agrees. Says whether the answer may be kept.
fn forbids_what_is_forbidden(headers: &HeaderMap) -> bool {
    let route = route();
    let meaning = CachePolicy::of(&route).meaning(200, headers, false);
    let control: Vec<&[u8]> = headers.get_all(CACHE_CONTROL).iter().map(|value| value.as_bytes()).collect();
    let plain = control.iter().all(|value| value.is_ascii() && !value.contains(&b'"'));
    let targeted = headers.contains_key("cdn-cache-control");
    let plain = plain && !targeted;
    let directives = || {
        control
            .iter()
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(|directive| directive.trim_ascii().to_ascii_lowercase())
    };
    let named =
        |directive: &[u8]| directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii().to_vec();
    let understood = directives().any(|directive| named(&directive) == b"must-understand");
    // `private` with an argument may be about single fields.
    let maybe = directives().any(|directive| directive.starts_with(b"private") && directive != b"private");
    let no_store = !understood && directives().any(|directive| named(&directive) == b"no-store");
    let forbidden = plain && (no_store || directives().any(|directive| directive == b"private"))
        || headers.contains_key(SET_COOKIE)
        || headers.get_all(VARY).iter().any(|value| value == "*");
    if forbidden {
        assert!(matches!(meaning, Meaning::PassOn(_)), "{meaning:?}");
    } else if plain && !maybe && !headers.contains_key(VARY) {
        assert_eq!(meaning, Meaning::Store);
    }
    meaning == Meaning::Store
}

fn keeps_what_is_nobodys(headers: &HeaderMap, body: &str) -> Kept {
    let kept = kept(headers, TagFrom::Bytes(&Bytes::copy_from_slice(body.as_bytes())));
    for name in [AGE, CONNECTION, CONTENT_LENGTH, DATE, SET_COOKIE] {
        assert!(kept_value(&kept, &name).is_none(), "{name} is kept");
    }
    let connection = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    for name in connection.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok())
    {
        // The tag is the node's own when the core's belongs to the connection.
        assert!(name == "etag" || kept_value(&kept, &name).is_none(), "{name} belongs to the connection");
    }
    assert!(kept.in_not_modified <= kept.headers.len());
    assert!(kept.etag().is_some());
    let sent: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(kept.bytes() <= sent + 64, "more is kept than was sent");
    if let Some(age) = headers.get(AGE).map(|value| value.as_bytes()) {
        let told = delta_seconds(age).unwrap_or_default().min(Duration::from_secs(1 << 31));
        let terms = Terms::of(headers, Millis(0), Millis(0));
        assert_eq!(terms.age, told, "no date is before 1970");
    }
    kept
}

fn kept_value<'a>(kept: &'a Kept, name: &HeaderName) -> Option<&'a http::HeaderValue> {
    kept.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn waits(header: &[u8]) {
    const NOW: Millis = Millis(1_700_000_000_000);
    let asked = asked_wait(header, NOW);
    if let Some(seconds) = delta_seconds(header) {
        return assert_eq!(asked, Some(seconds));
    }
    let date = std::str::from_utf8(header).ok().and_then(|text| httpdate::parse_http_date(text.trim()).ok());
    assert_eq!(
        asked.is_some(),
        date.is_some_and(|date| date >= std::time::UNIX_EPOCH),
        "{header:?} asks for {asked:?}"
    );
}

/// RFC 9111, section 1.2.2: digits and nothing else, and what does not fit is the greatest that does.
fn delta_seconds(text: &[u8]) -> Option<Duration> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = |byte: &u8| u64::from(byte - b'0');
    let sum = |sum: u64, byte| sum.saturating_mul(10).saturating_add(number(byte));
    digits.then(|| Duration::from_secs(text.iter().fold(0, sum)))
}

fn route() -> CacheRoute {
    let minute = Duration::from_secs(60);
    CacheRoute {
        vary: Vec::new(),
        max_variants: 8,
        key: Vec::new(),
        shared: true,
        freshness: FreshnessMode::Override,
        ttl: StatusTtl { ok: minute, redirect: minute, not_found: minute },
        min_ttl: Duration::ZERO,
        max_ttl: Duration::from_secs(86_400),
        jitter: Ratio::default(),
        stale_while_revalidate: minute,
        stale_if_error: minute,
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
