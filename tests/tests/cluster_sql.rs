//! `ledger.yaml` of the examples on a fleet of real processes against a real PostgreSQL: entries that every host sees, the
//! password as a secret, and a server that dies and comes back. Needs what `cargo xtask postgres` finds.

use anyhow::{Result, ensure};
use bytes::Bytes;
use heddle_tests::cluster::{Failed, Outcome, cluster};
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::http::{self, Answer};
use heddle_tests::manifest::{PLATFORM, example, together};
use heddle_tests::postgres::{PASSWORD, Postgres};
use heddle_tests::until::eventually;
use serde_json::json;
use std::time::Duration;
use tempfile::TempDir;

/// A host opens its first connection, or a server reads its log after a crash, on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// Where the example says that the server is. It asks for no password there; the one of these tests does.
const EXAMPLE: &str = "postgres: { url: \"postgres://ledger@127.0.0.1:5432/postgres\", maxConnections: 4 }\n";

/// A folder with a password, and the scheduler's configuration that names the folder.
fn secrets(password: &str) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let files = folder.path().join("files");
    std::fs::create_dir_all(&files)?;
    std::fs::write(files.join("password"), password)?;
    let config = json!({ "dev": { "kind": "file", "root": files } });
    std::fs::write(folder.path().join("backends.json"), config.to_string())?;
    Ok(folder)
}

fn options(secrets: &TempDir, hosts: usize) -> FleetOptions {
    let config = secrets.path().join("backends.json");
    FleetOptions::hosts(hosts).scheduler_flag(format!("--secrets-config={}", config.display()))
}

/// The example with the test's own server, beside the listener.
fn ledger(server: &Postgres) -> Result<String> {
    let manifest = example("ledger.yaml")?;
    ensure!(manifest.contains(EXAMPLE), "the example names another server");
    let lent = format!(
        "postgres: {{ url: \"{}\", maxConnections: 4 }}\n      secrets: {{ password: {{ from: dev, path: password }} }}\n",
        server.url()
    );
    Ok(together([PLATFORM, &manifest.replace(EXAMPLE, &lent)]))
}

async fn send(fleet: &Fleet, host: &str, method: &str, path: &str) -> Result<Answer> {
    http::send(fleet.web(host)?, method, path, None, Bytes::new()).await
}

/// Waits until a host knows a balance.
async fn balance(fleet: &Fleet, host: &str, account: &str, expected: &str) -> Result<()> {
    eventually(SOON, &format!("{host} has {expected} for {account}"), async || {
        let answer = send(fleet, host, "GET", &format!("/ledger/{account}")).await?;
        ensure!(answer.ok()?.trim() == expected, "{answer:?}");
        Ok(())
    })
    .await
}

#[test]
fn a_ledger_in_postgres_is_the_same_on_every_host_and_outlives_its_server() -> Outcome {
    let secrets = secrets(PASSWORD).map_err(|error| Failed::new(&format!("{error:#}")))?;
    cluster(options(&secrets, 2), async |fleet| {
        let mut server = Postgres::start(&fleet.folder().join("postgres.log")).await?;
        fleet.apply_and_wait(&ledger(&server)?).await?;
        balance(fleet, "host-1", "ada", "0").await?;
        for (host, amount, after) in [("host-1", "500", "500"), ("host-2", "-20", "480")] {
            let booked = send(fleet, host, "POST", &format!("/ledger/ada?amount={amount}")).await?;
            ensure!(booked.ok()?.trim() == after, "{booked:?}");
        }
        // The name of an account is a parameter, whatever it says.
        let hostile = "x');DROP%20TABLE%20entries;--";
        let booked = send(fleet, "host-1", "POST", &format!("/ledger/{hostile}?amount=7")).await?;
        ensure!(booked.ok()?.trim() == "7", "{booked:?}");
        balance(fleet, "host-2", "ada", "480").await?;

        // While the server is gone callers are told, and what it kept is there when it is back.
        server.kill()?;
        let refused = send(fleet, "host-1", "GET", "/ledger/ada").await?;
        ensure!(
            refused.status == 500 && refused.text().contains("failed to ask the database"),
            "{refused:?}"
        );
        server.start_again().await?;
        balance(fleet, "host-1", "ada", "480").await?;
        balance(fleet, "host-2", "ada", "480").await
    })
}

#[test]
fn a_ledger_with_a_wrong_password_says_so_and_serves_once_the_right_one_is_there() -> Outcome {
    const WRONG: &str = "not-the-password";
    let secrets = secrets(WRONG).map_err(|error| Failed::new(&format!("{error:#}")))?;
    let options = options(&secrets, 1).scheduler_flag("--secrets-poll=1s".to_owned());
    cluster(options, async |fleet| {
        let server = Postgres::start(&fleet.folder().join("postgres.log")).await?;
        fleet.apply_and_wait(&ledger(&server)?).await?;
        let refused = send(fleet, "host-1", "GET", "/ledger/ada").await?;
        let text = refused.text();
        ensure!(
            refused.status == 500 && text.contains("password authentication failed") && !text.contains(WRONG),
            "{refused:?}"
        );
        // The capability goes on with the new one: nothing is applied, and no agent starts again.
        std::fs::write(secrets.path().join("files").join("password"), PASSWORD)?;
        balance(fleet, "host-1", "ada", "0").await
    })
}
