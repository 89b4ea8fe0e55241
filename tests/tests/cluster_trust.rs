//! What must not be believed: forged and old specs, requests that were used before, wrong tokens, bad manifests.

#[path = "../../protocol/tests/manifests/corpus.rs"]
mod corpus;

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::Subscriber;
use futures::StreamExt as _;
use heddle_protocol::api::apply::Apply;
use heddle_protocol::api::hosts::{HostState, MakeJoinToken};
use heddle_protocol::api::{self, ErrorCode, Response};
use heddle_protocol::defaults::CHUNKED_BYTES_MAX;
use heddle_protocol::envelope::{self, Kept, Kind};
use heddle_protocol::host_report::{SpecAnswer, SpecRefusal};
use heddle_protocol::host_spec::{HostSpec, HostSpecBody};
use heddle_protocol::id::{BootId, HostId, Namespace, RequestId};
use heddle_protocol::manifest;
use heddle_protocol::sign::SigningKey;
use heddle_protocol::subject::{HostVerb, Subject};
use heddle_tests::cluster::{Outcome, cluster};
use heddle_tests::fleet::ask::{RUNS_WITHIN, refused};
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::manifest::{PLATFORM, hello, probe, together};
use heddle_tests::until::{eventually, throughout};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

/// Listens to what the scheduler pushes to a host.
async fn overhear(fleet: &Fleet, host: &str) -> Result<Overheard> {
    let subject = spec_subject(fleet, host)?;
    let messages = fleet.client().nats().subscribe(subject).await?;
    fleet.client().nats().flush().await?;
    let kept = Kept::default();
    Ok(Overheard { messages, kept })
}

/// The specs that are pushed to a host, deltas made whole.
struct Overheard {
    messages: Subscriber,
    kept: Kept,
}

fn spec_subject(fleet: &Fleet, host: &str) -> Result<String> {
    Ok(Subject::Host(fleet.realm()?, HostId::parse(host)?, HostVerb::Spec).to_string())
}

/// The next spec with so many units that is pushed, as it was signed.
async fn next_spec(heard: &mut Overheard, units: usize) -> Result<(Vec<u8>, HostSpec)> {
    loop {
        let message = tokio::time::timeout(SOON, heard.messages.next())
            .await
            .context("no such spec was pushed")?
            .context("no NATS")?;
        let whole = heard.kept.whole(&message.payload, CHUNKED_BYTES_MAX)?;
        let whole = whole.unwrap_or_else(|| message.payload.to_vec());
        heard.kept.keep(&whole);
        let spec: HostSpec = envelope::read("spec", envelope::open(&whole)?.payload)?;
        if spec.body.units.len() == units {
            return Ok((whole, spec));
        }
    }
}

async fn push(fleet: &Fleet, host: &str, bytes: Vec<u8>) -> Result<SpecAnswer> {
    let subject = spec_subject(fleet, host)?;
    let asked = fleet.client().nats().request(subject, bytes.into());
    let answer = tokio::time::timeout(SOON, asked)
        .await
        .context("the agent does not answer")??;
    Ok(serde_json::from_slice(&answer.payload)?)
}

fn sealed(spec: &HostSpec, key: &SigningKey) -> Result<Vec<u8>> {
    Ok(envelope::seal(Kind::Spec, &serde_json::to_vec(spec)?, key)?)
}

#[test]
fn an_agent_refuses_forged_replayed_and_misdirected_specs_and_runs_on() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        // From the first one on: what follows may be a delta from it.
        let mut heard = overhear(fleet, "host-1").await?;
        fleet
            .apply_and_wait(&together([PLATFORM, &probe("web", 1).replicas(2).yaml()]))
            .await?;
        fleet.apply_and_wait(&hello("second").replicas(2).yaml()).await?;
        let (old_bytes, _) = next_spec(&mut heard, 2).await?;
        fleet.apply_and_wait(&hello("third").replicas(2).yaml()).await?;
        let (_, current) = next_spec(&mut heard, 3).await?;
        let held = fleet
            .host_settled("host-1", SOON)
            .await?
            .accepted
            .context("no spec is held")?;

        // An empty spec with a far higher version: whoever takes it stops everything.
        let mut evil = current.clone();
        evil.body = HostSpecBody::default();
        evil.body_digest = evil.body.digest()?;
        evil.version.n += 1_000_000;
        let other_host = HostSpec {
            host: HostId::parse("host-2")?,
            ..evil.clone()
        };
        let other_boot = HostSpec {
            boot_id: BootId::new("an-earlier-start"),
            ..evil.clone()
        };
        let false_digest = HostSpec {
            body_digest: current.body_digest,
            ..evil.clone()
        };
        let realm_key = fleet.realm_key();
        let mut flipped = sealed(&evil, realm_key)?;
        if let Some(last) = flipped.last_mut() {
            *last ^= 1;
        }
        type Expected = fn(&SpecRefusal) -> bool;
        let cases: [(&str, Vec<u8>, Expected); 8] = [
            ("a replayed spec", old_bytes, |r| matches!(r, SpecRefusal::Older(_))),
            ("another key", sealed(&evil, &SigningKey::generate())?, |r| {
                matches!(r, SpecRefusal::Signature(_))
            }),
            (
                "no signature",
                envelope::wrap_unsigned(Kind::Spec, &serde_json::to_vec(&evil)?)?,
                |r| matches!(r, SpecRefusal::Signature(_)),
            ),
            ("a changed byte", flipped, |r| matches!(r, SpecRefusal::Signature(_))),
            ("another host", sealed(&other_host, realm_key)?, |r| {
                matches!(r, SpecRefusal::OtherHost(_))
            }),
            ("another boot", sealed(&other_boot, realm_key)?, |r| {
                matches!(r, SpecRefusal::OtherBoot(_))
            }),
            ("a false digest", sealed(&false_digest, realm_key)?, |r| {
                matches!(r, SpecRefusal::DigestMismatch)
            }),
            ("noise", b"\xff\x00 noise".to_vec(), |r| {
                matches!(r, SpecRefusal::Unreadable(_))
            }),
        ];
        for (what, bytes, expected) in cases {
            match push(fleet, "host-1", bytes).await.with_context(|| what.to_owned())? {
                SpecAnswer::Refused { reason, accepted } => {
                    ensure!(expected(&reason), "{what} was refused for another reason: {reason}");
                    ensure!(accepted == Some(held), "{what} changed what is held: {accepted:?}");
                }
                SpecAnswer::Accepted(_) => bail!("{what} was accepted"),
            }
            for path in ["/web/version", "/second", "/third"] {
                fleet
                    .get("host-1", path)
                    .await?
                    .ok()
                    .with_context(|| format!("after {what}"))?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_request_asked_twice_has_one_effect_and_its_id_fits_no_other_request() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        fleet.apply(PLATFORM).await?;
        let id = RequestId::new("the-same-request");
        let namespace = Namespace::fallback();
        let apply = Apply {
            documents: fleet.documents(&hello("once").yaml()).await?,
            at: None,
        };
        let (first, _) = fleet.client().ask_as(&id, &namespace, &apply, &[]).await?;
        let (second, _) = fleet.client().ask_as(&id, &namespace, &apply, &[]).await?;
        ensure!(
            first == second,
            "asked again, it answers {second:?} instead of {first:?}"
        );
        let other = Apply {
            documents: fleet.documents(&hello("twice").yaml()).await?,
            at: None,
        };
        let answer = fleet.client().ask_as(&id, &namespace, &other, &[]).await;
        ensure!(refused(answer.map(|_| ()), "apply")?.code == ErrorCode::RequestIdReused);
        // The id outlives the scheduler that heard it.
        fleet.scheduler().kill()?;
        fleet.scheduler().start_again()?;
        let (third, _) = fleet.client().ask_as(&id, &namespace, &apply, &[]).await?;
        ensure!(
            first == third,
            "after a restart it answers {third:?} instead of {first:?}"
        );
        ensure!(fleet.status("twice").await.is_err(), "the other request had an effect");
        Ok(())
    })
}

#[test]
fn every_bad_manifest_is_refused_with_its_problems_and_the_scheduler_answers_on() -> Outcome {
    let cases = corpus::read(include_str!("../../protocol/tests/manifests/bad.txt"));
    cluster(FleetOptions::hosts(1), async |fleet| {
        ensure!(cases.len() >= 200, "the corpus has only {} cases", cases.len());
        fleet
            .apply_and_wait(&together([PLATFORM, &hello("good").yaml()]))
            .await?;
        let before = fleet.info().await?.commit;
        let mut as_values = 0;
        for case in &cases {
            // What cannot be read as values at all arrives as a text where an object belongs.
            let documents = match manifest::values(case.text.as_bytes(), "corpus") {
                Ok(values) if !values.is_empty() => {
                    as_values += 1;
                    values
                }
                _ => vec![case.text.clone().into()],
            };
            let started = Instant::now();
            let refusal = fleet.refusal(&Apply { documents, at: None }).await;
            let refusal = refusal.with_context(|| format!("case {:?}:\n{}", case.name, case.text))?;
            ensure!(
                !refusal.problems.is_empty() || matches!(refusal.code, ErrorCode::BadRequest | ErrorCode::TooLarge),
                "case {:?} is refused without a problem: {refusal:?}",
                case.name
            );
            ensure!(
                started.elapsed() < Duration::from_secs(10),
                "case {:?} took {:?}",
                case.name,
                started.elapsed()
            );
        }
        ensure!(
            as_values >= 100,
            "only {as_values} of {} cases can be read as values",
            cases.len()
        );
        let started = Instant::now();
        let info = fleet.info().await?;
        ensure!(
            started.elapsed() < Duration::from_secs(10),
            "the scheduler took {:?} to answer",
            started.elapsed()
        );
        ensure!(info.commit == before, "a bad manifest was committed");
        fleet.get("host-1", "/good").await?.ok()?;
        Ok(())
    })
}

#[test]
fn requests_that_make_no_sense_are_answered_with_an_error_and_harm_nothing() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        let subject = |verb: &str| -> Result<String> {
            Ok(Subject::Api(fleet.realm()?, Namespace::fallback(), verb.to_owned()).to_string())
        };
        let unsigned = |text: &str| envelope::wrap_unsigned(Kind::Api, text.as_bytes());
        let realm = fleet.realm()?;
        let request = |v: u32, verb: &str, body: &str| {
            unsigned(&format!(
                r#"{{"v":{v},"request_id":"a-{verb}-{v}","realm":"{realm}","verb":"{verb}","namespace":"default","actor":"a","body":{body}}}"#
            ))
        };
        let cases = [
            ("noise", subject("apply")?, b"\x00\xff".to_vec()),
            ("an empty message", subject("apply")?, Vec::new()),
            ("no request", subject("apply")?, unsigned("{}")?),
            ("another body", subject("apply")?, request(1, "apply", r#"{"x":1}"#)?),
            ("another version", subject("info")?, request(99, "info", "{}")?),
            ("no such verb", subject("explode")?, request(1, "explode", "{}")?),
            (
                "a deep value",
                subject("apply")?,
                unsigned(&format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)))?,
            ),
        ];
        for (what, subject, bytes) in cases {
            let asked = fleet.client().nats().request(subject, bytes.into());
            let answer = tokio::time::timeout(SOON, asked)
                .await
                .with_context(|| format!("no answer to {what}"))??;
            let (response, _): (Response, _) = api::split("response", &answer.payload)?;
            let error = response.error.with_context(|| format!("{what} was taken"))?;
            ensure!(
                matches!(error.code, ErrorCode::BadRequest | ErrorCode::NotFound),
                "{what}: {error:?}"
            );
        }
        fleet.info().await?;
        Ok(())
    })
}

#[test]
fn a_host_joins_with_a_token_once_and_not_without_one() -> Outcome {
    cluster(FleetOptions::hosts(1).strict(), async |fleet| {
        let token = fleet.ask(&MakeJoinToken { valid_ms: 60_000 }).await?.token;
        fleet.add_agent("host-2", &[], None)?;
        fleet.add_agent("host-3", &[], Some("a-wrong-token"))?;
        fleet.add_agent("host-4", &[], Some(&token))?;
        fleet.host_in_state("host-4", HostState::Ready, RUNS_WITHIN).await?;
        fleet.add_agent("host-5", &[], Some(&token))?;
        for host in ["host-2", "host-3", "host-5"] {
            eventually(RUNS_WITHIN, &format!("{host} is told that it is refused"), async || {
                let log = fleet.agent(host)?.process.log();
                ensure!(log.contains("token"), "nothing of a token in its log");
                Ok(())
            })
            .await?;
        }
        throughout(
            Duration::from_secs(2),
            "nobody joins without a token of their own",
            async || {
                for host in ["host-2", "host-3", "host-5"] {
                    ensure!(fleet.host(host).await.is_err(), "{host} joined");
                }
                Ok(())
            },
        )
        .await?;
        // Who has joined needs no token again.
        fleet.agent("host-4")?.process.kill()?;
        fleet.agent("host-4")?.process.recipe_mut().env.clear();
        fleet.agent("host-4")?.process.start_again()?;
        let boot = fleet.host("host-4").await?.boot_id;
        eventually(RUNS_WITHIN, "host-4 is back", async || {
            let status = fleet.host("host-4").await?;
            ensure!(
                status.state == HostState::Ready && status.boot_id != boot,
                "{status:#?}"
            );
            Ok(())
        })
        .await
    })
}

#[test]
fn a_scheduler_that_wants_signatures_takes_those_of_its_keys_only() -> Outcome {
    let (operator, stranger) = (SigningKey::generate(), SigningKey::generate());
    cluster(FleetOptions::hosts(1).signed_by(Arc::new(operator)), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &hello("web").yaml()]))
            .await?;
        for key in [None, Some(Arc::new(stranger))] {
            let client = fleet.client_signed_by(key).await?;
            let apply = Apply {
                documents: fleet.documents(&hello("evil").yaml()).await?,
                at: None,
            };
            let answer = client.ask(&Namespace::fallback(), &apply, &[]).await;
            ensure!(refused(answer.map(|_| ()), "apply")?.code == ErrorCode::Forbidden);
        }
        ensure!(fleet.status("evil").await.is_err(), "an unsigned apply had an effect");
        Ok(())
    })
}
