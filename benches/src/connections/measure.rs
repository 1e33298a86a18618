//! Nodes under connections.

use std::io;
use std::time::Duration;

use tokio::time::sleep;
use weir_core_sim::{CoreOptions, CoreSim};

use super::agents::{Dialer, Way};
use super::memory::held;
use super::{Figures, RunArguments, WayFigures};
use crate::node::Node;
use crate::place::Place;
use crate::text::{fill, print};

const TEMPLATE: &str = include_str!("weir.toml");

/// Measures every way.
pub(super) async fn all(arguments: &RunArguments) -> io::Result<Figures> {
    let core = CoreSim::start(CoreOptions::default()).await?;
    let mut ways: Vec<WayFigures> = Vec::new();
    for way in Way::ALL {
        let bytes_idle = match way {
            Way::Plain | Way::Full | Way::MutualFull => Some(idle(&core, way, arguments.idle).await?),
            Way::Resumed | Way::MutualResumed => None,
        };
        if let Some(bytes) = bytes_idle {
            print(&format!("{}: {bytes:.0} bytes of memory for each idle connection\n", way.name()));
        }
        ways.push(WayFigures { way, bytes_idle, cpu_us: 0.0, rounds_cpu_us: Vec::new() });
    }
    let mut scenes = Vec::new();
    for way in Way::ALL {
        let scene = Scene::start(&core, way, arguments.processor).await?;
        scene.dialer.visits(arguments.opened.min(WARM)).await?;
        scenes.push(scene);
    }
    for round in 1..=arguments.rounds {
        for (scene, figures) in scenes.iter().zip(&mut ways) {
            figures.rounds_cpu_us.push(scene.new_connections(arguments.opened).await?);
        }
        print(&format!("round {round} of {} is over\n", arguments.rounds));
    }
    for scene in scenes {
        scene.end().await?;
    }
    for figures in &mut ways {
        figures.cpu_us = median(figures.rounds_cpu_us.clone());
    }
    Ok(Figures { idle: arguments.idle, ways })
}

/// Connections after which a node has taken what it takes once.
const WARM: u32 = 500;

/// A node and agents of one way.
struct Scene {
    place: Place,
    node: Node,
    dialer: Dialer,
}

impl Scene {
    async fn start(core: &CoreSim, way: Way, processor: Option<usize>) -> io::Result<Self> {
        let place = Place::new(None)?;
        std::fs::write(place.path().join("agents.pem"), &place.authority)?;
        let tls = match way {
            Way::Plain => "",
            Way::Full | Way::Resumed => r#"tls = { certificate = "server.pem", key = "server.key" }"#,
            Way::MutualFull | Way::MutualResumed => MUTUAL,
        };
        let config = fill(TEMPLATE, &[("core", core.address().to_string()), ("tls", tls.to_owned())]);
        let node = Node::spawn(&place.write_config(&config)?, processor).await?;
        node.ready().await?;
        let dialer = Dialer::new(node.agents()?, way, &place)?;
        Ok(Self { place, node, dialer })
    }

    /// Microseconds of a processor for a connection that is opened, asks once and is closed.
    async fn new_connections(&self, count: u32) -> io::Result<f64> {
        let spent = || {
            let usage = self.node.usage();
            usage.map(|usage| usage.cpu_seconds).ok_or_else(|| self.node.failure("the node has ended"))
        };
        let before = spent()?;
        self.dialer.visits(count).await?;
        Ok((spent()? - before) * 1e6 / f64::from(count))
    }

    async fn end(mut self) -> io::Result<()> {
        self.node.kill().await;
        self.place.leave()
    }
}

const MUTUAL: &str =
    r#"tls = { certificate = "server.pem", key = "server.key", client_ca = "agents.pem", client_auth = "required" }"#;

/// Bytes of memory of a node for each idle connection.
async fn idle(core: &CoreSim, way: Way, count: u32) -> io::Result<f64> {
    let scene = Scene::start(core, way, None).await?;
    let process = scene.node.id().ok_or_else(|| scene.node.failure("the node has ended"))?;
    scene.dialer.visits(WARM.min(count)).await?;
    let before = held(process)?;
    let open = scene.dialer.crowd(count).await?;
    sleep(SETTLING).await;
    let after = held(process)?;
    drop(open);
    scene.end().await?;
    Ok((after - before).max(0.0) / f64::from(count))
}

/// The time after the last answer in which a node puts away what it needed for it.
const SETTLING: Duration = Duration::from_secs(2);

/// The middle one.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}
