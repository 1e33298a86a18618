use proptest::prelude::*;

use super::*;

fn depth_of(text: &str) -> Option<usize> {
    let scanned = scan_value(text.as_bytes(), 0).ok()?;
    (scanned.end == text.len()).then_some(scanned.depth)
}

#[test]
fn depth_counts_open_brackets() {
    assert_eq!(depth_of("17"), Some(0));
    assert_eq!(depth_of("{}"), Some(1));
    assert_eq!(depth_of(r#"{"a":[1,{"b":null}],"c":[]}"#), Some(3));
}

#[test]
fn what_is_not_json_is_refused_at_its_offset() {
    for (text, at) in [
        (r#"{"a":01}"#, 6),
        (r#"{"a":1,}"#, 7),
        (r#"{"a" 1}"#, 5),
        ("[1 2]", 3),
        ("[1,]", 3),
        (r#""\x""#, 2),
        (r#"{"a":tru}"#, 5),
        ("{", 1),
        ("[[", 2),
        ("", 0),
        ("1.", 2),
        ("-", 1),
        ("\"a\nb\"", 2),
    ] {
        assert_eq!(scan_value(text.as_bytes(), 0), Err(SyntaxError { at }), "{text}");
    }
}

#[test]
fn a_million_brackets_do_not_exhaust_the_stack() {
    let text = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    assert_eq!(depth_of(&text), Some(1_000_000));
}

#[test]
fn more_brackets_than_any_record_has_are_given_up() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(depth_of(&nested(MAX_OPEN)), Some(MAX_OPEN));
    assert_eq!(scan_value(nested(MAX_OPEN + 1).as_bytes(), 0), Err(SyntaxError { at: MAX_OPEN }));
}

#[test]
fn braces_and_brackets_close_in_their_order_however_deep() {
    let open: String = (0..200).map(|level| if level % 3 == 0 { "[" } else { "{\"a\":" }).collect();
    let close: String = (0..200).rev().map(|level| if level % 3 == 0 { "]" } else { "}" }).collect();
    assert_eq!(depth_of(&format!("{open}1{close}")), Some(200));
    for wrong in 0..200 {
        let mut close = close.clone().into_bytes();
        close[wrong] = if close[wrong] == b']' { b'}' } else { b']' };
        let text = [format!("{open}1").as_bytes(), &close].concat();
        assert_eq!(scan_value(&text, 0), Err(SyntaxError { at: open.len() + 1 + wrong }));
    }
}

#[test]
fn the_longest_string_is_known_and_names_count() {
    let longest = |text: &str| scan_value(text.as_bytes(), 0).unwrap().longest;
    assert_eq!(longest(r#"{"a":[1,2]}"#), 1);
    assert_eq!(longest(r#"{"abc":"de","f":["\u00e9"]}"#), 6);
    assert_eq!(longest(r#"{"a long name":{"b":"cd"}}"#), 11);
    assert_eq!(longest("17"), 0);
}

#[test]
fn line_breaks_between_tokens_are_noticed_and_escaped_ones_are_not() {
    let broken = |text: &str| scan_value(text.as_bytes(), 0).unwrap().broken;
    assert!(!broken(r#"{"a": "\n", "b":	1 }"#));
    assert!(broken("{\n\"a\":1}") && broken("[1,\r2]") && broken("[1\n]"));
}

proptest! {
    #[test]
    fn a_mark_is_what_its_byte_says(bytes in proptest::collection::vec(prop_oneof![0x20..=0xffu8, 0x00..=0x5fu8], 0..40)) {
        let is_marked = |byte: Option<&u8>| matches!(byte, None | Some(b'"' | b'\\' | 0..0x20));
        for at in 0..=bytes.len() {
            let marks = marks(&bytes, at);
            for offset in 0..BLOCK {
                prop_assert_eq!(marks >> offset & 1 == 1, is_marked(bytes.get(at + offset)), "{} {}", at, offset);
            }
        }
    }

    #[test]
    fn strings_with_escapes_anywhere_end_where_serde_json_says(
        pieces in proptest::collection::vec(("[a-z ]{0,18}", r#"\\[\\"/bfnrtux]|\\u00e9|\\ud83d\\ude00|"|\\"#), 0..8),
        tail in "[a-z]{0,20}",
    ) {
        let text: String = pieces.iter().flat_map(|(plain, odd)| [plain.as_str(), odd]).collect();
        let text = format!("\"{text}\"{tail}");
        let mut theirs = serde_json::Deserializer::from_str(&text).into_iter::<&serde_json::value::RawValue>();
        let expected = theirs.next().and_then(Result::ok).map(|value| value.get().len());
        prop_assert_eq!(scan_value(text.as_bytes(), 0).ok().map(|scanned| scanned.end), expected, "{}", text);
    }

    #[test]
    fn the_scanner_agrees_with_serde_json(text in r#"[\[\]{},:"\\a0-9eE.+\- tn]{0,24}|\{"a":(true|null|-?[0-9]{1,3}(\.[0-9]+)?(e[0-9])?|"[a-z\\"]{0,4}"|\[[0-9,]{0,5}\])\}"#) {
        let ours = {
            let start = skip_space(text.as_bytes(), 0);
            scan_value(text.as_bytes(), start).is_ok_and(|value| skip_space(text.as_bytes(), value.end) == text.len())
        };
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
        prop_assert_eq!(ours, theirs, "{}", text);
    }
}
