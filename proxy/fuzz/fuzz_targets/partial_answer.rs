//! A core's answer 207 to a batch: one byte for the number of rows, then the answer. Every row it names was sent and is
//! named once, as a plain JSON reader finds it; anything else is no answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weir_batch::PartialAnswer;

fuzz_target!(|input: &[u8]| {
    let Some((rows, body)) = input.split_first() else { return };
    let rows = u64::from(rows % 16);
    let Some(answer) = PartialAnswer::parse(body, rows) else { return };
    let numbers = answer.rejected.keys().chain(&answer.retry);
    assert!(numbers.clone().all(|row| *row < rows), "a row that was not sent");
    assert!(answer.retry.iter().all(|row| !answer.rejected.contains_key(row)), "a row with two fates");
    let Ok(said) = serde_json::from_slice::<Value>(body) else { return };
    let list = |name: &str| said[name].as_array().cloned().unwrap_or_default();
    assert_eq!(list("rejected").len() + list("retry").len(), numbers.count());
    assert!(list("retry").iter().all(|row| row.as_u64().is_some_and(|row| answer.retry.contains(&row))));
    for item in list("rejected") {
        // A row can be given by a list of its members, too, as the reader of the answer allows.
        let row = item.get("row").or_else(|| item.get(0)).and_then(Value::as_u64).expect("a row's number");
        let reason = item.get("reason").or_else(|| item.get(1)).and_then(Value::as_str).unwrap_or_default();
        assert_eq!(answer.rejected.get(&row).map(String::as_str), Some(reason));
    }
});
