//! One measurement at a time: a fresh server, the load on it, and what it used up.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::time::sleep;
use weir_fleet::{Press, PressOptions, Uploads};

use super::arguments::RunArguments;
use super::dialer::{Dialer, Opening};
use super::figures::{Figures, Latency, Round, add, find};
use super::floor::respond;
use super::load::{Flood, Paced, Width};
use super::report;
use super::subject::{Protocol, Running, Setup, Subject};
use crate::ingest::Transport;
use crate::text::print;

/// Before figures count.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);
/// Connections of HTTP/2, and streams on each.
const H2: Width = Width { connections: 8, streams: 10 };
/// Connections that upload.
const UPLOADERS: u32 = 64;
/// Events in an upload: about 2 KB.
const EVENTS: u32 = 5;

const WAYS: [(Transport, Protocol); 4] = [
    (Transport::Plain, Protocol::H1),
    (Transport::Tls, Protocol::H1),
    (Transport::Plain, Protocol::H2),
    (Transport::Tls, Protocol::H2),
];

/// What measurements share.
pub(super) struct Bench<'a> {
    pub(super) arguments: &'a RunArguments,
    /// Who is asked for what is not in a cache.
    origin: SocketAddr,
}

impl<'a> Bench<'a> {
    /// Starts the origin.
    pub(super) async fn new(arguments: &'a RunArguments) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // Whoever leaves ends its own connection and nothing else.
                    server.serve_connection(TokioIo::new(stream), service_fn(respond)).await.unwrap_or_default();
                });
            }
        });
        Ok(Self { arguments, origin })
    }

    /// One round of hits: every subject in every way.
    pub(super) async fn hits(&self, number: u32, figures: &mut Figures) -> io::Result<()> {
        for way in self.ways() {
            for subject in self.subjects(way) {
                let running = self.start(subject, way).await?;
                let dialer = dialer(&running, way)?;
                let mut flood = Flood::start(&dialer, self.width(way.1)).await?;
                let round = self.watch(&running, || flood.done()).await?;
                drop(flood);
                running.end().await?;
                print(&report::line(number, "hits", subject, way, &round));
                add(&mut figures.hits, subject, way, round);
            }
        }
        Ok(())
    }

    /// One round of uploads: the node, which keeps them, and hyper, which does not.
    pub(super) async fn uploads(&self, number: u32, figures: &mut Figures) -> io::Result<()> {
        for way in [(Transport::Plain, Protocol::H1), (Transport::Tls, Protocol::H1)] {
            for subject in [Subject::Hyper, Subject::Weir] {
                let running = self.start(subject, way).await?;
                let press = Press::start(press_options(&running, way.0)).map_err(io::Error::other)?;
                let round = self.watch(&running, || Ok(press.counts().uploads)).await?;
                let counts = press.stop().await;
                if counts.refused > 0 {
                    return Err(io::Error::other(format!("{} uploads were refused", counts.refused)));
                }
                running.end().await?;
                print(&report::line(number, "uploads", subject, way, &round));
                add(&mut figures.uploads, subject, way, round);
            }
        }
        Ok(())
    }

    /// Latencies at half of what the slower one of node and nginx can do.
    pub(super) async fn latencies(&self, figures: &mut Figures) -> io::Result<()> {
        for way in self.ways() {
            let both = [Subject::Weir, Subject::Nginx].map(|subject| find(&figures.hits, subject, way));
            let slower =
                both.into_iter().flatten().map(|series| series.median().per_second).fold(f64::INFINITY, f64::min);
            if !slower.is_finite() {
                continue;
            }
            let rate = (slower / 2.0).floor();
            for subject in self.subjects(way) {
                let running = self.start(subject, way).await?;
                let mut paced = Paced::open(&dialer(&running, way)?, self.width(way.1)).await?;
                paced.ask(rate, WARM_UP).await?;
                let seen = paced.ask(rate, self.arguments.time).await?;
                drop(paced);
                running.end().await?;
                let micros = [0.5, 0.99, 0.999].map(|part| seen.value_at_quantile(part) as f64 / 1e3);
                figures.latencies.push(Latency { subject, transport: way.0, protocol: way.1, rate, micros });
            }
        }
        Ok(())
    }

    fn ways(&self) -> impl Iterator<Item = (Transport, Protocol)> {
        WAYS.into_iter().filter(|(_, protocol)| self.arguments.protocols.contains(protocol))
    }

    fn subjects(&self, (transport, protocol): (Transport, Protocol)) -> Vec<Subject> {
        self.arguments.subjects.iter().copied().filter(|subject| subject.speaks(transport, protocol)).collect()
    }

    async fn start(&self, subject: Subject, (transport, protocol): (Transport, Protocol)) -> io::Result<Running> {
        self.set_up(subject, Setup { transport, protocol, mutual: false }).await
    }

    /// Starts a subject.
    pub(super) async fn set_up(&self, subject: Subject, setup: Setup) -> io::Result<Running> {
        subject.start(self.arguments.server_processor, setup, self.origin).await
    }

    fn width(&self, protocol: Protocol) -> Width {
        match protocol {
            Protocol::H1 => Width { connections: self.arguments.connections as usize, streams: 1 },
            Protocol::H2 => H2,
        }
    }

    /// What a server under load does and uses up in the time of a round.
    async fn watch(&self, running: &Running, mut done: impl FnMut() -> io::Result<u64>) -> io::Result<Round> {
        sleep(WARM_UP).await;
        let (began, cpu, count) = (Instant::now(), running.cpu_seconds()?, done()?);
        sleep(self.arguments.time).await;
        let answers = (done()? - count) as f64;
        let cpu = running.cpu_seconds()? - cpu;
        let seconds = began.elapsed().as_secs_f64();
        if answers < 1.0 {
            return Err(io::Error::other("nothing was answered"));
        }
        Ok(Round { per_second: answers / seconds, cpu_micros: cpu / answers * 1e6, busy: cpu / seconds })
    }
}

fn dialer(running: &Running, (transport, protocol): (Transport, Protocol)) -> io::Result<Dialer> {
    let opening = if transport == Transport::Tls { Opening::Full } else { Opening::Plain };
    Dialer::new(running, opening, protocol)
}

fn press_options(running: &Running, transport: Transport) -> PressOptions {
    PressOptions {
        target: running.address,
        tls: (transport == Transport::Tls).then(|| running.place().tls()),
        path: "/v1/events/process".to_owned(),
        connections: UPLOADERS,
        uploads_per_second: None,
        uploads: Uploads { events: EVENTS, repeats: 0.7, with_eid: false, file: None, compression: None },
        seed: 1,
    }
}
