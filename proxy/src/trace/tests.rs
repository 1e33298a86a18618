use std::path::Path;

use http::HeaderMap;
use weir_config::{ByteSize, MemoryEnvironment, Method, parse};
use weir_logic::rehearse::{MIN_SAMPLE, Reader};
use weir_logic::{AgentId, Found, Identity, RequestView, RouteTable};

use super::*;

const CONFIG: &str = r#"
[edge]
data_dir = "d"
[[listener]]
name = "a"
address = "127.0.0.1:0"
[core]
peers = ["c:1"]
[[route]]
name = "updates"
match = { method = "GET", path = "/v1/updates/{channel}" }
class = "update"
action = "cache"
key = ["path.channel"]
shared = true
[[route]]
name = "rest"
match = { method = "PUT", path = "/v1/{rest*}" }
class = "config"
action = "forward"
"#;

struct Scene {
    config: weir_config::Config,
    table: RouteTable,
    recorder: Recorder,
}

impl Scene {
    fn new() -> Self {
        let parsed = parse(&MemoryEnvironment::new().file("weir.toml", CONFIG), Path::new("weir.toml"));
        let parsed = parsed.unwrap_or_else(|problems| panic!("{problems}"));
        let table = RouteTable::new(&parsed.config.routes);
        let recorder = Recorder::new("edge-1", Clock::manual(Millis(1_000)).0);
        Self { config: parsed.config, table, recorder }
    }

    fn begin(&self, sample: f64, bounds: impl FnOnce(&mut Admin)) -> Arc<Recording> {
        let mut admin = self.config.admin.clone();
        bounds(&mut admin);
        self.recorder.begin(Wanted { sample, headers: Vec::new() }, &self.config.routes, &admin).unwrap()
    }

    fn called<T>(&self, channel: &str, then: impl FnOnce(&Call<'_>) -> T) -> T {
        let (path, headers) = (format!("/v1/updates/{channel}"), HeaderMap::new());
        let Found::Route { route, parameters, .. } = self.table.find(Method::Get, "h", &path) else {
            panic!("no route")
        };
        let identity = Identity { agent: AgentId::new("a-1"), tenant: None };
        let request =
            RequestView { method: Method::Get, path: &path, query: None, host: "h", headers: &headers, body: b"" };
        then(&Call { request, route, parameters: &parameters, identity: &identity, now: Millis(1_000) })
    }

    fn ask(&self, channel: &str) -> bool {
        let sketch = self.called(channel, |call| self.recorder.sketch(|| call.clone()));
        let sampled = sketch.is_some();
        if let Some(sketch) = sketch {
            sketch.ended(Outcome::Hit, 3);
        }
        sampled
    }
}

/// What is read of a trace: its lines and how it ended.
fn read(recording: &Recording) -> (Vec<Line>, End) {
    let mut text = Vec::new();
    while let Some(piece) = recording.take().filter(|piece| !piece.is_empty()) {
        text.extend(piece);
    }
    let mut reader = Reader::default();
    let lines = text.trim_ascii_end().split(|byte| *byte == b'\n').filter_map(|line| reader.take(line).unwrap());
    let lines = lines.collect();
    (lines, reader.finish().unwrap().1)
}

#[test]
fn of_a_key_in_the_sample_every_request_is_written_and_of_others_none() {
    let scene = Scene::new();
    assert!(!scene.ask("stable"), "nobody wants a trace");
    let recording = scene.begin(0.25, |_| ());
    let keys = || (0..400).map(|number| number.to_string());
    let first: Vec<bool> = keys().map(|key| scene.ask(&key)).collect();
    let again: Vec<bool> = keys().map(|key| scene.ask(&key)).collect();
    assert_eq!(first, again);
    let sampled = first.iter().filter(|sampled| **sampled).count();
    assert!((50..150).contains(&sampled), "{sampled} of 400");
    recording.end("time");
    let (lines, end) = read(&recording);
    assert_eq!((lines.len(), end.lines, end.requests["updates"]), (2 * sampled, 2 * sampled as u64, 800));
}

#[test]
fn there_is_one_trace_at_a_time_and_its_secret_goes_with_it() {
    let scene = Scene::new();
    let first = scene.begin(1.0, |_| ());
    let wanted = Wanted { sample: 1.0, headers: Vec::new() };
    assert!(scene.recorder.begin(wanted, &scene.config.routes, &scene.config.admin).is_none());
    scene.recorder.forget();
    assert_eq!(Arc::strong_count(&first), 1);
    assert!(!scene.ask("stable"));
    let second = scene.begin(1.0, |_| ());
    assert_ne!(first.veil.over("stable"), second.veil.over("stable"));
}

#[test]
fn a_trace_ends_at_its_bounds_and_says_at_which() {
    let scene = Scene::new();
    let recording = scene.begin(1.0, |admin| admin.max_trace_bytes = ByteSize::kib(1));
    let asked = (0..50).filter(|number| scene.ask(&number.to_string())).count();
    let (lines, end) = read(&recording);
    assert_eq!((asked, end.weir_trace_end.as_str()), (50, "bytes"));
    assert!((2..8).contains(&lines.len()), "{}", lines.len());
    scene.recorder.forget();
    let recording = scene.begin(1.0, |admin| admin.max_trace_waiting = ByteSize::kib(1));
    (0..50).for_each(|number| assert!(scene.ask(&number.to_string())));
    assert_eq!(read(&recording).1.weir_trace_end, "reader");
}

#[test]
fn purges_are_written_as_what_they_mean_for_the_trace() {
    let scene = Scene::new();
    let recording = scene.begin(1.0, |_| ());
    let routes: Vec<_> = scene.config.routes.iter().filter(|route| route.name == "updates").cloned().collect();
    let veiled = |text: &str| recording.veil.over(text);
    let cases = [
        ("all", None, vec![]),
        ("route", Some("updates"), vec!["updates".to_owned()]),
        ("tenant", Some("acme"), vec![veiled("acme")]),
        ("prefix", Some("/v1/up"), vec!["/v1/up".to_owned()]),
        ("prefix", Some("/v1/updates/"), vec!["/v1/updates/".to_owned()]),
        ("prefix", Some("/v1/updates/stable/"), vec![format!("/v1/updates/{}/", veiled("stable"))]),
        ("prefix", Some("/v1/updates/st"), vec![]),
        ("prefix", Some("/v2/"), vec![]),
        ("tag", Some("release-7"), vec![recording.veil.mark(Mark::tag("release-7"))]),
    ];
    for (kind, of, expected) in cases {
        scene.recorder.purged(kind, of, None, false, &routes);
        let purge = last_purge(&recording);
        assert_eq!((purge.purge.as_str(), &purge.of), (kind, &expected), "{of:?}");
    }
    scene.recorder.forget();
    scene.recorder.purged("all", None, None, false, &routes);
    assert!(recording.take().unwrap_or_default().is_empty(), "nobody wants a trace");
}

#[test]
fn a_purge_of_a_request_is_written_as_the_request_is() {
    let scene = Scene::new();
    let recording = scene.begin(1.0, |_| ());
    assert!(scene.ask("stable"));
    let line = read_lines(&recording.take().unwrap()).pop().unwrap();
    let asked = scene.called("stable", |call| scene.recorder.asked(call)).unwrap();
    scene.recorder.purged("request", None, Some(asked.clone()), true, &scene.config.routes);
    let purge = last_purge(&recording);
    assert_eq!((purge.purge.as_str(), purge.soft, purge.request), ("request", true, Some(asked.clone())));
    assert_eq!((line.method, line.path, line.agent), (asked.method, asked.path, asked.agent));
    // Begun between the look at the request and the purge, a trace has a secret of its own: it is told nothing.
    scene.recorder.purged("request", None, None, true, &scene.config.routes);
    assert!(recording.take().unwrap().is_empty());
}

#[test]
fn a_change_is_written_with_the_paths_that_it_puts_out_of_date_on_every_route() {
    let scene = Scene::new();
    let recording = scene.begin(MIN_SAMPLE, |_| ());
    let snapshot = ConfigSnapshot::new(scene.config.clone(), 1);
    let veiled = |text: &str| recording.veil.over(text);
    let changed = |path: &str, also: &str| {
        let change = Change { method: Method::Put, path, authority: "edge:8443" };
        let tenant = TenantId::new("acme");
        scene.recorder.changed(&change, &[path.to_owned(), also.to_owned()], tenant.as_ref(), &snapshot);
    };
    changed("/v1/updates/stable", "/v1/elsewhere/x");
    let purge = last_purge(&recording);
    let (stable, elsewhere) =
        (format!("/v1/updates/{}", veiled("stable")), format!("/v1/{}/{}", veiled("elsewhere"), veiled("x")));
    // As the cached route has it, and as the one has it that takes the rest.
    let mut expected = vec![stable, elsewhere.clone(), format!("/v1/{}/{}", veiled("updates"), veiled("stable"))];
    expected.sort_unstable();
    assert_eq!((purge.purge.as_str(), purge.of, purge.soft), ("change", expected, false));
    let request = purge.request.unwrap();
    assert_eq!((request.method.as_str(), request.tenant), ("PUT", Some(veiled("acme"))));
    assert_eq!(
        request.path,
        format!("/v1/{}/{}", veiled("updates"), veiled("stable")),
        "as the route that took it has it"
    );
    changed("/nowhere", "/nowhere");
    assert!(recording.take().unwrap().is_empty(), "no route passes it through");
}

fn read_lines(text: &[u8]) -> Vec<Line> {
    let lines = text.trim_ascii_end().split(|byte| *byte == b'\n').skip(1);
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn last_purge(recording: &Recording) -> Purge {
    let written = recording.take().unwrap();
    let line = written.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap();
    serde_json::from_slice(line).unwrap()
}
