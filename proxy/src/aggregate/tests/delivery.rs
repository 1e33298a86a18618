//! What the core's answers do to a stream's deliveries, and what is shown of them.

use super::*;

fn status_of(aggregate: &Aggregate) -> StreamStatus {
    let [status] = aggregate.status().try_into().unwrap();
    status
}

fn metrics(aggregate: &Aggregate) -> String {
    aggregate.refresh_metrics();
    aggregate.context.metrics.render()
}

#[tokio::test]
async fn a_core_that_refuses_the_credentials_pauses_the_stream_and_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (config, core) = (config(dir.path(), RAW), Core::new(Script::Status(401)));
    let aggregate = start(&config, &core);
    assert_eq!(post(&aggregate, &config, r#"{"n":1}"#).await.0, 202);
    core.until("it is tried twice", |core| *core.attempts.borrow() >= 2).await;
    while status_of(&aggregate).paused != Some(401) {
        tokio::task::yield_now().await;
    }
    let shown = metrics(&aggregate);
    assert!(shown.contains(r#"weir_delivery_paused{cause="credentials",stream="process"} 1"#), "{shown}");
    assert!(shown.contains(r#"weir_delivery_paused{cause="address",stream="process"} 0"#), "{shown}");
    assert_eq!((ledger(&aggregate).in_outbox, ledger(&aggregate).dead_lettered), (1, 0));
    core.play(Script::Status(200));
    core.until("it arrives", |core| core.records() == 1).await;
    assert!(aggregate.stop(LONG).await);
    assert_eq!(status_of(&aggregate).paused, None);
    assert!(metrics(&aggregate).contains(r#"weir_delivery_paused{cause="credentials",stream="process"} 0"#));
}

#[tokio::test]
async fn the_operators_table_says_what_a_status_means() {
    let dir = tempfile::tempdir().unwrap();
    let stream = format!("{RAW}\ndelivery = {{ dead_letter = [409], retry = [415] }}");
    let (config, core) = (config(dir.path(), &stream), Core::new(Script::Status(415)));
    let aggregate = start(&config, &core);
    assert_eq!(post(&aggregate, &config, r#"{"n":1}"#).await.0, 202);
    core.until("it is tried twice", |core| *core.attempts.borrow() >= 2).await;
    assert_eq!(ledger(&aggregate).in_outbox, 1);
    core.play(Script::Status(409));
    while ledger(&aggregate).dead_lettered == 0 {
        tokio::task::yield_now().await;
    }
    assert!(aggregate.stop(LONG).await);
}

#[tokio::test]
async fn backlog_and_drain_are_shown_right_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let stream = format!("{RAW}\ndelivery = {{ live_for = \"100ms\" }}");
    let (config, core) = (config(dir.path(), &stream), Core::new(Script::Down));
    let aggregate = start(&config, &core);
    assert_eq!(post(&aggregate, &config, r#"[{"n":1},{"n":2}]"#).await.0, 202);
    while status_of(&aggregate).backlog_batches == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!aggregate.stop(LONG).await);
    drop(aggregate);
    let aggregate = start(&config, &core);
    while status_of(&aggregate).backlog_batches == 0 {
        tokio::task::yield_now().await;
    }
    let status = status_of(&aggregate);
    assert_eq!((status.outbox_batches, status.backlog_bytes), (1, status.outbox_bytes));
    assert_eq!((status.empty_in_seconds, status.drain_records_per_second > 0.0), (None, false));
    assert!(!metrics(&aggregate).contains("weir_outbox_empty_in_seconds{"));
    core.play(Script::Status(200));
    core.until("they arrive", |core| core.records() == 2).await;
    assert!(aggregate.stop(LONG).await);
    let status = status_of(&aggregate);
    assert_eq!((status.backlog_batches, status.empty_in_seconds), (0, Some(0)));
    assert!(status.drain_records_per_second > 0.0 && status.drain_bytes_per_second > 0.0, "{status:?}");
    assert!(metrics(&aggregate).contains(r#"weir_outbox_empty_in_seconds{stream="process"} 0"#));
}
