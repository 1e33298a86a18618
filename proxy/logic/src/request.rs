//! A plain view of a request: what every policy and every action sees, whichever way the request came in.

use std::sync::Arc;

use weir_config::{Method, Route};

use crate::{Identity, Millis};

/// A request as it came, borrowed from whoever read it off the wire.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The method.
    pub method: Method,
    /// The path, as sent: starts with `/`, percent-encoding untouched.
    pub path: &'a str,
    /// The query without its `?`, as sent; `None` when the target has no `?`.
    pub query: Option<&'a str>,
    /// The host that the request names, without port, as sent.
    pub host: &'a str,
    /// The headers.
    pub headers: &'a dyn Headers,
    /// The whole body, on the wire's encoding; empty where the action does not read bodies.
    pub body: &'a [u8],
}

/// Read access to headers; names are given in lower case.
pub trait Headers: Send + Sync {
    /// The values of that header in order of appearance.
    fn values<'a>(&'a self, name: &str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a>;

    /// The first value of that header.
    fn first<'a>(&'a self, name: &str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// The first value of that header when it is text.
    fn text<'a>(&'a self, name: &str) -> Option<&'a str> {
        self.first(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

impl Headers for http::HeaderMap {
    fn values<'a>(&'a self, name: &str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        Box::new(self.get_all(name).iter().map(http::HeaderValue::as_bytes))
    }

    fn first<'a>(&'a self, name: &str) -> Option<&'a [u8]> {
        self.get(name).map(http::HeaderValue::as_bytes)
    }
}

/// The values that a path pattern's parameters took, in the pattern's order: (name, value as sent).
pub type Parameters<'a> = Vec<(&'a str, &'a str)>;

/// A request that has been identified, routed and admitted: what an action gets.
#[derive(Clone)]
pub struct Call<'a> {
    /// The request.
    pub request: RequestView<'a>,
    /// The route that matched.
    pub route: &'a Arc<Route>,
    /// What the route's parameters took.
    pub parameters: &'a Parameters<'a>,
    /// Who asks.
    pub identity: &'a Identity,
    /// When.
    pub now: Millis,
}

impl Call<'_> {
    /// The value that the path parameter `name` took.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}
