//! From the wire to the action and back, over HTTP/1.1.

use crate::client::Raw;
use crate::node::Node;

#[tokio::test]
async fn an_action_sees_the_request_as_it_was_sent() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    let answer = agent
        .ask(concat!(
            "GET /v1/things/a%2Fb?x=1&y HTTP/1.1\r\nHost: localhost:8443\r\n",
            "X-Agent-Id: a-1\r\nX-Tenant-Id: t-1\r\n\r\n"
        ))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        r#"Get things /v1/things/a%2Fb query=Some("x=1&y") host=localhost agent="a-1" tenant="t-1" body="#
    );
    assert_eq!(answer.header("connection"), "keep-alive");
    assert_eq!(answer.header("server"), "weir");
    assert!(answer.header("date").ends_with("GMT"));
}

#[tokio::test]
async fn head_is_answered_without_a_body_but_with_its_length() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    let whole = agent.get("/v1/things/a").await;
    agent.write("HEAD /v1/things/a HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = agent.head_answer().await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length").parse(), Ok(whole.body.len() + "Head".len() - "Get".len()));
    assert_eq!(agent.get("/v1/things/b").await.status, 200);
}

#[tokio::test]
async fn refusals_keep_the_connection() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    for (request, status, label) in [
        ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404, "unknown_route"),
        ("DELETE /v1/things/a HTTP/1.1\r\nHost: a\r\n\r\n", 405, "wrong_method"),
        ("BREW /v1/things/a HTTP/1.1\r\nHost: a\r\n\r\n", 405, "wrong_method"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
        ("GET /v1/things/a HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "malformed"),
        ("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 404, "unknown_route"),
        (
            "POST /nowhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            404,
            "unknown_route",
        ),
    ] {
        let answer = agent.ask(request).await;
        assert_eq!((answer.status, answer.header("weir-refusal")), (status, label), "{request}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.header("connection"), "keep-alive", "{request}");
        assert!(answer.body.len() < 200);
    }
    assert_eq!(agent.get("/v1/things/a").await.status, 200);
    assert_eq!(node.metrics.connections_accepted.with_label_values(&["agents"]).get(), 1);
    assert_eq!(node.count("none", "refused"), 7);
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let node = Node::plain().await;
    let answer = Raw::connect(node.address).await.ask("DELETE /v1/uploads HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, POST, PUT, HEAD"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent
        .write(concat!(
            "GET /v1/things/1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nPOST /v1/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
            "GET /v1/things/3 HTTP/1.1\r\nHost: a\r\n\r\n",
        ))
        .await;
    assert!(agent.answer().await.body.contains("/v1/things/1"));
    assert!(agent.answer().await.body.ends_with("body=body"));
    assert!(agent.answer().await.body.contains("/v1/things/3"));
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed_unless_it_asks_to_be_kept() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    assert_eq!(agent.ask("GET /v1/things/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.status, 200);
    assert_eq!(agent.ask("GET /v1/things/a HTTP/1.0\r\n\r\n").await.header("connection"), "close");
    assert!(agent.is_closed().await);
}

#[tokio::test]
async fn headers_name_nobody_where_they_are_not_trusted() {
    let node = Node::start("", "").await;
    let answer = Raw::connect(node.address)
        .await
        .ask("GET /v1/things/a HTTP/1.1\r\nHost: a\r\nX-Agent-Id: a-1\r\nX-Tenant-Id: t-1\r\n\r\n")
        .await;
    assert!(answer.body.contains(r#"agent="" tenant="""#), "{}", answer.body);
}

#[tokio::test]
async fn who_asks_is_seen_with_its_version() {
    let node = Node::plain().await;
    let request =
        "GET /v1/things/a HTTP/1.1\r\nHost: a\r\nX-Agent-Id: a-1\r\nWeir-Agent-Version: 1.2\r\nUser-Agent: x\r\n\r\n";
    Raw::connect(node.address).await.ask(request).await;
    let seen = node.witness.0.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].0.agent.as_ref().unwrap().as_str(), "a-1");
}

#[tokio::test]
async fn a_busy_node_sheds_the_lowest_class_and_keeps_its_connection() {
    let node = Node::start(
        "",
        "max_requests = 2\n[limits.classes]\nconfig = 0.5\nupdate = 0.5\ndownload = 0.5\ntelemetry = 0.5",
    )
    .await;
    let mut busy = Raw::connect(node.address).await;
    busy.write("GET /v1/hold/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    node.until("the request is held", |node| node.metrics.requests_in_flight.get() == 1).await;
    let mut agent = Raw::connect(node.address).await;
    for _ in 0..3 {
        let answer = agent.get("/v1/things/a").await;
        assert_eq!((answer.status, answer.header("weir-refusal")), (503, "overloaded"));
        assert!((5..=10).contains(&answer.header("retry-after").parse::<u32>().unwrap()));
    }
    node.held.add_permits(1);
    assert_eq!(busy.answer().await.status, 200);
    node.until("the room is free", |node| node.metrics.requests_in_flight.get() == 0).await;
    assert_eq!(agent.get("/v1/things/a").await.status, 200);
    assert_eq!((node.count("things", "shed"), node.count("things", "hit")), (3, 1));
}

#[tokio::test]
async fn every_request_ends_in_one_outcome_even_when_the_agent_leaves() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent.write("GET /v1/hold/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    node.until("the request is held", |node| node.metrics.requests_in_flight.get() == 1).await;
    drop(agent);
    node.held.add_permits(1);
    node.until("it is counted", |node| node.count("hold", "hit") + node.count("hold", "abandoned") == 1).await;
    node.until("it is gone", |node| node.metrics.requests_in_flight.get() == 0 && node.drain.open() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_on_many_threads_get_their_own_answers() {
    let node = Node::plain().await;
    let agents: Vec<_> = (0..50)
        .map(|number| {
            let address = node.address;
            weir::task::spawn("agent", async move {
                let mut agent = Raw::connect(address).await;
                for round in 0..20 {
                    let request =
                        format!("GET /v1/things/{round} HTTP/1.1\r\nHost: a\r\nX-Agent-Id: a-{number}\r\n\r\n");
                    let answer = agent.ask(request).await;
                    assert!(answer.body.contains(&format!("/v1/things/{round} ")), "{}", answer.body);
                    assert!(answer.body.contains(&format!("agent=\"a-{number}\"")), "{}", answer.body);
                }
            })
        })
        .collect();
    for agent in agents {
        agent.await.unwrap().expect("every answer was the agent's own");
    }
    // A request is counted once its answer is written: on another thread, the agent may read it first.
    node.until("none is open", |node| node.metrics.requests_in_flight.get() == 0).await;
    node.until("all are counted", |node| node.count("things", "hit") >= 50 * 20).await;
    assert_eq!(node.count("things", "hit"), 50 * 20);
}
