//! Running one test against a fleet of its own: started, given to the test, and told about when the test fails.

use crate::fleet::{Fleet, FleetOptions};
use anyhow::{Context as _, Result, anyhow};
use std::fmt;
use std::fs::File;
use std::time::Duration;

/// No test of a fleet takes longer; the slowest compiles several guests on a busy machine.
const TEST_WITHIN: Duration = Duration::from_secs(150);

/// What a test of a fleet returns.
pub type Outcome = Result<(), Failed>;

/// Why a test failed. Printed as it is: the text has all that matters, and a backtrace would be the runtime's.
#[derive(Clone)]
pub struct Failed(String);

impl Failed {
    /// A failure outside of the fleet.
    pub fn new(why: &dyn fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Starts a fleet, runs the test, and ends the fleet. When the test fails, the ends of all logs are part of the error
/// and the fleet's folder is kept.
pub fn cluster(options: FleetOptions, test: impl AsyncFnOnce(&mut Fleet) -> Result<()>) -> Outcome {
    run(&options, test).map_err(|error| Failed(format!("{error:#}")))
}

fn run(options: &FleetOptions, test: impl AsyncFnOnce(&mut Fleet) -> Result<()>) -> Result<()> {
    let _turn = turn()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut fleet = Fleet::start(options).await?;
        let tested = tokio::time::timeout(TEST_WITHIN, test(&mut fleet)).await;
        let tested = tested.unwrap_or_else(|_| Err(anyhow!("the test did not end within {TEST_WITHIN:?}")));
        tested.map_err(|error| {
            let tails = fleet.tails();
            let kept = fleet.keep();
            anyhow!("{error:#}\n{tails}--- all of it is in {}", kept.display())
        })
    })
}

/// Waits for this program's turn: two fleets at once on two cores would measure each other, whoever runs the tests.
pub fn turn() -> Result<File> {
    let path = std::env::temp_dir().join("heddle-fleet.lock");
    let file = File::create(&path).with_context(|| format!("failed to open {}", path.display()))?;
    file.lock().context("failed to wait for the turn")?;
    Ok(file)
}
