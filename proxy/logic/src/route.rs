//! Which route a request takes.
//!
//! A tree of path segments for each host. Of the patterns that match a path the most specific one that takes the method
//! wins: from the left, a literal segment beats a parameter, a parameter beats a rest; a route that names the host
//! beats all that do not.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::memchr;
use weir_config::{Method, Route, Segment};

use crate::request::Parameters;

/// All routes of a configuration, ready to be searched.
///
/// A search visits each segment of each pattern once at most, whatever the path looks like.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    hosts: Names,
    any_host: Node,
}

/// What a search found.
#[derive(Clone, Debug)]
pub enum Found<'a> {
    /// This route.
    Route {
        /// The route.
        route: &'a Arc<Route>,
        /// Its place among the routes that the table was made of.
        number: usize,
        /// What its path's parameters took.
        parameters: Parameters<'a>,
    },
    /// Routes match the path, but none the method.
    WrongMethod {
        /// The methods that would have found a route, without duplicates, in order.
        allowed: Vec<Method>,
    },
    /// No route matches the path.
    Unknown,
}

impl RouteTable {
    /// A table of these routes. Of two that match the very same requests the first wins; the configuration refuses such
    /// pairs.
    pub fn new(routes: &[Route]) -> Self {
        let mut table = Self::default();
        for (number, route) in routes.iter().enumerate() {
            let root = match &route.host {
                Some(host) => table.hosts.find_or_make(&host.to_ascii_lowercase()),
                None => &mut table.any_host,
            };
            root.insert(&route.path.segments, Placed { number, route: Arc::new(route.clone()) });
        }
        table
    }

    /// The route for a request. `host` is without port, in any case; `path` starts with `/` and is compared as sent:
    /// nothing is decoded or resolved.
    pub fn find<'a>(&'a self, method: Method, host: &str, path: &'a str) -> Found<'a> {
        let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::from(host.to_ascii_lowercase())
        } else {
            host.into()
        };
        let mut search = Search { method, parameters: Vec::new(), allowed: Vec::new() };
        let rest = path.strip_prefix('/').filter(|rest| !rest.is_empty());
        let named = self.hosts.find(&host).and_then(|root| search.descend(root, rest));
        let Some(Placed { number, route }) = named.or_else(|| search.descend(&self.any_host, rest)) else {
            if search.allowed.is_empty() {
                return Found::Unknown;
            }
            search.allowed.sort_unstable();
            search.allowed.dedup();
            return Found::WrongMethod { allowed: search.allowed };
        };
        // Which name stands for which value is known only now.
        let mut parameters = search.parameters;
        parameter_names(route).zip(&mut parameters).for_each(|(name, parameter)| parameter.0 = name);
        Found::Route { route, number: *number, parameters }
    }
}

fn parameter_names(route: &Route) -> impl Iterator<Item = &str> {
    route.path.segments.iter().filter_map(|segment| match segment {
        Segment::Literal(_) => None,
        Segment::Parameter(name) | Segment::Rest(name) => Some(name.as_str()),
    })
}

/// A route and its place among all.
#[derive(Clone, Debug)]
struct Placed {
    number: usize,
    route: Arc<Route>,
}

/// The patterns that share the segments up to here.
#[derive(Clone, Debug, Default)]
struct Node {
    literals: Names,
    parameter: Option<Box<Self>>,
    /// Routes whose pattern ends here with a rest.
    rest: Vec<Placed>,
    /// Routes whose pattern ends here.
    here: Vec<Placed>,
}

impl Node {
    fn insert(&mut self, segments: &[Segment], placed: Placed) {
        match segments {
            [] => self.here.push(placed),
            // A pattern of `/` alone may be written as no segment or as one that is empty.
            [Segment::Literal(only)] if only.is_empty() && placed.route.path.segments.len() == 1 => {
                self.here.push(placed);
            }
            [Segment::Literal(text), others @ ..] => {
                self.literals.find_or_make(text).insert(others, placed);
            }
            [Segment::Parameter(_), others @ ..] => {
                self.parameter.get_or_insert_default().insert(others, placed);
            }
            [Segment::Rest(_), ..] => self.rest.push(placed),
        }
    }
}

/// Nodes by name, in the order of the names: operators write few, and comparing with some costs less than hashing.
#[derive(Clone, Debug, Default)]
struct Names(Vec<(String, Node)>);

impl Names {
    fn find(&self, name: &str) -> Option<&Node> {
        self.place(name).ok().map(|place| &self.0[place].1)
    }

    fn find_or_make(&mut self, name: &str) -> &mut Node {
        let place = self.place(name).unwrap_or_else(|place| {
            self.0.insert(place, (name.to_owned(), Node::default()));
            place
        });
        &mut self.0[place].1
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

struct Search<'a> {
    method: Method,
    /// The values that parameters take on this way, their names yet to come.
    parameters: Parameters<'a>,
    allowed: Vec<Method>,
}

impl<'a> Search<'a> {
    /// The best route below `node` for what is left of the path; `None` is the end of the path, `Some("")` a last empty
    /// segment.
    fn descend(&mut self, node: &'a Node, left: Option<&'a str>) -> Option<&'a Placed> {
        let Some(left) = left else { return self.choose(&node.here) };
        let (segment, beyond) = match memchr(b'/', left.as_bytes()) {
            Some(slash) => (&left[..slash], Some(&left[slash + 1..])),
            None => (left, None),
        };
        if let Some(route) = node.literals.find(segment).and_then(|next| self.descend(next, beyond)) {
            return Some(route);
        }
        if !segment.is_empty()
            && let Some(next) = node.parameter.as_deref()
        {
            self.parameters.push(("", segment));
            if let Some(route) = self.descend(next, beyond) {
                return Some(route);
            }
            self.parameters.pop();
        }
        if left.is_empty() {
            return None;
        }
        let route = self.choose(&node.rest)?;
        self.parameters.push(("", left));
        Some(route)
    }

    /// The route of these that takes the method; a `HEAD` is taken by a route of its own first, then by one for `GET`.
    fn choose(&mut self, routes: &'a [Placed]) -> Option<&'a Placed> {
        let taking = |method| routes.iter().find(|placed| placed.route.methods.contains(&method));
        let found =
            taking(self.method).or_else(|| if self.method == Method::Head { taking(Method::Get) } else { None });
        if found.is_none() {
            self.allowed.extend(routes.iter().flat_map(|placed| placed.route.methods.iter().copied()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use weir_config::{Action, Class, CoreId, ForwardRoute, PathPattern};

    use super::*;

    fn route(name: &str, method: Method, path: &str) -> Route {
        let segments = path[1..]
            .split('/')
            .filter(|_| path != "/")
            .map(|part| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some(name) if name.ends_with('*') => Segment::Rest(name.trim_end_matches('*').into()),
                Some(name) => Segment::Parameter(name.into()),
                None => Segment::Literal(part.into()),
            })
            .collect();
        Route {
            name: name.into(),
            methods: vec![method],
            path: PathPattern { text: path.into(), segments },
            host: None,
            class: Class::Config,
            core: CoreId(0),
            agent_limit: None,
            action: Action::Forward(ForwardRoute { websocket: false, max_body_bytes: weir_config::ByteSize::mib(1) }),
        }
    }

    fn found(table: &RouteTable, method: Method, path: &str) -> String {
        match table.find(method, "edge.example", path) {
            Found::Route { route, parameters, .. } => {
                let values: Vec<_> = parameters.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{}{}", route.name, values.concat())
            }
            Found::WrongMethod { allowed } => format!("allowed {allowed:?}"),
            Found::Unknown => "unknown".into(),
        }
    }

    #[test]
    fn literals_beat_parameters_beat_rests() {
        let table = RouteTable::new(&[
            route("rest", Method::Get, "/v1/{file*}"),
            route("parameter", Method::Get, "/v1/{name}/x"),
            route("literal", Method::Get, "/v1/known/x"),
        ]);
        assert_eq!(found(&table, Method::Get, "/v1/known/x"), "literal");
        assert_eq!(found(&table, Method::Get, "/v1/other/x"), "parameter name=other");
        assert_eq!(found(&table, Method::Get, "/v1/other/y/z"), "rest file=other/y/z");
        assert_eq!(found(&table, Method::Get, "/v1/known/y"), "rest file=known/y");
    }

    #[test]
    fn a_parameter_is_one_segment_that_is_not_empty() {
        let table =
            RouteTable::new(&[route("agent", Method::Get, "/v1/{agent}"), route("all", Method::Get, "/a/{x*}")]);
        assert_eq!(found(&table, Method::Get, "/v1/"), "unknown");
        assert_eq!(found(&table, Method::Get, "/v1"), "unknown");
        assert_eq!(found(&table, Method::Get, "/v1/a/b"), "unknown");
        assert_eq!(found(&table, Method::Get, "/a/"), "unknown");
        assert_eq!(found(&table, Method::Get, "/a//"), "all x=/");
        assert_eq!(found(&table, Method::Get, "/v1/%2e%2e"), "agent agent=%2e%2e");
    }

    #[test]
    fn the_root_and_trailing_slashes_are_paths_of_their_own() {
        let table = RouteTable::new(&[route("root", Method::Get, "/"), route("slash", Method::Get, "/a/")]);
        assert_eq!(found(&table, Method::Get, "/"), "root");
        assert_eq!(found(&table, Method::Get, "/a/"), "slash");
        assert_eq!(found(&table, Method::Get, "/a"), "unknown");
        assert_eq!(found(&table, Method::Get, "//"), "unknown");
    }

    #[test]
    fn head_is_taken_by_get_unless_it_has_a_route_of_its_own() {
        let table = RouteTable::new(&[
            route("get", Method::Get, "/a"),
            route("head", Method::Head, "/b"),
            route("get-b", Method::Get, "/b"),
        ]);
        assert_eq!(found(&table, Method::Head, "/a"), "get");
        assert_eq!(found(&table, Method::Head, "/b"), "head");
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let table = RouteTable::new(&[
            route("specific", Method::Get, "/a/b"),
            route("general", Method::Post, "/a/{x}"),
            route("rest", Method::Get, "/a/{x*}"),
        ]);
        assert_eq!(found(&table, Method::Delete, "/a/b"), "allowed [Get, Post]");
        assert_eq!(found(&table, Method::Post, "/a/b"), "general x=b");
        assert_eq!(found(&table, Method::Delete, "/b"), "unknown");
    }

    #[test]
    fn a_route_that_names_the_host_comes_first() {
        let mut named = route("named", Method::Get, "/{x*}");
        named.host = Some("edge.example".into());
        let table = RouteTable::new(&[route("any", Method::Get, "/a"), route("any-b", Method::Post, "/a"), named]);
        assert_eq!(found(&table, Method::Get, "/a"), "named x=a");
        assert_eq!(found(&table, Method::Post, "/a"), "any-b");
        assert!(
            matches!(table.find(Method::Get, "EDGE.example", "/q"), Found::Route { route, .. } if route.name == "named")
        );
        assert!(matches!(table.find(Method::Get, "other", "/a"), Found::Route { route, .. } if route.name == "any"));
    }
}
