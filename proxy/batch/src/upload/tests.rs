//! Uploads of all kinds, right and wrong.

use proptest::prelude::*;

use super::*;

const LIMITS: UploadLimits = UploadLimits {
    inflate: InflateLimits { max_bytes: 4096, max_ratio: 100 },
    max_records: 8,
    max_record_bytes: 64,
    max_depth: 3,
    max_string_bytes: 40,
};

fn json(body: &str) -> Result<Upload, UploadError> {
    Upload::parse(body.as_bytes(), Encoding::Identity, Framing::Json, &LIMITS)
}

fn lines(body: &[u8]) -> Result<Upload, UploadError> {
    Upload::parse(body, Encoding::Identity, Framing::Lines, &LIMITS)
}

fn text(upload: &Upload) -> &str {
    std::str::from_utf8(&upload.lines).unwrap()
}

#[test]
fn records_keep_their_bytes() {
    let upload = json(r#" [ {"a" : 1.0e+2, "a":"\u0041\/"} , {} ] "#).unwrap();
    assert_eq!(text(&upload), "{\"a\" : 1.0e+2, \"a\":\"\\u0041\\/\"}\n{}\n");
    assert_eq!(upload.accepted, 2);
}

#[test]
fn one_object_is_an_upload_of_one_record() {
    assert_eq!(text(&json(r#"{"a":1}"#).unwrap()), "{\"a\":1}\n");
}

#[test]
fn line_breaks_between_tokens_go_and_nothing_else() {
    let upload = json("{\r\n  \"a\": [1,\n 2],\n\t\"b\": \"x\\ny\"\n}").unwrap();
    assert_eq!(text(&upload), "{  \"a\": [1, 2],\t\"b\": \"x\\ny\"}\n");
}

#[test]
fn a_bad_record_is_refused_by_index_without_harming_the_others() {
    let long = "x".repeat(80);
    let upload = json(&format!(r#"[{{"a":1}},17,{{"a":"{long}"}},{{"a":[[[]]]}},{{"b":2}}]"#)).unwrap();
    assert_eq!(text(&upload), "{\"a\":1}\n{\"b\":2}\n");
    let expected = r#"{"accepted":2,"refused":[{"index":1,"reason":"not an object"},{"index":2,"reason":"too long"},{"index":3,"reason":"nested too deep"}]}"#;
    assert_eq!(upload.refused_count(), 3);
    assert_eq!(String::from_utf8(upload.report()).unwrap(), expected);
}

#[test]
fn a_bad_line_is_refused_by_index() {
    let upload = lines(b"{\"a\":1}\r\n\n{\"a\":\n{\"a\":\"\xff\"}\n{} {}\n  {\"b\":2}").unwrap();
    assert_eq!(text(&upload), "{\"a\":1}\n{\"b\":2}\n");
    let refused: Vec<(usize, Reason)> = upload.refused.iter().map(|refusal| (refusal.index, refusal.reason)).collect();
    assert_eq!(refused, [(1, Reason::NotJson), (2, Reason::NotUtf8), (3, Reason::NotJson)]);
}

#[test]
fn an_array_that_breaks_off_is_refused_as_a_whole() {
    assert_eq!(json(r#"[{"a":1},{"b":"#), Err(UploadError::NotJson { at: 14 }));
    assert_eq!(json(r#"[{"a":1}] x"#), Err(UploadError::NotJson { at: 10 }));
    assert_eq!(json(r#"{"a":1}{"b":2}"#), Err(UploadError::NotJson { at: 7 }));
    assert_eq!(json(""), Err(UploadError::NotJson { at: 0 }));
    assert_eq!(json("17"), Err(UploadError::NotRecords));
}

#[test]
fn the_number_of_records_is_bounded() {
    let error = lines(&b"{}\n".repeat(9)).unwrap_err();
    assert_eq!((error.status(), error), (Some(413), UploadError::TooManyRecords { max_records: 8 }));
}

/// The reason for which the only record of a body is refused, as JSON and as a line.
fn reason(record: &str) -> Option<Reason> {
    let [json, lines] = [json(&format!("[{record}]")), lines(record.as_bytes())].map(Result::unwrap);
    assert_eq!(json, lines);
    json.refused.first().map(|refusal| refusal.reason)
}

#[test]
fn a_record_at_a_bound_is_taken_and_one_past_it_is_refused_by_index() {
    let object = |value: &str| format!(r#"{{"a":{value}}}"#);
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    assert_eq!(reason(&object(&text(40))), None);
    assert_eq!(reason(&object(&text(41))), Some(Reason::StringTooLong));
    assert_eq!(reason(&format!(r#"{{"{}":1}}"#, "x".repeat(40))), None);
    assert_eq!(reason(&format!(r#"{{"{}":1}}"#, "x".repeat(41))), Some(Reason::StringTooLong), "names count");
    assert_eq!(reason(&object(&format!("[[{}]]", text(41)))), Some(Reason::StringTooLong), "wherever it is");
    assert_eq!(reason(&object(r#""\u0041\u0041\u0041\u0041\u0041\u0041xxxx""#)), None, "as it is written");
    assert_eq!(reason(&object(r#""\u0041\u0041\u0041\u0041\u0041\u0041xxxxx""#)), Some(Reason::StringTooLong));
    let long = |bytes: usize| format!(r#"{{"a":"{}","b":{}}}"#, "x".repeat(30), "1".repeat(bytes - 43));
    assert_eq!((long(64).len(), reason(&long(64))), (64, None));
    assert_eq!(reason(&long(65)), Some(Reason::TooLong));
    assert_eq!(reason(&object("[[]]")), None);
    assert_eq!(reason(&object("[[[]]]")), Some(Reason::TooDeep));
}

#[test]
fn a_report_lists_so_many_refusals_and_counts_the_others() {
    let limits = UploadLimits { max_records: 1000, ..LIMITS };
    let upload = Upload::parse(&b"1\n".repeat(1000), Encoding::Identity, Framing::Lines, &limits).unwrap();
    assert_eq!((upload.refused.len(), upload.refused_count()), (Upload::LISTED, 1000));
    let report: serde_json::Value = serde_json::from_slice(&upload.report()).unwrap();
    assert_eq!(report["refused"].as_array().unwrap().len(), Upload::LISTED);
    assert_eq!((&report["accepted"], &report["unlisted"]), (&0.into(), &744.into()));
    assert!(upload.report().len() < 12 * 1024);
}

#[test]
fn cutting_takes_no_memory_where_there_is_room_for_one_byte() {
    for (body, framing) in
        [("{}", Framing::Json), ("{}", Framing::Lines), ("[{},{}]", Framing::Json), ("{}\n{}", Framing::Lines)]
    {
        let mut roomy = Vec::with_capacity(body.len() + 1);
        roomy.extend_from_slice(body.as_bytes());
        let before = roomy.capacity();
        let upload = Upload::cut(roomy, framing, &LIMITS).unwrap();
        assert_eq!(upload.lines.capacity(), before, "{body}");
        assert_eq!(text(&upload), "{}\n".repeat(upload.accepted));
    }
}

#[test]
fn every_reason_is_counted_at_its_place() {
    for (place, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, place);
    }
}

#[test]
fn the_media_type_tells_lines_from_json() {
    assert_eq!(Framing::from_content_type(Some("Application/X-NDJSON; charset=utf-8")), Framing::Lines);
    assert_eq!(Framing::from_content_type(Some("application/json")), Framing::Json);
    assert_eq!(Framing::from_content_type(None), Framing::Json);
}

proptest! {
    #[test]
    fn any_bytes_parse_within_the_bounds(body in proptest::collection::vec(any::<u8>(), 0..300), framing in any::<bool>()) {
        let framing = if framing { Framing::Lines } else { Framing::Json };
        if let Ok(upload) = Upload::parse(&body, Encoding::Identity, framing, &LIMITS) {
            prop_assert!(upload.lines.len() <= body.len() + 1);
            prop_assert!(upload.accepted + upload.refused.len() <= LIMITS.max_records);
        }
    }

    #[test]
    fn every_record_is_accepted_or_refused(records in proptest::collection::vec(
        prop_oneof![Just("{}"), Just("{\"a\":\n1}"), Just("[{}]"), Just("1"), Just("{\"a\":{\"b\":{\"c\":{}}}}")], 0..8,
    )) {
        let upload = json(&format!("[{}]", records.join(","))).unwrap();
        prop_assert_eq!(upload.accepted + upload.refused.len(), records.len());
        let accepted: Vec<&str> = text(&upload).lines().collect();
        prop_assert_eq!(accepted.len(), upload.accepted);
        for record in accepted {
            prop_assert!(serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(record).is_ok());
        }
    }
}
