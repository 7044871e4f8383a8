//! A watch that is the first process of its system, as in a container.

use std::fs;
use std::process::Command;

use zmqd_tests::{Scratch, Zmqd, wait_until};

/// The processes that the first thread of a process has started and not taken the ends of.
fn children(pid: &str) -> Vec<String> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// It gets the orphans of all other processes, and has to take their ends.
#[test]
fn the_first_process_reaps_orphans() {
    let done = Scratch::absent("done");
    let config = format!(
        "[watcher]\nheartbeat.tcp = \"127.0.0.1:0\"\n[[watch]]\nname = \"a\"\nheartbeat = {{}}\n\
         expect = true\nafter = \"200ms\"\ngrace = \"100ms\"\nconfirm = 1\nmax_actions = 1\n\
         stop_timeout = \"200ms\"\n\
         start = [\"sh\", \"-c\", \"(sh -c 'sleep 0.1; touch {}' &); exec sleep 30\"]\n\
         action = [\"sh\", \"-c\", \"exit 3\"]\n",
        done.path()
    );
    let file = Scratch::new("toml", &config);
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child"];
    let process = Zmqd::start_under_expecting(0, &wrapper, &["watch", file.path()]);
    // Its own commands are not among the orphans.
    let line = process.wait_log("a: sh -c");
    assert!(line.contains("exit 3"), "{line}");
    let _ = process.wait_log("ended with code 3");
    wait_until("the orphan", || {
        fs::exists(done.path()).is_ok_and(|it| it).then_some(())
    });
    let wrapper = process.pid().to_string();
    let first = wait_until("the first process", || children(&wrapper).pop());
    wait_until("the service alone", || {
        (children(&first).len() == 1).then_some(())
    });
    let signalled = Command::new("kill").args(["-s", "TERM", &first]).status();
    assert!(signalled.is_ok_and(|status| status.success()));
    assert_eq!(process.wait().code, Some(0));
}
