//! The table against examples, and against a matcher that is too simple to be wrong.

use super::*;
use heddle_protocol::id::{ComponentName, Generation, UnitId, WorkloadId};
use proptest::prelude::*;

fn web() -> CapabilityName {
    CapabilityName::parse("web").unwrap()
}

fn target(workload: &str) -> RouteTarget {
    let unit = UnitId {
        workload: WorkloadId::parse(workload).unwrap(),
        generation: Generation(1),
    };
    RouteTarget {
        unit,
        component: ComponentName::parse("api").unwrap(),
    }
}

fn route(host: Option<&str>, path: &str, methods: &[&str], workload: &str) -> Route {
    Route {
        capability: web(),
        host: host.map(Into::into),
        path: path.into(),
        methods: methods.iter().map(ToString::to_string).collect(),
        targets: vec![target(workload)],
    }
}

fn all_ready(target: &RouteTarget) -> Option<String> {
    Some(target.unit.workload.name.to_string())
}

/// Says who serves `METHOD host/path`.
fn ask(table: &RouteTable<String>, line: &str) -> String {
    let (method, rest) = line.split_once(' ').unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    match table.find(&web(), host, path, method) {
        Match::Found(name) => name.clone(),
        Match::NotReady => "not ready".into(),
        Match::MethodNotAllowed(allowed) => format!("allowed: {}", allowed.into_iter().collect::<Vec<_>>().join(", ")),
        Match::NoRoute => "no route".into(),
    }
}

#[test]
fn the_host_counts_before_the_path_and_the_longest_path_wins() {
    let table = RouteTable::build(
        &[
            route(None, "/", &[], "fallback"),
            route(None, "/a/b/c", &[], "deep"),
            route(None, "/x//y/z", &[], "odd"),
            route(Some("shop.example"), "/", &[], "shop"),
            route(Some("shop.example"), "/a", &["GET"], "reader"),
            route(Some("shop.example"), "/a", &["POST", "PUT"], "writer"),
        ],
        all_ready,
    );
    for (line, served_by) in [
        ("GET other.example/", "fallback"),
        ("GET other.example/a/b/c", "deep"),
        ("GET other.example/a/b/c/d", "deep"),
        ("GET other.example/a/b/cd", "fallback"),
        ("GET other.example/a/b", "fallback"),
        ("GET other.example/a/b/c/", "deep"),
        ("GET other.example/a//b/c", "fallback"),
        ("GET other.example/x//y/z/", "odd"),
        ("GET other.example/x/y/z", "fallback"),
        ("GET shop.example/", "shop"),
        ("GET shop.example/a/b/c", "reader"),
        ("GET shop.example/a/", "reader"),
        ("GET shop.example//a", "shop"),
        ("GET shop.example/ab", "shop"),
        ("PUT shop.example/a/x", "writer"),
        ("DELETE shop.example/a/x", "shop"),
    ] {
        assert_eq!(ask(&table, line), served_by, "{line}");
    }
}

#[test]
fn a_method_that_nobody_takes_is_told_apart_from_a_path_that_nobody_has() {
    let table = RouteTable::build(
        &[
            route(None, "/a", &["PUT", "GET"], "x"),
            route(Some("h"), "/a/b", &["POST"], "y"),
        ],
        all_ready,
    );
    assert_eq!(ask(&table, "DELETE h/a/b"), "allowed: GET, POST, PUT");
    assert_eq!(ask(&table, "GET h/a/b"), "x");
    assert_eq!(ask(&table, "GET h/b"), "no route");
    assert_eq!(
        table.find(&CapabilityName::parse("other").unwrap(), "h", "/a", "GET"),
        Match::NoRoute
    );
}

#[test]
fn the_first_target_that_is_ready_serves() {
    let mut two = route(None, "/", &[], "new");
    two.targets.push(target("old"));
    let ready = |names: &'static [&str]| {
        move |target: &RouteTarget| all_ready(target).filter(|name| names.contains(&name.as_str()))
    };
    assert_eq!(
        ask(&RouteTable::build(&[two.clone()], ready(&["old", "new"])), "GET h/"),
        "new"
    );
    assert_eq!(
        ask(&RouteTable::build(&[two.clone()], ready(&["old"])), "GET h/"),
        "old"
    );
    assert_eq!(ask(&RouteTable::build(&[two], ready(&[])), "GET h/"), "not ready");
}

/// All routes that take host and path, the best first; the first that takes the method.
fn naive(routes: &[Route], host: &str, path: &str, method: &str) -> String {
    let split = |path: &str| {
        path.split('/')
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut taking: Vec<&Route> = routes
        .iter()
        .filter(|r| r.host.as_deref().is_none_or(|h| h == host) && split(path).starts_with(&split(&r.path)))
        .collect();
    taking.sort_by_key(|r| (r.host.is_none(), std::cmp::Reverse(split(&r.path).len())));
    let takes = |r: &&&Route| r.methods.is_empty() || r.methods.contains(method);
    match taking.iter().find(takes) {
        Some(route) => route.targets[0].unit.workload.name.to_string(),
        None if taking.is_empty() => "no route".into(),
        None => {
            let allowed: BTreeSet<&str> = taking
                .iter()
                .flat_map(|r| r.methods.iter().map(String::as_str))
                .collect();
            format!("allowed: {}", allowed.into_iter().collect::<Vec<_>>().join(", "))
        }
    }
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 0..4).prop_map(|s| format!("/{}", s.join("/")))
}

fn a_route() -> impl Strategy<Value = (Option<&'static str>, String, BTreeSet<&'static str>)> {
    let host = prop::sample::select(vec![None, Some("x.example"), Some("y.example")]);
    let methods = prop::collection::btree_set(prop::sample::select(vec!["GET", "POST", "PUT"]), 0..3);
    (host, path(), methods)
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_naive_matcher(
        routes in prop::collection::vec(a_route(), 0..20),
        asked in prop::collection::vec((prop::sample::select(vec!["x.example", "y.example", "z.example"]), path()), 1..20),
    ) {
        // A route `(capability, host, path, method)` has one owner, so no two of these may overlap.
        let mut owned = BTreeSet::new();
        let routes: Vec<Route> = routes.into_iter().enumerate().filter_map(|(i, (host, path, methods))| {
            let all = ["GET", "POST", "PUT", "DELETE"];
            let taken: Vec<_> = if methods.is_empty() { all.to_vec() } else { methods.iter().copied().collect() };
            let keys: Vec<_> = taken.iter().map(|method| (host, path.clone(), *method)).collect();
            if keys.iter().any(|key| owned.contains(key)) {
                return None;
            }
            owned.extend(keys);
            Some(route(host, &path, &methods.into_iter().collect::<Vec<_>>(), &format!("w{i}")))
        }).collect();
        let table = RouteTable::build(&routes, all_ready);
        for (host, path) in asked {
            for method in ["GET", "POST", "PUT", "DELETE"] {
                prop_assert_eq!(ask(&table, &format!("{method} {host}{path}")), naive(&routes, host, &path, method));
            }
        }
    }
}
