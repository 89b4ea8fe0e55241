//! Real processes, real faults.
