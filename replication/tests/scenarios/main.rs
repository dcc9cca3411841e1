//! One scenario a file, all over the public surface: whole groups in virtual time (`world`), one replica that is
//! shown blocks made by hand (`script`), or a ledger alone (`book`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod book;
mod script;
mod votes_of_the_gone;
mod world;

mod answers_busy;
mod beacon_of_all;
mod blocks_by_the_rules;
mod carrying_is_bounded;
mod catches_up;
mod chains_of_twins;
mod checkpoints;
mod commits_directly;
mod committees_are_drawn;
mod decides_indirectly;
mod epochs_turn;
mod equivocation_executes_once;
mod evidence_convicts;
mod fenced_leases;
mod golden_bytes;
mod golden_variants;
mod guaranteed_response;
mod headers_are_replaced;
mod heads_compare_and_set;
mod hears_the_far_away;
mod hostile_bytes;
mod idles_quietly;
mod invitations_are_used_once;
mod keys_are_replaced;
mod lateness_costs_space;
mod lies_end_the_term;
mod lives_with_u_dead;
mod numbers_execute_once;
mod orders_commands;
mod packs_by_the_rules;
mod push_is_earned;
mod queues_follow_the_roster;
mod quotas_hold;
mod read_marks;
mod recovers_without_its_disk;
mod releases_with_grace;
mod replays_its_own_log;
mod restarts_without_equivocating;
mod skips_a_dead_leader;
mod split_votes_decide_nothing;
mod survives_cuts;
mod suspended_seats;
mod time_of_the_group;
mod vacations_excuse;
