//! The benchmarks: one JSON object on stdout each.

pub mod http;
