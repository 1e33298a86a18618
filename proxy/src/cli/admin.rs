//! Asks the running node by its admin listener.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::exit::{Code, Failure};

/// What the node answered.
pub(super) struct AdminAnswer {
    /// The status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: String,
}

/// Sends one request to the node behind the admin address and waits for at most `patience` at each step.
///
/// # Errors
///
/// When the node does not run, does not answer in time, or answers nothing that can be read.
pub(super) fn ask(
    admin: SocketAddr,
    method: &str,
    target: &str,
    body: &str,
    patience: Duration,
) -> Result<AdminAnswer, Failure> {
    let unavailable = |reason: String| Failure::new(Code::Unavailable, format!("{admin}: {reason}"));
    let answer = exchange(reachable(admin), method, target, body, patience);
    let answer = answer.map_err(|error| unavailable(error.to_string()))?;
    read(&answer).ok_or_else(|| unavailable("what answers is no node".to_owned()))
}

fn read(answer: &str) -> Option<AdminAnswer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(AdminAnswer { status, body: body.to_owned() })
}

fn exchange(address: SocketAddr, method: &str, target: &str, body: &str, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A node that listens on every address is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// A page on every route is long.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;
