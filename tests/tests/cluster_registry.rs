//! Images from a real OCI registry behind a login: pulled, refused, moved, signed; and a registry that is gone.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use heddle_protocol::api::ErrorCode;
use heddle_protocol::digest::Digest;
use heddle_tests::binary;
use heddle_tests::cluster::{Failed, Outcome, cluster};
use heddle_tests::docker_registry::{DockerRegistry, Layer};
use heddle_tests::fleet::FleetOptions;
use heddle_tests::fleet::ask::RUNS_WITHIN;
use heddle_tests::manifest::{PLATFORM, Workload, hello, together};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::json;
use std::time::Duration;
use tempfile::TempDir;

/// How soon a fact that needs no compiling is there, on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// A registry outside of the fleet's own folder, and the scheduler's file of logins.
struct Images {
    registry: DockerRegistry,
    folder: TempDir,
}

impl Images {
    /// Starts a registry, from the test's own thread: processes end with the thread that started them. The scheduler logs
    /// in as `login`, or rightly.
    fn start(login: Option<&str>) -> Result<Self, Failed> {
        let start = || -> Result<Self> {
            let folder = tempfile::Builder::new().prefix("heddle-registry-").tempdir()?;
            let (images, log) = (folder.path().join("registry"), folder.path().join("registry.log"));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let registry = runtime.block_on(DockerRegistry::start(&images, &log))?;
            let logins = match login {
                Some(login) => registry.docker_config_of(login),
                None => registry.docker_config(),
            };
            std::fs::write(folder.path().join("config.json"), logins)?;
            Ok(Self { registry, folder })
        };
        start().map_err(|error| Failed::new(&format!("{error:#}")))
    }

    fn options(&self) -> FleetOptions {
        let logins = self.folder.path().join("config.json");
        FleetOptions::hosts(1)
            .scheduler_flag(format!("--registry-config={}", logins.display()))
            .scheduler_flag(format!("--registry-plain-http={}", self.registry.host()))
    }

    async fn push(&self, tag: &str, guest: &str) -> Result<Digest> {
        let layers = [Layer::component(binary::guest(guest)?)];
        self.registry.push("shop/web", tag, &layers).await
    }

    fn image(&self, tag: &str) -> String {
        self.registry.image("shop/web", tag)
    }
}

#[test]
fn an_image_behind_a_login_runs_moves_with_its_tag_and_outlives_its_registry() -> Outcome {
    let mut images = Images::start(None)?;
    cluster(images.options(), async |fleet| {
        images.push("latest", "probe-v1.wasm").await?;
        let web = Workload::new("web", &images.image("latest")).keyvalue().yaml();
        fleet.apply_and_wait(&together([PLATFORM, &web])).await?;
        ensure!(fleet.serves("host-1", "/web/version", SOON).await? == "v1");

        // A tag that moves moves nothing that runs, until the manifest is applied again.
        images.push("latest", "probe-v2.wasm").await?;
        let before = fleet.status("web").await?.generation;
        ensure!(fleet.serves("host-1", "/web/version", SOON).await? == "v1");
        fleet.apply_and_wait(&web).await?;
        ensure!(
            fleet.status("web").await?.generation > before,
            "the tag was not resolved anew"
        );
        ensure!(fleet.serves("host-1", "/web/version", SOON).await? == "v2");

        images.registry.kill()?;
        fleet.scheduler().kill()?;
        fleet.scheduler().start_again()?;
        let data = {
            let agent = fleet.agent("host-1")?;
            agent.process.kill()?;
            agent.data.clone()
        };
        // As a host with an empty disk would: from the scheduler, which does not ask the registry again.
        std::fs::remove_dir_all(data.join("artifacts")).ok();
        std::fs::remove_dir_all(data.join("compiled")).ok();
        fleet.agent("host-1")?.process.start_again()?;
        fleet.settled("web", RUNS_WITHIN).await?;
        ensure!(fleet.serves("host-1", "/web/version", RUNS_WITHIN).await? == "v2");
        let error = fleet.apply_refused(&web).await?;
        ensure!(
            error.code == ErrorCode::Artifact && error.next.contains("registry is up"),
            "{error:?}"
        );
        images.registry.start_again().await?;
        fleet.apply_and_wait(&web).await.map(drop)
    })
}

#[test]
fn a_wrong_password_is_refused_with_the_reason_and_told_to_nobody() -> Outcome {
    const WRONG: &str = "never-to-be-seen";
    let images = Images::start(Some(&format!("user:{WRONG}")))?;
    cluster(images.options(), async |fleet| {
        images.push("1", "hello.wasm").await?;
        let image = images.image("1");
        let web = Workload::new("web", &image).yaml();
        let error = fleet.apply_refused(&together([PLATFORM, &web])).await?;
        let said = format!("{error:?}");
        ensure!(
            error.code == ErrorCode::Artifact && error.message.contains(&image),
            "{said}"
        );
        ensure!(
            said.to_lowercase().contains("authoriz") || said.to_lowercase().contains("auth"),
            "no word of the login: {said}"
        );
        ensure!(!said.contains(WRONG) && !said.contains(&BASE64.encode(format!("user:{WRONG}"))));
        ensure!(!fleet.scheduler().log().contains(WRONG), "the log has the password");
        Ok(())
    })
}

/// Signs an image as `cosign sign --key` does, and pushes that.
async fn sign(images: &Images, key: &SigningKey, manifest: &Digest) -> Result<()> {
    let payload = json!({
        "critical": {
            "identity": { "docker-reference": "" },
            "image": { "docker-manifest-digest": manifest.to_string() },
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string();
    let signature: Signature = key.sign(payload.as_bytes());
    let layer = Layer {
        media_type: "application/vnd.dev.cosign.simplesigning.v1+json".to_owned(),
        bytes: payload.into(),
        annotations: json!({ "dev.cosignproject.cosign/signature": BASE64.encode(signature.to_der()) }),
    };
    let tag = format!("sha256-{}.sig", manifest.hex());
    images.registry.push("shop/web", &tag, &[layer]).await.map(drop)
}

#[test]
fn a_namespace_with_a_policy_takes_signed_images_only() -> Outcome {
    let images = Images::start(None)?;
    cluster(images.options(), async |fleet| {
        let (mine, other) = (SigningKey::from_slice(&[7; 32])?, SigningKey::from_slice(&[8; 32])?);
        let pem = mine.verifying_key().to_public_key_pem(LineEnding::LF)?;
        let policy = json!({
            "apiVersion": "heddle.dev/v1", "kind": "Policy", "metadata": { "name": "signed" },
            "spec": { "signatures": { "cosign": [{ "publicKey": pem }] } },
        })
        .to_string()
            + "\n";
        let manifest = images.push("1", "hello.wasm").await?;
        let web = Workload::new("web", &images.image("1")).yaml();
        // A policy holds for what comes with it.
        let both = together([PLATFORM, &policy, &web]);
        let error = fleet.apply_refused(&both).await?;
        ensure!(error.message.contains("has no signature"), "{error:?}");
        sign(&images, &other, &manifest).await?;
        let error = fleet.apply_refused(&both).await?;
        ensure!(error.message.contains("none of the policy's keys"), "{error:?}");
        sign(&images, &mine, &manifest).await?;
        fleet.apply_and_wait(&both).await?;
        fleet.serves("host-1", "/web", SOON).await?;

        // What is uploaded was signed by nobody.
        let error = fleet
            .apply_refused(&Workload::new("counter", "file:c-hello.wasm").yaml())
            .await?;
        ensure!(error.message.contains("come from a registry"), "{error:?}");
        // But for what was verified already, also by a scheduler that only read of it.
        fleet.scheduler().kill()?;
        fleet.scheduler().start_again()?;
        let again = hello("again").yaml();
        fleet
            .apply_and_wait(&again)
            .await
            .context("the same bytes were verified")?;
        Ok(())
    })
}
