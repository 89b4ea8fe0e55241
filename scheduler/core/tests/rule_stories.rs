//! Stories about rules of placement, quotas and taints: each file of `rule_stories/` is run and compared with what it says.
//! `HEDDLE_BLESS=1` writes what is answered now into the files, to be looked at as a difference.
//!
//! The language is described in `heddle_scheduler_core::testing::story`.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used)]

#[path = "stories/told.rs"]
mod told;

#[test]
fn every_story_of_rules_ends_as_it_is_told() {
    told::check_folder("rule_stories", 6);
}
