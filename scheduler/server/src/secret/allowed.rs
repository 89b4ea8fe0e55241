//! Which subjects a workload's own credentials allow: what its links and triggers need, and nothing else.
//!
//! In: the world and what one host should run. Out: the permissions of each workload there that speaks NATS itself. A
//! workload that does not is given no credentials.

use heddle_protocol::host_spec::{Call, Callee, CapabilityOffer, HostSpecBody, Template};
use heddle_protocol::id::{Realm, WorkloadId};
use heddle_protocol::subject::{rpc_all, workload_inbox_prefix};
use heddle_scheduler_core::World;
use heddle_secret::Permissions;
use std::collections::{BTreeMap, BTreeSet};

/// Where everybody who is not of this fleet wants answers.
const FOREIGN_INBOXES: &str = "_INBOX.>";

/// What each workload on a host may do on NATS.
pub fn permissions_of(realm: &Realm, world: &World, body: &HostSpecBody) -> BTreeMap<WorkloadId, Permissions> {
    let mut all: BTreeMap<WorkloadId, Permissions> = BTreeMap::new();
    for unit in &body.units {
        let Some(template) = body.templates.get(&unit.template) else {
            continue;
        };
        let calls = template
            .components
            .iter()
            .flat_map(|component| component.calls.values());
        let calls: Vec<&Call> = calls.collect();
        if !calls.is_empty() {
            let permissions = all.entry(unit.workload.clone()).or_default();
            calls.iter().for_each(|call| allow_call(permissions, realm, call));
        }
        allow_messaging(&mut all, body, &unit.workload, template);
    }
    for serve in &body.serves {
        let permissions = all.entry(serve.unit.workload.clone()).or_default();
        permissions.subscribe.insert(rpc_all(realm, &serve.unit.workload));
        if let Some(prefix) = &serve.prefix {
            permissions.subscribe.insert(format!("{prefix}.>"));
            permissions.publish.insert(FOREIGN_INBOXES.to_owned());
        }
        permissions
            .publish
            .extend(world.callers(&serve.unit.workload).map(inboxes));
    }
    for (workload, permissions) in &mut all {
        permissions.subscribe.insert(inboxes(workload));
    }
    all
}

/// A caller asks, and then sends what is too long for one message to where the callee listens for the rest.
fn allow_call(permissions: &mut Permissions, realm: &Realm, call: &Call) {
    match &call.to {
        Callee::Workload(callee) => {
            permissions.publish.insert(rpc_all(realm, callee));
            permissions.publish.insert(inboxes(callee));
        }
        Callee::Prefix(prefix) => {
            permissions.publish.insert(format!("{prefix}.>"));
            permissions.publish.insert(FOREIGN_INBOXES.to_owned());
        }
    }
}

/// Messaging that goes to the agent's own servers and has no credentials of its own goes with the workload's.
fn allow_messaging(
    all: &mut BTreeMap<WorkloadId, Permissions>,
    body: &HostSpecBody,
    workload: &WorkloadId,
    template: &Template,
) {
    let bound = template
        .components
        .iter()
        .flat_map(|component| component.bindings.values());
    let bound = bound.map(|binding| &binding.capability);
    let consumed = template.consumes.iter().map(|consume| &consume.capability);
    let capabilities: BTreeSet<_> = bound.chain(consumed).collect();
    for capability in capabilities {
        let has_own = body
            .capability_secrets
            .get(capability)
            .is_some_and(|s| s.contains_key("credentials"));
        let (subjects, stream) = match body.capabilities.get(capability) {
            Some(CapabilityOffer::MessagingNats { url: None, subjects }) => (subjects, None),
            Some(CapabilityOffer::MessagingJetstream {
                url: None,
                subjects,
                stream,
                dead_letters,
            }) => (subjects, Some((stream, dead_letters))),
            _ => continue,
        };
        if has_own {
            continue;
        }
        let permissions = all.entry(workload.clone()).or_default();
        permissions.publish.extend(subjects.iter().cloned());
        permissions.answers = true;
        match stream {
            None => {
                let taken = template
                    .consumes
                    .iter()
                    .filter(|consume| consume.capability == *capability);
                permissions
                    .subscribe
                    .extend(taken.map(|consume| consume.subject.clone()));
            }
            Some((stream, dead_letters)) => {
                permissions.publish.extend(of_stream(stream));
                permissions
                    .publish
                    .extend(dead_letters.iter().map(|subject| format!("{subject}.>")));
            }
        }
    }
}

/// What taking messages from a stream needs.
fn of_stream(stream: &str) -> [String; 6] {
    [
        format!("$JS.API.STREAM.INFO.{stream}"),
        format!("$JS.API.CONSUMER.CREATE.{stream}.>"),
        format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.>"),
        format!("$JS.API.CONSUMER.INFO.{stream}.>"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.>"),
        format!("$JS.ACK.{stream}.>"),
    ]
}

fn inboxes(workload: &WorkloadId) -> String {
    format!("{}.>", workload_inbox_prefix(workload))
}
