//! Answers that are read piece by piece.

use super::*;

const DRIPPING: &str = "/v1/stream?bytes=30000&chunk=10000&delay_ms=20";

async fn read(mut stream: OriginStream) -> Result<usize, OriginError> {
    let mut length = 0;
    while let Some(piece) = stream.body.next().await {
        length += piece?.len();
    }
    Ok(length)
}

fn in_flight(upstream: &Upstream) -> usize {
    upstream.status()[0].in_flight
}

#[tokio::test]
async fn a_streamed_answer_holds_its_room_at_the_gate_to_the_last_byte_and_its_connection_is_used_again() {
    let sim = started(CoreOptions::default()).await;
    for protocol in ["http1", "http2"] {
        let (upstream, metrics) = upstream(&one_core(&sim, &format!("protocol = \"{protocol}\"")));
        let connections = sim.snapshot().connections;
        for round in 1..=2 {
            let mut stream = upstream.open(get(DRIPPING)).await.unwrap();
            assert_eq!((stream.status, in_flight(&upstream)), (StatusCode::OK, 1), "{protocol}");
            assert!(!stream.body.next().await.unwrap().unwrap().is_empty());
            assert_eq!(in_flight(&upstream), 1);
            read(stream).await.unwrap();
            assert_eq!((in_flight(&upstream), sim.snapshot().connections - connections), (0, 1), "{protocol}");
            let counted = format!(r#"weir_core_requests_total{{core="core",label="test",result="2xx"}} {round}"#);
            assert!(metrics.render().contains(&counted));
        }
    }
}

#[tokio::test]
async fn who_stops_reading_gives_the_room_back_and_the_core_is_not_blamed() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "breaker_failures = 1"));
    drop(upstream.open(get(DRIPPING)).await.unwrap());
    assert_eq!(in_flight(&upstream), 0);
    assert_eq!(read(upstream.open(get(DRIPPING)).await.unwrap()).await, Ok(30_000));
}

#[tokio::test]
async fn a_streamed_answer_is_bounded_in_bytes_and_in_silence() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "request_timeout = \"100ms\"\nbreaker_failures = 100"));
    let bounded = OriginRequest { max_answer_bytes: 29_999, ..get("/v1/stream?bytes=30000&chunk=10000") };
    assert_eq!(read(upstream.open(bounded).await.unwrap()).await, Err(OriginError::TooLarge(29_999)));
    assert_eq!(read(upstream.open(get(DRIPPING)).await.unwrap()).await, Ok(30_000), "longer than no pause");
    let silent = get("/v1/stream?bytes=30000&chunk=10000&delay_ms=5000");
    assert_eq!(read(upstream.open(silent).await.unwrap()).await, Err(OriginError::Timeout));
    assert_eq!(in_flight(&upstream), 0);
}

#[tokio::test]
async fn a_streamed_answer_that_breaks_off_is_a_failure_of_the_core() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "breaker_failures = 1"));
    sim.script(Behaviour::Reset).unwrap();
    let stream = upstream.open(get("/v1/updates/stable/manifest.json")).await;
    let broken = match stream {
        Ok(stream) => read(stream).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(broken, OriginError::Broken);
    assert_eq!(upstream.status()[0].breaker, "open");
}
