//! What connections cost: to open, to keep idle, to have many of.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use super::client::Client;
use super::dialer::{Dialer, Opening};
use super::figures::{Breadth, Figures, Idle, add_breadth, add_opened};
use super::load::{Paced, Width};
use super::measure::{Bench, WARM_UP};
use super::subject::{Protocol, Running, Setup, Subject};
use crate::ingest::Transport;
use crate::text::print;

/// Connections after which a server has taken what it takes once.
const WARM: u32 = 500;
/// Connections that are being opened at once.
const AT_ONCE: u32 = 16;
/// Requests a second over few connections and over many.
const RATE: f64 = 4_000.0;
/// The few, and some between.
const FEW: [u32; 2] = [100, 1_000];
/// The time after the last answer in which a server puts away what it needed for it.
const SETTLING: Duration = Duration::from_secs(2);

impl Bench<'_> {
    /// One round of new connections: each is opened, asks once and is closed, sixteen at a time.
    pub(super) async fn opened(&self, number: u32, figures: &mut Figures) -> io::Result<()> {
        for opening in Opening::ALL {
            for subject in self.comparable(opening) {
                let running = self.open_to(subject, opening).await?;
                let dialer = Dialer::new(&running, opening, Protocol::H1)?;
                visits(&dialer, WARM).await?;
                let before = running.cpu_seconds()?;
                visits(&dialer, self.arguments.opened).await?;
                let micros = (running.cpu_seconds()? - before) * 1e6 / f64::from(self.arguments.opened);
                running.end().await?;
                let (name, way) = (subject.name(), opening.name());
                print(&format!("round {number}, opened, {way}, {name}: {micros:.0} us of processor time each\n"));
                add_opened(&mut figures.opened, subject, opening, micros);
            }
        }
        Ok(())
    }

    /// One round of hits at one rate, over ever more connections in TLS.
    pub(super) async fn breadth(&self, number: u32, figures: &mut Figures) -> io::Result<()> {
        for connections in FEW.into_iter().chain([self.arguments.idle]) {
            for subject in self.comparable(Opening::Full) {
                let running = self.open_to(subject, Opening::Full).await?;
                let dialer = Dialer::new(&running, Opening::Full, Protocol::H1)?;
                let mut paced = Paced::open(&dialer, Width { connections: connections as usize, streams: 1 }).await?;
                paced.ask(RATE, WARM_UP).await?;
                let before = running.cpu_seconds()?;
                let seen = paced.ask(RATE, self.arguments.time).await?;
                let cpu_micros = (running.cpu_seconds()? - before) * 1e6 / seen.len() as f64;
                drop(paced);
                running.end().await?;
                let micros = [0.5, 0.99, 0.999].map(|part| seen.value_at_quantile(part) as f64 / 1e3);
                let round = Breadth { cpu_micros, micros };
                let name = subject.name();
                print(&format!(
                    "round {number}, breadth, {connections} connections, {name}: {cpu_micros:.1} us of processor time each\n"
                ));
                add_breadth(&mut figures.breadth, subject, connections, round);
            }
        }
        Ok(())
    }

    /// The growth of a server's memory from one that has served some connections and closed them to one that holds many, each after one
    /// request.
    pub(super) async fn idle(&self, figures: &mut Figures) -> io::Result<()> {
        for opening in [Opening::Plain, Opening::Full, Opening::MutualFull] {
            for subject in self.comparable(opening) {
                let running = self.open_to(subject, opening).await?;
                let dialer = Dialer::new(&running, opening, Protocol::H1)?;
                visits(&dialer, WARM).await?;
                let before = running.memory()?;
                let open = crowd(&dialer, self.arguments.idle).await?;
                sleep(SETTLING).await;
                let bytes = (running.memory()? - before).max(0.0) / f64::from(self.arguments.idle);
                drop(open);
                running.end().await?;
                figures.idle.push(Idle { subject, opening, connections: self.arguments.idle, bytes });
            }
        }
        Ok(())
    }

    /// The subjects that take such connections, the bare loop aside, which keeps and decides nothing.
    fn comparable(&self, opening: Opening) -> Vec<Subject> {
        let able = |subject: &Subject| match subject {
            Subject::Weir | Subject::Nginx => true,
            Subject::Hyper => !opening.is_mutual(),
            Subject::Varnish | Subject::Loop => false,
        };
        self.arguments.subjects.iter().copied().filter(able).collect()
    }

    async fn open_to(&self, subject: Subject, opening: Opening) -> io::Result<Running> {
        let transport = if opening.is_tls() { Transport::Tls } else { Transport::Plain };
        self.set_up(subject, Setup { transport, protocol: Protocol::H1, mutual: opening.is_mutual() }).await
    }
}

/// Opens so many connections, some at once, each with one request, and keeps them.
async fn crowd(dialer: &Dialer, count: u32) -> io::Result<Vec<Client>> {
    let workers = (0..AT_ONCE).map(|worker| {
        let dialer = dialer.clone();
        async move {
            let mut open = Vec::new();
            for agent in (worker..count).step_by(AT_ONCE as usize) {
                open.extend(visit(&dialer, agent).await?);
            }
            io::Result::Ok(open)
        }
    });
    let mut workers: JoinSet<_> = workers.collect();
    let mut open = Vec::new();
    while let Some(part) = workers.join_next().await {
        open.extend(part.map_err(io::Error::other)??);
    }
    Ok(open)
}

/// Opens so many connections, some at once, each with one request, and closes each at once. The first of each sixteenth brings the
/// session that the others resume.
async fn visits(dialer: &Dialer, count: u32) -> io::Result<()> {
    let workers = (0..AT_ONCE).map(|worker| {
        let dialer = dialer.clone();
        async move {
            for agent in (worker..count).step_by(AT_ONCE as usize) {
                for client in visit(&dialer, agent).await? {
                    close(client).await?;
                }
            }
            io::Result::Ok(())
        }
    });
    let mut workers: JoinSet<_> = workers.collect();
    while let Some(done) = workers.join_next().await {
        done.map_err(io::Error::other)??;
    }
    Ok(())
}

async fn visit(dialer: &Dialer, agent: u32) -> io::Result<Vec<Client>> {
    let mut clients = Client::open(dialer, agent as usize, 1).await?;
    for client in &mut clients {
        client.ask().await?;
    }
    Ok(clients)
}

/// To the end, so that the server has closed before the next one begins.
async fn close(client: Client) -> io::Result<()> {
    let Client::H1 { mut stream, .. } = client else { return Ok(()) };
    stream.shutdown().await?;
    stream.read_to_end(&mut Vec::new()).await.ok();
    Ok(())
}
