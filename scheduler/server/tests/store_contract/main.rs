//! The store's contract: every case runs on the log in memory and on a real nats-server, and must mean the same on both.
//!
//! The nats-server is the one that `HEDDLE_NATS_SERVER` names, or the one on the PATH. Without any, the cases fail rather
//! than pass unseen. Cases that only a real server can show are in `server.rs`.

// The whole binary is tests, but clippy takes only the functions marked so for tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod artifacts;
mod bed;
mod commits;
mod feeds;
mod loads;
mod outcomes;
mod past;
mod server;
mod staged;

/// Makes a test of each case, once for each log.
macro_rules! contract {
    ($($part:ident: $($case:ident),+ $(,)?;)+) => {
        mod in_memory {
            $($(#[tokio::test]
            async fn $case() {
                crate::$part::$case(crate::bed::Bed::memory()).await;
            })+)+
        }
        mod on_nats {
            $($(#[tokio::test]
            async fn $case() {
                crate::$part::$case(crate::bed::Bed::nats().await).await;
            })+)+
        }
    };
}

contract! {
    commits:
        the_first_take_over_makes_the_head_of_an_empty_store,
        nothing_is_committed_before_loading_and_taking_over,
        a_committed_change_is_there_whole_after_loading,
        of_two_rivals_exactly_one_commits_each_number,
        a_new_leader_fences_the_old_one_out,
        a_take_over_from_an_old_image_is_a_conflict,
        a_removed_key_counts_as_no_key,
        values_of_512_kib_are_kept_and_larger_ones_refused,
        a_change_that_could_not_be_read_back_is_refused_before_it_is_sent,
        a_full_store_refuses_the_whole_change_and_keeps_the_rest,
        audit_records_tell_each_commit_in_order;
    outcomes:
        a_lost_answer_is_looked_up_and_found_committed,
        a_lost_request_is_sent_again_and_has_one_effect,
        a_request_that_arrives_late_has_one_effect,
        an_outcome_that_cannot_be_learned_is_unknown_until_it_is_settled,
        an_unknown_commit_below_a_new_leaders_is_found_in_its_audit_record,
        an_unknown_commit_overtaken_by_a_rival_is_a_conflict_and_never_arrives,
        a_commit_whose_caller_went_away_is_in_doubt;
    staged:
        a_change_of_2000_records_is_whole_before_during_and_after_folding,
        a_key_removed_after_a_staged_change_stays_removed,
        a_newer_value_of_a_staged_key_wins,
        blocks_of_a_change_that_was_fenced_out_are_tidied_away,
        a_missing_block_is_noticed_and_healed;
    loads:
        a_random_history_loads_as_it_was_in_memory,
        a_load_under_a_stream_of_commits_is_of_one_moment,
        a_value_altered_behind_the_chain_is_noticed_and_healed,
        a_value_lost_from_the_stream_is_noticed_and_healed,
        a_lost_head_is_noticed,
        a_restored_backup_has_every_value_and_an_epoch_far_above;
    feeds:
        a_follower_sees_every_commit_in_order_and_takes_over_without_loading,
        a_missed_commit_is_told_as_a_gap_once,
        a_follower_sees_the_writes_of_a_staged_change,
        a_follower_that_was_given_a_false_commit_refuses_it;
    artifacts:
        artifacts_come_back_by_digest_in_chunks,
        an_unknown_artifact_is_none_and_a_deleted_one_is_gone;
    past:
        parts_of_the_past_come_back_by_number_in_their_order;
}
