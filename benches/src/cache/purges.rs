//! Purges of very many stored answers: the time until none of them is used again, and the time until their memory is free.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::time::Instant;
use weir_logic::Outcome;

use super::Failure;
use super::figures::resident_bytes;
use super::scene::{Asker, Scene};

/// One purge of everything that was stored.
#[derive(Debug, Serialize)]
pub(super) struct Purge {
    pub(super) kind: &'static str,
    /// Answers that were stored.
    pub(super) objects: u64,
    /// Answers that the reply named; for prefixes it names none.
    pub(super) named: Option<u64>,
    /// Milliseconds from the order to the reply. A request after it finds nothing.
    pub(super) order_ms: f64,
    /// Milliseconds from the order until the cache holds nothing of it.
    pub(super) sweep_ms: f64,
    /// The longest that one of the hits meanwhile took, in microseconds.
    pub(super) hit_meanwhile_us: f64,
    /// Resident bytes of the process before the order and after the sweep.
    pub(super) resident: [u64; 2],
}

/// Stores `objects` answers of one tenant, route, tag and prefix, purges all of them, and so on for each kind of purge.
pub(super) fn measure(objects: u32) -> Result<Vec<Purge>, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let scene = Scene::new(16 << 30, BODY)?;
    let orders = [
        ("tag", json!({ "tag": "release-7" })),
        ("prefix", json!({ "prefix": "/v1/config/" })),
        ("tenant", json!({ "tenant": "tenant-00000000" })),
        ("route", json!({ "route": "config" })),
        ("all", json!({ "all": true })),
    ];
    orders.into_iter().map(|(kind, order)| runtime.block_on(purge(&scene, objects, kind, &order))).collect()
}

const BODY: usize = 100;

async fn purge(scene: &Scene, objects: u32, kind: &'static str, order: &Value) -> Result<Purge, Failure> {
    let mut asker = Asker::new(1);
    scene.fill(&mut asker, 0..objects).await?;
    let stored = scene.stored().0;
    let before = resident_bytes()?;
    let started = Instant::now();
    let reply = scene.purge(order)?;
    let replied = started.elapsed();
    if scene.answer(asker.of(0)).await.outcome != Outcome::Miss {
        return Err(format!("a purge by {kind} left an answer in use").into());
    }
    let mut longest = Duration::ZERO;
    // The one answer that has been fetched anew stays.
    while scene.stored().0 > 1 {
        let asked = Instant::now();
        let answer = scene.answer(asker.of(0)).await;
        longest = longest.max(asked.elapsed());
        if answer.outcome != Outcome::Hit {
            return Err(format!("a purge by {kind} took what came after it").into());
        }
    }
    Ok(Purge {
        kind,
        objects: stored,
        named: reply.document["answers"].as_u64(),
        order_ms: replied.as_secs_f64() * 1e3,
        sweep_ms: started.elapsed().as_secs_f64() * 1e3,
        hit_meanwhile_us: longest.as_secs_f64() * 1e6,
        resident: [before, resident_bytes()?],
    })
}
