//! The broker in a control group with a memory limit, where the kernel kills processes above it.

use std::fs;
use std::path::{Path, PathBuf};

use zmqd_tests::flood::{KINDS, flood};
use zmqd_tests::{ANY, Python, Zmqd, wait_until};

/// The limit of the group, with a `memory_limit` of 32 MiB: the process needs some memory for
/// itself, and its allocator keeps some that was freed.
const GROUP_SIZE: u64 = 64 << 20;

/// Memory that a flood takes in the group, beside which that of an idle broker is small.
const QUEUES_SIZE: u64 = 11 << 20;

/// A control group without swap.
struct Group {
    kills: &'static str,
    path: PathBuf,
    peak: &'static str,
}

impl Group {
    /// In the unified hierarchy, or in the older one if the memory controller is there.
    fn new(name: &str) -> Self {
        let unified = Path::new("/sys/fs/cgroup");
        let older = Path::new("/sys/fs/cgroup/memory");
        let controllers = fs::read_to_string(unified.join("cgroup.controllers"));
        let is_unified =
            controllers.is_ok_and(|all| all.split_whitespace().any(|one| one == "memory"));
        let (root, limits, kills, peak) = if is_unified {
            let switch = unified.join("cgroup.subtree_control");
            fs::write(switch, "+memory")
                .expect("control groups can be limited (see ./ci.sh faults)");
            let limits = [("memory.max", GROUP_SIZE), ("memory.swap.max", 0)];
            (unified, limits, "memory.events", "memory.peak")
        } else {
            let limits = [
                ("memory.limit_in_bytes", GROUP_SIZE),
                ("memory.memsw.limit_in_bytes", GROUP_SIZE),
            ];
            (
                older,
                limits,
                "memory.oom_control",
                "memory.max_usage_in_bytes",
            )
        };
        let path = root.join(format!("zmqd-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("root can make control groups");
        let group = Self { kills, path, peak };
        for (file, bytes) in limits {
            // A kernel without swap, or without counting it, lacks the second file.
            if group.path.join(file).exists() {
                fs::write(group.path.join(file), bytes.to_string()).expect("a limit can be set");
            }
        }
        group
    }

    fn start_in(&self, arguments: &[&str]) -> Zmqd {
        let enter = format!(
            "echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"",
            self.path.display()
        );
        Zmqd::start_under(&["sh", "-c", &enter], arguments)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).expect("the group has this file")
    }

    /// How many processes the kernel killed for lack of memory.
    fn kills(&self) -> u64 {
        let events = self.read(self.kills);
        let line = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("the group counts kills")
            .parse()
            .expect("a number")
    }

    /// The most memory in use at once.
    fn peak(&self) -> u64 {
        self.read(self.peak).trim().parse().expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.path)); // fails only if a process still runs
    }
}

/// The messages of a flood, 196 MB.
const MESSAGES: u32 = 3000;

/// Arguments of a broker whose queues are limited by `memory_limit` only, in bytes.
fn limited_by_memory<'a>(kind: &'a str, memory_limit: &'a str) -> Vec<&'a str> {
    let sides = [kind, "--frontend", ANY, "--backend", ANY];
    let limits = ["--memory-limit", memory_limit, "--set", "sndhwm=0"];
    let bytes = [
        "--set",
        "sndhwm_bytes=1000000000",
        "--set",
        "rcvhwm_bytes=1000000000",
    ];
    [&sides[..], &limits, &bytes].concat()
}

#[test]
fn a_broker_in_a_small_control_group_survives_a_flood() {
    for (kind, near, far) in KINDS {
        let group = Group::new(kind);
        let broker = group.start_in(&limited_by_memory(kind, "33554432"));
        let (stuck, mut python) = flood(&broker, near, far, MESSAGES);
        // Senders wait before the limit is reached, and subscribers share memory.
        wait_until(&format!("queues of {kind} in memory"), || {
            (group.peak() > QUEUES_SIZE).then_some(())
        });
        python.finish();
        drop(stuck);
        let mut honest = Python::beside(&broker);
        honest.set("far", far);
        honest.set("near", near);
        honest.run(
            r#"
            near, far = connect(getattr(zmq, near), frontend), connect(getattr(zmq, far), backend)
            if far.type == zmq.SUB:
                far.subscribe(b"")

            def ended():
                near.send_multipart([b"end", b""])
                while far.poll(100):
                    if far.recv_multipart()[-2] == b"end":
                        return True

            wait_until("the end of the flood", ended)
            "#,
        );
        assert_eq!(group.kills(), 0, "{kind}");
    }
}

/// Without its own limit the broker is killed by the kernel.
#[test]
fn the_kernel_kills_a_broker_without_memory_limit() {
    let group = Group::new("unlimited");
    let broker = group.start_in(&limited_by_memory("streamer", "0"));
    let (stuck, _python) = flood(&broker, "PUSH", "PULL", MESSAGES);
    let finished = broker.wait();
    assert_eq!(
        finished.code, None,
        "it ended by itself: {}",
        finished.stderr
    );
    assert!(
        group.kills() > 0,
        "something else than the kernel killed it"
    );
    drop(stuck);
}
