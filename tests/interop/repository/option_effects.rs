//! Every option and every choice has a test of its own: which one stands here. What is checked is
//! that the table of options has nothing more, that a test of that name is in that file, and that
//! the file mentions the option. Whether the test fails without the option is not checked.

use std::collections::BTreeSet;
use std::path::Path;

use broker::config::{SocketOption, ValueKind};

/// An option, or an option and one of its choices; the file of its test; the test.
const PROOFS: &[(&str, &str, &str)] = &[
    (
        "sndhwm",
        OVERFLOW,
        "a_queue_holds_as_many_messages_as_sndhwm_says",
    ),
    (
        "sndhwm_bytes",
        OVERFLOW,
        "a_queue_holds_as_many_bytes_as_sndhwm_bytes_says",
    ),
    ("rcvhwm", RECEIVE_HWM, "as_many_wait_here_as_rcvhwm_says"),
    (
        "rcvhwm_bytes",
        RECEIVE_HWM,
        "as_much_waits_here_as_rcvhwm_bytes_says",
    ),
    (
        "maxmsgsize",
        LIMITS,
        "a_message_has_at_most_maxmsgsize_bytes",
    ),
    (
        "maxmsgframes",
        LIMITS,
        "a_message_has_at_most_maxmsgframes_frames",
    ),
    (
        "linger",
        "tests/interop/cli/run.rs",
        "a_side_that_does_not_linger_drops_what_is_queued",
    ),
    (
        "handshake_ivl",
        LIMITS,
        "a_handshake_takes_at_most_handshake_ivl",
    ),
    (
        "accept_zmtp2",
        "tests/interop/protocol/zmtp2.rs",
        "an_old_req_gets_its_answers",
    ),
    (
        "heartbeat_ivl",
        HEARTBEATS,
        "a_peer_is_asked_for_signs_of_life_and_given_up_without",
    ),
    (
        "heartbeat_timeout",
        HEARTBEATS,
        "a_peer_is_asked_for_signs_of_life_and_given_up_without",
    ),
    (
        "heartbeat_ttl",
        HEARTBEATS,
        "a_peer_is_asked_for_signs_of_life_and_given_up_without",
    ),
    (
        "reconnect_ivl",
        RECONNECT,
        "a_lost_connection_is_tried_again_after_reconnect_ivl",
    ),
    (
        "reconnect_ivl_max",
        RECONNECT,
        "waits_grow_no_longer_than_reconnect_ivl_max",
    ),
    (
        "immediate",
        RECEIVE_HWM,
        "a_link_that_is_down_has_a_queue_unless_immediate_is_set",
    ),
    (
        "connect_timeout",
        TCP_OPTIONS,
        "an_address_that_does_not_answer_is_given_up",
    ),
    (
        "sndbuf",
        DRIVER,
        "accepted_connections_have_the_options_of_their_side",
    ),
    (
        "rcvbuf",
        DRIVER,
        "accepted_connections_have_the_options_of_their_side",
    ),
    (
        "backlog",
        TCP_OPTIONS,
        "as_many_connections_wait_to_be_accepted_as_backlog_says",
    ),
    (
        "ipv6",
        ADDRESSES,
        "every_interface_is_of_both_families_if_ipv6_is_set",
    ),
    ("tos", TCP_OPTIONS, "packets_bear_the_type_of_service"),
    (
        "bindtodevice",
        TCP_OPTIONS,
        "an_interface_that_is_not_there_cannot_be_bound_to",
    ),
    ("ipc_mode", IPC, "mode_and_owner_decide_who_may_connect"),
    ("ipc_owner", IPC, "mode_and_owner_decide_who_may_connect"),
    (
        "tcp_accept_filter",
        TCP_OPTIONS,
        "only_peers_from_certain_networks_are_let_in",
    ),
    (
        "tcp_keepalive",
        TCP_OPTIONS,
        "keepalive_runs_where_it_is_set",
    ),
    (
        "tcp_keepalive_idle",
        DRIVER,
        "connections_made_have_the_options_of_their_side",
    ),
    (
        "tcp_keepalive_intvl",
        DRIVER,
        "connections_made_have_the_options_of_their_side",
    ),
    (
        "tcp_keepalive_cnt",
        DRIVER,
        "connections_made_have_the_options_of_their_side",
    ),
    (
        "tcp_maxrt",
        TCP_OPTIONS,
        "a_peer_that_takes_nothing_for_tcp_maxrt_is_given_up",
    ),
    (
        "balance=round-robin",
        BALANCE,
        "sinks_take_turns_whatever_their_queues",
    ),
    (
        "balance=least-queued",
        BALANCE,
        "a_sink_with_a_queue_is_passed_over_where_the_least_queued_is_next",
    ),
    (
        "balance=ready",
        BALANCE,
        "a_ready_worker_gets_the_work_of_a_busy_one",
    ),
    (
        "overflow=standard",
        OVERFLOW,
        "work_waits_for_a_full_sink_unless_it_is_to_be_dropped",
    ),
    (
        "overflow=block",
        OVERFLOW,
        "a_blocking_forwarder_loses_nothing_under_either_name",
    ),
    (
        "overflow=drop-newest",
        OVERFLOW,
        "the_newest_work_is_dropped_where_that_is_wanted",
    ),
    (
        "overflow=drop-oldest",
        OVERFLOW,
        "the_oldest_work_is_dropped_where_that_is_wanted",
    ),
    (
        "overflow=conflate",
        OVERFLOW,
        "only_the_newest_message_is_kept_under_either_name",
    ),
    (
        "overflow=conflate-topic",
        OVERFLOW,
        "conflated_subscribers_get_the_newest_of_each_topic",
    ),
    (
        "overflow=disconnect",
        OVERFLOW,
        "a_queue_with_too_many_bytes_closes_its_peer_at_once",
    ),
    (
        "conflate",
        OVERFLOW,
        "only_the_newest_message_is_kept_under_either_name",
    ),
    (
        "xpub_nodrop",
        OVERFLOW,
        "a_blocking_forwarder_loses_nothing_under_either_name",
    ),
    (
        "overflow_timeout",
        OVERFLOW,
        "a_queue_may_be_full_for_overflow_timeout",
    ),
    (
        "max_age",
        OVERFLOW,
        "messages_that_are_too_old_are_dropped_before_they_are_sent",
    ),
    (
        "router_handover",
        SOCKET_OPTIONS,
        "the_newest_has_the_identity_with_router_handover",
    ),
    (
        "router_mandatory",
        SOCKET_OPTIONS,
        "replies_for_nobody_are_counted_and_logged_with_router_mandatory",
    ),
    (
        "probe_router",
        SOCKET_OPTIONS,
        "a_worker_hears_of_the_broker_by_a_probe_and_a_routing_id",
    ),
    (
        "routing_id",
        SOCKET_OPTIONS,
        "a_worker_hears_of_the_broker_by_a_probe_and_a_routing_id",
    ),
    (
        "subscribe",
        SOCKET_OPTIONS,
        "topics_are_narrowed_to_those_that_may_be_passed_on",
    ),
    (
        "xpub_verbose",
        SOCKET_OPTIONS,
        "a_publisher_hears_of_every_subscription_if_xpub_is_verbose",
    ),
    (
        "xpub_verboser",
        SOCKET_OPTIONS,
        "a_program_hears_of_every_cancel_if_xpub_is_verboser",
    ),
    (
        "xpub_welcome_msg",
        SOCKET_OPTIONS,
        "new_subscribers_are_welcomed",
    ),
    (
        "invert_matching",
        SOCKET_OPTIONS,
        "inverted_matching_sends_to_those_who_did_not_subscribe",
    ),
    (
        "subscriptions_max",
        LIMITS,
        "a_peer_holds_at_most_subscriptions_max_subscriptions",
    ),
    (
        "topic_size_max",
        LIMITS,
        "a_topic_has_at_most_topic_size_max_bytes",
    ),
    (
        "loop_check",
        "broker/tests/loops/main.rs",
        "a_ring_of_brokers_that_do_not_look_for_it_stays",
    ),
];

const ADDRESSES: &str = "tests/interop/transports/addresses.rs";
const BALANCE: &str = "tests/interop/flow_control/balance.rs";
const DRIVER: &str = "broker/src/driver/tests.rs";
const HEARTBEATS: &str = "tests/interop/protocol/heartbeats.rs";
const IPC: &str = "tests/interop/transports/ipc.rs";
const LIMITS: &str = "tests/interop/protocol/limits.rs";
const OVERFLOW: &str = "tests/interop/flow_control/overflow.rs";
const RECEIVE_HWM: &str = "tests/interop/flow_control/receive_hwm.rs";
const RECONNECT: &str = "tests/interop/transports/reconnect.rs";
const SOCKET_OPTIONS: &str = "tests/interop/patterns/socket_options.rs";
const TCP_OPTIONS: &str = "tests/interop/transports/tcp_options.rs";

#[test]
fn every_option_and_every_choice_names_a_test() {
    let wanted: Vec<String> = SocketOption::ALL
        .iter()
        .flat_map(|option| match option.kind {
            ValueKind::Choice(names) => {
                let choices = names.iter().map(|name| format!("{}={name}", option.name));
                choices.collect()
            }
            _ => vec![option.name.to_owned()],
        })
        .collect();
    let proven: Vec<&str> = PROOFS.iter().map(|(what, ..)| *what).collect();
    assert_eq!(proven, wanted, "in the order of the table of options");
}

#[test]
fn the_tests_named_are_there_and_their_files_mention_the_option() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (what, file, test) in PROOFS {
        let text = std::fs::read_to_string(root.join(file)).expect(file);
        let head = format!("#[test]\nfn {test}() {{\n");
        assert!(text.contains(&head), "{file} has no test {test}");
        let words: BTreeSet<&str> = what.split('=').collect();
        for word in words {
            assert!(text.contains(word), "{file} does not mention {word}");
        }
    }
}
