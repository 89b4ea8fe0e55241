//! What a call from one component to another costs: composed into one, over the host's functions, and over the network.
//!
//! The loops run inside the caller, so that entering it is not part of the figure. What is compared is measured in turns
//! in one run.

mod guests;
mod host;
mod native;
mod remote;

use crate::Figures;
use crate::stats::round;
use anyhow::{Context as _, Result};
use guests::Kind;
use heddle_tests::nats::Nats;
use host::{Engine, Way};
use serde_json::{Map, Value, json};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Samples of each figure in one process.
    samples: usize,
    /// How long one sample takes at least, in microseconds.
    sample_us: u64,
    /// Calls over the network of each kind.
    calls: usize,
}

const FULL: Size = Size {
    samples: 31,
    sample_us: 5_000,
    calls: 2_000,
};
const QUICK: Size = Size {
    samples: 3,
    sample_us: 500,
    calls: 100,
};

/// Runs the benchmark.
pub async fn run(quick: bool) -> Result<Figures> {
    let size = if quick { QUICK } else { FULL };
    let mut metrics = Map::new();
    in_process(size, &mut metrics).await?;
    over_the_network(size, &mut metrics).await?;
    let params = json!({"samples": size.samples, "sample_us": size.sample_us, "calls": size.calls});
    Ok(Figures {
        params,
        metrics: Value::Object(metrics),
    })
}

async fn in_process(size: Size, metrics: &mut Map<String, Value>) -> Result<()> {
    let engine = Engine::new()?;
    for kind in Kind::ALL {
        let mut ways = Vec::new();
        for way in Way::ALL {
            ways.push((way, engine.caller(way).await?, Vec::new()));
        }
        // In turns: whatever else the machine does falls on all of them.
        for _ in 0..size.samples {
            for (way, caller, samples) in &mut ways {
                let ns = caller.sample(kind, size.sample_us).await;
                samples.push(ns.with_context(|| format!("failed to measure {} {}", way.name(), kind.name()))?);
            }
        }
        for (way, _, samples) in ways {
            metrics.insert(
                format!("{}_{}_ns", way.name(), kind.name()),
                round(median(samples)).into(),
            );
        }
    }
    let of = |way: &str, kind: Kind| {
        let name = format!("{way}_{}_ns", kind.name());
        metrics.get(&name).and_then(Value::as_f64).unwrap_or_default()
    };
    let mut ratios = vec![("composed_to_bare_ratio".to_owned(), Kind::ALL[0], "bare")];
    for (kind, other) in Kind::ALL
        .into_iter()
        .flat_map(|kind| [(kind, "bare"), (kind, "stoppable")])
    {
        ratios.push((format!("composed_to_{other}_{}_ratio", kind.name()), kind, other));
    }
    let ratios: Vec<_> = ratios
        .into_iter()
        .map(|(name, kind, other)| (name, round(of("composed", kind) / of(other, kind))))
        .collect();
    metrics.extend(ratios.into_iter().map(|(name, ratio)| (name, ratio.into())));
    Ok(())
}

async fn over_the_network(size: Size, metrics: &mut Map<String, Value>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nats = Nats::start(&folder.path().join("nats"), &folder.path().join("nats.log")).await?;
    let native = native::measure(&nats.url(), size.calls).await?;
    let components = remote::measure(&nats.url(), size.calls).await?;
    let all = [
        ("wrpc_u32_us", native.wrpc_u32_us),
        ("wrpc_bytes64k_us", native.wrpc_bytes64k_us),
        ("wrpc_encoded_u32_us", native.wrpc_encoded_u32_us),
        ("nats_request_us", native.nats_request_us),
        ("nats_request64k_us", native.nats_request64k_us),
        ("wrpc_to_nats_ratio", native.wrpc_to_nats_ratio),
        ("wrpc_to_nats_64k_ratio", native.wrpc_to_nats_64k_ratio),
        ("wrpc_component_u32_us", components.u32_us),
        ("wrpc_component_bytes64k_us", components.bytes64k_us),
    ];
    for (name, value) in all {
        metrics.insert(name.to_owned(), round(value).into());
    }
    Ok(())
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}
