//! Rows of a batch: one JSON object and a line feed each.
//!
//! Each function appends one row to `output` and cannot fail. Raw JSON that comes in must be one valid value without
//! line feeds, as [`crate::Upload`] leaves it.

/// Who sent a record; `None` where the request did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin<'a> {
    /// The tenant's name.
    pub tenant: Option<&'a str>,
    /// The agent's name.
    pub agent: Option<&'a str>,
}

/// Repeats of a record that has left as an event row before.
#[derive(Clone, Copy, Debug)]
pub struct Repeat<'a> {
    /// Who sent them.
    pub origin: Origin<'a>,
    /// When the first of them all was received, the one that left as an event row: milliseconds since 1970.
    pub first_seen: u64,
    /// When the last was received.
    pub last_seen: u64,
    /// How many records this row stands for; the first sight is not among them.
    pub count: u64,
    /// What makes them the same: names as configured, and each value's JSON text. Fields that the records lack are not
    /// here.
    pub key: &'a [(&'a str, &'a [u8])],
    /// Examples of what differs, each the JSON text of an object.
    pub exemplars: &'a [Box<[u8]>],
    /// Whether the row leaves before its window has ended.
    pub early: bool,
}

/// A state of an agent: the last of several.
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    /// Whose state it is.
    pub origin: Origin<'a>,
    /// When it was received: milliseconds since 1970.
    pub received: u64,
    /// When the first of the records that this row stands for was received.
    pub first_seen: u64,
    /// How many records this row stands for: those of its key since the key's last row, and itself.
    pub count: u64,
    /// The record.
    pub record: &'a [u8],
}

/// States that were those of the key's last row, or have been replaced by it.
#[derive(Clone, Copy, Debug)]
pub struct Unchanged<'a> {
    /// Whose states they are.
    pub origin: Origin<'a>,
    /// When the first was received: milliseconds since 1970.
    pub first_seen: u64,
    /// When the last was received.
    pub last_seen: u64,
    /// How many records this row stands for.
    pub count: u64,
    /// What tells the agent's states apart, as in [`Repeat::key`].
    pub key: &'a [(&'a str, &'a [u8])],
}

/// A record as the agent sent it.
pub fn write_event(output: &mut Vec<u8>, origin: Origin<'_>, received: u64, record: &[u8]) {
    write_event_head(output, origin, received);
    output.extend_from_slice(record);
    output.extend_from_slice(TAIL);
}

/// What stands before the record in an event row, the same for all that were received together; after it stands [`TAIL`].
pub fn write_event_head(output: &mut Vec<u8>, origin: Origin<'_>, received: u64) {
    open(output, "event", origin);
    number(output, "received", received);
    name(output, "record");
}

/// The end of every row.
pub const TAIL: &[u8] = b"}\n";

/// A count of records whose first was sent as an event row.
pub fn write_repeat(output: &mut Vec<u8>, repeat: &Repeat<'_>) {
    open(output, "repeat", repeat.origin);
    number(output, "first_seen", repeat.first_seen);
    number(output, "last_seen", repeat.last_seen);
    number(output, "count", repeat.count);
    key(output, repeat.key);
    name(output, "exemplars");
    output.push(b'[');
    output.extend_from_slice(&repeat.exemplars.join(&b','));
    output.push(b']');
    if repeat.early {
        name(output, "early");
        output.extend_from_slice(b"true");
    }
    close(output);
}

/// A state, byte for byte as the agent sent it.
pub fn write_state(output: &mut Vec<u8>, state: &State<'_>) {
    open(output, "state", state.origin);
    number(output, "received", state.received);
    number(output, "first_seen", state.first_seen);
    number(output, "count", state.count);
    name(output, "record");
    output.extend_from_slice(state.record);
    close(output);
}

/// A count of states that are not sent.
pub fn write_unchanged(output: &mut Vec<u8>, unchanged: &Unchanged<'_>) {
    open(output, "unchanged", unchanged.origin);
    key(output, unchanged.key);
    number(output, "first_seen", unchanged.first_seen);
    number(output, "last_seen", unchanged.last_seen);
    number(output, "count", unchanged.count);
    close(output);
}

/// A sign of life.
pub fn write_presence(output: &mut Vec<u8>, origin: Origin<'_>, last_seen: u64, version: Option<&str>) {
    open(output, "presence", origin);
    number(output, "last_seen", last_seen);
    name(output, "version");
    optional(output, version);
    close(output);
}

/// What was lost on the way, told in the stream in which it was lost. It stands for no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss<'a> {
    /// Why.
    pub reason: &'a str,
    /// How many records this row tells of.
    pub records: u64,
    /// Parts of files lost beside them, of which nobody can say how many records they held; no member where it is zero.
    pub parts: u64,
    /// How many records were lost for this reason since the spool was made, this row's included.
    pub total: u64,
    /// They were lost after this time: milliseconds since 1970.
    pub since: u64,
    /// And before this one.
    pub until: u64,
}

/// A notice of loss.
pub fn write_loss(output: &mut Vec<u8>, loss: &Loss<'_>) {
    open(output, "loss", Origin::default());
    name(output, "reason");
    text(output, loss.reason);
    number(output, "records", loss.records);
    if loss.parts > 0 {
        number(output, "parts", loss.parts);
    }
    number(output, "total", loss.total);
    number(output, "since", loss.since);
    number(output, "until", loss.until);
    close(output);
}

fn open(output: &mut Vec<u8>, kind: &str, origin: Origin<'_>) {
    output.extend_from_slice(b"{\"kind\":");
    text(output, kind);
    name(output, "tenant");
    optional(output, origin.tenant);
    name(output, "agent");
    optional(output, origin.agent);
}

fn close(output: &mut Vec<u8>) {
    output.extend_from_slice(TAIL);
}

fn name(output: &mut Vec<u8>, name: &str) {
    output.push(b',');
    text(output, name);
    output.push(b':');
}

fn key(output: &mut Vec<u8>, key: &[(&str, &[u8])]) {
    name(output, "key");
    output.push(b'{');
    for (index, (field, value)) in key.iter().enumerate() {
        if index > 0 {
            output.push(b',');
        }
        text(output, field);
        output.push(b':');
        output.extend_from_slice(value);
    }
    output.push(b'}');
}

fn number(output: &mut Vec<u8>, field: &str, value: u64) {
    name(output, field);
    output.extend_from_slice(value.to_string().as_bytes());
}

fn optional(output: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => text(output, value),
        None => output.extend_from_slice(b"null"),
    }
}

/// Appends `value` as a JSON string.
pub fn text(output: &mut Vec<u8>, value: &str) {
    serde_json::to_writer(output, value).expect("writing a string into memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin<'_> = Origin { tenant: Some("t-1"), agent: Some("a \"1\"") };

    #[test]
    fn an_event_row_holds_the_record_byte_for_byte() {
        let mut output = Vec::new();
        write_event(&mut output, ORIGIN, 17, br#"{ "pid" : 1e0, "x":"\u0041" }"#);
        let expected =
            r#"{"kind":"event","tenant":"t-1","agent":"a \"1\"","received":17,"record":{ "pid" : 1e0, "x":"\u0041" }}"#;
        assert_eq!(String::from_utf8(output).unwrap(), expected.to_owned() + "\n");
    }

    #[test]
    fn a_repeat_row_names_its_key_and_says_when_it_left_early() {
        let mut output = Vec::new();
        let exemplars = [r#"{"pid":1}"#, r#"{"pid":2}"#].map(|text| text.as_bytes().into());
        let key: [(&str, &[u8]); 2] = [("image_path", br#""C:\\a.exe""#), ("/user/sid", b"null")];
        let repeat = Repeat {
            origin: Origin::default(),
            first_seen: 1,
            last_seen: 9,
            count: 3,
            key: &key,
            exemplars: &exemplars,
            early: true,
        };
        write_repeat(&mut output, &repeat);
        let expected = r#"{"kind":"repeat","tenant":null,"agent":null,"first_seen":1,"last_seen":9,"count":3,"key":{"image_path":"C:\\a.exe","/user/sid":null},"exemplars":[{"pid":1},{"pid":2}],"early":true}"#;
        assert_eq!(String::from_utf8(output).unwrap(), expected.to_owned() + "\n");
    }

    #[test]
    fn a_state_row_holds_the_record_and_an_unchanged_row_its_key() {
        let mut output = Vec::new();
        let record = br#"{ "disk":"c", "free":1e0 }"#;
        write_state(&mut output, &State { origin: ORIGIN, received: 9, first_seen: 3, count: 2, record });
        let key: [(&str, &[u8]); 1] = [("disk", br#""c""#)];
        write_unchanged(&mut output, &Unchanged { origin: ORIGIN, first_seen: 10, last_seen: 20, count: 5, key: &key });
        let expected = r#"{"kind":"state","tenant":"t-1","agent":"a \"1\"","received":9,"first_seen":3,"count":2,"record":{ "disk":"c", "free":1e0 }}
{"kind":"unchanged","tenant":"t-1","agent":"a \"1\"","key":{"disk":"c"},"first_seen":10,"last_seen":20,"count":5}
"#;
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }

    #[test]
    fn a_presence_row_may_lack_a_version() {
        let mut output = Vec::new();
        write_presence(&mut output, ORIGIN, 5, None);
        let expected = r#"{"kind":"presence","tenant":"t-1","agent":"a \"1\"","last_seen":5,"version":null}"#;
        assert_eq!(String::from_utf8(output).unwrap(), expected.to_owned() + "\n");
    }

    #[test]
    fn a_loss_row_belongs_to_nobody_and_names_parts_only_where_there_are_any() {
        let mut output = Vec::new();
        let loss = Loss { reason: "expired", records: 3, parts: 0, total: 7, since: 1, until: 9 };
        write_loss(&mut output, &loss);
        write_loss(&mut output, &Loss { parts: 2, ..loss });
        let expected = r#"{"kind":"loss","tenant":null,"agent":null,"reason":"expired","records":3,"total":7,"since":1,"until":9}
{"kind":"loss","tenant":null,"agent":null,"reason":"expired","records":3,"parts":2,"total":7,"since":1,"until":9}
"#;
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }
}
