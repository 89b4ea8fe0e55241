//! A workload's rules of placement and its reservations, as the planner reads them.
//!
//! In: a manifest that was checked. Out: the rules of its intent. What a workload avoids or is to be near need not be
//! there: it may come later.

use heddle_protocol::id::{NameError, Namespace, ObjectName, WorkloadId};
use heddle_protocol::manifest::{self, WorkloadSpec};
use heddle_protocol::record::{
    Company, Intent, LabelRule, Preference, Requirement, Rules, Spread, Strategy, Taken, Toleration,
};
use std::collections::BTreeSet;

/// What decides, beside labels, spread and memory, which hosts take a workload's replicas.
///
/// # Errors
/// A name that breaks the rule for names: a document that was not checked before.
pub fn rules_of(namespace: &Namespace, spec: &WorkloadSpec) -> Result<Rules, NameError> {
    let placement = &spec.placement;
    let tolerate = placement.tolerate.iter().map(|toleration| Toleration {
        taint: toleration.taint.clone(),
        value: toleration.value.clone(),
    });
    Ok(Rules {
        prefer: placement.prefer.iter().map(preference).collect(),
        avoid: company(namespace, &placement.avoid)?,
        near: company(namespace, &placement.near)?,
        max_per_host: placement.max_per_host,
        tolerate: tolerate.collect(),
        strategy: match placement.strategy {
            manifest::Strategy::Spread => Strategy::Spread,
            manifest::Strategy::Pack => Strategy::Pack,
        },
        prefer_image: placement.prefer_image,
        priority: placement.priority,
        takes: taken(spec),
    })
}

/// How a workload's replicas are spread. A bound on skew is hard unless it is said not to be.
pub fn spread_of(spec: &WorkloadSpec) -> Vec<Spread> {
    let each = spec.placement.spread.iter().map(|spread| Spread {
        by: spread.by.clone(),
        weights: spread.weights.clone(),
        max_skew: spread.max_skew,
        hard: spread.max_skew.is_some() && spread.hard.unwrap_or(true),
    });
    each.collect()
}

/// What one replica takes beside memory and its slot.
pub(super) fn taken(spec: &WorkloadSpec) -> Taken {
    let cpu = spec.reserve.cpu.map_or(0, manifest::Cpu::as_millicores);
    Taken {
        cpu_millis: u32::try_from(cpu).unwrap_or(u32::MAX),
        resources: spec.reserve.resources.clone(),
    }
}

fn preference(wish: &manifest::Preference) -> Preference {
    let labels = wish.label.iter().map(|(label, value)| Requirement {
        label: label.clone(),
        rule: LabelRule::In(BTreeSet::from([value.clone()])),
    });
    Preference {
        labels: labels.collect(),
        weight: wish.weight,
    }
}

fn company(namespace: &Namespace, all: &[manifest::Company]) -> Result<Vec<Company>, NameError> {
    let each = all.iter().map(|company| {
        Ok(Company {
            workload: WorkloadId::new(namespace.clone(), ObjectName::parse(&company.workload)?),
            by: company.by.clone(),
            weight: company.weight,
        })
    });
    each.collect()
}

/// Whether replicas under two intents may stay where they are: a plan by itself moves none for a wish or a bound that
/// changed, so those are a reason to place all of them anew. Priorities and tolerations only matter to what comes.
pub(super) fn places_alike(a: &Intent, b: &Intent) -> bool {
    let of = |intent: &Intent| Rules {
        tolerate: BTreeSet::new(),
        priority: 0,
        ..intent.rules.clone()
    };
    a.spread == b.spread && of(a) == of(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::manifest::{Object, load};

    fn spec(fields: &str) -> WorkloadSpec {
        let text = format!(
            "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: cart, namespace: shop }}\nspec:\n  components: \
             [{{ name: main, image: \"oci://test.example/hello:v1\" }}]\n{fields}"
        );
        let documents = load(text.as_bytes(), "test").unwrap();
        match documents.into_iter().next().unwrap().object {
            Object::Workload(workload) => workload.spec,
            other => unreachable!("{other}"),
        }
    }

    #[test]
    fn what_a_manifest_says_is_what_the_planner_reads() {
        let spec = spec(
            "  reserve: { cpu: 1500m, resources: { acme.dev/gpu: 2 } }\n  placement:\n    prefer: [{ label: { disk: ssd }, \
             weight: 20 }]\n    avoid: [{ workload: batch, by: host }]\n    near: [{ workload: db, by: zone, weight: 3 }]\n    \
             maxPerHost: 2\n    tolerate: [{ taint: spot }, { taint: gpu, value: a }]\n    strategy: pack\n    preferImage: true\n    priority: 7\n",
        );
        let rules = rules_of(&"shop".parse().unwrap(), &spec).unwrap();
        let text = serde_json::to_value(&rules).unwrap();
        assert_eq!(
            text,
            serde_json::json!({
                "prefer": [{"labels": [{"label": "disk", "rule": {"in": ["ssd"]}}], "weight": 20}],
                "avoid": [{"workload": "shop/batch", "by": "host"}],
                "near": [{"workload": "shop/db", "by": "zone", "weight": 3}],
                "maxPerHost": 2,
                "tolerate": [{"taint": "gpu", "value": "a"}, {"taint": "spot"}],
                "strategy": "pack",
                "preferImage": true,
                "priority": 7,
                "takes": {"cpuMillis": 1500, "resources": {"acme.dev/gpu": 2}},
            })
        );
        let plain = spec_without_rules();
        assert!(rules_of(&"shop".parse().unwrap(), &plain).unwrap().is_default());
    }

    fn spec_without_rules() -> WorkloadSpec {
        spec("  replicas: 2\n")
    }

    #[test]
    fn a_bound_on_skew_is_hard_unless_it_is_said_not_to_be() {
        let spec = spec(
            "  placement: { spread: [{ by: zone, maxSkew: 1 }, { by: rack, maxSkew: 2, hard: false }, { by: host }] }\n",
        );
        let spread: Vec<_> = spread_of(&spec).iter().map(|s| (s.max_skew, s.hard)).collect();
        assert_eq!(spread, [(Some(1), true), (Some(2), false), (None, false)]);
    }
}
