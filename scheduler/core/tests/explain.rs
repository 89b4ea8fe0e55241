//! What `explain` says in typical situations: each file of `explain/` is a story that ends with the answer. They are kept
//! to be read: an answer that does not help a person is a fault. `HEDDLE_BLESS=1` writes them anew.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used)]

#[path = "stories/told.rs"]
mod told;

#[test]
fn every_situation_is_explained_as_it_is_told() {
    told::check_folder("explain", 20);
}
