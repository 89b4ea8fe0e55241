//! The keyvalue capability.
