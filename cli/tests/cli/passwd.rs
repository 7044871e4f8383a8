//! `zmqd passwd`: the file of the users of a PLAIN server.

use super::refusals::refusal_of;
use super::{file, run, text, zmqd};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};

/// Runs `zmqd passwd` with this standard input.
fn passwd(args: &[&str], input: &str) -> Output {
    let mut command = zmqd(&[&["passwd"], args].concat());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("it was piped");
    // A command that is refused at once reads nothing.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// The name of a file that does not exist.
fn missing(name: &str) -> String {
    let path = file(name, "");
    fs::remove_file(&path).expect("it was made");
    path
}

fn set(path: &str, name: &str, input: &str) {
    let output = passwd(&[path, name], input);
    assert!(output.status.success(), "{output:?}");
    assert_eq!([output.stdout, output.stderr].concat(), b"");
}

#[test]
fn users_are_added_changed_and_removed() {
    let path = missing("users");
    set(&path, "weather", "rain\nnot read\n");
    set(&path, "maps", "flat");
    let first = fs::read_to_string(&path).expect("a file");
    set(&path, "weather", "sunny\n");
    let second = fs::read_to_string(&path).expect("a file");
    let names = |text: &str| -> Vec<String> {
        let names = text.lines().filter_map(|line| line.split_once(':'));
        names.map(|(name, _)| name.to_owned()).collect()
    };
    assert_eq!(names(&first), ["weather", "maps"]);
    assert_eq!(names(&second), ["weather", "maps"]);
    assert_ne!(first.lines().next(), second.lines().next());
    assert_eq!(first.lines().nth(1), second.lines().nth(1));
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for secret in ["rain", "sunny", "flat", "not read"] {
        assert!(!second.contains(secret), "{second}");
    }
    assert!(passwd(&[&path, "weather", "--delete"], "").status.success());
    assert_eq!(names(&fs::read_to_string(&path).expect("a file")), ["maps"]);
    let config = format!(
        "[[proxy]]\nkind = 'queue'\nfrontend = {{ bind = 'ipc://@a', plain_users = '{path}' }}\n\
         backend.bind = 'inproc://b'\n"
    );
    let config = file("plain.toml", &config);
    assert!(run(&["check", &config]).status.success());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its owner");
    let refusal = refusal_of(&["check", &config], 2);
    assert!(
        refusal.contains("other users may read it: chmod 600"),
        "{refusal}"
    );
}

#[test]
fn what_cannot_be_a_user_is_refused_and_changes_nothing() {
    let path = missing("nothing");
    for (args, input, expected) in [
        (
            &[&path[..], "a:b"][..],
            "secret\n",
            "\"a:b\" is not a user name",
        ),
        (&[&path, "weather"], "\n", "a password has 1 to 255 bytes"),
        (&[&path, "weather"], "", "a password has 1 to 255 bytes"),
        (
            &[&path, "weather"],
            &"x".repeat(256),
            "a password has 1 to 255 bytes",
        ),
        (
            &[&path, "weather", "--delete"],
            "",
            "has no user \"weather\"",
        ),
        (
            &[&path, "weather", "secret"],
            "",
            "unexpected argument 'secret'",
        ),
    ] {
        let output = passwd(args, input);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
        assert!(fs::metadata(&path).is_err(), "no file");
    }
    let wrong = file("wrong-users", "weather sunny\n");
    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).expect("its owner");
    let output = passwd(&[&wrong, "maps"], "flat\n");
    let stderr = text(&output.stderr);
    assert!(stderr.contains(":1: write NAME:HASH"), "{stderr}");
    assert_eq!(
        fs::read_to_string(&wrong).expect("a file"),
        "weather sunny\n"
    );
}
