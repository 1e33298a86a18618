//! A request target and the host beside it: `authority`, a line feed, `target`. What is taken is made of the bytes that
//! were sent, in their order, and the `http` crate finds the same path, query and host in it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_logic::strict::target::Target;

fuzz_target!(|input: &[u8]| {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return };
    let (authority, target) = (&input[..end], &input[end + 1..]);
    if let Ok(found) = Target::without_host(target) {
        assert_eq!(origin_form(found).as_bytes(), target);
        assert_eq!((found.host, found.authority), ("", ""));
    }
    let Ok(found) = Target::parse(target, authority) else { return };
    let origin = origin_form(found);
    let text = std::str::from_utf8(target).expect("a taken target is text");
    let prefix = text.strip_suffix(origin.as_str()).or_else(|| text.strip_suffix(&origin[1..])).expect("as sent");
    assert!(prefix.is_empty() || prefix.ends_with(&format!("://{}", found.authority)), "{prefix:?} was cut off");
    assert_eq!(found.authority.as_bytes(), authority);
    let port = found.authority.strip_prefix(found.host).expect("the host begins the authority");
    assert!(port.is_empty() || port[1..].bytes().all(|byte| byte.is_ascii_digit()));
    assert!(found.path.starts_with('/') && !found.path.contains('?'));
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\\\"<>`".contains(&byte)));
    assert!(!found.host.contains(['/', '@', '?', '#', ',', ' ', '%']));
    if let Ok(uri) = text.parse::<http::Uri>() {
        assert_eq!((uri.path(), uri.query()), (found.path, found.query), "another parser finds another path");
        assert!(uri.host().is_none_or(|host| host == found.host), "another parser finds another host");
    }
});

fn origin_form(target: Target<'_>) -> String {
    let query = target.query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{}{query}", target.path)
}
