//! The small languages of the configuration and of batch names: what is read, printed and read again is the same.

#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use weir_batch::BatchId;
use weir_config::{ByteSize, IdentitySource, KeyPart, PathPattern, Peer, Ratio, duration_from_text, duration_to_text};

fuzz_target!(|input: &str| {
    reads_back::<ByteSize>(input);
    reads_back::<Ratio>(input);
    reads_back::<PathPattern>(input);
    reads_back::<KeyPart>(input);
    reads_back::<IdentitySource>(input);
    reads_back::<Peer>(input);
    reads_back::<BatchId>(input);
    if let Ok(duration) = duration_from_text(input) {
        assert_eq!(duration_from_text(&duration_to_text(duration)), Ok(duration));
    }
    if let Ok(pattern) = input.parse::<PathPattern>() {
        pattern_is_its_segments(&pattern);
    }
    if let Ok(id) = input.parse::<BatchId>() {
        assert_eq!(id.to_string(), input, "two texts name one batch");
        let stem = id.file_stem();
        assert!(!stem.contains('/'), "{stem} is no file name");
    }
});

fn reads_back<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Debug,
{
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert_eq!(printed.parse::<T>().expect("what it prints, it reads"), value);
    }
}

fn pattern_is_its_segments(pattern: &PathPattern) {
    let written: Vec<String> = pattern
        .segments
        .iter()
        .map(|segment| match segment {
            weir_config::Segment::Literal(text) => text.clone(),
            weir_config::Segment::Parameter(name) => format!("{{{name}}}"),
            weir_config::Segment::Rest(name) => format!("{{{name}*}}"),
        })
        .collect();
    assert_eq!(format!("/{}", written.join("/")), pattern.text);
}
