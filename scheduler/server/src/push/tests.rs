//! When a host is pushed to, and what of.

use super::*;

fn host() -> HostId {
    HostId::parse("h").unwrap()
}

fn recipient() -> Recipient {
    Recipient {
        host: host(),
        boot_id: BootId::new("b"),
        seal_key: String::new(),
        takes_deltas: true,
    }
}

fn body(count: u32) -> HostSpecBody {
    let unit = heddle_protocol::host_spec::Unit {
        workload: "w".parse().unwrap(),
        generation: heddle_protocol::id::Generation(1),
        template: Digest::of(b"t"),
        count,
    };
    HostSpecBody {
        units: vec![unit],
        ..HostSpecBody::default()
    }
}

fn due(pusher: &mut Pusher, accepted: Option<Accepted>, now: u64) -> Option<Version> {
    let realm = Realm::parse("r").unwrap();
    pusher
        .due(&realm, &recipient(), accepted, Mono(now))
        .map(|p| p.spec.version)
}

fn answer(pusher: &mut Pusher, answer: Result<SpecAnswer, String>, head: Version, now: u64) {
    pusher.note(
        &Pushed {
            host: host(),
            boot_id: BootId::new("b"),
            answer,
            document: None,
            as_delta: false,
            secrets: Sealing::default(),
            held_back: false,
        },
        head,
        Mono(now),
        1.0,
    );
}

#[test]
fn a_host_is_pushed_to_until_its_word_agrees() {
    let mut pusher = Pusher::default();
    let head = Version { epoch: 1, n: 7 };
    pusher.want(&host(), body(1), head).unwrap();
    assert_eq!(due(&mut pusher, None, 0), Some(head));
    assert_eq!(due(&mut pusher, None, 0), None, "one push at a time");
    answer(&mut pusher, Err("lost".into()), head, 0);
    assert_eq!(due(&mut pusher, None, 50), None, "not before the pause is over");
    assert_eq!(due(&mut pusher, None, 100), Some(head));
    let accepted = Accepted {
        version: head,
        digest: pusher.wanted_digest(&host()).unwrap(),
    };
    answer(&mut pusher, Ok(SpecAnswer::Accepted(accepted)), head, 100);
    assert_eq!(due(&mut pusher, Some(accepted), 200), None);
}

#[test]
fn the_same_body_keeps_its_version_and_a_new_one_takes_the_heads() {
    let mut pusher = Pusher::default();
    pusher.want(&host(), body(1), Version { epoch: 1, n: 7 }).unwrap();
    pusher.want(&host(), body(1), Version { epoch: 1, n: 8 }).unwrap();
    assert_eq!(due(&mut pusher, None, 0), Some(Version { epoch: 1, n: 7 }));
    answer(&mut pusher, Err(String::new()), Version { epoch: 1, n: 8 }, 0);
    pusher.want(&host(), body(2), Version { epoch: 1, n: 9 }).unwrap();
    assert_eq!(due(&mut pusher, None, 0), Some(Version { epoch: 1, n: 9 }));
}

#[test]
fn a_spec_that_changed_without_a_commit_waits_for_the_next_one() {
    let mut pusher = Pusher::default();
    let head = Version { epoch: 1, n: 7 };
    pusher.want(&host(), body(1), head).unwrap();
    let held = Accepted {
        version: head,
        digest: pusher.wanted_digest(&host()).unwrap(),
    };
    pusher.want(&host(), body(2), head).unwrap();
    assert_eq!(due(&mut pusher, Some(held), 0), Some(head));
    let refused = Pushed {
        host: host(),
        boot_id: BootId::new("b"),
        answer: Ok(SpecAnswer::Refused {
            reason: SpecRefusal::Older("1.7".into()),
            accepted: Some(held),
        }),
        document: None,
        as_delta: false,
        secrets: Sealing::default(),
        held_back: false,
    };
    assert!(pusher.note(&refused, head, Mono(0), 1.0));
    assert!(pusher.needs_newer_head(&refused, head));
    let next = Version { epoch: 1, n: 8 };
    assert!(!pusher.needs_newer_head(&refused, next));
    assert_eq!(due(&mut pusher, Some(held), 100), Some(head));
    pusher.note(&refused, next, Mono(100), 1.0);
    assert_eq!(due(&mut pusher, Some(held), 1_000), Some(next));
}

#[test]
fn an_agent_that_accepts_something_else_is_not_pushed_to_without_a_pause() {
    let mut pusher = Pusher::default();
    let head = Version { epoch: 1, n: 7 };
    pusher.want(&host(), body(1), head).unwrap();
    assert!(due(&mut pusher, None, 0).is_some());
    let other = Accepted {
        version: head,
        digest: Digest::of(b"other"),
    };
    answer(&mut pusher, Ok(SpecAnswer::Accepted(other)), head, 0);
    assert_eq!(due(&mut pusher, Some(other), 50), None);
    assert!(due(&mut pusher, Some(other), 200).is_some());
}

#[test]
fn a_spec_in_doubt_is_worked_out_first_and_one_that_is_held_is_not_kept() {
    let mut pusher = Pusher::default();
    let (head, boot) = (Version { epoch: 1, n: 7 }, BootId::new("b"));
    pusher.doubt(&host());
    assert!(pusher.must_work_out(&host(), &boot, None));
    assert_eq!(pusher.wanted_digest(&host()), None);
    pusher.want(&host(), body(1), head).unwrap();
    assert!(!pusher.must_work_out(&host(), &boot, None));
    assert!(due(&mut pusher, None, 0).is_some());
    let digest = pusher.wanted_digest(&host()).unwrap();
    let held = Accepted { version: head, digest };
    answer(&mut pusher, Ok(SpecAnswer::Accepted(held)), head, 0);
    assert!(!pusher.may_be_due(&host(), &boot, Some(held), Mono(0)));
    assert!(!pusher.must_work_out(&host(), &boot, Some(held)));
    // Another start of it holds nothing.
    assert!(pusher.may_be_due(&host(), &boot, None, Mono(0)));
    assert!(pusher.must_work_out(&host(), &boot, None));
    pusher.want(&host(), body(1), Version { epoch: 1, n: 9 }).unwrap();
    assert_eq!(due(&mut pusher, None, 0), Some(head), "the same body keeps its version");
}

#[test]
fn a_host_that_took_a_document_gets_deltas_from_it_until_one_does_not_fit() {
    let (mut pusher, realm) = (Pusher::default(), Realm::parse("r").unwrap());
    let head = |n| Version { epoch: 1, n };
    let document = Arc::new(Outline::of(&[b'x'; 2_000]).unwrap());
    let from = |pusher: &mut Pusher, to: &Recipient| {
        let push = pusher.due(&realm, to, None, Mono(0)).unwrap();
        assert_eq!(push.takes_deltas, to.takes_deltas);
        push.delta_from
    };
    let pushed = |pusher: &Pusher, answer| Pushed {
        host: host(),
        boot_id: BootId::new("b"),
        answer: match answer {
            Some(reason) => Ok(SpecAnswer::Refused { reason, accepted: None }),
            None => Ok(SpecAnswer::Accepted(Accepted {
                version: head(1),
                digest: pusher.wanted_digest(&host()).unwrap(),
            })),
        },
        document: Some(document.clone()),
        as_delta: true,
        secrets: Sealing::default(),
        held_back: false,
    };
    pusher.want(&host(), body(1), head(1)).unwrap();
    assert_eq!(from(&mut pusher, &recipient()), None, "it took none yet");
    let accepted = pushed(&pusher, None);
    pusher.note(&accepted, head(1), Mono(0), 1.0);
    pusher.want(&host(), body(2), head(2)).unwrap();
    assert_eq!(from(&mut pusher, &recipient()), Some(document.clone()));
    let refused = pushed(&pusher, Some(SpecRefusal::NotKept("it is not held".into())));
    assert!(
        !pusher.note(&refused, head(2), Mono(0), 1.0),
        "the host did nothing wrong"
    );
    assert_eq!(from(&mut pusher, &recipient()), None, "whole, and at once");
    // One that says so of what came whole is not asked again without a pause.
    let refused = Pushed {
        as_delta: false,
        ..refused
    };
    assert!(pusher.note(&refused, head(2), Mono(0), 1.0));
    let due = pusher.due(&realm, &recipient(), None, Mono(50));
    assert!(due.is_none());
    pusher.want(&host(), body(9), head(2)).unwrap();
    assert_eq!(from(&mut pusher, &recipient()), None);
    let accepted = pushed(&pusher, None);
    pusher.note(&accepted, head(2), Mono(0), 1.0);
    // Another start of it has nothing, and an older agent takes no deltas.
    for n in 3..=4 {
        pusher.want(&host(), body(n), head(u64::from(n))).unwrap();
        let to = Recipient {
            boot_id: BootId::new(if n == 3 { "another" } else { "b" }),
            takes_deltas: n == 3,
            ..recipient()
        };
        assert_eq!(from(&mut pusher, &to), None, "{n}");
        answer(&mut pusher, Err("lost".into()), head(4), 0);
    }
}

#[test]
fn a_push_that_failed_is_due_again_after_its_pause_and_not_before() {
    let mut pusher = Pusher::default();
    let head = Version { epoch: 1, n: 7 };
    pusher.want(&host(), body(1), head).unwrap();
    assert!(due(&mut pusher, None, 0).is_some());
    answer(&mut pusher, Err("lost".into()), head, 0);
    assert!(pusher.retries(Mono(99)).is_empty());
    assert_eq!(pusher.retries(Mono(100)), [host()]);
    assert!(pusher.retries(Mono(100)).is_empty(), "it is told once");
}

#[test]
fn every_host_has_its_turn_although_the_first_ones_always_want_one() {
    let mut agenda = Agenda::default();
    let id = |n: u32| HostId::parse(&format!("h-{n}")).unwrap();
    (0..5).for_each(|n| agenda.insert(id(n)));
    let mut seen = Vec::new();
    for _ in 0..10 {
        seen.extend(agenda.pop());
        agenda.insert(id(0));
        agenda.insert(id(1));
    }
    assert!((0..5).all(|n| seen.contains(&id(n))), "{seen:?}");
}

#[test]
fn a_host_from_a_lost_future_gets_its_spec_signed_again() {
    let mut pusher = Pusher::default();
    pusher.want(&host(), body(1), Version { epoch: 1, n: 7 }).unwrap();
    let held = Accepted {
        version: Version { epoch: 1, n: 9 },
        digest: Digest::of(b"other"),
    };
    assert!(due(&mut pusher, Some(held), 0).is_some());
    let refused = SpecAnswer::Refused {
        reason: SpecRefusal::Older("1.9".into()),
        accepted: Some(held),
    };
    answer(&mut pusher, Ok(refused), Version { epoch: 2, n: 12 }, 0);
    assert_eq!(due(&mut pusher, Some(held), 1_000), Some(Version { epoch: 2, n: 12 }));
}
