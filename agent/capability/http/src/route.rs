//! From a request's host, path and method to who serves it.
//!
//! In: the routes of a spec. Out: a table whose look-up costs one hash of the host and at most one per path segment,
//! however many routes there are. A route with a host wins over one without, then the longer path wins; a route that does not
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
    /// Segments that must follow the one that leads here: a chain of prefixes without routes of their own is one node.
    tail: Box<str>,
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
            let node =
                Segments::of(&route.path).fold(root, |node, segment| node.next.entry(segment.into()).or_default());
            node.routes.push(Target {
                methods: route.methods.clone(),
                endpoint,
            });
        }
        for hosts in table.listeners.values_mut() {
            hosts
                .by_name
                .values_mut()
                .chain(&mut hosts.any)
                .for_each(Node::join_chains);
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
            tail: Box::default(),
            routes: Vec::new(),
            next: HashMap::new(),
        }
    }
}

impl<E> Node<E> {
    /// Turns each chain of nodes without routes and branches into one: fewer places in memory to visit.
    fn join_chains(&mut self) {
        for child in self.next.values_mut() {
            child.join_chains();
            // An empty segment (`//`) would be lost in a tail.
            if !child.routes.is_empty() || child.next.len() != 1 || child.next.contains_key("") {
                continue;
            }
            let only = std::mem::take(&mut child.next).into_iter().next();
            if let Some((segment, mut grandchild)) = only {
                let parts = [&*child.tail, &*segment, &*grandchild.tail];
                let tail: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                grandchild.tail = tail.join("/").into();
                *child = grandchild;
            }
        }
    }

    /// Visits the nodes along a path, from the root on.
    fn walk<'a>(&'a self, path: &str, mut visit: impl FnMut(&'a Self)) {
        let mut node = self;
        let mut segments = Segments::of(path);
        visit(node);
        while !node.next.is_empty() {
            let child = segments.next().and_then(|segment| node.next.get(segment));
            match child {
                Some(child) if segments.skip_all(&child.tail) => node = child,
                _ => return,
            }
            visit(node);
        }
    }
}

/// The segments of a path. `/` has none, and one slash at the end makes no difference: `/a/` is `/a`.
struct Segments<'a>(Option<&'a str>);

impl<'a> Segments<'a> {
    fn of(path: &'a str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        Self((!path.is_empty()).then_some(path))
    }

    /// Goes past several segments, if these are the next ones.
    fn skip_all(&mut self, segments: &str) -> bool {
        if segments.is_empty() {
            return true;
        }
        let Some(rest) = self.0.and_then(|rest| rest.strip_prefix(segments)) else {
            return false;
        };
        if rest.is_empty() {
            self.0 = None;
            return true;
        }
        self.0 = rest.strip_prefix('/');
        self.0.is_some()
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0?;
        match rest.split_once('/') {
            Some((segment, rest)) => {
                self.0 = Some(rest);
                Some(segment)
            }
            None => self.0.take(),
        }
    }
}

#[cfg(test)]
mod tests;
