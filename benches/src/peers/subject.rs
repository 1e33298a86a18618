//! Who is measured, and how each is started for the same work.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::arguments::Shape;
use super::floor;
use super::process::Process;
use crate::books::SAME;
use crate::ingest::Transport;
use crate::node::Node;
use crate::place::Place;
use crate::text::fill;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Subject {
    /// The product.
    Weir,
    /// nginx with `proxy_cache`.
    Nginx,
    /// Varnish, which knows no TLS.
    Varnish,
    /// hyper, which answers by itself.
    Hyper,
    /// A loop over sockets that answers the same to everything, in HTTP/1.1 alone.
    Loop,
}

/// The version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protocol {
    /// HTTP/1.1, one request at a time.
    H1,
    /// HTTP/2, several streams.
    H2,
}

/// A subject that runs.
pub(super) struct Running {
    server: Server,
    pub(super) address: SocketAddr,
    place: Place,
}

enum Server {
    Node(Node),
    Other(Process),
    Floor(crate::server::Server),
}

impl Subject {
    /// Its name in figures.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::Nginx => "nginx",
            Self::Varnish => "varnish",
            Self::Hyper => "hyper",
            Self::Loop => "bare loop",
        }
    }

    /// Whether it can do this.
    pub(super) fn speaks(self, transport: Transport, protocol: Protocol) -> bool {
        match self {
            Self::Weir | Self::Nginx | Self::Hyper => true,
            Self::Varnish => transport == Transport::Plain,
            Self::Loop => protocol == Protocol::H1,
        }
    }

    /// Starts it in front of `origin` and waits until it can be reached.
    pub(super) async fn start(
        self,
        processor: usize,
        transport: Transport,
        protocol: Protocol,
        origin: SocketAddr,
    ) -> io::Result<Running> {
        let place = Place::new(None)?;
        let tls = (transport == Transport::Tls).then_some(place.path());
        let (server, address) = match self {
            Self::Weir => node(processor, transport, &place, origin).await?,
            Self::Hyper | Self::Loop => {
                let shape = if self == Self::Loop { Shape::Loop } else { Shape::Hyper };
                let floor = floor::start(shape, processor, tls).await?;
                let address = floor.address;
                (Server::Floor(floor), address)
            }
            Self::Nginx => {
                let port = free_port()?;
                let config = place.path().join("nginx.conf");
                std::fs::write(&config, nginx_conf(place.path(), port, transport, protocol, origin))?;
                let arguments = [
                    "-c".to_owned(),
                    config.display().to_string(),
                    "-p".to_owned(),
                    place.path().display().to_string(),
                ];
                (
                    Server::Other(Process::start(
                        processor,
                        &find("nginx")?,
                        &arguments,
                        &place.path().join("nginx.out"),
                    )?),
                    local(port),
                )
            }
            Self::Varnish => {
                let port = free_port()?;
                let vcl = place.path().join("default.vcl");
                let values = [("host", origin.ip().to_string()), ("port", origin.port().to_string())];
                std::fs::write(&vcl, fill(include_str!("default.vcl"), &values))?;
                let arguments = varnish_arguments(place.path(), port, &vcl);
                (
                    Server::Other(Process::start(
                        processor,
                        &find("varnishd")?,
                        &arguments,
                        &place.path().join("varnish.out"),
                    )?),
                    local(port),
                )
            }
        };
        reachable(self, address, &place).await?;
        Ok(Running { server, address, place })
    }
}

impl Running {
    /// The processor time in seconds that it has used up.
    pub(super) fn cpu_seconds(&self) -> io::Result<f64> {
        let used = match &self.server {
            Server::Node(node) => node.usage().map(|usage| usage.cpu_seconds),
            Server::Other(process) => process.cpu_seconds(),
            Server::Floor(floor) => floor.usage().map(|usage| usage.cpu_seconds),
        };
        used.ok_or_else(|| io::Error::other("the server has ended"))
    }

    /// Where its certificate is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Ends it.
    pub(super) async fn end(self) -> io::Result<()> {
        let Self { server, place, .. } = self;
        match server {
            Server::Node(mut node) => node.kill().await,
            Server::Other(process) => drop(process),
            Server::Floor(floor) => drop(floor),
        }
        place.leave()
    }
}

async fn node(
    processor: usize,
    transport: Transport,
    place: &Place,
    origin: SocketAddr,
) -> io::Result<(Server, SocketAddr)> {
    let tls = match transport {
        Transport::Plain => "",
        Transport::Tls => "tls = { certificate = \"server.pem\", key = \"server.key\", min_version = \"1.3\" }",
    };
    let same = SAME.map(|field| format!("{field:?}")).join(", ");
    let values = [("tls", tls.to_owned()), ("core", origin.to_string()), ("same", same)];
    let config = place.write_config(&fill(include_str!("weir.toml"), &values))?;
    let node = Node::spawn(&config, Some(processor)).await?;
    node.ready().await?;
    let address = node.agents()?;
    Ok((Server::Node(node), address))
}

fn nginx_conf(directory: &Path, port: u16, transport: Transport, protocol: Protocol, origin: SocketAddr) -> String {
    let (tls, listen) = match transport {
        Transport::Plain => ("", ""),
        Transport::Tls => {
            ("ssl_certificate server.pem; ssl_certificate_key server.key; ssl_protocols TLSv1.3;", "ssl ")
        }
    };
    let listen = format!("{listen}{}", if protocol == Protocol::H2 { "http2" } else { "" });
    // Workers of a master that is root are somebody else otherwise, who may not enter the directory.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let values = [
        ("directory", directory.display().to_string()),
        ("port", port.to_string()),
        ("listen", listen),
        ("tls", tls.replace("server.", &format!("{}/server.", directory.display()))),
        ("origin", origin.to_string()),
        ("user", user.to_owned()),
    ];
    fill(include_str!("nginx.conf"), &values)
}

fn varnish_arguments(directory: &Path, port: u16, vcl: &Path) -> Vec<String> {
    let work = directory.join("varnish");
    [
        "-F",
        "-j",
        "none",
        "-T",
        "none",
        "-S",
        "none",
        "-s",
        "malloc,256m",
        "-p",
        "feature=+http2",
        "-p",
        // One processor: one pool of threads, as many threads as connections at most.
        "thread_pools=1",
        "-p",
        "thread_pool_max=500",
        "-p",
        "timeout_idle=600",
        "-a",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        format!("127.0.0.1:{port}"),
        "-f".to_owned(),
        vcl.display().to_string(),
        "-n".to_owned(),
        work.display().to_string(),
    ])
    .collect()
}

/// Where a program is: in PATH, or where Debian has servers.
fn find(program: &str) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    directories.find_map(|directory| Some(directory.join(program)).filter(|file| file.is_file())).ok_or_else(|| {
        let missing = format!("there is no {program} here: install it, or name the subjects without it (--subjects)");
        io::Error::new(io::ErrorKind::NotFound, missing)
    })
}

/// A port that is free now. Servers that cannot say which port they were given need it.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

async fn reachable(subject: Subject, address: SocketAddr, place: &Place) -> io::Result<()> {
    let deadline = Instant::now() + START;
    while TcpStream::connect(address).is_err() {
        if Instant::now() >= deadline {
            let said =
                std::fs::read_to_string(place.path().join(format!("{}.out", subject.name()))).unwrap_or_default();
            return Err(io::Error::other(format!(
                "{} cannot be reached at {address}; it said: {said}",
                subject.name()
            )));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The time that a start may take; Varnish compiles its configuration.
const START: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_whole() {
        let origin = local(1);
        for transport in [Transport::Plain, Transport::Tls] {
            for protocol in [Protocol::H1, Protocol::H2] {
                let conf = nginx_conf(Path::new("/tmp/x"), 2, transport, protocol, origin);
                assert!(!conf.contains("{{"), "{conf}");
                assert_eq!(conf.contains("ssl_certificate /tmp/x/server.pem"), transport == Transport::Tls);
            }
        }
    }

    #[test]
    fn who_cannot_do_something_is_not_asked_to() {
        assert!(!Subject::Varnish.speaks(Transport::Tls, Protocol::H1));
        assert!(!Subject::Loop.speaks(Transport::Plain, Protocol::H2));
        assert!(Subject::Weir.speaks(Transport::Tls, Protocol::H2));
    }
}
