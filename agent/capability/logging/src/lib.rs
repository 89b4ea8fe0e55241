//! The logging capability.
