//! What came and went, counted while it does.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $help:literal])* $name:ident,)*) => {
        /// What came and went, since the fleet began.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $help])* pub $name: AtomicU64,)*
        }

        /// The same at one point in time.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Counted {
            $($(#[doc = $help])* pub $name: u64,)*
        }

        impl Counters {
            /// What was counted so far.
            pub fn read(&self) -> Counted {
                Counted { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Counted {
            /// What was counted since an earlier look.
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }
    };
}

counters! {
    /// Specs that came, with all their chunks.
    pushes,
    /// The bytes that came for them.
    push_bytes,
    /// Those of them that came as deltas.
    deltas,
    /// Chunks of specs that were answered with the next offset.
    chunks,
    /// Specs that were accepted and new.
    accepted,
    /// Specs that were held already.
    accepted_again,
    /// Specs that were refused.
    refused,
    /// Time spent on reading and verifying specs, in microseconds.
    verify_us,
    /// Heartbeats sent.
    heartbeats,
    /// Hellos sent.
    hellos,
    /// Hellos that a scheduler welcomed.
    welcomes,
    /// Hellos that a scheduler refused.
    hellos_refused,
    /// Status messages sent, answers to requests among them.
    reports,
    /// Full reports that were asked for.
    reports_asked,
    /// Hellos that were asked for.
    hellos_asked,
    /// Bytes sent.
    bytes_sent,
    /// Messages for hosts that are dead.
    unheard,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
