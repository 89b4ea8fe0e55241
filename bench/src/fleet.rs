//! A scheduler process on a large fleet of pretended hosts. The benchmark itself is `heddle_fleet_sim::bench`; here it is
//! given the programs that are measured.

use crate::Figures;
use anyhow::Result;
use heddle_fleet_sim::bench::{Programs, Size, run as measure};
use heddle_tests::binary;
use heddle_tests::cluster::turn;

/// Runs the benchmark.
pub async fn run(quick: bool) -> Result<Figures> {
    let _turn = turn()?;
    let programs = Programs {
        heddle: binary::heddle()?,
        nats_server: binary::nats_server()?,
    };
    let found = measure(&Size::of(quick), &programs).await?;
    Ok(Figures {
        params: found.params,
        metrics: found.metrics,
    })
}
