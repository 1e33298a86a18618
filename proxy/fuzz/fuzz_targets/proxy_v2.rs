//! The PROXY protocol header, version 2, as it comes from a connection that then goes on with anything. What is taken
//! agrees with a reading of the specification's layout, and not one byte beyond the header is read.

#![no_main]

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;

// The file itself and not the crate, which would bring the whole of a server with it.
#[allow(unreachable_pub, clippy::duplicate_mod)]
#[path = "../../src/accept/preamble.rs"]
mod preamble;

fuzz_target!(|bytes: &[u8]| {
    let mut left = bytes;
    let outcome = {
        let mut reading = pin!(preamble::read(&mut left));
        match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("it waits for bytes that are there"),
        }
    };
    let read = bytes.len() - left.len();
    assert!(read <= 16 + 1024, "more is read than a header may be long");
    match outcome {
        Ok(address) => {
            assert_eq!(&bytes[..12], b"\r\n\r\n\0\r\nQUIT\n");
            assert_eq!(bytes[12] >> 4, 2, "another version");
            let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
            assert_eq!(read, 16 + length, "what follows the header is read");
            assert_eq!(address, source(bytes[12] & 0xf, bytes[13], &bytes[16..read]));
        }
        Err(preamble::PreambleError::Silent) => assert!(bytes.is_empty()),
        Err(preamble::PreambleError::Broken) => assert_eq!(read, bytes.len(), "it gave up before the end"),
        Err(preamble::PreambleError::Bad) => assert!(read > 0),
    }
});

/// The source address by the layout in the specification, section 2.2.
fn source(command: u8, family: u8, addresses: &[u8]) -> Option<SocketAddr> {
    assert!(command <= 1, "no such command");
    if command == 0 {
        return None;
    }
    let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
    match family >> 4 {
        1 => {
            let address: [u8; 4] = addresses[..4].try_into().expect("four bytes");
            Some(SocketAddr::new(IpAddr::from(address), port(8)))
        }
        2 => {
            let address: [u8; 16] = addresses[..16].try_into().expect("sixteen bytes");
            Some(SocketAddr::new(IpAddr::from(address), port(32)))
        }
        _ => None,
    }
}
