//! An HTTP/1.1 header section off the wire. One that is taken reads the same to a second parser and to a naive reading
//! of its framing, however its bytes trickle in and whatever follows it; cut into its parts, it has those that the second parser finds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_logic::Headers;
use weir_logic::strict::head::{Bounds, Framing, Head, Scan, scan};
use weir_logic::strict::section::Section;

const BOUNDS: Bounds = Bounds { head: 1024, target: 128, fields: 16 };

fuzz_target!(|bytes: &[u8]| {
    let verdict = scan(bytes, 0, BOUNDS);
    assert_eq!(trickled(bytes, 1 + bytes.len() % 7), verdict, "bytes that come in pieces mean something else");
    match &verdict {
        Ok(Scan::Complete(head)) => {
            assert!(head.length <= BOUNDS.head);
            assert_eq!(scan(&bytes[..head.length], 0, BOUNDS), verdict, "what follows the section counts");
            assert_eq!(scan(&bytes[..head.length - 1], 0, BOUNDS), Ok(Scan::Incomplete));
            reads_the_same(&bytes[..head.length], head);
        }
        Ok(Scan::Incomplete) => assert!(bytes.len() <= BOUNDS.head, "more bytes are waited for than may come"),
        Err(fault) => assert!(!fault.detail.is_empty() && fault.detail.len() < 60),
    }
});

/// The verdict when the bytes come `step` at a time: the first that is not `Incomplete`.
fn trickled(bytes: &[u8], step: usize) -> Result<Scan, weir_logic::strict::Fault> {
    let mut searched = 0;
    loop {
        let end = bytes.len().min(searched + step);
        let verdict = scan(&bytes[..end], searched, BOUNDS);
        if verdict != Ok(Scan::Incomplete) || end == bytes.len() {
            return verdict;
        }
        searched = end;
    }
}

fn reads_the_same(section: &[u8], head: &Head) {
    let mut fields = [httparse::EMPTY_HEADER; BOUNDS.fields];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(section).expect("a second parser takes it as well");
    assert_eq!(parsed, httparse::Status::Complete(head.length), "two parsers disagree on where it ends");
    assert!(request.path.expect("a target").len() <= BOUNDS.target);
    let values = |name: &str| -> Vec<&[u8]> {
        let named = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.trim_ascii()).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match head.body {
        Framing::Chunked => {
            assert_eq!((lengths.len(), codings.len()), (0, 1));
            assert!(codings[0].eq_ignore_ascii_case(b"chunked"));
            assert_eq!(request.version, Some(1));
        }
        Framing::Length(length) => {
            assert!(codings.is_empty());
            assert!(lengths.len() <= 1);
            let said = lengths.first().map_or("0", |text| std::str::from_utf8(text).expect("digits"));
            assert!(said.bytes().all(|byte| byte.is_ascii_digit()));
            assert_eq!(said.parse(), Ok(length));
            assert!(values("upgrade").is_empty());
        }
        Framing::Upgrade => {
            assert!(codings.is_empty());
            assert!(!values("upgrade").is_empty());
        }
    }
    assert!(request.version == Some(0) || values("host").len() == 1);
    let cut = Section::new(section, head);
    assert_eq!(cut.method(), request.method.expect("a method").as_bytes());
    assert_eq!(cut.target(), request.path.expect("a target").as_bytes());
    assert_eq!(cut.version() == b"HTTP/1.1", request.version == Some(1));
    for field in request.headers.iter() {
        let found: Vec<&[u8]> = cut.values(&field.name.to_ascii_lowercase()).collect();
        assert_eq!(found, values(field.name), "another value of {}", field.name);
    }
}
