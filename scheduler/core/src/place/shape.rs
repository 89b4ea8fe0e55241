//! What a workload asks of hosts, and which classes answer.
//!
//! In: a shape, which is all of an intent that decides where replicas may go and how well, and the classes. Out: for each
//! class whether it fits, whether it takes new replicas, how much it is preferred, and its place in the spread. Worked out
//! once per shape and class, and kept.

use super::class::{ClassKey, Mood};
use super::filter::{HOST_LABEL, Need, Traits};
use super::index::{ClassNo, FleetIndex};
use crate::desired::selects;
use heddle_protocol::host_spec::Feature;
use heddle_protocol::id::{CapabilityName, HostId};
use heddle_protocol::record::{HostAdmin, Preference, Requirement, Spread, Toleration};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All of an intent that decides where replicas may go and how well, whatever is free. Equal shapes share one layout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    require: Vec<Requirement>,
    spread: Vec<(String, BTreeMap<String, u32>)>,
    prefer: Vec<Preference>,
    capabilities: BTreeSet<CapabilityName>,
    features: BTreeSet<Feature>,
    memory_bytes: u64,
    tolerate: BTreeSet<Toleration>,
}

impl Shape {
    /// The shape of a need.
    pub(crate) fn of(need: &Need<'_>) -> Self {
        let intent = need.intent;
        let of_template = need.template.into_iter().flat_map(|t| &t.requires);
        Self {
            require: intent.require.clone(),
            spread: intent
                .spread
                .iter()
                .map(|s| (s.by.clone(), s.weights.clone()))
                .collect(),
            prefer: intent.rules.prefer.clone(),
            capabilities: intent.capabilities.clone(),
            features: of_template.chain(&intent.features).cloned().collect(),
            memory_bytes: need.template.map_or(0, |t| t.limits.memory_bytes),
            tolerate: intent.rules.tolerate.clone(),
        }
    }
}

/// What one class is to a shape.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fit {
    /// Whether replicas there may stay.
    pub(crate) fits: bool,
    /// Whether it takes new ones as long as something is free.
    pub(crate) takes: bool,
    /// Whether it may yet take new ones: its hosts are still expected to be heard.
    pub(crate) awaited: bool,
    /// How much it is preferred.
    pub(crate) preferred: i64,
    /// Its place in the spread; meaningless where each host has one of its own.
    pub(crate) leaf: u32,
}

/// All that was worked out for a shape.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    fits: Vec<Fit>,
    /// The classes that take new replicas.
    takers: Vec<ClassNo>,
    /// The values of the spread rules' labels, those of the classes.
    pub(crate) tree: Arc<Tree>,
    /// Whether each host has a place of its own in the spread.
    pub(crate) by_host: bool,
    /// The only hosts that fit, if weights name them.
    pub(crate) named: Option<BTreeSet<HostId>>,
}

impl Layout {
    /// Works a shape out for all classes.
    pub(crate) fn new(need: &Need<'_>, index: &FleetIndex) -> Self {
        let rules = &need.intent.spread;
        let mut named: Option<BTreeSet<HostId>> = None;
        for rule in rules.iter().filter(|r| r.by == HOST_LABEL && !r.weights.is_empty()) {
            let positive = rule.weights.iter().filter(|(_, weight)| **weight > 0);
            let these: BTreeSet<HostId> = positive.filter_map(|(id, _)| HostId::parse(id).ok()).collect();
            named = Some(match named {
                Some(those) => those.intersection(&these).cloned().collect(),
                None => these,
            });
        }
        // Once hosts are told apart evenly, rules after that change nothing unless they have weights.
        let from_host = rules.iter().skip_while(|rule| rule.by != HOST_LABEL);
        let by_host = named.is_some() || from_host.clone().any(|rule| !rule.weights.is_empty());
        let mut layout = Self {
            fits: Vec::new(),
            takers: Vec::new(),
            tree: Arc::new(Tree::new()),
            by_host,
            named,
        };
        layout.extend(need, index);
        layout
    }

    /// Works it out for classes that came since. Returns whether there were any.
    pub(crate) fn extend(&mut self, need: &Need<'_>, index: &FleetIndex) -> bool {
        let known = u32::try_from(self.fits.len()).unwrap_or(u32::MAX);
        let tree = Arc::make_mut(&mut self.tree);
        for number in known..index.class_count() {
            let Some(class) = index.class(number) else { continue };
            let traits = Traits::from(class);
            let fits = need.fits_traits(&traits);
            let takes = fits && class.key.labels.is_some() && need.takes_traits(&traits);
            let awaited =
                fits && class.key.mood == Mood::NotSeen && class.key.admin() == HostAdmin::Open && !class.key.leaving;
            let leaf = match self.by_host {
                true => 0,
                false => tree.path(levels(&need.intent.spread), |label| {
                    class.key.label(label).unwrap_or("")
                }),
            };
            self.fits.push(Fit {
                fits,
                takes,
                awaited,
                preferred: preferred(need, &class.key),
                leaf,
            });
            if takes {
                self.takers.push(number);
            }
        }
        known < index.class_count()
    }

    /// Whether it knows all classes.
    pub(crate) fn is_whole(&self, index: &FleetIndex) -> bool {
        self.fits.len() == index.class_count() as usize
    }

    /// What a class is to the shape.
    pub(crate) fn fit(&self, class: ClassNo) -> Fit {
        self.fits.get(class as usize).copied().unwrap_or_default()
    }

    /// The classes that take new replicas as long as something is free.
    pub(crate) fn takers(&self) -> &[ClassNo] {
        &self.takers
    }

    /// Whether hosts that may take such replicas are still expected to be heard.
    pub(crate) fn awaits(&self, index: &FleetIndex) -> bool {
        let mut fits = self.fits.iter().zip(index.classes());
        fits.any(|(fit, (_, class))| fit.awaited && class.members > 0)
    }
}

/// The rules that tell classes apart: those before the one that tells hosts apart.
pub(crate) fn levels(rules: &[Spread]) -> &[Spread] {
    let end = rules.iter().position(|rule| rule.by == HOST_LABEL);
    &rules[..end.unwrap_or(rules.len())]
}

fn preferred(need: &Need<'_>, key: &ClassKey) -> i64 {
    let Some(labels) = &key.labels else { return 0 };
    let wishes = need.intent.rules.prefer.iter();
    let kept = wishes.filter(|wish| selects(&wish.labels, labels));
    kept.map(|wish| i64::from(wish.weight)).sum()
}

/// The values of the spread rules' labels, one level per rule. Node 0 is the root.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    by_value: BTreeMap<(u32, Arc<str>), u32>,
}

/// One value, within the values of the rules before it.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The value.
    pub(crate) value: Arc<str>,
    /// The value of the rule before.
    pub(crate) parent: u32,
    /// How many rules there are before its own, plus one: 0 is the root.
    pub(crate) level: usize,
    /// Its weight.
    pub(crate) weight: u32,
    /// The values of the next rule.
    pub(crate) children: Vec<u32>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let root = Node {
            value: "".into(),
            parent: 0,
            level: 0,
            weight: 1,
            children: Vec::new(),
        };
        Self {
            nodes: vec![root],
            by_value: BTreeMap::new(),
        }
    }

    /// The node of some values, made if it is not there.
    pub(crate) fn path<'v>(&mut self, rules: &[Spread], value_of: impl Fn(&str) -> &'v str) -> u32 {
        let mut at = 0;
        for (level, rule) in (1..).zip(rules) {
            let value = value_of(&rule.by);
            let key: (u32, Arc<str>) = (at, value.into());
            at = match self.by_value.get(&key) {
                Some(child) => *child,
                None => {
                    let child = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
                    let weight = match rule.weights.is_empty() {
                        true => 1,
                        false => rule.weights.get(value).copied().unwrap_or(0),
                    };
                    self.nodes.push(Node {
                        value: key.1.clone(),
                        parent: at,
                        level,
                        weight,
                        children: Vec::new(),
                    });
                    if let Some(parent) = self.nodes.get_mut(at as usize) {
                        parent.children.push(child);
                    }
                    self.by_value.insert(key, child);
                    child
                }
            };
        }
        at
    }

    /// The node of a value below another.
    pub(crate) fn child(&self, parent: u32, value: &str) -> Option<u32> {
        self.by_value.get(&(parent, Arc::from(value))).copied()
    }

    /// All nodes, parents before their children.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}
