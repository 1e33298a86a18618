use std::time::Duration;

use weir_core_sim::{Behaviour, CoreOptions};

use super::*;

#[tokio::test]
async fn failures_open_the_breaker_and_one_probe_closes_it() {
    let sim = started(CoreOptions::default()).await;
    let more = "breaker_failures = 3\nbreaker_cooldown = \"50ms\"\nramp = \"1h\"\nmax_requests_per_second = 100";
    let (upstream, metrics) = upstream(&one_core(&sim, more));
    sim.script(Behaviour::status(500)).unwrap();
    for _ in 0..3 {
        assert_eq!(upstream.send(get("/v1/echo")).await.unwrap().status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let Err(OriginError::Resting(_)) = upstream.send(get("/v1/echo")).await else { panic!("the breaker is closed") };
    assert_eq!(upstream.status()[0].breaker, "open");
    assert!(metrics.render().contains(r#"weir_breaker_state{core="core"} 2"#));
    assert_eq!(sim.snapshot().requests, 3, "nothing reaches a resting core");

    sim.script(Behaviour::slow(Duration::from_millis(300))).unwrap();
    let probe = loop {
        let Err(OriginError::Resting(rest)) = ask_at_once(&upstream).await else { break "probing" };
        tokio::time::sleep(rest).await;
    };
    assert_eq!(probe, "probing");
    let status = &upstream.status()[0];
    assert_eq!(status.breaker, "closed");
    assert!((10.0..11.0).contains(&status.admitted_per_second), "a tenth of 100: {status:?}");
}

/// Asks with ten requests at once; exactly one of them may be the probe. Gives back its result, or the rest.
async fn ask_at_once(upstream: &Upstream) -> Result<OriginAnswer, OriginError> {
    let results = futures::future::join_all((0..10).map(|_| upstream.send(get("/v1/echo")))).await;
    let (answers, errors): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert!(answers.len() <= 1, "{} probes", answers.len());
    assert!(errors.iter().all(|error| matches!(error, Err(OriginError::Resting(_)))), "{errors:?}");
    answers.into_iter().chain(errors).next().unwrap()
}

#[tokio::test]
async fn a_core_that_asks_for_rest_is_left_alone() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, ""));
    sim.script(Behaviour::Status { code: 429, retry_after: Some(60) }).unwrap();
    assert_eq!(upstream.send(get("/v1/echo")).await.unwrap().status, StatusCode::TOO_MANY_REQUESTS);
    let rest = upstream.send(get("/v1/echo")).await.unwrap_err().rest().unwrap();
    assert!((58..=60).contains(&rest.as_secs()), "{rest:?}");
}

#[tokio::test]
async fn who_does_not_fit_waits_and_higher_classes_go_first() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) =
        upstream(&one_core(&sim, "max_in_flight = 1\nmax_wait = \"30s\"\nmax_requests_per_second = 10000"));
    let upstream = std::sync::Arc::new(upstream);
    let label = std::sync::Arc::from("test");
    let first = upstream.forward_permit(CoreId(0), Class::Telemetry, &label).await.unwrap();
    let (done, mut order) = tokio::sync::mpsc::channel(8);
    for (class, waiting) in [(Class::Telemetry, 1), (Class::Config, 2), (Class::Tasking, 3)] {
        let (waiter, label, done) = (upstream.clone(), label.clone(), done.clone());
        crate::task::spawn("waiter", async move {
            let permit = waiter.forward_permit(CoreId(0), class, &label).await.unwrap();
            done.send(class).await.unwrap();
            permit.succeeded(Duration::from_millis(1));
        });
        while upstream.status()[0].waiting < waiting {
            tokio::task::yield_now().await;
        }
    }
    first.succeeded(Duration::from_millis(1));
    let seen = [order.recv().await, order.recv().await, order.recv().await].map(Option::unwrap);
    assert_eq!(seen, [Class::Tasking, Class::Config, Class::Telemetry]);
    while upstream.status()[0].in_flight > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_backlog_waits_behind_every_class() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) =
        upstream(&one_core(&sim, "max_in_flight = 1\nmax_wait = \"30s\"\nmax_requests_per_second = 10000"));
    let upstream = std::sync::Arc::new(upstream);
    let label = std::sync::Arc::from("test");
    let first = upstream.forward_permit(CoreId(0), Class::Telemetry, &label).await.unwrap();
    let (done, mut order) = tokio::sync::mpsc::channel(8);
    for (rank, waiting) in [(Rank::Backlog, 1), (Rank::BATCH, 2)] {
        let (waiter, done) = (upstream.clone(), done.clone());
        crate::task::spawn("waiter", async move {
            waiter.send(OriginRequest { rank, ..get("/v1/echo") }).await.unwrap();
            done.send(rank).await.unwrap();
        });
        while upstream.status()[0].waiting < waiting {
            tokio::task::yield_now().await;
        }
    }
    first.succeeded(Duration::from_millis(1));
    let seen = [order.recv().await, order.recv().await].map(Option::unwrap);
    assert_eq!(seen, [Rank::BATCH, Rank::Backlog]);
}

#[tokio::test]
async fn a_full_line_turns_away_the_newest_of_the_lowest_class() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "max_in_flight = 1\nmax_requests_per_second = 1"));
    let label = std::sync::Arc::from("test");
    let held = upstream.forward_permit(CoreId(0), Class::Tasking, &label).await.unwrap();
    let telemetry = upstream.forward_permit(CoreId(0), Class::Telemetry, &label);
    let tasking = async {
        while upstream.status()[0].waiting < 1 {
            tokio::task::yield_now().await;
        }
        upstream.forward_permit(CoreId(0), Class::Tasking, &label).await
    };
    let free = async {
        while upstream.status()[0].waiting < 1 {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        held.succeeded(Duration::from_millis(1));
    };
    let (telemetry, tasking, ()) = tokio::join!(telemetry, tasking, free);
    assert_eq!(telemetry.err(), Some(OriginError::Full));
    drop(tasking.unwrap());
}

#[tokio::test]
async fn a_caller_who_leaves_gives_the_place_back() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "max_in_flight = 1"));
    sim.script(Behaviour::Hang).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), upstream.send(get("/v1/echo"))).await.is_err());
    assert_eq!(upstream.status()[0].in_flight, 0);
    sim.script(Behaviour::Up).unwrap();
    assert_eq!(upstream.send(get("/v1/echo")).await.unwrap().status, StatusCode::OK);
}

/// The services of a node stop one after the other, and the last batches leave when the others' runtimes are gone.
#[test]
fn a_line_outlives_the_runtime_that_called_it() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (upstream, _) = upstream("[core]\npeers = [\"127.0.0.1:1\"]\nmax_in_flight = 1\nmax_wait = \"1m\"\n");
    let upstream = std::sync::Arc::new(upstream);
    let label = std::sync::Arc::from("test");
    let (first, second) = (runtime(), runtime());
    let held = first.block_on(upstream.forward_permit(CoreId(0), Class::Tasking, &label)).unwrap();
    let (waiter, waits) = (upstream.clone(), label.clone());
    let lost = first.spawn(async move { waiter.forward_permit(CoreId(0), Class::Tasking, &waits).await.map(drop) });
    while upstream.status()[0].waiting < 1 {
        std::thread::yield_now();
    }
    drop(first);
    drop(lost);
    second.block_on(async {
        let next = upstream.forward_permit(CoreId(0), Class::Tasking, &label);
        let free = async { held.succeeded(Duration::from_millis(1)) };
        let (next, ()) = tokio::join!(biased; next, free);
        drop(next.unwrap());
    });
}
