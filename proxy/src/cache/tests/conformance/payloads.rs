//! What a manifest's payloads mean for it.

use std::time::Duration;

use weir_config::{CacheRoute, Pacing, Ratio};
use weir_logic::cache::purge::{Mark, Severity, Target};
use weir_logic::{Cause, Outcome};

use super::super::payloads::{Scene, first, manifests, naming, package, target};
use super::super::support::{Ask, Reply, cache_status, calm, reply};
use super::Row;
use crate::upstream::OriginError;

pub(super) const PAYLOADS: [Row; 7] = [
    ("payloads are on their way", || Box::pin(on_their_way())),
    ("a payload is missing, fails, is cut off, has another digest, or may not be stored", || Box::pin(not_there())),
    (
        "the manifest cannot be read, names a payload without a digest, more than `max`, something on another host, or something that no cached route takes",
        || Box::pin(unclear()),
    ),
    ("the core changes a payload under a manifest in use", || Box::pin(changed())),
    ("a new manifest names another digest for the same URL", || Box::pin(the_same_url())),
    ("two manifests, or two releases of a rollout that are both given, name different digests for one URL", || {
        Box::pin(contradiction())
    }),
    ("the same bytes again, or a confirmation (304)", || Box::pin(the_same_again())),
];

async fn on_their_way() {
    tokio::time::pause();
    let scene = first().await;
    scene.sells(naming(&[(&target("2"), "two")]), &[(target("1"), package("one")), (target("2"), package("two"))]);
    scene.world.pass(65);
    // One answer passes: the manifest. The package waits.
    scene.world.core.close().await;
    let stale = scene.manifest().await;
    assert_eq!(stale.cause, Some(Cause::Revalidating));
    scene.world.core.let_one_through();
    scene.world.core.asked(4).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    scene.world.pass(100_000);
    let waiting = scene.manifest().await;
    assert_eq!((waiting.outcome, waiting.cause), (Outcome::Stale, Some(Cause::PayloadPending)));
    assert_eq!(cache_status(&waiting), "weir; hit; ttl=-100005; detail=payload-pending");
    scene.world.core.open();
    scene.world.settle().await;
    assert_eq!(scene.installed().await, Some(vec!["two".to_owned()]));
    tokio::time::resume();
}

async fn not_there() {
    let wrongs: [fn() -> Reply; 7] = [
        || reply(404, &[], "not yet"),
        || reply(500, &[], "oops"),
        || package("tw"),
        || package("one"),
        || reply(200, &[("cache-control", "no-store")], "two"),
        || reply(206, &[], "two"),
        || Err(OriginError::Broken),
    ];
    for wrong in wrongs {
        let scene = first().await;
        scene.sells(naming(&[(&target("2"), "two")]), &[(target("1"), package("one")), (target("2"), wrong())]);
        for _ in 0..3 {
            scene.world.pass(100);
            assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]), "{:?}", wrong());
            scene.world.settle().await;
        }
        assert!(scene.faults("r", "not_there") > 0 && scene.world.fills("failed") > 0);
        scene.sells(naming(&[(&target("2"), "two")]), &[(target("2"), package("two"))]);
        scene.world.pass(20);
        let _stale = scene.manifest().await;
        scene.world.settle().await;
        assert_eq!(scene.installed().await, Some(vec!["two".to_owned()]));
    }
    nothing_before().await;
}

async fn nothing_before() {
    let scene = Scene::new(CacheRoute { calm: Some(calm()), ..manifests() });
    scene.sells(naming(&[(&target("1"), "one")]), &[(target("1"), package("another"))]);
    assert_eq!((scene.manifest().await.status, scene.manifest().await.outcome), (204, Outcome::Calm));
    assert_eq!(scene.faults("p", "another"), 1);
    scene.sells(naming(&[(&target("1"), "one")]), &[(target("1"), package("one"))]);
    scene.world.pass(20);
    assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]));
    let scene = Scene::new(manifests());
    scene.sells(naming(&[(&target("1"), "one")]), &[(target("1"), package("another"))]);
    assert_eq!((scene.manifest().await.status, scene.manifest().await.status), (502, 503));
}

async fn unclear() {
    let many: Vec<_> = (0..9).map(|number| (target(&number.to_string()), "x")).collect();
    let many: Vec<_> = many.iter().map(|(url, body)| (url.as_str(), *body)).collect();
    for (manifest, cause) in [
        (r#"{"files":[{"url":"/v1/package?v=2"}]}"#.to_owned(), "unclear"),
        (r#"{"files":[{"url":7,"sha256":7}]}"#.to_owned(), "unclear"),
        (naming(&many), "unclear"),
        (naming(&[("https://elsewhere.example/v1/package?v=2", "two")]), "elsewhere"),
        (naming(&[("/v1/other", "two")]), "elsewhere"),
        (naming(&[(&target("2"), "two"), (&target("2"), "three")]), "contradiction"),
    ] {
        let scene = first().await;
        scene.sells(manifest.clone(), &[(target("1"), package("one")), (target("2"), package("two"))]);
        scene.world.pass(100);
        assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]), "{manifest}");
        let said = scene.faults("r", cause) + scene.faults("r", "not_there") * u64::from(cause == "contradiction");
        assert_eq!(said, 1, "{manifest}");
    }
    // What calls itself JSON and is none is no answer on any route.
    let scene = first().await;
    scene.sells("no JSON".to_owned(), &[(target("1"), package("one"))]);
    scene.world.pass(100);
    assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]));
}

async fn changed() {
    let scene = first().await;
    scene.sells(naming(&[(&target("1"), "one")]), &[(target("1"), package("two"))]);
    for _ in 0..3 {
        scene.world.pass(70);
        assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]), "the stored package goes on serving");
        scene.world.settle().await;
    }
    assert!(scene.faults("p", "another") > 0);
    scene.world.pass(10_000);
    assert_eq!(scene.installed().await, Some(vec![]), "and when it has gone there is none rather than another");
}

async fn the_same_url() {
    let scene = first().await;
    scene.sells(naming(&[(&target("1"), "two")]), &[(target("1"), package("one"))]);
    scene.world.pass(100);
    assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]), "the package is the old one");
    scene.sells(naming(&[(&target("1"), "two")]), &[(target("1"), package("two"))]);
    scene.world.pass(20);
    let _stale = scene.manifest().await;
    scene.world.settle().await;
    assert_eq!(scene.installed().await, Some(vec!["two".to_owned()]));
}

async fn contradiction() {
    let scene = first().await;
    let other = Ask::get().query("os=other");
    assert_eq!(scene.world.ask(&other).await.status, 200);
    scene.sells(naming(&[(&target("1"), "two")]), &[(target("1"), package("two"))]);
    scene.world.pass(100);
    assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]));
    assert_eq!(scene.faults("r", "contradiction"), 1);
    two_releases().await;
}

async fn two_releases() {
    let pacing = Pacing { over: Duration::from_secs(3600), share: Ratio::new(1.0).unwrap() };
    let scene = Scene::new(CacheRoute { rollout: Some(pacing), ..manifests() });
    scene.sells(naming(&[(&target("1"), "one")]), &[(target("1"), package("one"))]);
    assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]));
    scene.sells(naming(&[(&target("1"), "two")]), &[(target("1"), package("two"))]);
    for _ in 0..3 {
        scene.world.pass(100);
        assert_eq!(scene.installed().await, Some(vec!["one".to_owned()]), "the release before is given to most");
        scene.world.settle().await;
    }
    assert!(scene.faults("r", "contradiction") > 0);
}

async fn the_same_again() {
    let scene = first().await;
    let purging = &scene.world.cache.shell.purging;
    purging.purge(Target::Marked(Mark::route("p")), Severity::Hard, scene.world.clock.now()).unwrap();
    let asked = scene.world.core.count();
    scene.world.pass(100);
    assert_eq!(scene.manifest().await.status, 200);
    scene.world.settle().await;
    assert_eq!(scene.world.core.count(), asked + 1, "the manifest, and no payload");
    scene.sells(naming(&[(&target("1"), "one")]), &[(target("1"), package("another"))]);
    assert_eq!(scene.package(&target("1")).await.status, 502, "what comes must be what the manifest says");
    scene.sells(naming(&[(&target("1"), "one")]), &[(target("1"), package("one"))]);
    scene.world.pass(20);
    assert_eq!(&scene.package(&target("1")).await.body[..], b"one");
}
