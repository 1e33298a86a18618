//! The PROXY protocol header, version 2, that a TCP load balancer sends before the agent's first byte.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::v2::{Addresses, Command, Header};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Why there is no usable header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PreambleError {
    /// The connection ended before its first byte, as a load balancer's health checks do.
    Silent,
    /// The connection ended or broke within the header.
    Broken,
    /// It is not a version 2 header, or longer than any that makes sense.
    Bad,
}

/// Reads the header, which is mandatory. Gives the agent's address, or `None` when the header names none: the load
/// balancer speaks for itself (`LOCAL`), or for something that is not TCP over IP.
///
/// Reads not one byte beyond the header and takes 1,040 bytes of memory at most.
pub(super) async fn read<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Option<SocketAddr>, PreambleError> {
    let mut header = Vec::with_capacity(64);
    header.resize(FIXED, 0);
    match stream.read(&mut header[..1]).await {
        Ok(1) => {}
        Ok(_) => return Err(PreambleError::Silent),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(PreambleError::Silent),
        Err(_) => return Err(PreambleError::Broken),
    }
    // The first byte tells TLS and HTTP apart from the header, whose bytes may then be waited for.
    if header[0] != SIGNATURE[0] {
        return Err(PreambleError::Bad);
    }
    stream.read_exact(&mut header[1..]).await.map_err(|_| PreambleError::Broken)?;
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if !header.starts_with(SIGNATURE) || length > MAX_REST {
        return Err(PreambleError::Bad);
    }
    header.resize(FIXED + length, 0);
    stream.read_exact(&mut header[FIXED..]).await.map_err(|_| PreambleError::Broken)?;
    let header = Header::try_from(header.as_slice()).map_err(|_| PreambleError::Bad)?;
    if header.command == Command::Local {
        return Ok(None);
    }
    Ok(match header.addresses {
        Addresses::IPv4(pair) => Some(SocketAddr::new(IpAddr::V4(pair.source_address), pair.source_port)),
        Addresses::IPv6(pair) => Some(SocketAddr::new(IpAddr::V6(pair.source_address), pair.source_port)),
        Addresses::Unspecified | Addresses::Unix(_) => None,
    })
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// Addresses and what load balancers add to them.
const MAX_REST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";

    fn ipv4(extra: &[u8]) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
        header.extend(u16::try_from(12 + extra.len()).unwrap().to_be_bytes());
        header.extend([192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb]);
        header.extend(extra);
        header
    }

    async fn outcome(bytes: &[u8]) -> (Result<Option<SocketAddr>, PreambleError>, usize) {
        let mut left = bytes;
        let outcome = read(&mut left).await;
        (outcome, left.len())
    }

    #[tokio::test]
    async fn the_agents_address_is_taken_and_nothing_beyond() {
        let mut bytes = ipv4(b"\x04\0\x01x");
        bytes.extend(b"GET /");
        assert_eq!(outcome(&bytes).await, (Ok(Some("192.0.2.7:12345".parse().unwrap())), 5));
    }

    #[tokio::test]
    async fn the_load_balancer_may_speak_for_itself() {
        assert_eq!(outcome(&LOCAL).await.0, Ok(None));
    }

    #[tokio::test]
    async fn a_health_check_is_silent() {
        assert_eq!(outcome(b"").await.0, Err(PreambleError::Silent));
    }

    #[tokio::test]
    async fn other_beginnings_are_refused() {
        assert_eq!(outcome(b"GET / HTTP/1.1\r\n\r\n").await.0, Err(PreambleError::Bad));
        assert_eq!(outcome(b"\r\n\r\n").await.0, Err(PreambleError::Broken));
        assert_eq!(outcome(&ipv4(b"")[..20]).await.0, Err(PreambleError::Broken));
        assert_eq!(outcome(&ipv4(&[0; 2000])).await.0, Err(PreambleError::Bad));
        assert_eq!(outcome(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n").await.0, Err(PreambleError::Bad));
    }
}
