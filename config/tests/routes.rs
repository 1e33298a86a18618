//! The order of routes and the grammar of their paths.

use std::path::Path;

use weir_config::{Config, KeyPart, MemoryEnvironment, PathPattern, Peer, Segment, parse};

/// A configuration with forwarding routes of these matches, each named by its match.
fn routes(matches: &[&str]) -> Config {
    let mut text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[core]\npeers = \"core-a:80\"\n".to_owned();
    for (index, matcher) in matches.iter().enumerate() {
        text.push_str(&format!(
            "[[route]]\nname = \"r{index}\"\nmatch = {matcher}\nclass = \"update\"\naction = \"forward\"\n"
        ));
    }
    let environment = MemoryEnvironment::new().file("weir.toml", text);
    parse(&environment, Path::new("weir.toml")).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn order(matches: &[&str]) -> Vec<String> {
    routes(matches).routes.into_iter().map(|route| route.name).collect()
}

#[test]
fn a_literal_comes_before_a_parameter_before_a_rest() {
    let matches =
        ["{ path = \"/{all*}\" }", "{ path = \"/v1/{x}\" }", "{ path = \"/v1/{rest*}\" }", "{ path = \"/v1/a\" }"];
    assert_eq!(order(&matches), ["r3", "r1", "r2", "r0"]);
}

#[test]
fn the_leftmost_difference_counts() {
    assert_eq!(order(&["{ path = \"/{x}/b\" }", "{ path = \"/a/{x}\" }"]), ["r1", "r0"]);
}

#[test]
fn a_host_comes_before_any_host() {
    assert_eq!(order(&["{ path = \"/a\" }", "{ path = \"/{x*}\", host = \"a.example.com\" }"]), ["r1", "r0"]);
}

#[test]
fn the_same_path_may_have_a_route_for_each_method_and_host() {
    let matches = [
        "{ method = \"GET\", path = \"/a/{x}\" }",
        "{ method = \"HEAD\", path = \"/a/{y}\" }",
        "{ method = [\"POST\", \"PUT\"], path = \"/a/{z}\" }",
        "{ method = \"GET\", path = \"/a/{x}\", host = \"a.example.com\" }",
    ];
    assert_eq!(routes(&matches).routes.len(), 4);
}

#[test]
fn a_pattern_is_split_at_its_slashes() {
    let segments = |text: &str| text.parse::<PathPattern>().map(|pattern| pattern.segments);
    let literal = |text: &str| Segment::Literal(text.to_owned());
    assert_eq!(segments("/"), Ok(vec![literal("")]));
    assert_eq!(segments("/a/"), Ok(vec![literal("a"), literal("")]));
    assert_eq!(segments("/a/{b}"), Ok(vec![literal("a"), Segment::Parameter("b".to_owned())]));
    assert_eq!(segments("/{b*}"), Ok(vec![Segment::Rest("b".to_owned())]));
    for wrong in
        ["", "a", "//", "/a//b", "/{}", "/{*}", "/{a*}/b", "/x{a}", "/{a}{b}", "/{a-b}", "/..", "/a b", "/a?b", "/é"]
    {
        assert!(segments(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn parts_of_keys_and_peers_print_as_they_are_written() {
    for text in ["identity.agent", "identity.tenant", "path.a", "query.a.b", "header.x-a", "body./a/b~0c"] {
        assert_eq!(text.parse::<KeyPart>().map(|part| part.to_string()).as_deref(), Ok(text));
    }
    assert_eq!("header.X-Agent".parse(), Ok(KeyPart::Header("x-agent".to_owned())));
    for wrong in ["identity.name", "cookie.a", "path.", "body.", "body.a", "body./a~2", "header.a b", "agent"] {
        assert!(wrong.parse::<KeyPart>().is_err(), "{wrong}");
    }
    for text in ["core-a:443", "10.0.0.1:80", "[::1]:443"] {
        assert_eq!(text.parse::<Peer>().map(|peer| peer.to_string()).as_deref(), Ok(text));
    }
    for wrong in ["core-a", "core-a:0", ":80", "::1:80", "[core]:80", "a b:80", "https://core:443", "core:65536"] {
        assert!(wrong.parse::<Peer>().is_err(), "{wrong}");
    }
}
