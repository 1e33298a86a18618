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
use crate::memory::held;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protocol {
    /// HTTP/1.1, one request at a time.
    H1,
    /// HTTP/2, several streams.
    H2,
}

/// What agents come with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) transport: Transport,
    pub(super) protocol: Protocol,
    /// Whether they must show a certificate.
    pub(super) mutual: bool,
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
    pub(super) async fn start(self, processor: usize, setup: Setup, origin: SocketAddr) -> io::Result<Running> {
        let place = Place::new(None)?;
        std::fs::write(place.path().join("agents.pem"), &place.authority)?;
        let (server, address) = match self {
            Self::Weir => node(processor, setup, &place, origin).await?,
            Self::Hyper | Self::Loop => {
                let shape = if self == Self::Loop { Shape::Loop } else { Shape::Hyper };
                let tls = (setup.transport == Transport::Tls).then_some(place.path());
                let floor = floor::start(shape, processor, tls).await?;
                let address = floor.address;
                (Server::Floor(floor), address)
            }
            Self::Nginx => {
                let port = free_port()?;
                let config = place.path().join("nginx.conf");
                std::fs::write(&config, nginx_conf(place.path(), port, setup, origin))?;
                let [config, prefix] = [config.as_path(), place.path()].map(|path| path.display().to_string());
                let arguments = ["-c".to_owned(), config, "-p".to_owned(), prefix];
                (self.other(processor, "nginx", &arguments, &place)?, local(port))
            }
            Self::Varnish => {
                let port = free_port()?;
                let vcl = place.path().join("default.vcl");
                let values = [("host", origin.ip().to_string()), ("port", origin.port().to_string())];
                std::fs::write(&vcl, fill(include_str!("default.vcl"), &values))?;
                let arguments = varnish_arguments(place.path(), port, &vcl);
                (self.other(processor, "varnishd", &arguments, &place)?, local(port))
            }
        };
        reachable(self, address, &place).await?;
        Ok(Running { server, address, place })
    }

    fn other(self, processor: usize, program: &str, arguments: &[String], place: &Place) -> io::Result<Server> {
        let log = place.path().join(format!("{}.out", self.name()));
        Ok(Server::Other(Process::start(processor, &find(program)?, arguments, &log)?))
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

    /// The bytes of memory that it holds.
    pub(super) fn memory(&self) -> io::Result<f64> {
        let ids = match &self.server {
            Server::Node(node) => node.id().map(|id| id.as_raw_nonzero().get().cast_unsigned()).into_iter().collect(),
            Server::Other(process) => process.ids(),
            Server::Floor(floor) => floor.id().into_iter().collect(),
        };
        if ids.is_empty() {
            return Err(io::Error::other("the server has ended"));
        }
        ids.into_iter().map(held).sum()
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

async fn node(processor: usize, setup: Setup, place: &Place, origin: SocketAddr) -> io::Result<(Server, SocketAddr)> {
    let tls = match (setup.transport, setup.mutual) {
        (Transport::Plain, _) => "",
        (Transport::Tls, false) => r#"tls = { certificate = "server.pem", key = "server.key", min_version = "1.3" }"#,
        (Transport::Tls, true) => MUTUAL,
    };
    let same = SAME.map(|field| format!("{field:?}")).join(", ");
    let values = [("tls", tls.to_owned()), ("core", origin.to_string()), ("same", same)];
    let config = place.write_config(&fill(include_str!("weir.toml"), &values))?;
    let node = Node::spawn(&config, Some(processor)).await?;
    node.ready().await?;
    let address = node.agents()?;
    Ok((Server::Node(node), address))
}

const MUTUAL: &str = r#"tls = { certificate = "server.pem", key = "server.key", min_version = "1.3", client_ca = "agents.pem", client_auth = "required" }"#;

fn nginx_conf(directory: &Path, port: u16, setup: Setup, origin: SocketAddr) -> String {
    let (mut tls, mut listen) = (String::new(), String::new());
    let place = directory.display();
    if setup.transport == Transport::Tls {
        listen += "ssl ";
        tls += &format!(
            "ssl_certificate {place}/server.pem; ssl_certificate_key {place}/server.key; ssl_protocols TLSv1.3;"
        );
    }
    if setup.mutual {
        tls += &format!(" ssl_client_certificate {place}/agents.pem; ssl_verify_client on;");
    }
    if setup.protocol == Protocol::H2 {
        listen += "http2";
    }
    // Workers of a master that is root are somebody else otherwise, who may not enter the directory.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let values = [
        ("directory", place.to_string()),
        ("port", port.to_string()),
        ("listen", listen),
        ("tls", tls),
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
        for (transport, mutual) in [(Transport::Plain, false), (Transport::Tls, false), (Transport::Tls, true)] {
            for protocol in [Protocol::H1, Protocol::H2] {
                let conf = nginx_conf(Path::new("/tmp/x"), 2, Setup { transport, protocol, mutual }, local(1));
                assert!(!conf.contains("{{"), "{conf}");
                assert_eq!(conf.contains("ssl_certificate /tmp/x/server.pem"), transport == Transport::Tls);
                assert_eq!(conf.contains("ssl_verify_client on"), mutual);
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
