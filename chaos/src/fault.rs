//! The faults: what is done to which process, for how long, and how it is undone.

use anyhow::Result;
use heddle_tests::fleet::Fleet;
use heddle_tests::fleet::ask::RUNS_WITHIN;
use rand::Rng;
use std::fmt;
use std::time::Duration;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// An agent ends as in a crash
    KillAgent,
    /// The scheduler ends as in a crash
    KillScheduler,
    /// nats-server ends as in a crash
    KillNats,
    /// An agent is told to stop
    StopAgent,
    /// An agent halts and goes on later
    FreezeAgent,
    /// The scheduler halts and goes on later
    FreezeScheduler,
    /// nats-server halts and goes on later
    FreezeNats,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillAgent => "kill-agent",
            Self::KillScheduler => "kill-scheduler",
            Self::KillNats => "kill-nats",
            Self::StopAgent => "stop-agent",
            Self::FreezeAgent => "freeze-agent",
            Self::FreezeScheduler => "freeze-scheduler",
            Self::FreezeNats => "freeze-nats",
        })
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is done.
    pub kind: Kind,
    /// To which host's agent, counted from 1, if it is one's.
    agent: usize,
    /// For how long.
    held: Duration,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host() {
            Some(host) => write!(f, "{} of {host} for {:?}", self.kind, self.held),
            None => write!(f, "{} for {:?}", self.kind, self.held),
        }
    }
}

impl Fault {
    /// Draws the fault number `n`.
    pub fn draw(dice: &mut impl Rng, kinds: &[Kind], n: usize, hosts: usize) -> Self {
        let any = dice.random_range(0..kinds.len());
        let kind = kinds.get(n).copied().unwrap_or(kinds[any]);
        // From shorter than a heartbeat to well beyond the silence after which a host is lost.
        let held = Duration::from_millis(dice.random_range(100..6_000));
        Self {
            kind,
            agent: dice.random_range(1..=hosts),
            held,
        }
    }

    /// The host that it touches, if it is one host's fault.
    pub fn host(&self) -> Option<String> {
        let touches = matches!(self.kind, Kind::KillAgent | Kind::StopAgent | Kind::FreezeAgent);
        touches.then(|| format!("host-{}", self.agent))
    }

    /// Does it.
    pub(crate) fn begin(&self, fleet: &mut Fleet) -> Result<()> {
        let agent = format!("host-{}", self.agent);
        match self.kind {
            Kind::KillAgent => fleet.agent(&agent)?.process.kill(),
            Kind::StopAgent => fleet.agent(&agent)?.process.terminate(),
            Kind::FreezeAgent => fleet.agent(&agent)?.process.freeze(),
            Kind::KillScheduler => fleet.scheduler().kill(),
            Kind::FreezeScheduler => fleet.scheduler().freeze(),
            Kind::KillNats => fleet.nats().kill(),
            Kind::FreezeNats => fleet.nats().process().freeze(),
        }
    }

    /// Lets it last.
    pub(crate) async fn hold(&self) {
        tokio::time::sleep(self.held).await;
    }

    /// Undoes it.
    pub(crate) async fn end(&self, fleet: &mut Fleet) -> Result<()> {
        let agent = format!("host-{}", self.agent);
        match self.kind {
            Kind::KillAgent => fleet.agent(&agent)?.process.start_again(),
            Kind::StopAgent => {
                let process = &mut fleet.agent(&agent)?.process;
                process.ended(RUNS_WITHIN).await?;
                process.start_again()
            }
            Kind::FreezeAgent => fleet.agent(&agent)?.process.thaw(),
            Kind::KillScheduler => fleet.scheduler().start_again(),
            Kind::FreezeScheduler => fleet.scheduler().thaw(),
            Kind::KillNats => fleet.nats().start_again().await,
            Kind::FreezeNats => fleet.nats().process().thaw(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    #[test]
    fn a_seed_repeats_its_faults_and_every_kind_comes_first() {
        let kinds = [Kind::KillAgent, Kind::KillNats, Kind::StopAgent];
        let draw = |seed| {
            let mut dice = StdRng::seed_from_u64(seed);
            (0..20)
                .map(|n| Fault::draw(&mut dice, &kinds, n, 3))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(draw(7)[..3].iter().map(|fault| fault.kind).collect::<Vec<_>>(), kinds);
    }
}
