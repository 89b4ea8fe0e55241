//! The config capability.
