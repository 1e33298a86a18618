//! The directives of `Cache-Control` that forbid keeping an answer.

use http::HeaderMap;
use http::header::CACHE_CONTROL;

/// Whether `Cache-Control` holds the directive `name`, with or without an argument, in any case (RFC 9111, section 5.2). A
/// field that is not text counts as holding everything: what cannot be read is not kept.
pub(super) fn has(headers: &HeaderMap, name: &str) -> bool {
    headers.get_all(CACHE_CONTROL).iter().any(|value| match value.to_str() {
        Ok(text) => names(text).any(|known| known.eq_ignore_ascii_case(name)),
        Err(_) => true,
    })
}

/// The names of a list of directives. Commas and quotes inside quoted strings are part of the argument.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = end_of_directive(text);
        rest = text.get(end + 1..);
        let directive = &text[..end];
        Some(directive.split('=').next().unwrap_or(directive).trim())
    })
}

fn end_of_directive(text: &str) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (CACHE_CONTROL, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_directive_is_found_in_any_field_case_and_form() {
        assert!(has(&control(&["max-age=60, No-Store"]), "no-store"));
        assert!(has(&control(&["public", "private=\"set-cookie\""]), "private"));
        assert!(has(&control(&["ext=\"a,\\\"b\", private"]), "private"));
    }

    #[test]
    fn what_stands_in_a_quoted_argument_is_no_directive() {
        assert!(!has(&control(&["ext=\"a, no-store\""]), "no-store"));
        assert!(!has(&control(&["no-store-at-all, max-age=0"]), "no-store"));
    }

    #[test]
    fn an_unreadable_field_forbids() {
        let headers = HeaderMap::from_iter([(CACHE_CONTROL, http::HeaderValue::from_bytes(b"\xff").unwrap())]);
        assert!(has(&headers, "no-store"));
    }
}
