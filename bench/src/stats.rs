//! Percentiles of a sample.

use serde::Serialize;

/// A sample in a few numbers, in the unit of the sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// A tenth is at most this.
    pub p10: f64,
    /// Half is at most this.
    pub p50: f64,
    /// Nine tenths are at most this.
    pub p90: f64,
    /// All but a hundredth are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
    /// How many there are.
    pub n: usize,
}

/// The percentiles of a sample; of an empty one all are 0.
pub fn percentiles(sample: &[f64]) -> Percentiles {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    // The nearest rank: always a value that was really measured.
    let rank = |share: f64| {
        let at = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(at.saturating_sub(1)).map_or(0.0, |value| round(*value))
    };
    Percentiles {
        p10: rank(0.10),
        p50: rank(0.50),
        p90: rank(0.90),
        p99: rank(0.99),
        max: rank(1.0),
        n: sorted.len(),
    }
}

/// Three digits after the point: a microsecond of a millisecond.
pub fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// A length of time in milliseconds.
pub fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sample: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let p = percentiles(&sample);
        assert_eq!(
            (p.p10, p.p50, p.p90, p.p99, p.max, p.n),
            (20.0, 100.0, 180.0, 198.0, 200.0, 200)
        );
        let one = percentiles(&[7.0]);
        assert_eq!((one.p10, one.p99, one.n), (7.0, 7.0, 1));
        assert_eq!(percentiles(&[]).max, 0.0);
    }
}
