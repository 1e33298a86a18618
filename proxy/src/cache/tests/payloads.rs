//! Manifests and their payloads: no agent is given a manifest whose payload is another, whatever the core does in between. What
//! `CACHING.md` says of them row by row is held to in `conformance/payloads.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use weir_config::{AnswerStore, CacheRoute, KeyPart, Pacing, PathPattern, Payload, Ratio, Route};
use weir_logic::{Answer, Digest, Outcome, RouteTable};

use super::support::{Ask, Reply, World, asked, manifest, reply, routed};
use crate::upstream::{OriginError, OriginRequest};

/// A core whose manifest and packages are set by the test.
#[derive(Default)]
struct Shop {
    manifest: String,
    packages: HashMap<String, Reply>,
}

pub(super) struct Scene {
    pub(super) world: World,
    shop: Arc<Mutex<Shop>>,
    /// The route of the packages.
    packages: Arc<Route>,
}

pub(super) fn manifests() -> CacheRoute {
    let payload =
        Payload { url: "body./files/*/url".parse().unwrap(), sha256: "body./files/*/sha256".parse().unwrap(), max: 8 };
    CacheRoute { payload: Some(payload), ..manifest() }
}

fn packages(store: AnswerStore) -> Arc<Route> {
    let route = routed(CacheRoute { key: vec![KeyPart::Query("v".into())], store, ..manifest() });
    Arc::new(Route { name: "p".into(), path: "/v1/package".parse::<PathPattern>().unwrap(), ..Route::clone(&route) })
}

pub(super) fn target(version: &str) -> String {
    format!("/v1/package?v={version}")
}

/// A manifest that names these packages, each with the digest of these bytes.
pub(super) fn naming(files: &[(&str, &str)]) -> String {
    let files: Vec<_> = files
        .iter()
        .map(|(url, body)| serde_json::json!({ "url": url, "sha256": Digest::of(body.as_bytes()).to_string() }))
        .collect();
    serde_json::json!({ "files": files }).to_string()
}

pub(super) fn package(body: &str) -> Reply {
    reply(200, &[("content-type", "application/octet-stream")], body)
}

impl Scene {
    pub(super) fn new(route: CacheRoute) -> Self {
        Self::with(AnswerStore::Memory, route)
    }

    /// A scene whose packages are kept there.
    fn with(store: AnswerStore, route: CacheRoute) -> Self {
        let shop = Arc::new(Mutex::new(Shop::default()));
        let core = Arc::clone(&shop);
        let world = World::new(route, move |request: &OriginRequest, _| {
            let shop = core.lock();
            if request.target.starts_with("/v1/manifest") {
                return reply(200, &[("content-type", "application/json")], &shop.manifest);
            }
            shop.packages.get(&request.target).cloned().unwrap_or_else(|| reply(404, &[], "no such package"))
        });
        let packages = packages(store);
        world.cache.adopt(Arc::new(RouteTable::new(&[Route::clone(&packages)])));
        Self { world, shop, packages }
    }

    pub(super) fn sells(&self, manifest: String, packages: &[(String, Reply)]) {
        *self.shop.lock() = Shop { manifest, packages: packages.iter().cloned().collect() };
    }

    pub(super) async fn manifest(&self) -> Answer {
        self.world.get().await
    }

    pub(super) async fn package(&self, url: &str) -> Answer {
        let query = url.split_once('?').unwrap().1;
        let ask = Ask { path: "/v1/package", ..Ask::get().query(query) };
        asked(&self.world.cache, &self.packages, self.world.clock.now(), &ask).await
    }

    /// What an agent is given that asks for the manifest and then for all that it names: the names of the packages.
    pub(super) async fn installed(&self) -> Option<Vec<String>> {
        let manifest = self.manifest().await;
        if manifest.status != 200 {
            return None;
        }
        let manifest: serde_json::Value = serde_json::from_slice(&manifest.body).unwrap();
        let mut installed = Vec::new();
        for file in manifest["files"].as_array().unwrap() {
            let package = self.package(file["url"].as_str().unwrap()).await;
            if package.status == 200 {
                let digest = Digest::of(&package.body).to_string();
                if file["sha256"] != digest {
                    // Under a URL that stays the same both may have been replaced in between.
                    let now: serde_json::Value = serde_json::from_slice(&self.manifest().await.body).unwrap();
                    let same = |named: &serde_json::Value| named["url"] == file["url"] && named["sha256"] == digest;
                    let replaced = now["files"].as_array().unwrap().iter().any(same);
                    assert!(replaced, "a package that is not what the manifest says");
                }
                installed.push(String::from_utf8(package.body.to_vec()).unwrap());
            }
        }
        Some(installed)
    }

    pub(super) fn faults(&self, route: &str, cause: &str) -> u64 {
        self.world.metrics.payload_faults.with_label_values(&[route, cause]).get()
    }
}

/// A scene in which release one is everybody's.
pub(super) async fn first() -> Scene {
    let scene = Scene::new(manifests());
    scene.sells(naming(&[(&target("1"), "one")]), &[(target("1"), package("one"))]);
    assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]));
    scene
}

#[tokio::test]
async fn a_manifest_is_used_once_its_payloads_are_stored() {
    let scene = Scene::new(manifests());
    let files = [(target("1"), package("one")), (target("2"), package("two"))];
    scene.sells(naming(&[(&target("1"), "one"), (&format!("https://edge{}", target("2")), "two")]), &files);
    assert_eq!(scene.manifest().await.outcome, Outcome::Miss);
    assert_eq!(scene.world.core.count(), 3);
    assert_eq!(scene.package(&target("2")).await.outcome, Outcome::Hit);
    scene.world.pass(100);
    assert_eq!(scene.manifest().await.outcome, Outcome::Miss, "the same again");
    assert_eq!(scene.world.core.count(), 4, "names nothing new");
}

#[tokio::test]
async fn payloads_on_disk_are_compared_before_they_are_given() {
    let scene = Scene::with(AnswerStore::Disk, manifests());
    scene.sells(naming(&[(&target("x"), "one")]), &[(target("x"), package("one"))]);
    assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]));
    scene.world.pass(100);
    // The core is ahead with the package, and behind with the manifest.
    scene.sells(naming(&[(&target("x"), "one")]), &[(target("x"), package("two"))]);
    assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]), "the package before stays in use");
    scene.world.settle().await;
    scene.world.pass(100);
    scene.sells(naming(&[(&target("x"), "two")]), &[(target("x"), package("two"))]);
    scene.installed().await;
    scene.world.settle().await;
    assert_eq!(scene.installed().await, Some(vec!["two".to_owned()]), "both are replaced together");
    assert_eq!(scene.world.metrics.packages.get(), 1);
}

#[tokio::test]
async fn claims_end_some_minutes_after_their_manifest() {
    let scene = first().await;
    scene.sells(naming(&[]), &[(target("1"), package("two"))]);
    scene.world.pass(100);
    assert_eq!(scene.installed().await, Some(vec![]));
    assert_eq!(&scene.package(&target("1")).await.body[..], b"one", "for whoever was given the manifest before");
    scene.world.pass(700);
    assert_eq!(&scene.package(&target("1")).await.body[..], b"two");
}

#[tokio::test]
async fn what_a_start_has_found_is_given_only_while_its_payload_can_be_had() {
    let directory = tempfile::tempdir().unwrap();
    let pacing = Pacing { over: Duration::from_secs(3600), share: Ratio::new(1.0).unwrap() };
    let route = || CacheRoute { rollout: Some(pacing), ..manifests() };
    let limits = weir_config::RolloutLimits { max_keys: 10, max_bytes: weir_config::ByteSize::mib(1) };
    for (new, expected) in [(target("2"), "one"), (target("1"), "two")] {
        let directory = directory.path().join(expected);
        let scene = Scene::new(route());
        scene.world.cache.open_rollouts(&limits, &directory);
        scene.sells(naming(&[(&target("1"), "one")]), &[(target("1"), package("one"))]);
        assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]));
        scene.world.cache.shell.rollouts.save();
        let again = Scene::new(route());
        again.world.cache.open_rollouts(&limits, &directory);
        again.sells(naming(&[(&new, "two")]), &[(target("1"), package("one")), (new.clone(), package("two"))]);
        assert_eq!(again.installed().await, Some(vec![expected.to_owned()]), "two is at {new}");
        assert_eq!(again.installed().await, Some(vec![expected.to_owned()]));
    }
}

/// What the core does with the package of a version.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Right,
    Of(u8),
    Cut,
    Missing,
    Failing,
    Gone,
}

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        3 => Just(Weather::Right),
        2 => (0..4_u8).prop_map(Weather::Of),
        1 => Just(Weather::Cut),
        1 => Just(Weather::Missing),
        1 => Just(Weather::Failing),
        1 => Just(Weather::Gone),
    ]
}

fn given(weather: Weather, version: u8) -> Reply {
    match weather {
        Weather::Right => package(&format!("package {version}")),
        Weather::Of(other) => package(&format!("package {other}")),
        Weather::Cut => package("packag"),
        Weather::Missing => reply(404, &[], "no such package"),
        Weather::Failing => reply(503, &[], "later"),
        Weather::Gone => Err(OriginError::Connect),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the core changes, in whatever order: a package that an agent is given right after a manifest is what that says. With
    /// URLs that name versions, and with one that stays the same; with a rollout and without;
    /// with packages in memory and on disk.
    #[test]
    fn no_agent_is_given_a_manifest_whose_payload_is_another(
        steps in prop::collection::vec((0..4_u8, weather(), weather(), 0..150_u64), 1..40),
        versioned in any::<bool>(),
        paced in any::<bool>(),
        on_disk in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let pacing = Pacing { over: Duration::from_secs(300), share: Ratio::new(1.0).unwrap() };
            let store = if on_disk { AnswerStore::Disk } else { AnswerStore::Memory };
            let scene = Scene::with(store, CacheRoute { rollout: paced.then_some(pacing), ..manifests() });
            for (version, of_this, of_others, seconds) in steps {
                let url = |version: u8| target(&if versioned { version.to_string() } else { "x".to_owned() });
                let body = format!("package {version}");
                let mut shelf: Vec<_> = (0..4).map(|other| (url(other), given(of_others, other))).collect();
                shelf.push((url(version), given(of_this, version)));
                scene.sells(naming(&[(&url(version), &body)]), &shelf);
                scene.installed().await;
                scene.world.settle().await;
                scene.installed().await;
                scene.world.pass(seconds);
            }
        });
    }
}
