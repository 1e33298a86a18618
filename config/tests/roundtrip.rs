//! Whatever a configuration says, its canonical text says the same.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weir_config::{
    Action, AggregateRoute, AnswerStore, BatchEncoding, BatchPlan, BodyEtag, BodyPointer, ByteSize, CacheRoute, Calm,
    Class, ClientAuth, Compression, Config, Core, CoreId, CoreTls, DeliveryPlan, Durability, ForwardRoute,
    FreshnessMode, HealthCheck, IdentitySource, KeyPart, Listener, ListenerTls, LookupRoute, MemoryEnvironment, Method,
    Mode, Pacing, Payload, Peer, Presence, Protocol, Ratio, Retry, Route, SpoolLimits, StatusPattern, StatusTtl,
    Stream, TlsCipher, TlsVersion, Unchanged, changes, parse, to_toml,
};

fn read(text: &str) -> Config {
    let environment = MemoryEnvironment::new().file("weir.toml", text);
    parse(&environment, Path::new("weir.toml")).unwrap_or_else(|problems| panic!("{text}\n{problems}")).config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_configuration_reads_back_from_its_text(config in config()) {
        let text = to_toml(&config);
        let again = read(&text);
        prop_assert_eq!(changes(&config, &again), []);
        prop_assert_eq!(again, config);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "([a-z\\[\\]{}=\"'.,$#é0-9 \n]|route|core|match|\\[\\[|\\]\\]\n| = ){0,60}") {
        let environment = MemoryEnvironment::new().file("weir.toml", text);
        let problems = parse(&environment, Path::new("weir.toml")).map(|parsed| parsed.config).expect_err("it has no listener");
        prop_assert!(!problems.to_string().is_empty());
        prop_assert!(!problems.coloured().is_empty());
    }

    #[test]
    fn no_damage_to_the_example_makes_the_parser_panic(at in 0_usize..20_000, cut in 0_usize..40, put in "[\\[\\]{}=\"$a0é\n]{0,3}") {
        let (start, end) = (weir_config::EXAMPLE.floor_char_boundary(at), weir_config::EXAMPLE.floor_char_boundary(at + cut));
        let text = [&weir_config::EXAMPLE[..start], &put, &weir_config::EXAMPLE[end..]].concat();
        let environment = MemoryEnvironment::new().file("weir.toml", text);
        if let Err(problems) = parse(&environment, Path::new("weir.toml")) {
            prop_assert!(!problems.to_string().is_empty());
        }
    }
}

/// Configurations that differ from the defaults in a bit of everything, texts that TOML, variables and secrets could
/// trip over included.
fn config() -> impl Strategy<Value = Config> {
    let base = read("[[listener]]\naddress = \"127.0.0.1:0\"\n[core]\npeers = \"a:1\"\n");
    let lists = (listeners(), cores(), streams(), vec(action(), 0..5));
    let rest = (option::of("[a-z0-9.-]{1,20}"), path(), option::of(time(1_000, 3_600_000)), option::of(1_usize..64));
    (lists, rest).prop_map(move |((listeners, cores, streams, actions), (name, data_dir, interval, threads))| {
        let last = CoreId(cores.len() - 1);
        let mut config = Config { listeners, cores, ..base.clone() };
        config.edge.name = name;
        config.edge.data_dir = data_dir;
        config.edge.threads = threads;
        config.presence = interval.map(|interval| Presence {
            interval,
            max_agents: 5000,
            path: "/p".to_owned(),
            version_header: "x-version".to_owned(),
            core: last,
        });
        config.identity.agent =
            vec![IdentitySource::CertificateCommonName, IdentitySource::Header("x-agent".to_owned())];
        config.identity.tenant = vec![IdentitySource::Path("tenant".to_owned())];
        config.routes = actions.into_iter().enumerate().map(|(index, action)| route(index, action, &streams)).collect();
        config.streams = streams.into_iter().map(|stream| Stream { core: last, ..stream }).collect();
        config
    })
}

fn route(index: usize, action: Action, streams: &[Stream]) -> Route {
    let action = match (action, streams.first()) {
        (Action::Aggregate(_), Some(stream)) => Action::Aggregate(AggregateRoute { stream: stream.name.clone() }),
        (Action::Aggregate(_), None) => {
            Action::Forward(ForwardRoute { websocket: true, max_body_bytes: ByteSize::mib(3) })
        }
        (action, _) => action,
    };
    Route {
        name: format!("route-{index}"),
        methods: vec![Method::Post],
        path: format!("/v1/{index}/{{tenant}}/{{rest*}}").parse().expect("a pattern"),
        host: (index == 0).then(|| "agents.example.com".to_owned()),
        class: if index.is_multiple_of(2) { Class::Probe } else { Class::Telemetry },
        core: CoreId(0),
        agent_limit: None,
        action,
    }
}

fn body_etag(shared: bool) -> BodyEtag {
    BodyEtag {
        request: BodyPointer("/a/~0".to_owned()),
        answer: shared.then(|| BodyPointer("/version".to_owned())),
        unchanged: Unchanged {
            status: 200,
            body: "{\"unchanged\":true}".to_owned(),
            content_type: "application/json".to_owned(),
        },
    }
}

fn payload() -> Payload {
    Payload { url: BodyPointer("/a/*/url".to_owned()), sha256: BodyPointer("/a/*/b/0".to_owned()), max: 7 }
}

fn key() -> Vec<KeyPart> {
    vec![
        KeyPart::Body("/a~1b/c".to_owned()),
        KeyPart::Query("platform x".to_owned()),
        KeyPart::Path("tenant".to_owned()),
        KeyPart::Path("rest".to_owned()),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (any::<bool>(), ratio(), ttl(), option::of(calm())).prop_map(|(shared, jitter, ttl, calm)| {
            Action::Cache(CacheRoute {
                vary: calm.iter().map(|_| "accept-language".to_owned()).collect(),
                max_variants: 8,
                key: key(),
                shared,
                freshness: if shared { FreshnessMode::Clamp } else { FreshnessMode::Honor },
                ttl,
                min_ttl: Duration::ZERO,
                max_ttl: Duration::from_secs(86_400),
                jitter,
                stale_while_revalidate: Duration::from_millis(1500),
                stale_if_error: ttl.redirect,
                obey_agents: shared,
                store: if calm.is_some() { AnswerStore::Memory } else { AnswerStore::Disk },
                max_bytes_per_second: if calm.is_some() { ByteSize::default() } else { ByteSize::mib(3) },
                max_body_bytes: ByteSize::new(1001),
                etag: calm.as_ref().map(|_| body_etag(shared)),
                payload: calm.as_ref().map(|_| payload()),
                rollout: calm.as_ref().map(|_| Pacing { over: ttl.ok, share: jitter }),
                calm,
            })
        }),
        (time(0, 10_000), time(0, 3_600_000), 1_usize..1000, option::of(calm())).prop_map(
            |(window, ttl, max_keys, calm)| {
                Action::Lookup(LookupRoute {
                    path: "/v1/tasks:lookup".to_owned(),
                    key: vec![KeyPart::Agent, KeyPart::Header("x-kind".to_owned())],
                    shared: false,
                    window,
                    max_keys,
                    max_waiters: 7,
                    ttl,
                    max_ttl: Duration::from_secs(3600),
                    jitter: Ratio::default(),
                    stale_while_revalidate: Duration::from_secs(7),
                    stale_if_error: Duration::ZERO,
                    refresh_ahead: Ratio::new(0.25).unwrap_or_default(),
                    refresh_window: Duration::from_millis(1_500),
                    calm,
                })
            }
        ),
        Just(Action::Aggregate(AggregateRoute { stream: String::new() })),
        any::<bool>()
            .prop_map(|websocket| Action::Forward(ForwardRoute { websocket, max_body_bytes: ByteSize::mib(1) })),
    ]
}

fn listeners() -> impl Strategy<Value = Vec<Listener>> {
    let files = (path(), path(), option::of(path()), option::of(path()));
    let tls = (files, any::<bool>()).prop_map(|((certificate, key, client_ca, more), tickets)| ListenerTls {
        certificate,
        key,
        client_auth: if client_ca.is_some() { ClientAuth::Optional } else { ClientAuth::Off },
        client_ca,
        min_version: TlsVersion::V1_3,
        cipher: TlsCipher::Aes256Gcm,
        handshake_timeout: Duration::from_millis(2500),
        max_handshakes: 3,
        tickets,
        ticket_keys: more.clone(),
        ticket_lifetime: Duration::from_millis(3_600_500),
        denied_certificates: more,
    });
    let base = read("[[listener]]\naddress = \"127.0.0.1:0\"\n[core]\npeers = \"a:1\"\n").listeners[0].clone();
    vec((any::<std::net::IpAddr>(), option::of(tls), any::<bool>(), time(1_000, 86_400_000)), 1..4).prop_map(
        move |parts| {
            let numbered = parts.into_iter().zip(1000..);
            let listener = numbered.map(|((ip, tls, trusted_headers, idle_timeout), port)| {
                let address = SocketAddr::new(ip, port);
                Listener { name: address.to_string(), address, tls, trusted_headers, idle_timeout, ..base.clone() }
            });
            listener.collect()
        },
    )
}

fn cores() -> impl Strategy<Value = Vec<Core>> {
    let tls = (option::of(path()), option::of("[a-z.]{1,9}"), option::of((path(), path())))
        .prop_map(|(ca, server_name, client)| CoreTls { ca, server_name, client });
    let check = time(100, 3_600_000).prop_map(|interval| HealthCheck {
        path: "/healthz".to_owned(),
        interval,
        failures: 9,
        successes: 1,
    });
    let base = read("[[listener]]\naddress = \"127.0.0.1:0\"\n[core]\npeers = \"a:1\"\n").cores[0].clone();
    vec((option::of(tls), option::of(check), ratio(), 1_u16..), 1..3).prop_map(move |parts| {
        let core = parts.into_iter().enumerate().map(|(index, (tls, health_check, retry_budget, port))| Core {
            name: format!("core-{index}"),
            peers: vec![Peer { host: "::1".to_owned(), port }, Peer { host: "core-a".to_owned(), port }],
            protocol: if tls.is_some() { Protocol::Auto } else { Protocol::Http2 },
            tls,
            health_check,
            retry_budget,
            ..base.clone()
        });
        core.collect()
    })
}

fn streams() -> impl Strategy<Value = Vec<Stream>> {
    let fields =
        proptest::collection::hash_set("[^\\pC]{1,12}", 1..4).prop_map(|fields| fields.into_iter().collect::<Vec<_>>());
    let state = (fields.clone(), time(1000, 3_600_000)).prop_map(|(key, window)| Mode::State {
        key,
        window,
        refresh: Duration::from_secs(7200),
        max_keys: 1234,
        max_bytes: ByteSize::new(1 << 20),
    });
    let events =
        (fields.clone(), fields, time(100, 3_600_000), 0.01..=1.0).prop_map(|(same, exemplars, window, share)| {
            Mode::Events {
                same,
                exemplars,
                max_exemplars: 0,
                window,
                max_keys: 1234,
                max_merge_bytes: ByteSize::mib(3),
                max_tenant_share: Ratio::new(share).expect("from 0 to 1"),
            }
        });
    let mode = prop_oneof![Just(Mode::Raw), events, state];
    vec((mode, 256_u64..4096, any::<bool>()), 0..3).prop_map(|parts| {
        let stream = parts.into_iter().enumerate().map(|(index, (mode, kib, fast))| Stream {
            name: format!("stream-{index}"),
            core: CoreId(0),
            path: format!("/v2/${{x}}/{index}"),
            durability: if fast { Durability::Os } else { Durability::Fsync },
            batch: BatchPlan {
                max_bytes: ByteSize::new(kib * 1024 + 1),
                max_records: 10,
                max_age: Duration::from_millis(kib),
                compression: if fast { Compression::Gzip } else { Compression::Zstd },
                encoding: if fast && matches!(mode, Mode::Events { .. }) {
                    BatchEncoding::Shapes
                } else {
                    BatchEncoding::Rows
                },
            },
            spool: SpoolLimits {
                max_journal_bytes: ByteSize::new(kib * 4096),
                max_outbox_bytes: ByteSize::gib(1),
                max_age: Duration::from_millis(kib),
                max_dead_bytes: ByteSize::new(kib * 4096),
                max_dead_files: 1,
                max_queued_uploads: 1,
            },
            retry: Retry { initial: Duration::from_millis(kib), max: Duration::from_millis(kib) },
            delivery: delivery(fast),
            max_in_flight: 1,
            mode,
        });
        stream.collect()
    })
}

fn delivery(exact: bool) -> DeliveryPlan {
    let bisect = if exact { vec![StatusPattern::Exact(409)] } else { vec![StatusPattern::ClientErrors] };
    DeliveryPlan {
        live_for: Duration::from_secs(7),
        retry: vec![StatusPattern::ServerErrors],
        split: Vec::new(),
        bisect,
        dead_letter: vec![StatusPattern::Exact(400)],
        pause: Vec::new(),
    }
}

fn calm() -> impl Strategy<Value = Calm> {
    let text = "(file:|\\$|\\{|\\}|\"|\\\\|'''|é|\n|\r|\t|[ -~]){0,16}";
    (text, option::of(time(1_000, 86_400_000))).prop_map(|(body, retry_after)| Calm {
        status: if body.is_empty() { 204 } else { 200 },
        body,
        content_type: "text/plain; charset=utf-8".to_owned(),
        retry_after,
    })
}

fn ttl() -> impl Strategy<Value = StatusTtl> {
    (time(0, 9_000_000), time(0, 9_000_000), time(0, 9_000_000)).prop_map(|(ok, redirect, not_found)| StatusTtl {
        ok,
        redirect,
        not_found,
    })
}

fn ratio() -> impl Strategy<Value = Ratio> {
    (0.0..=1.0).prop_map(|value| Ratio::new(value).expect("from 0 to 1"))
}

fn time(least: u64, most: u64) -> impl Strategy<Value = Duration> {
    (least..=most).prop_map(Duration::from_millis)
}

fn path() -> impl Strategy<Value = PathBuf> {
    "(file:|\\$\\{|[a-z é]){1,4}(/[a-z]{1,4}){0,2}".prop_map(PathBuf::from)
}
