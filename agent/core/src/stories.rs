//! Small stories of one host, told through the decisions: what is wanted, what happens, what is there.

use crate::action::Action;
use crate::fact::Fact;
use crate::report::{REPORT_BYTES_MAX, Reporter};
use crate::testing::{Host, Spec, artifact};
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::host_spec::{Compile, Feature, Wasi};
use heddle_protocol::id::BootId;

#[test]
fn a_unit_is_fetched_compiled_prepared_and_then_serves() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 2));
    assert_eq!(host.in_words(), "default/web@1 ×2 fetching");
    let fetch = host.find(|a| matches!(a, Action::FetchArtifact { .. }));
    host.finish(fetch, true);
    assert_eq!(host.in_words(), "default/web@1 ×2 compiling");
    let compile = host.find(|a| matches!(a, Action::CompileArtifact { .. }));
    host.finish(compile, true);
    assert_eq!(host.in_words(), "default/web@1 ×2 starting");
    host.finish_all();
    assert_eq!(host.in_words(), "default/web@1 ×2 ready");
    assert_eq!(host.serves("web"), [1]);
}

#[test]
fn what_the_scheduler_compiles_is_not_fetched() {
    let mut host = Host::new();
    let mut spec = Spec::default().unit("web", 1, 2);
    spec.0.compile = Compile::Precompiled;
    host.accept(&spec);
    assert!(!host.pending.iter().any(|a| matches!(a, Action::FetchArtifact { .. })));
    let compile = host.find(|a| matches!(a, Action::CompileArtifact { .. }));
    let (by, size) = match &host.pending[compile] {
        Action::CompileArtifact { by, bytes, .. } => (*by, *bytes),
        other => panic!("{other:?}"),
    };
    assert_eq!(by, Compile::Precompiled);
    assert!(size > 0, "the bytes to compile from are told as well");
    host.finish(compile, true);
    assert_eq!(host.in_words(), "default/web@1 ×2 starting");
    host.finish_all();
    assert_eq!(host.in_words(), "default/web@1 ×2 ready");
}

#[test]
fn the_old_generation_serves_until_the_spec_drops_it() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 2));
    host.finish_all();
    host.accept(&Spec::default().unit("web", 1, 2).unit("web", 2, 2));
    assert_eq!(host.serves("web"), [1]);
    host.finish_all();
    assert_eq!(host.serves("web"), [1, 2]);
    host.accept(&Spec::default().unit("web", 2, 2));
    assert_eq!(host.in_words(), "default/web@1 ×2 draining\ndefault/web@2 ×2 ready");
    assert_eq!(host.serves("web"), [2]);
    host.finish_all();
    assert_eq!(host.in_words(), "default/web@2 ×2 ready");
}

#[test]
fn a_call_that_never_ends_holds_its_unit_no_longer_than_the_deadline() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 1));
    host.finish_all();
    host.accept(&Spec::default());
    host.finish(0, false);
    host.pass(9_999);
    assert_eq!(host.in_words(), "default/web@1 ×1 draining");
    host.pass(1);
    assert_eq!(host.in_words(), "");
    assert!(host.held.is_empty());
}

#[test]
fn a_unit_wanted_again_while_it_drains_begins_a_new_run() {
    let mut host = Host::new();
    let spec = Spec::default().unit("web", 1, 1);
    host.accept(&spec);
    host.finish_all();
    host.accept(&Spec::default());
    host.accept(&spec);
    assert_eq!(host.in_words(), "default/web@1 ×1 draining\ndefault/web@1 ×1 starting");
    host.finish_all();
    assert_eq!(host.in_words(), "default/web@1 ×1 ready");
    assert_eq!(host.serves("web"), [1]);
}

#[test]
fn a_generation_number_used_again_with_another_template_is_another_run() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 1));
    host.finish_all();
    host.accept(&Spec::default().unit_that_needs("web", 1, 1, [Feature::WASI_P2, Feature::HTTP]));
    assert_eq!(host.in_words(), "default/web@1 ×1 draining\ndefault/web@1 ×1 starting");
    host.finish_all();
    assert_eq!(host.in_words(), "default/web@1 ×1 ready");
}

#[test]
fn scaling_resizes_the_unit_and_restarts_nothing() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 1));
    host.finish_all();
    let before = host.held.clone();
    host.accept(&Spec::default().unit("web", 1, 20));
    assert_eq!(host.pending, []);
    assert_eq!(host.held.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert_eq!(host.held.values().next().unwrap().1, 20);
}

#[test]
fn scaling_while_it_starts_is_caught_up_when_it_is_ready() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 1));
    while !host.pending.iter().any(|a| matches!(a, Action::PrepareUnit { .. })) {
        host.finish(0, true);
    }
    host.accept(&Spec::default().unit("web", 1, 7));
    host.finish_all();
    assert_eq!(host.held.values().next().unwrap().1, 7);
}

#[test]
fn a_unit_that_needs_an_unknown_feature_is_refused_and_others_run() {
    let mut host = Host::new();
    host.accept(
        &Spec::default()
            .unit_that_needs("odd", 1, 1, [Feature::WASI_P3, Feature::custom("teleport")])
            .unit("web", 1, 1),
    );
    host.finish_all();
    host.pass(60_000);
    assert_eq!(
        host.in_words(),
        "default/odd@1 ×1 refused: this agent lacks teleport, wasi-p3\ndefault/web@1 ×1 ready"
    );
}

#[test]
fn an_instance_that_is_too_large_for_this_agent_is_refused() {
    let mut host = Host::new();
    let mut spec = Spec::default().unit("web", 1, 1);
    for template in spec.0.templates.values_mut() {
        let mut large = (**template).clone();
        large.limits.memory_bytes = 65 << 20;
        *template = large.into();
    }
    host.accept(&spec);
    assert_eq!(
        host.in_words(),
        "default/web@1 ×1 refused: an instance may have 68157440 bytes of memory, and at most 67108864 fit here"
    );
}

#[test]
fn a_crash_looping_unit_waits_longer_each_time_and_disturbs_no_neighbour() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("bad", 1, 1).unit("web", 1, 1));
    let mut pauses = Vec::new();
    for _ in 0..9 {
        while let Some(i) = host
            .pending
            .iter()
            .position(|a| !matches!(a, Action::PrepareUnit { .. }))
        {
            host.finish(i, true);
        }
        while let Some(i) = host
            .pending
            .iter()
            .position(|a| matches!(a, Action::PrepareUnit { .. }))
        {
            let bad =
                matches!(&host.pending[i], Action::PrepareUnit { unit, .. } if unit.workload.name.as_str() == "bad");
            host.finish(i, !bad);
        }
        assert_eq!(
            host.in_words(),
            "default/bad@1 ×1 failed: it traps\ndefault/web@1 ×1 ready"
        );
        assert_eq!(host.serves("web"), [1]);
        let wake_at = host.running.wake_at().unwrap();
        pauses.push(wake_at.since(host.now) / 100);
        host.now = wake_at;
        host.tell(Fact::TimePassed);
    }
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(*pauses.last().unwrap() <= 300, "{pauses:?}");
}

#[test]
fn a_failed_fetch_is_tried_again_soon_after_the_link_is_back() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 1));
    for _ in 0..8 {
        let fetch = host.find(|a| matches!(a, Action::FetchArtifact { .. }));
        host.finish(fetch, false);
        assert!(host.in_words().ends_with("failed: nobody answers"));
        host.now = host.running.wake_at().unwrap();
        host.tell(Fact::TimePassed);
    }
    let fetch = host.find(|a| matches!(a, Action::FetchArtifact { .. }));
    host.finish(fetch, false);
    host.tell(Fact::LinkRestored);
    assert!(host.running.wake_at().unwrap().since(host.now) <= 500);
}

#[test]
fn a_component_that_cannot_be_compiled_is_refused_for_good() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 1));
    let fetch = host.find(|a| matches!(a, Action::FetchArtifact { .. }));
    host.finish(fetch, true);
    let (digest, wasi) = (artifact("web", 1), Wasi::P2);
    host.tell(Fact::ComponentCompileFailed {
        digest,
        wasi,
        reason: "not a component".into(),
        for_good: true,
    });
    assert_eq!(host.in_words(), "default/web@1 ×1 refused: not a component");
    assert_eq!(host.running.wake_at(), None);
    host.finish_all();
    host.accept(&Spec::default());
    assert_eq!(host.in_words(), "");
}

#[test]
fn a_deleted_cache_is_filled_again() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 1));
    let fetch = host.find(|a| matches!(a, Action::FetchArtifact { .. }));
    host.finish(fetch, true);
    let compile = host.find(|a| matches!(a, Action::CompileArtifact { .. }));
    host.finish(compile, false);
    assert_eq!(host.in_words(), "default/web@1 ×1 fetching");
    host.finish_all();
    assert_eq!(host.in_words(), "default/web@1 ×1 ready");
}

#[test]
fn two_workloads_of_one_artifact_share_one_fetch_and_one_compile() {
    let mut host = Host::new();
    let mut spec = Spec::default().unit("a", 1, 1).unit("b", 1, 1);
    let shared = spec.0.units[0].template;
    spec.0.units[1].template = shared;
    host.accept(&spec);
    assert_eq!(
        host.pending
            .iter()
            .filter(|a| matches!(a, Action::FetchArtifact { .. }))
            .count(),
        1
    );
    let fetch = host.find(|a| matches!(a, Action::FetchArtifact { .. }));
    host.finish(fetch, true);
    assert_eq!(
        host.pending
            .iter()
            .filter(|a| matches!(a, Action::CompileArtifact { .. }))
            .count(),
        1
    );
    host.finish_all();
    assert_eq!(host.in_words(), "default/a@1 ×1 ready\ndefault/b@1 ×1 ready");
}

#[test]
fn a_unit_waits_for_its_listener_and_says_so() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 1));
    let listener = host.find(|a| matches!(a, Action::SetCapability { .. }));
    host.finish(listener, false);
    while let Some(i) = host
        .pending
        .iter()
        .position(|a| !matches!(a, Action::SetCapability { .. }))
    {
        host.finish(i, true);
    }
    let report = Reporter::new(BootId::new("b")).full(&host.running, None).remove(0);
    assert_eq!(report.units[0].phase, UnitPhase::Starting);
    assert_eq!(
        report.units[0].reason.as_deref(),
        Some("waits for capability web: address in use")
    );
    assert_eq!(report.capability_errors.len(), 1);
    host.now = host.running.wake_at().unwrap();
    host.tell(Fact::TimePassed);
    host.finish_all();
    assert_eq!(host.in_words(), "default/web@1 ×1 ready");
}

#[test]
fn a_listener_goes_only_after_its_last_unit_has_drained() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 1));
    host.finish_all();
    host.accept(&Spec::default());
    assert_eq!(host.lent.len(), 1);
    host.finish_all();
    assert_eq!(host.lent.len(), 0);
}

#[test]
fn a_unit_that_comes_up_after_it_was_given_up_is_let_go() {
    let mut host = Host::new();
    host.accept(&Spec::default().unit("web", 1, 1));
    while !host.pending.iter().any(|a| matches!(a, Action::PrepareUnit { .. })) {
        host.finish(0, true);
    }
    host.accept(&Spec::default());
    host.finish_all();
    assert!(host.held.is_empty());
    assert_eq!(host.in_words(), "");
}

#[test]
fn compiled_code_is_kept_for_ten_minutes_and_then_forgotten() {
    let mut host = Host::new();
    let spec = Spec::default().unit("web", 1, 1);
    host.accept(&spec);
    host.finish_all();
    host.accept(&Spec::default());
    host.finish_all();
    host.pass(599_000);
    host.accept(&spec);
    assert!(
        !host
            .pending
            .iter()
            .any(|a| matches!(a, Action::FetchArtifact { .. } | Action::CompileArtifact { .. }))
    );
    host.finish_all();
    host.accept(&Spec::default());
    host.finish_all();
    host.pass(600_000);
    host.accept(&spec);
    assert!(host.pending.iter().any(|a| matches!(a, Action::CompileArtifact { .. })));
}

#[test]
fn a_report_says_only_what_changed_and_numbers_every_message() {
    let mut host = Host::new();
    let mut reporter = Reporter::new(BootId::new("b"));
    host.accept(&Spec::default().unit("a", 1, 1).unit("b", 1, 1));
    host.finish_all();
    let first = reporter.changes(&host.running, None);
    assert_eq!(first[0].units.len(), 2);
    assert_eq!(reporter.changes(&host.running, None), []);
    host.accept(&Spec::default().unit("a", 1, 3));
    host.finish_all();
    let second = reporter.changes(&host.running, None);
    assert_eq!((second[0].units.len(), second[0].units[0].count), (1, 3));
    assert_eq!(second[0].removed.len(), 1);
    assert_eq!((first[0].status_seq, second[0].status_seq), (1, 2));
    assert_ne!(first[0].running_digest, second[0].running_digest);
    assert!(reporter.full(&host.running, None)[0].full);
}

#[test]
fn a_large_report_is_split_below_the_message_limit() {
    let mut host = Host::new();
    let spec = (0..4_000).fold(Spec::default(), |spec, i| {
        spec.unit_that_needs(&format!("{}-{i}", "x".repeat(50)), 1, 1, [Feature::WASI_P3])
    });
    host.accept(&spec);
    let messages = Reporter::new(BootId::new("b")).changes(&host.running, None);
    assert!(messages.len() > 1);
    for (i, message) in messages.iter().enumerate() {
        assert_eq!(message.status_seq, i as u64 + 1);
        assert!(serde_json::to_vec(message).unwrap().len() <= REPORT_BYTES_MAX + 4_096);
    }
    assert_eq!(messages.iter().map(|m| m.units.len()).sum::<usize>(), 4_000);
}
