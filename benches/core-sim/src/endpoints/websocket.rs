//! A WebSocket handshake (RFC 6455, section 4.2), after which every byte comes back as it was.
//!
//! Not a WebSocket server: frames are neither read nor unmasked. What is tested with it is the way there and back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ring::digest;

use crate::answer::{Answer, empty, refusal};
use crate::server::State;

/// RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Answers the handshake and leaves a task behind that echoes until the other side closes or the core goes down.
pub(super) fn upgrade(state: &State, mut request: Request<Incoming>) -> Answer {
    let asks =
        request.headers().get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    let (true, Some(key)) = (asks, key) else {
        return refusal(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket");
    };
    let Ok(accept) = HeaderValue::from_str(&accept_key(key.as_bytes())) else {
        return refusal(StatusCode::BAD_REQUEST, "the key is not a key");
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let mut script = state.script.lock().watch();
    tokio::spawn(async move {
        let echo = async {
            if let Ok(connection) = upgraded.await {
                let (mut reader, mut writer) = tokio::io::split(TokioIo::new(connection));
                // The peer's going away is how an echo ends.
                tokio::io::copy(&mut reader, &mut writer).await.ok();
            }
        };
        // So does the core's.
        tokio::select! { () = echo => {}, _ = script.wait_for(|down| *down) => {} }
    });
    let mut answer = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    answer
}

fn accept_key(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID.as_bytes());
    STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
