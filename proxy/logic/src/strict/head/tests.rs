use super::*;

const BOUNDS: Bounds = Bounds { head: 512, target: 64, fields: 8 };

fn outcome(text: &str) -> Result<Framing, &'static str> {
    match scan(text.as_bytes(), 0, BOUNDS) {
        Ok(Scan::Complete(head)) => {
            assert_eq!(head.length, text.len());
            Ok(head.body)
        }
        Ok(Scan::Incomplete) => Err("incomplete"),
        Err(fault) => {
            assert!(fault.detail.len() < 60, "{}", fault.detail);
            Err(fault.detail)
        }
    }
}

fn get(fields: &str) -> Result<Framing, &'static str> {
    outcome(&format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

#[test]
fn plain_requests_pass_with_their_framing() {
    assert_eq!(get(""), Ok(Framing::Length(0)));
    assert_eq!(get("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
    assert_eq!(get("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    assert_eq!(get("Connection: upgrade\r\nUpgrade: websocket\r\n"), Ok(Framing::Upgrade));
    assert_eq!(outcome("GET / HTTP/1.0\r\n\r\n"), Ok(Framing::Length(0)));
    assert_eq!(get("X-Any: caf\u{e9}\t ok\r\nEmpty:\r\n"), Ok(Framing::Length(0)));
}

#[test]
fn ambiguous_framing_is_refused() {
    for fields in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 1 2\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Upgrade: websocket\r\nContent-Length: 3\r\n",
    ] {
        assert!(get(fields).is_err(), "{fields:?}");
    }
    assert!(outcome("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
}

#[test]
fn header_lines_that_parsers_read_differently_are_refused() {
    for fields in [
        "A: 1\r\n folded\r\n",
        "A: 1\r\n\tfolded\r\n",
        " A: 1\r\n",
        "A : 1\r\n",
        ": 1\r\n",
        "no colon\r\n",
        "A\u{0}: 1\r\n",
        "A: 1\u{0}\r\n",
        "A: 1\rB: 2\r\n",
        "A: 1\nB: 2\r\n",
        "A(: 1\r\n",
        "\u{e9}: 1\r\n",
        "A: \u{7f}\r\n",
        "A: \r1\r\n",
        "A: 1\r\r\n",
        "A: \u{c}1\r\n",
        "Transfer-Encoding: \u{c}chunked\r\n",
        "Content-Length: 3 \r\r\n",
    ] {
        assert!(get(fields).is_err(), "{fields:?}");
    }
}

#[test]
fn the_host_stands_once_and_is_not_empty() {
    assert!(outcome("GET / HTTP/1.1\r\n\r\n").is_err());
    assert!(outcome("GET / HTTP/1.1\r\nHost:\r\n\r\n").is_err());
    assert!(outcome("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n").is_err());
}

#[test]
fn request_lines_are_not_repaired() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / http/1.1",
        "G(T / HTTP/1.1",
        "GET /\u{0} HTTP/1.1",
        "GET /caf\u{e9} HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /a\\b HTTP/1.1",
        "",
    ] {
        assert!(outcome(&format!("{line}\r\nHost: a\r\n\r\n")).is_err(), "{line:?}");
    }
}

#[test]
fn tunnels_are_refused() {
    let fault = scan(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 0, BOUNDS).unwrap_err();
    assert_eq!(fault.refusal, Refusal::WrongMethod);
}

#[test]
fn bounds_are_told_apart() {
    let refusal = |text: String| scan(text.as_bytes(), 0, BOUNDS).unwrap_err().refusal;
    assert_eq!(refusal(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(64))), Refusal::TargetTooLong);
    assert_eq!(refusal(format!("GET /{}", "a".repeat(600))), Refusal::TargetTooLong);
    assert_eq!(refusal(format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(600))), Refusal::HeadersTooLarge);
    assert_eq!(refusal(format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(600))), Refusal::HeadersTooLarge);
    assert_eq!(refusal(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(9))), Refusal::HeadersTooLarge);
}

#[test]
fn every_prefix_of_a_good_section_is_incomplete() {
    let text = b"POST /a?b=c HTTP/1.1\r\nHost: edge\r\nContent-Length: 3\r\n\r\nabc";
    let whole = text.len() - 3;
    for end in 0..whole {
        assert_eq!(scan(&text[..end], end.saturating_sub(1), BOUNDS), Ok(Scan::Incomplete), "{end}");
    }
    for searched in 0..whole {
        let Ok(Scan::Complete(head)) = scan(text, searched, BOUNDS) else { panic!("no section after {searched}") };
        assert_eq!((head.length, head.body), (whole, Framing::Length(3)));
        assert_eq!(Ok(Scan::Complete(head)), scan(text, 0, BOUNDS), "its parts are the same however it came");
    }
}

proptest::proptest! {
    #[test]
    fn no_section_is_longer_than_its_input(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
        if let Ok(Scan::Complete(head)) = scan(&bytes, 0, BOUNDS) {
            proptest::prop_assert!(head.length <= bytes.len());
        }
    }
}
