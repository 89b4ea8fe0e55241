//! The scheduler's shell: the store, the loop, the artifact pool.
