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
    read(&answer).ok_or_else(|| unavailable(NO_NODE.to_owned()))
}

/// How an answer that was followed began.
pub(super) struct Followed {
    /// The status.
    pub(super) code: u16,
    /// The body, where the status is not 200.
    pub(super) refusal: String,
}

/// Posts one request to the node behind the admin address and hands over each piece of the body as it comes, if the status is 200.
/// Waits for at most `patience` for each.
///
/// # Errors
///
/// When the node does not run, does not answer in time or answers nothing that can be read, or when a piece cannot be handed over.
pub(super) fn follow(
    admin: SocketAddr,
    target: &str,
    body: &str,
    patience: Duration,
    mut piece: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Followed, Failure> {
    let unavailable = |reason: String| Failure::new(Code::Unavailable, format!("{admin}: {reason}"));
    let broken = |error: io::Error| unavailable(error.to_string());
    // What is asked for in HTTP/1.0 comes as it is and ends with the connection.
    let mut stream = send(reachable(admin), ["POST", target, "HTTP/1.0"], body, patience).map_err(broken)?;
    let (mut seen, mut code) = (Vec::new(), None);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = stream.read(&mut buffer).map_err(broken)?;
        if length == 0 {
            break;
        }
        if code == Some(200) {
            piece(&buffer[..length]).map_err(super::output_failed)?;
            continue;
        }
        seen.extend_from_slice(&buffer[..length]);
        if code.is_none()
            && let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let head = std::str::from_utf8(&seen[..end]).ok();
            let status = head.and_then(|head| head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
            code = Some(status.ok_or_else(|| unavailable(NO_NODE.to_owned()))?);
            seen.drain(..end + 4);
            if code == Some(200) {
                piece(&seen).map_err(super::output_failed)?;
            }
        }
        if seen.len() as u64 > MAX_ANSWER_BYTES {
            break;
        }
    }
    let code = code.ok_or_else(|| unavailable(NO_NODE.to_owned()))?;
    Ok(Followed { code, refusal: String::from_utf8_lossy(&seen).into_owned() })
}

fn read(answer: &str) -> Option<AdminAnswer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(AdminAnswer { status, body: body.to_owned() })
}

fn exchange(address: SocketAddr, method: &str, target: &str, body: &str, patience: Duration) -> io::Result<String> {
    let stream = send(address, [method, target, "HTTP/1.1"], body, patience)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn send(address: SocketAddr, line: [&str; 3], body: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let (line, length) = (line.join(" "), body.len());
    let head = format!(
        "{line}\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    Ok(stream)
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

const NO_NODE: &str = "what answers is no node";

/// A page on every route is long.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;
