//! The headers of requests and answers that are passed through.
//!
//! Pingora takes away the hop-by-hop fields of requests and those that `Connection` names (RFC 9110, section 7.6.1).

use std::net::{IpAddr, SocketAddr};

use http::header::{CONNECTION, FORWARDED, HOST, HeaderName, HeaderValue, UPGRADE, VIA};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

use super::Forwarding;
use crate::accept::Connection;

/// What the core is told beyond what the agent sent: who asks, from where, for which host. What an agent says of these
/// itself counts on listeners that trust headers only.
pub fn to_core(request: &mut RequestHeader, forwarding: &Forwarding, connection: &Connection) -> Result<()> {
    request.set_raw_path(forwarding.target.as_bytes())?;
    let origin = Origin {
        peer: connection.peer,
        scheme: if connection.is_secure() { "https" } else { "http" },
        host: &forwarding.authority,
    };
    let trusted = connection.listener.trusted_headers;
    if !trusted {
        for name in [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_REAL_IP, FORWARDED] {
            request.remove_header(&name);
        }
        for name in &forwarding.identity_headers {
            request.remove_header(name.as_str());
        }
    }
    origin.state(request)?;
    set_or_remove(request, WEIR_AGENT, forwarding.identity.agent.as_ref().map(weir_logic::AgentId::as_str))?;
    set_or_remove(request, WEIR_TENANT, forwarding.identity.tenant.as_ref().map(weir_logic::TenantId::as_str))?;
    request.append_header(VIA, HeaderValue::from_static("1.1 weir"))?;
    request.insert_header(HOST, &forwarding.host)
}

/// Where a request came from.
struct Origin<'a> {
    peer: SocketAddr,
    scheme: &'static str,
    host: &'a str,
}

impl Origin<'_> {
    fn state(&self, request: &mut RequestHeader) -> Result<()> {
        append_to_list(request, X_FORWARDED_FOR, &self.peer.ip().to_string())?;
        append_to_list(request, FORWARDED, &self.element())?;
        if !request.headers.contains_key(X_FORWARDED_PROTO) {
            request.insert_header(X_FORWARDED_PROTO, self.scheme)?;
        }
        if !request.headers.contains_key(X_FORWARDED_HOST) && !self.host.is_empty() {
            request.insert_header(X_FORWARDED_HOST, self.host)?;
        }
        Ok(())
    }

    /// One element of `Forwarded` (RFC 7239, section 4).
    fn element(&self) -> String {
        let node = match self.peer.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        if self.host.is_empty() {
            return format!("for={node};proto={}", self.scheme);
        }
        format!("for={node};host=\"{}\";proto={}", self.host, self.scheme)
    }
}

fn append_to_list(request: &mut RequestHeader, name: HeaderName, element: &str) -> Result<()> {
    let known: Vec<&str> = request.headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()).collect();
    let list = if known.is_empty() { element.to_owned() } else { format!("{}, {element}", known.join(", ")) };
    request.insert_header(name, list)
}

fn set_or_remove(request: &mut RequestHeader, name: HeaderName, value: Option<&str>) -> Result<()> {
    match value.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok()) {
        Some(value) => request.insert_header(name, value),
        None => {
            request.remove_header(&name);
            Ok(())
        }
    }
}

/// Takes the hop-by-hop fields out of a core's answer, but for those that make an upgrade.
pub fn to_agent(response: &mut ResponseHeader) {
    let named: Vec<HeaderName> = response
        .headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let upgrades = response.status == http::StatusCode::SWITCHING_PROTOCOLS;
    for name in named.into_iter().chain([KEEP_ALIVE, PROXY_CONNECTION]) {
        if !(upgrades && name == UPGRADE) {
            response.remove_header(&name);
        }
    }
    if !upgrades {
        response.remove_header(&CONNECTION);
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Who asks, as the node knows it.
const WEIR_AGENT: HeaderName = HeaderName::from_static("weir-agent");
/// The business that the agent belongs to.
const WEIR_TENANT: HeaderName = HeaderName::from_static("weir-tenant");

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(peer: &str) -> Origin<'static> {
        Origin { peer: peer.parse().unwrap(), scheme: "https", host: "edge:8443" }
    }

    #[test]
    fn forwarded_names_node_host_and_scheme() {
        assert_eq!(origin("192.0.2.7:1").element(), "for=192.0.2.7;host=\"edge:8443\";proto=https");
        assert_eq!(origin("[2001:db8::1]:1").element(), "for=\"[2001:db8::1]\";host=\"edge:8443\";proto=https");
    }

    #[test]
    fn lists_of_trusted_proxies_grow() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.append_header("x-forwarded-for", "1.1.1.1").unwrap();
        request.append_header("x-forwarded-for", "2.2.2.2").unwrap();
        origin("192.0.2.7:1").state(&mut request).unwrap();
        assert_eq!(request.headers["x-forwarded-for"], "1.1.1.1, 2.2.2.2, 192.0.2.7");
    }

    #[test]
    fn hop_by_hop_fields_of_an_answer_are_taken_away() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [("connection", "close, x-hop"), ("x-hop", "1"), ("keep-alive", "9"), ("x-end", "1")] {
            response.append_header(name, value).unwrap();
        }
        to_agent(&mut response);
        assert_eq!(response.headers.len(), 1);
        let mut upgrade = ResponseHeader::build(101, None).unwrap();
        upgrade.append_header("connection", "Upgrade").unwrap();
        upgrade.append_header("upgrade", "websocket").unwrap();
        to_agent(&mut upgrade);
        assert_eq!(upgrade.headers.len(), 2);
    }
}
