//! The cluster in a box: harness, scripts, checks.
