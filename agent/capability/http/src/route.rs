//! From a request's host, path and method to who serves it.
//!
//! In: the routes of a spec. Out: a table whose look-up costs one hash of the host and one per path segment, however
//! many routes there are. A route with a host wins over one without, then the longer path wins; a route that does not
//! take the method gives way to the next.

use heddle_protocol::host_spec::{Route, RouteTarget};
use heddle_protocol::id::CapabilityName;
use std::collections::{BTreeSet, HashMap};

/// Every route of a host, by listener.
#[derive(Debug)]
pub struct RouteTable<E> {
    listeners: HashMap<CapabilityName, Hosts<E>>,
}

impl<E> Default for RouteTable<E> {
    fn default() -> Self {
        Self {
            listeners: HashMap::new(),
        }
    }
}

/// The routes of one listener.
#[derive(Debug)]
struct Hosts<E> {
    by_name: HashMap<Box<str>, Node<E>>,
    any: Option<Node<E>>,
}

/// A path prefix: what is routed at exactly it, and the segments that go on from it.
#[derive(Debug)]
struct Node<E> {
    routes: Vec<Target<E>>,
    next: HashMap<Box<str>, Node<E>>,
}

#[derive(Debug)]
struct Target<E> {
    /// Empty means all.
    methods: BTreeSet<String>,
    /// `None` while nothing behind the route is ready.
    endpoint: Option<E>,
}

/// What a table knows about a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Match<'a, E> {
    /// Who serves it.
    Found(&'a E),
    /// A route takes it, and nothing behind it is ready.
    NotReady,
    /// Routes take its host and path, none its method; these methods are taken, in order.
    MethodNotAllowed(BTreeSet<&'a str>),
    /// No route takes its host and path.
    NoRoute,
}

impl<E> RouteTable<E> {
    /// Builds a table. Of each route's targets the first that `ready` knows serves it.
    pub fn build(routes: &[Route], mut ready: impl FnMut(&RouteTarget) -> Option<E>) -> Self {
        let mut table = Self::default();
        for route in routes {
            let endpoint = route.targets.iter().find_map(&mut ready);
            let hosts = table.listeners.entry(route.capability.clone()).or_default();
            let root = match &route.host {
                Some(host) => hosts.by_name.entry(host.as_str().into()).or_default(),
                None => hosts.any.get_or_insert_default(),
            };
            let node = segments(&route.path).fold(root, |node, segment| node.next.entry(segment.into()).or_default());
            node.routes.push(Target {
                methods: route.methods.clone(),
                endpoint,
            });
        }
        table
    }

    /// Finds who serves a request. `host` is in lower case and without port.
    pub fn find(&self, listener: &CapabilityName, host: &str, path: &str, method: &str) -> Match<'_, E> {
        let Some(hosts) = self.listeners.get(listener) else {
            return Match::NoRoute;
        };
        let mut allowed = BTreeSet::new();
        let mut found = None;
        for root in [hosts.by_name.get(host), hosts.any.as_ref()].into_iter().flatten() {
            root.walk(path, |node| {
                for target in &node.routes {
                    if target.methods.is_empty() || target.methods.contains(method) {
                        // Deeper nodes come later and win.
                        found = Some(target);
                    } else {
                        allowed.extend(target.methods.iter().map(String::as_str));
                    }
                }
            });
            if found.is_some() {
                break;
            }
        }
        match found {
            Some(Target {
                endpoint: Some(endpoint),
                ..
            }) => Match::Found(endpoint),
            Some(Target { endpoint: None, .. }) => Match::NotReady,
            None if !allowed.is_empty() => Match::MethodNotAllowed(allowed),
            None => Match::NoRoute,
        }
    }
}

impl<E> Default for Hosts<E> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            any: None,
        }
    }
}

impl<E> Default for Node<E> {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            next: HashMap::new(),
        }
    }
}

impl<E> Node<E> {
    /// Visits the nodes along a path, from the root on.
    fn walk<'a>(&'a self, path: &str, mut visit: impl FnMut(&'a Self)) {
        let mut node = self;
        visit(node);
        for segment in segments(path) {
            if node.next.is_empty() {
                return;
            }
            match node.next.get(segment) {
                Some(next) => node = next,
                None => return,
            }
            visit(node);
        }
    }
}

/// The segments of a path. `/` has none, and one slash at the end makes no difference: `/a/` is `/a`.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let empty = path.is_empty();
    path.split('/').skip(usize::from(empty))
}

#[cfg(test)]
mod tests;
