//! The benchmarks: one JSON object on stdout each.
