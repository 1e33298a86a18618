//! Rows through `shapes/1` and back.

use proptest::prelude::*;

use super::*;
use crate::row::{Origin, Repeat, write_event, write_presence, write_repeat};

fn same() -> Vec<String> {
    ["image", "cmdline", "/p/q"].map(str::to_owned).to_vec()
}

fn events(count: u64, record: impl Fn(u64) -> String) -> Vec<u8> {
    let mut rows = Vec::new();
    for number in 0..count {
        let agent = format!("a-{}", number / 4);
        let origin = Origin { tenant: Some("t-1"), agent: Some(&agent) };
        write_event(&mut rows, origin, 1_700_000_000_000 + number, record(number).as_bytes());
    }
    rows
}

fn text(lines: &[u8]) -> &str {
    std::str::from_utf8(lines).unwrap()
}

#[test]
fn a_process_on_a_thousand_endpoints_is_sent_once() {
    let rows = events(1000, |pid| format!(r#"{{"pid":{pid},"image":"C:\\a.exe","cmdline":"a -b"}}"#));
    let lines = encode(&rows, &same()).unwrap();
    assert_eq!(text(&lines).matches("a.exe").count(), 1);
    assert_eq!(decode(&lines, rows.len()).unwrap().rows, rows);
    assert_eq!(decode(&lines, rows.len() - 1), Err(Undecodable::TooLarge));
}

#[test]
fn shapes_stand_beside_those_they_resemble() {
    let rows = events(6, |n| {
        format!(r#"{{"image":"{}","cmdline":"run {}","pid":{n}}}"#, if n % 2 == 0 { "x" } else { "y" }, 5 - n)
    });
    let lines = encode(&rows, &same()).unwrap();
    let shapes = text(&lines).lines().nth(1).unwrap();
    let expected = r#"{"kind":"shape","key":{"image":["x","x","x","y","y","y"],"cmdline":["run 1","run 3","run 5","run 0","run 2","run 4"]}}"#;
    assert_eq!(shapes, expected);
    let decoded = decode(&lines, 10_000).unwrap();
    assert_eq!((decoded.rows, decoded.same), (rows, vec!["image".to_owned(), "cmdline".to_owned()]));
}

#[test]
fn rows_that_would_not_get_shorter_stay_rows() {
    assert_eq!(encode(&events(1, |_| r#"{"image":"x"}"#.to_owned()), &same()), None);
    assert_eq!(encode(b"no json at all\n", &same()), None);
    assert_eq!(encode(b"", &same()), None);
}

#[test]
fn what_is_no_table_is_refused() {
    let rows = events(60, |pid| format!(r#"{{"image":"x","pid":{pid}}}"#));
    let lines = encode(&rows, &same()).unwrap();
    let whole = text(&lines);
    for (from, to) in [
        ("[[0,60]]", "[[0,59]]"),
        ("[[0,60]]", "[[0,61]]"),
        ("[[0,60]]", "[[1,60]]"),
        ("[[0,60]]", "[[0,18446744073709551615],[18446744073709551615,9]]"),
        ("[[0,60]]", "[[0,30],[0,30]]"),
        ("\"shape\":[0,", "\"shape\":[1,"),
        ("\"shape\":[0,", "\"shape\":[-1,"),
        ("\"origin\":[0,", "\"origin\":[999,"),
        ("\"pid\":[0,", "\"pid\":["),
        ("\"pid\":[0,", "\"pid\":[0,0,"),
        ("\"pid\":[0,", "\"pid\":[0 0,"),
        ("\"members\"", "\"mumbers\""),
        ("shapes/1", "shapes/2"),
    ] {
        assert!(whole.contains(from), "{from}");
        let broken = whole.replacen(from, to, 1);
        assert!(matches!(decode(broken.as_bytes(), 1 << 20), Err(Undecodable::Malformed { .. })), "{from} {to}");
    }
    for length in 0..lines.len() {
        assert!(decode(&lines[..length], 1 << 20).map_or(true, |decoded| decoded.rows != rows), "{length}");
    }
}

#[test]
fn a_forged_table_cannot_outgrow_its_bound() {
    let shape = format!(r#"{{"kind":"shape","key":{{"image":["{}"]}}}}"#, "x".repeat(10_000));
    let places = vec!["0"; 10_000].join(",");
    let table = format!(
        r#"{{"kind":"event","rows":[[0,10000]],"members":["record"],"fields":["image"],"shape":[{places}],"record":{{}}}}"#
    );
    let lines = format!("{}{shape}\n{table}\n", text(FORMAT_LINE));
    assert_eq!(decode(lines.as_bytes(), 1 << 20), Err(Undecodable::TooLarge));
}

/// JSON values of any kind, written in any way.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just(r#""x""#.to_owned()),
        Just(r#""\u0041\n\"\\""#.to_owned()),
        Just(r#""ü 🦀""#.to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (proptest::collection::vec(inner.clone(), 0..3), space())
                .prop_map(|(v, s)| format!("[{s}{}]", v.join(&format!("{s},")))),
            (inner, space()).prop_map(|(v, s)| format!(r#"{{{s}"k"{s}:{v},"k":{s}1}}"#)),
        ]
    })
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\t ")]
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => Just("image"), 4 => Just("cmdline"), 4 => Just("pid"), 2 => Just("ts"), 1 => Just("im\\u0061ge"), 1 => Just(""),
        1 => Just("kind"), 1 => Just("rows"), 1 => Just("shape"), 1 => Just("record"), 1 => Just("/p/q"), 1 => Just("\\\""),
    ]
}

fn record() -> impl Strategy<Value = String> {
    (proptest::collection::vec((name(), value()), 0..5), space()).prop_map(|(members, space)| {
        let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{space}{value}")).collect();
        format!("{{{}}}", members.join(&format!(",{space}")))
    })
}

fn row() -> impl Strategy<Value = Vec<u8>> {
    let names = || proptest::option::of(prop_oneof![Just("a-1"), Just("a-2"), Just("a \"3\"\\")]);
    (names(), names(), 0..4u8, any::<bool>(), proptest::collection::vec(record(), 1..4), value()).prop_map(
        |(tenant, agent, kind, early, records, value)| {
            let origin = Origin { tenant, agent };
            let mut row = Vec::new();
            match kind {
                0 => write_event(&mut row, origin, 17, records[0].as_bytes()),
                1 => write_presence(&mut row, origin, 4, agent),
                2 => row.extend_from_slice(
                    format!("{{\"kind\":\"state\",\"x\":{value},\"key\":{}}}\n", records[0]).as_bytes(),
                ),
                _ => {
                    let key = [("image", value.as_bytes()), ("/p/q", b"1".as_slice())];
                    let exemplars: Vec<Box<[u8]>> =
                        records[1..].iter().map(|record| record.as_bytes().into()).collect();
                    let (first_seen, last_seen, count) = (1, u64::MAX, 3);
                    let key = &key[usize::from(early)..];
                    write_repeat(
                        &mut row,
                        &Repeat { origin, first_seen, last_seen, count, key, exemplars: &exemplars, early },
                    );
                }
            }
            row
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_rows_come_back_byte_for_byte(pool in proptest::collection::vec(row(), 1..12), picks in proptest::collection::vec(0..64usize, 0..60)) {
        let rows: Vec<u8> = picks.iter().flat_map(|pick| pool[pick % pool.len()].clone()).collect();
        if let Some(lines) = encode(&rows, &same()) {
            prop_assert!(lines.len() < rows.len());
            let decoded = decode(&lines, rows.len()).unwrap();
            prop_assert_eq!(text(&decoded.rows), text(&rows));
        } else {
            prop_assert!(picks.len() < 50, "{} rows did not get shorter", picks.len());
        }
    }

    #[test]
    fn any_lines_decode_or_fail_within_the_bound(
        lines in proptest::collection::vec(prop_oneof![
            Just(r#"{"kind":"shape","key":{"a":["x","y"]}}"#.to_owned()),
            Just(r#"{"kind":"origin","tenant":["t"],"agent":["a"]}"#.to_owned()),
            (0..4u64, 0..4u64, value()).prop_map(|(first, count, value)| format!(
                r#"{{"kind":"event","rows":[[{first},{count}]],"members":["tenant","record","exemplars"],"fields":["a","b"],"origin":[0,0],"shape":[0,1],"record":{{"b":[{value},{value}]}},"exemplars":{{"c":[[1],[2]]}}}}"#
            )),
            value(),
        ], 0..5),
    ) {
        let lines = format!("{}{}\n", text(FORMAT_LINE), lines.join("\n"));
        if let Ok(decoded) = decode(lines.as_bytes(), 300) {
            prop_assert!(decoded.rows.len() <= 300);
        }
    }
}
