//! Agents that are refused, by what they make of `Retry-After`: three models, each on a kept-alive connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::wire::{self, Connection};

/// What an agent does when it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manners {
    /// Comes back when it was told to.
    Obeys,
    /// Comes back after [`IGNORING`], whatever it is told.
    Ignores,
    /// Comes back after half as long each time, down to [`SHORTEST`].
    Accelerates,
}

/// Agents of one kind in front of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    pub(super) manners: Manners,
    pub(super) agents: u32,
    pub(super) target: SocketAddr,
    pub(super) path: &'static str,
    pub(super) end: Instant,
    /// Requests that are sent from here on are counted apart.
    pub(super) settled: Instant,
}

/// What came of a crowd's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Requests, and those of them from `settled` on.
    pub(super) requests: u64,
    pub(super) settled: u64,
    /// Connections that were lost.
    pub(super) lost: u64,
}

const IGNORING: Duration = Duration::from_millis(500);
const FIRST: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(10);
/// The wait of one that was told nothing.
const UNTOLD: Duration = Duration::from_secs(5);

impl Manners {
    pub(super) const ALL: [Self; 3] = [Self::Obeys, Self::Ignores, Self::Accelerates];

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Obeys => "obey",
            Self::Ignores => "ignore their times",
            Self::Accelerates => "accelerate",
        }
    }

    /// What the agents say their version is.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::Obeys => "agent/obeys",
            Self::Ignores => "agent/ignores",
            Self::Accelerates => "agent/accelerates",
        }
    }

    fn pause(self, told: Option<Duration>, last: Duration) -> Duration {
        match self {
            Self::Obeys => told.unwrap_or(UNTOLD),
            Self::Ignores => IGNORING,
            Self::Accelerates => (last / 2).max(SHORTEST),
        }
    }
}

impl Crowd {
    /// Has every agent ask until the end.
    pub(super) async fn ask(self) -> Heard {
        let mut agents: JoinSet<Heard> = (0..self.agents).map(|number| self.be_an_agent(number)).collect();
        let mut all = Heard::default();
        while let Some(heard) = agents.join_next().await {
            let heard = heard.unwrap_or_default();
            all.requests += heard.requests;
            all.settled += heard.settled;
            all.lost += heard.lost;
        }
        all
    }

    async fn be_an_agent(self, number: u32) -> Heard {
        let version = self.manners.version();
        let names = format!(
            "x-agent-id: {version}-{number}\r\nx-tenant-id: tenant-{}\r\nuser-agent: {version}\r\n",
            number / 17
        );
        let (mut heard, mut connection, mut pause) = (Heard::default(), None, FIRST);
        // They fail one after the other, within a second.
        sleep(FIRST.mul_f64(f64::from(number) / f64::from(self.agents))).await;
        while Instant::now() < self.end {
            heard.requests += 1;
            heard.settled += u64::from(Instant::now() >= self.settled);
            let told = match timeout_at(self.end, self.exchange(&mut connection, &names)).await {
                Ok(Ok(told)) => told,
                Ok(Err(_)) => {
                    heard.lost += 1;
                    connection = None;
                    None
                }
                Err(_) => break,
            };
            pause = self.manners.pause(told, pause);
            sleep(pause.min(self.end.saturating_duration_since(Instant::now()))).await;
        }
        heard
    }

    /// One request; gives the wait that its refusal names.
    async fn exchange(&self, connection: &mut Option<Connection>, names: &str) -> std::io::Result<Option<Duration>> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(Connection::open(self.target).await?),
        };
        let (head, _) = connection.get(self.path, names).await?;
        let told = wire::field(&head, "retry-after").and_then(|seconds| seconds.parse().ok());
        Ok(told.map(Duration::from_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_comes_back_in_its_own_time() {
        let told = Some(Duration::from_secs(7));
        let pauses = |manners: Manners| {
            let mut pause = FIRST;
            [(); 8].map(|()| {
                pause = manners.pause(told, pause);
                pause.as_millis()
            })
        };
        assert_eq!(pauses(Manners::Obeys), [7_000; 8]);
        assert_eq!(pauses(Manners::Ignores), [500; 8]);
        assert_eq!(pauses(Manners::Accelerates), [500, 250, 125, 62, 31, 15, 10, 10]);
    }
}
