//! A test for the effect of every option and every choice. The table below names them, and these
//! tests check that it has every option, that the named tests exist, and that their files mention
//! the option. They do not check that a test fails without its option.

use std::collections::BTreeSet;
use std::path::Path;

use broker::config::{SocketOption, ValueKind};

/// An option, or an option and one of its choices; the file of its test; the test.
const EFFECTS: &[(&str, &str, &str)] = &[
    ("sndhwm", OVERFLOW, "sndhwm_limits_the_messages_of_a_queue"),
    (
        "sndhwm_bytes",
        OVERFLOW,
        "sndhwm_bytes_limits_the_bytes_of_a_queue",
    ),
    (
        "rcvhwm",
        RECEIVE_HWM,
        "rcvhwm_limits_the_messages_of_a_suspended_sender",
    ),
    (
        "rcvhwm_bytes",
        RECEIVE_HWM,
        "rcvhwm_bytes_limits_the_bytes_of_a_suspended_sender",
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
        "a_side_with_linger_0_drops_its_queues",
    ),
    (
        "curve_secret",
        CURVE,
        "only_clients_with_the_servers_key_come_in",
    ),
    ("curve_clients", CURVE, "only_listed_clients_come_in"),
    (
        "curve_server",
        CURVE,
        "a_side_is_a_client_of_a_libzmq_server",
    ),
    (
        "plain_users",
        PLAIN,
        "only_users_with_their_password_come_in",
    ),
    (
        "plain_username",
        PLAIN,
        "a_side_is_a_client_of_a_libzmq_server",
    ),
    (
        "plain_password_file",
        PLAIN,
        "a_side_is_a_client_of_a_libzmq_server",
    ),
    ("zap_domain", ZAP, "null_peers_come_in_by_their_address"),
    (
        "zap_timeout",
        ZAP,
        "peers_wait_outside_while_no_handler_answers",
    ),
    (
        "reject=close",
        CURVE,
        "a_refused_client_tries_again_unless_it_is_told",
    ),
    (
        "reject=error",
        CURVE,
        "a_refused_client_tries_again_unless_it_is_told",
    ),
    (
        "insecure",
        "tests/interop/patterns/queue.rs",
        "one_side_binds_and_connects_several_endpoints",
    ),
    (
        "handshake_ivl",
        LIMITS,
        "a_handshake_takes_at_most_handshake_ivl",
    ),
    (
        "accept_zmtp2",
        "tests/interop/protocol/zmtp2.rs",
        "an_old_req_gets_its_replies",
    ),
    (
        "heartbeat_ivl",
        HEARTBEATS,
        "a_silent_peer_gets_a_ping_and_is_closed",
    ),
    (
        "heartbeat_timeout",
        HEARTBEATS,
        "a_silent_peer_gets_a_ping_and_is_closed",
    ),
    (
        "heartbeat_ttl",
        HEARTBEATS,
        "a_silent_peer_gets_a_ping_and_is_closed",
    ),
    (
        "reconnect_ivl",
        RECONNECT,
        "a_lost_connection_is_retried_after_reconnect_ivl",
    ),
    (
        "reconnect_ivl_max",
        RECONNECT,
        "attempts_wait_at_most_reconnect_ivl_max",
    ),
    (
        "immediate",
        RECEIVE_HWM,
        "a_down_link_has_a_queue_unless_immediate_is_set",
    ),
    (
        "connect_timeout",
        TCP_OPTIONS,
        "connect_timeout_ends_an_unanswered_attempt",
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
        "backlog_limits_the_connections_not_yet_accepted",
    ),
    ("ipv6", ADDRESSES, "ipv6_binds_a_wildcard_for_both_families"),
    ("tos", TCP_OPTIONS, "packets_carry_the_type_of_service"),
    (
        "bindtodevice",
        TCP_OPTIONS,
        "bindtodevice_needs_an_existing_interface",
    ),
    ("ipc_mode", IPC, "ipc_mode_and_ipc_owner_restrict_access"),
    ("ipc_owner", IPC, "ipc_mode_and_ipc_owner_restrict_access"),
    (
        "tcp_accept_filter",
        TCP_OPTIONS,
        "tcp_accept_filter_admits_its_networks_only",
    ),
    (
        "tcp_keepalive",
        TCP_OPTIONS,
        "tcp_keepalive_runs_on_its_side_only",
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
        "a_stuck_peer_is_closed_after_tcp_maxrt",
    ),
    (
        "balance=round-robin",
        BALANCE,
        "round_robin_ignores_the_lengths_of_queues",
    ),
    (
        "balance=least-queued",
        BALANCE,
        "least_queued_passes_over_a_sink_with_a_queue",
    ),
    (
        "balance=ready",
        BALANCE,
        "ready_gives_no_work_to_a_busy_worker",
    ),
    (
        "overflow=standard",
        OVERFLOW,
        "standard_and_block_wait_for_a_full_sink",
    ),
    (
        "overflow=block",
        OVERFLOW,
        "block_and_xpub_nodrop_lose_no_publication",
    ),
    (
        "overflow=drop-newest",
        OVERFLOW,
        "drop_newest_drops_the_newest_messages",
    ),
    (
        "overflow=drop-oldest",
        OVERFLOW,
        "drop_oldest_drops_the_oldest_messages",
    ),
    (
        "overflow=conflate",
        OVERFLOW,
        "conflate_keeps_the_newest_message_only",
    ),
    (
        "overflow=conflate-topic",
        OVERFLOW,
        "conflate_topic_keeps_the_newest_message_of_each_topic",
    ),
    (
        "overflow=disconnect",
        OVERFLOW,
        "disconnect_closes_a_peer_with_too_many_bytes",
    ),
    (
        "conflate",
        OVERFLOW,
        "conflate_keeps_the_newest_message_only",
    ),
    (
        "xpub_nodrop",
        OVERFLOW,
        "block_and_xpub_nodrop_lose_no_publication",
    ),
    (
        "overflow_timeout",
        OVERFLOW,
        "disconnect_closes_a_peer_after_overflow_timeout",
    ),
    (
        "max_age",
        OVERFLOW,
        "messages_older_than_max_age_are_dropped",
    ),
    (
        "router_handover",
        SOCKET_OPTIONS,
        "router_handover_gives_an_identity_to_its_newest_peer",
    ),
    (
        "router_mandatory",
        SOCKET_OPTIONS,
        "router_mandatory_logs_replies_without_a_receiver",
    ),
    (
        "probe_router",
        SOCKET_OPTIONS,
        "probe_router_and_routing_id_announce_the_broker",
    ),
    (
        "routing_id",
        SOCKET_OPTIONS,
        "probe_router_and_routing_id_announce_the_broker",
    ),
    (
        "subscribe",
        SOCKET_OPTIONS,
        "subscribe_narrows_the_topics_that_go_upstream",
    ),
    (
        "xpub_verbose",
        SOCKET_OPTIONS,
        "xpub_verbose_passes_on_every_subscription",
    ),
    (
        "xpub_verboser",
        SOCKET_OPTIONS,
        "xpub_verboser_passes_on_every_cancel",
    ),
    (
        "xpub_welcome_msg",
        SOCKET_OPTIONS,
        "xpub_welcome_msg_is_sent_to_new_subscribers",
    ),
    (
        "invert_matching",
        SOCKET_OPTIONS,
        "invert_matching_sends_to_peers_without_the_subscription",
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
const CURVE: &str = "tests/interop/protocol/curve.rs";
const PLAIN: &str = "tests/interop/protocol/plain.rs";
const ZAP: &str = "tests/interop/protocol/zap.rs";
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
    let tested: Vec<&str> = EFFECTS.iter().map(|(what, ..)| *what).collect();
    assert_eq!(tested, wanted, "in the order of the table of options");
}

#[test]
fn the_named_tests_exist_and_mention_the_option() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (what, file, test) in EFFECTS {
        let text = std::fs::read_to_string(root.join(file)).expect(file);
        let head = format!("#[test]\nfn {test}() {{\n");
        assert!(text.contains(&head), "{file} has no test {test}");
        let words: BTreeSet<&str> = what.split('=').collect();
        for word in words {
            assert!(text.contains(word), "{file} does not mention {word}");
        }
    }
}
