//! The tags that a core gives an answer, by which it can be purged: `Surrogate-Key`, a list parted by spaces, and
//! `Cache-Tag`, a list parted by commas. Neither is standardised; both are what caches have agreed on. They are for the
//! node and not sent on to agents.

use http::HeaderMap;
use http::header::HeaderName;

use super::purge::Marks;

/// The headers that tags come in.
pub const TAG_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("surrogate-key"), HeaderName::from_static("cache-tag")];

/// The answer's tags, each once, in order; at most [`Marks::MAX_TAGS`], each of at most [`MAX_TAG_BYTES`]. A longer one, one
/// past the bound, or one that is not visible ASCII is passed over.
pub fn tags(headers: &HeaderMap) -> Vec<&str> {
    let mut tags: Vec<&str> = Vec::new();
    for (name, separator) in TAG_HEADERS.iter().zip([is_space as fn(char) -> bool, is_comma]) {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        for tag in values.flat_map(|value| value.split(separator)).map(str::trim) {
            if is_tag(tag) && tags.len() < Marks::MAX_TAGS && !tags.contains(&tag) {
                tags.push(tag);
            }
        }
    }
    tags
}

/// Whether that can be a tag at all: what no core can give an answer cannot be purged either.
pub fn is_tag(tag: &str) -> bool {
    !tag.is_empty() && tag.len() <= MAX_TAG_BYTES && tag.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Bytes of a tag, at most.
pub const MAX_TAG_BYTES: usize = 1024;

fn is_space(c: char) -> bool {
    c == ' ' || c == '\t'
}

fn is_comma(c: char) -> bool {
    c == ','
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &[(&'static str, &str)]) -> Vec<String> {
        let headers: HeaderMap =
            list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        tags(&headers).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn both_headers_are_read_by_their_own_separators() {
        let headers = [("surrogate-key", "a  b\tc,d"), ("surrogate-key", "a e"), ("cache-tag", "x, y,,e ,z")];
        assert_eq!(of(&headers), ["a", "b", "c,d", "e", "x", "y", "z"]);
    }

    #[test]
    fn what_is_no_tag_or_too_much_is_passed_over() {
        let long = "x".repeat(MAX_TAG_BYTES + 1);
        assert_eq!(of(&[("cache-tag", &format!("{long},has space,ok"))]), ["ok"]);
        let many = (0..100).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(of(&[("surrogate-key", &many)]).len(), Marks::MAX_TAGS);
    }
}
