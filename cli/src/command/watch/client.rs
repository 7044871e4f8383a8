//! Asking a watch that runs.

use serde_json::{Value, json};

use crate::capture::json;
use crate::command::control::{Control, ControlArgs, items};
use crate::command::ctl::table::{Column, duration, render, text};
use crate::command::local::Kind;
use crate::output::{Failure, print};

/// Prints the state of every watch.
pub(super) fn show(args: &ControlArgs, as_json: bool) -> Result<(), Failure> {
    let found = Control::find_all(Kind::Watch, args)?;
    if found.is_empty() {
        return Err(Control::none_runs(Kind::Watch));
    }
    let mut output = String::new();
    for (_, status) in &found {
        if as_json {
            json::append_visibly(&mut output, &status.to_string());
            output.push('\n');
        } else {
            output.push_str(&describe(status));
        }
    }
    print(&output)
}

/// Pauses or resumes a watch.
pub(super) fn steer(args: &ControlArgs, command: &str, name: &str) -> Result<(), Failure> {
    let mut control = Control::of(Kind::Watch, args)?;
    control.ask(&json!({ "command": command, "name": name }))?;
    Ok(())
}

/// One process: a line about it, and a line for each watch.
fn describe(status: &Value) -> String {
    let mut output = format!("pid {}", status["pid"]);
    if status["dry_run"] == true {
        output.push_str(", dry run");
    }
    match status["broker_answers"].as_bool() {
        Some(true) => output.push_str(", the broker answers"),
        Some(false) => output.push_str(", the broker does not answer"),
        None => {}
    }
    if status["storm_seconds"].is_number() {
        output.push_str(", too many watches are down at once: no action is taken");
    }
    output.push('\n');
    output.push_str(&render(COLUMNS, items(status, "watches")));
    output
}

const COLUMNS: &[Column] = &[
    Column("watch", |it| text(it, "name")),
    Column("state", |it| text(it, "state")),
    Column("since", |it| duration(it, "since_seconds")),
    Column("sign", |it| text(it, "sign")),
    Column("actions", |it| text(it, "actions")),
    Column("reason", |it| match it["waits"].is_string() {
        true => format!("{}; {}", text(it, "reason"), text(it, "waits")),
        false => text(it, "reason"),
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_watch_has_a_line() {
        let status = json!({ "pid": 7, "dry_run": true, "broker_answers": false, "watches": [
            { "name": "camera", "state": "down", "since_seconds": 61.0, "sign": "silent",
              "actions": 2, "reason": "no message\x1b[2J", "waits": "hub is the cause" },
            { "name": "hub", "state": "up", "since_seconds": 3.0, "sign": "heartbeat",
              "actions": 0, "reason": "it lives", "waits": null },
        ] });
        assert_eq!(
            describe(&status),
            "pid 7, dry run, the broker does not answer\n\
             watch   state  since  sign       actions  reason\n\
             camera  down   1m01s  silent           2  no message\\x1b[2J; hub is the cause\n\
             hub     up      3.0s  heartbeat        0  it lives\n"
        );
    }
}
