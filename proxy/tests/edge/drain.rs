//! The end of a node: every connection at its turn, no request lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Raw;
use crate::node::Node;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_alive_connections_end_spread_over_the_window_and_lose_no_request() {
    const AGENTS: usize = 100;
    const WINDOW: Duration = Duration::from_secs(2);
    let node = Node::plain().await;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut agents = Vec::new();
    for _ in 0..AGENTS {
        let (address, answered) = (node.address, Arc::clone(&answered));
        agents.push(weir::task::spawn("agent", async move {
            let mut agent = Raw::connect(address).await;
            loop {
                let answer = agent.get("/v1/things/a").await;
                assert_eq!(answer.status, 200);
                answered.fetch_add(1, Ordering::Relaxed);
                if answer.header("connection") == "close" {
                    assert!(agent.is_closed().await);
                    return Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }
    node.until("all have been answered", |node| node.count("things", "hit") >= 2 * AGENTS as u64).await;
    let begun = Instant::now();
    node.drain.begin(WINDOW);
    let mut ends = Vec::new();
    for agent in agents {
        ends.push(agent.await.unwrap().expect("no agent lost a request").duration_since(begun));
    }
    node.drain.finished().await;
    ends.sort_unstable();
    // An answer ends a connection up to a tenth of the window before its turn; beyond that they are spread evenly.
    let half = ends[AGENTS / 2];
    assert!(half > WINDOW / 5 && half < WINDOW, "half were gone after {half:?}");
    assert_eq!(node.count("things", "hit"), answered.load(Ordering::Relaxed) as u64);
}

#[tokio::test]
async fn idle_connections_are_closed_at_their_turn_and_new_ones_are_not_accepted() {
    let node = Node::plain().await;
    let mut idle = Raw::connect(node.address).await;
    assert_eq!(idle.get("/v1/things/a").await.status, 200);
    node.drain.begin(Duration::from_millis(100));
    assert!(idle.is_closed().await);
    node.drain.finished().await;
    assert!(tokio::net::TcpStream::connect(node.address).await.is_err());
}

#[tokio::test]
async fn a_request_in_flight_is_answered_after_its_turn() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent.write("GET /v1/hold/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    node.until("the request is held", |node| node.metrics.requests_in_flight.get() == 1).await;
    node.drain.begin(Duration::ZERO);
    assert!(tokio::time::timeout(Duration::from_millis(50), node.drain.finished()).await.is_err());
    node.held.add_permits(1);
    let answer = agent.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    assert!(agent.is_closed().await);
    node.drain.finished().await;
}
