//! How an agent ends: it says so, goes on serving until its work is taken over, and lets the calls in flight finish.

use crate::run::control::Control;
use futures::future::join_all;
use heddle_protocol::defaults::DRAIN_MS;
use heddle_protocol::time::Mono;
use std::time::Duration;

/// An agent that was told to stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    /// When it stops although its work was not taken over.
    pub(super) deadline: Mono,
}

impl Control {
    /// Notes that the agent was told to stop, and says so at once.
    pub(super) fn begin_to_leave(&mut self, time: Duration) {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.leaving = Some(Leaving {
            deadline: self.now().plus(time_ms),
        });
        tracing::info!(time_ms, "leaving: serving until the work is taken over");
        self.say_alive();
    }

    /// Whether a leaving agent may end: nothing is left, its time is up, or nobody is there to take anything over.
    pub(super) fn may_stop(&self) -> bool {
        let Some(leaving) = &self.leaving else { return false };
        let empty = self.spec.units.is_empty() && self.running.runs().next().is_none();
        empty || self.now() >= leaving.deadline || !self.uplink.is_up()
    }

    /// Lets the calls in flight finish, closes the listeners, and makes sure that the last spec is on the disk.
    pub(super) async fn stop(self) {
        let runs: Vec<_> = self.running.runs().map(|(run, _)| run).collect();
        tracing::info!(units = runs.len(), "stopping");
        let finish = async {
            // The listeners close first, so that no new call arrives while the last ones end.
            self.runner.close().await;
            join_all(runs.into_iter().map(|run| self.runner.drain(run))).await;
        };
        if tokio::time::timeout(Duration::from_millis(DRAIN_MS), finish)
            .await
            .is_err()
        {
            tracing::warn!("some calls did not end in time and are cut off");
        }
        self.uplink.finish().await;
        self.writer.finish().await;
        tracing::info!(host = %self.me.host, "stopped");
    }
}
