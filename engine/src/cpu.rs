//! What a processor can do, in a few levels instead of dozens of features: code is shared within a level.
//!
//! In: the machine that this runs on, or a level by name. Out: the compiler's flags. For x86-64 these are the levels that
//! distributions and compilers use; other processors have one.

use std::fmt;

/// A processor's level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CpuLevel {
    /// What every processor of the architecture has.
    Baseline,
    /// x86-64-v2: SSE4.2 and POPCNT, from 2009 on.
    V2,
    /// x86-64-v3: AVX2, BMI and FMA, from 2013 on.
    V3,
    /// x86-64-v4: AVX-512.
    V4,
}

/// Flags of the compiler that each x86-64 level adds, each with the name by which the processor is asked for it.
const V2: &[(&str, &str)] = &[
    ("has_cmpxchg16b", "cmpxchg16b"),
    ("has_sse3", "sse3"),
    ("has_ssse3", "ssse3"),
    ("has_sse41", "sse4.1"),
    ("has_sse42", "sse4.2"),
    ("has_popcnt", "popcnt"),
];
const V3: &[(&str, &str)] = &[
    ("has_avx", "avx"),
    ("has_avx2", "avx2"),
    ("has_bmi1", "bmi1"),
    ("has_bmi2", "bmi2"),
    ("has_fma", "fma"),
    ("has_lzcnt", "lzcnt"),
];
const V4: &[(&str, &str)] = &[
    ("has_avx512f", "avx512f"),
    ("has_avx512dq", "avx512dq"),
    ("has_avx512vl", "avx512vl"),
];

impl CpuLevel {
    const ALL: [Self; 4] = [Self::Baseline, Self::V2, Self::V3, Self::V4];

    /// The level of the processor that this runs on.
    pub fn of_this_machine() -> Self {
        let highest = Self::ALL.into_iter().rev();
        let mut fitting = highest.filter(|level| level.features().all(|(_, name)| has(name)));
        fitting.next().unwrap_or(Self::Baseline)
    }

    /// The level of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
            Self::V4 => "x86-64-v4",
        }
    }

    /// Whether processors of an architecture come in this level.
    pub(crate) fn fits(self, target: &str) -> bool {
        self == Self::Baseline || target.starts_with("x86_64-")
    }

    /// The compiler's flags for it.
    #[cfg(feature = "compiler")]
    pub(crate) fn flags(self) -> impl Iterator<Item = &'static str> {
        self.features().map(|(flag, _)| flag)
    }

    fn features(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let groups = [(Self::V2, V2), (Self::V3, V3), (Self::V4, V4)];
        groups
            .into_iter()
            .filter(move |(level, _)| *level <= self)
            .flat_map(|(_, features)| features.iter().copied())
    }
}

impl fmt::Display for CpuLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether this machine's processor has a feature.
#[cfg(target_arch = "x86_64")]
fn has(feature: &str) -> bool {
    use std::is_x86_feature_detected as detected;
    match feature {
        "cmpxchg16b" => detected!("cmpxchg16b"),
        "sse3" => detected!("sse3"),
        "ssse3" => detected!("ssse3"),
        "sse4.1" => detected!("sse4.1"),
        "sse4.2" => detected!("sse4.2"),
        "popcnt" => detected!("popcnt"),
        "avx" => detected!("avx"),
        "avx2" => detected!("avx2"),
        "bmi1" => detected!("bmi1"),
        "bmi2" => detected!("bmi2"),
        "fma" => detected!("fma"),
        "lzcnt" => detected!("lzcnt"),
        "avx512f" => detected!("avx512f"),
        "avx512dq" => detected!("avx512dq"),
        "avx512vl" => detected!("avx512vl"),
        _ => false,
    }
}

/// Whether this machine's processor has a feature: only x86-64 has levels.
#[cfg(not(target_arch = "x86_64"))]
fn has(_: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_all_that_lower_ones_have() {
        for pair in CpuLevel::ALL.windows(2) {
            let lower: Vec<_> = pair[0].features().collect();
            let higher: Vec<_> = pair[1].features().collect();
            assert!(lower.len() < higher.len() && higher.starts_with(&lower));
        }
    }

    #[test]
    fn levels_are_found_by_their_names() {
        for level in CpuLevel::ALL {
            assert_eq!(CpuLevel::parse(level.as_str()), Some(level));
        }
        assert_eq!(CpuLevel::parse("x86-64-v9"), None);
        assert!(!CpuLevel::V2.fits("aarch64-unknown-linux-gnu"));
    }
}
