//! The design's sketch of an operator's file is an operator's file.

use std::path::Path;
use std::time::Duration;

use weir_config::{
    Action, ByteSize, ClientAuth, Config, Diagnostics, IdentitySource, KeyPart, MemoryEnvironment, Mode, Parsed,
    ProxyProtocol, Segment, parse, to_toml,
};

const SKETCH: &str = include_str!("sketch.toml");

fn parsed(text: &str) -> Result<Parsed, Diagnostics> {
    parse(&MemoryEnvironment::new().file("weir.toml", text), Path::new("weir.toml"))
}

fn sketch() -> Config {
    parsed(SKETCH).unwrap_or_else(|problems| panic!("{problems}")).config
}

#[test]
fn the_sketch_parses() {
    let config = sketch();
    assert_eq!(config.edge.region, "us-east-1");
    let listener = &config.listeners[0];
    assert_eq!(listener.name, "0.0.0.0:8443");
    assert_eq!(listener.proxy_protocol, ProxyProtocol::V2);
    assert_eq!(listener.tls.as_ref().map(|tls| tls.client_auth), Some(ClientAuth::Required));
    assert_eq!(config.cores[0].name, "core");
    assert_eq!(config.cores[0].peers[1].to_string(), "core-b:443");
    assert!(config.cores[0].tls.is_some());
    assert_eq!(config.identity.agent, [IdentitySource::CertificateCommonName]);
    assert_eq!(config.presence, None);
}

#[test]
fn the_sketch_has_its_routes_and_streams() {
    let config = sketch();
    let route = |name: &str| config.routes.iter().find(|route| route.name == name).expect("a route of the sketch");
    let Action::Cache(cache) = &route("update-manifest").action else { panic!("not cached") };
    assert_eq!(cache.key[0], KeyPart::Path("channel".to_owned()));
    assert!(cache.shared);
    assert_eq!(cache.ttl.ok, Duration::from_secs(60));
    assert_eq!(cache.ttl.not_found, Duration::from_secs(5));
    assert_eq!(cache.stale_if_error, Duration::from_secs(86_400));
    assert_eq!(cache.calm.as_ref().map(|calm| calm.status), Some(204));
    let Action::Lookup(lookup) = &route("tasks").action else { panic!("not looked up") };
    assert_eq!((lookup.window, lookup.max_keys), (Duration::from_millis(25), 1000));
    assert_eq!(route("tasks").path.segments[2], Segment::Parameter("agent".to_owned()));
    let stream = config.stream("process").expect("the stream of the sketch");
    assert!(matches!(&stream.mode, Mode::Events { same, .. } if same.len() == 6));
    assert_eq!(stream.path, "/v1/batches/process");
    assert_eq!(stream.batch.max_bytes, ByteSize::mib(4));
}

#[test]
fn what_is_shown_reads_back_the_same() {
    let config = sketch();
    let shown = to_toml(&config);
    let again = parsed(&shown).unwrap_or_else(|problems| panic!("{shown}\n{problems}"));
    assert_eq!(again.config, config);
    assert_eq!(to_toml(&again.config), shown);
}
