//! Waiting for facts: no test sleeps for an outcome, it looks until the fact is there or its time is over.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How often a fact is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` returns something, and gives up after `bound` with what it saw last.
pub async fn eventually<T>(bound: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        let seen = match look().await {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if started.elapsed() >= bound {
            bail!("waited {bound:?} for this and did not see it: {what}; last seen: {seen:#}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Looks again and again for `time`, and fails as soon as the fact is not so.
pub async fn throughout(time: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < time {
        if let Err(seen) = look().await {
            bail!(
                "after {:?} this was no longer so: {what}; seen: {seen:#}",
                started.elapsed()
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{anyhow, ensure};

    #[tokio::test]
    async fn what_was_seen_last_is_told() {
        let mut looks = 0;
        let error = eventually::<()>(Duration::from_millis(50), "a miracle", async || {
            looks += 1;
            Err(anyhow!("look {looks}"))
        });
        let error = error.await.unwrap_err().to_string();
        assert!(
            error.contains("a miracle") && error.contains("last seen: look"),
            "{error}"
        );
        assert!(looks > 1);
    }

    #[tokio::test]
    async fn a_fact_that_ends_is_noticed() {
        let mut looks = 0;
        let watched = throughout(Duration::from_secs(10), "peace", async || {
            looks += 1;
            ensure!(looks < 3, "war");
            Ok(())
        });
        assert!(watched.await.unwrap_err().to_string().contains("war"));
    }
}
