//! A plain view of a request: what every policy and every action sees, whichever way the request came in.

use std::sync::Arc;

use http::header::ValueIter;
use http::{HeaderName, HeaderValue};
use weir_config::{Method, Route};

use crate::strict::section::Named;
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
    fn values<'a, 'n>(&'a self, name: &'n str) -> Values<'a, 'n>;

    /// The first value of that header.
    fn first<'a>(&'a self, name: &str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// The first value of a header that has a name by itself, which need not be read then.
    fn known<'a>(&'a self, name: &HeaderName) -> Option<&'a [u8]> {
        self.first(name.as_str())
    }

    /// The first value of that header when it is text.
    fn text<'a>(&'a self, name: &str) -> Option<&'a str> {
        self.first(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// The values of one header: an iterator that takes no memory of its own.
pub struct Values<'a, 'n>(Source<'a, 'n>);

enum Source<'a, 'n> {
    Map(ValueIter<'a, HeaderValue>),
    Section(Named<'a, 'n>),
}

impl<'a> Iterator for Values<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match &mut self.0 {
            Source::Map(values) => values.next().map(HeaderValue::as_bytes),
            Source::Section(values) => values.next(),
        }
    }
}

impl<'a, 'n> From<Named<'a, 'n>> for Values<'a, 'n> {
    fn from(values: Named<'a, 'n>) -> Self {
        Self(Source::Section(values))
    }
}

impl Headers for http::HeaderMap {
    fn values<'a, 'n>(&'a self, name: &'n str) -> Values<'a, 'n> {
        Values(Source::Map(self.get_all(name).iter()))
    }

    fn first<'a>(&'a self, name: &str) -> Option<&'a [u8]> {
        self.get(name).map(HeaderValue::as_bytes)
    }

    fn known<'a>(&'a self, name: &HeaderName) -> Option<&'a [u8]> {
        self.get(name).map(HeaderValue::as_bytes)
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
