//! Secret keys and passwords are in no log, at any level, and in no answer.

use std::fs;

use zmqd_tests::raw::{COMMAND, frame, greeting};
use zmqd_tests::{ANY, Python, Raw, Scratch, Zmqd};

use super::curve::Keys;
use super::plain;

/// The secret key in a file that `zmqd keygen` has written, in Z85.
fn secret_of(keys: &Keys, name: &str) -> String {
    let text = fs::read_to_string(keys.path(&format!("{name}.key_secret"))).expect("a file");
    let (_, rest) = text.split_once("secret-key = \"").expect("a certificate");
    let (secret, _) = rest.split_once('"').expect("a certificate");
    assert_eq!(secret.len(), 40);
    secret.to_owned()
}

/// Logins with right and wrong keys and passwords.
const LOGINS: &str = r#"
def pushing(endpoint, **login):
    made = socket(zmq.PUSH)
    for name, value in login.items():
        setattr(made, name, value)
    if "plain_username" not in login:
        be_client(made, keys, client=login_keys)
    made.connect(endpoint)
    return made

ends = connect(zmq.PULL, keys_end), connect(zmq.PULL, passwords_end)
login_keys = "stranger"
stranger = pushing(with_keys)
login_keys = "client"
friend = pushing(with_keys)
wrong = pushing(with_passwords, plain_username=b"weather", plain_password=b"rainy-day")
right = pushing(with_passwords, plain_username=b"weather", plain_password=b"sunny")
friend.send(b"one")
right.send(b"two")
assert [end.recv() for end in ends] == [b"one", b"two"]
"#;

/// A proxy for peers with keys, and one for users with passwords.
fn config(keys: &Keys, users: &Scratch) -> Scratch {
    let text = format!(
        "[[proxy]]\nname = \"keys\"\nkind = \"streamer\"\n\
         frontend = {{ bind = \"{ANY}\", curve_secret = \"{0}\", curve_clients = \"{1}\" }}\n\
         backend.bind = \"{ANY}\"\ncontrol.bind = \"{ANY}\"\n\
         [[proxy]]\nname = \"passwords\"\nkind = \"streamer\"\n\
         frontend = {{ bind = \"{ANY}\", plain_users = \"{2}\" }}\nbackend.bind = \"{ANY}\"\n",
        keys.path("server.key_secret"),
        keys.path("client.key"),
        users.path(),
    );
    Scratch::new("toml", &text)
}

fn log_in(broker: &Zmqd, keys: &Keys) -> Python {
    let mut python = Python::new();
    python.set("keys", &keys.path(""));
    for (name, proxy, side) in [
        ("with_keys", "keys", "frontend"),
        ("keys_end", "keys", "backend"),
        ("with_passwords", "passwords", "frontend"),
        ("passwords_end", "passwords", "backend"),
    ] {
        python.set(name, broker.endpoint(proxy, side));
    }
    python.run(LOGINS);
    // The fields are cut: the password stands where no password is expected.
    let mut raw = Raw::connect(broker.endpoint("passwords", "frontend"));
    let hello = frame(COMMAND, b"\x05HELLO\xffrainy-day");
    raw.send(&[&greeting("PLAIN")[..], &hello].concat())
        .expect("a new connection takes it");
    assert!(raw.read_until_closed().len() <= 64);
    let _ = broker.wait_log("malformed");
    python
}

/// What commands print about the broker, also when a file has no key any more.
fn ask(broker: &Zmqd, keys: &Keys, config: &Scratch, password: &Scratch) -> String {
    let control = broker.endpoint("keys", "control");
    let mut said = Vec::new();
    let mut run = |code: i32, arguments: &[&str]| {
        let finished = Zmqd::finish(arguments);
        assert_eq!(finished.code, Some(code), "{}", finished.stderr);
        said.extend([finished.stdout, finished.stderr]);
    };
    for question in [
        &["peers", "--all"][..],
        &["statistics"],
        &["closed"],
        &["reload"],
    ] {
        run(0, &[&["ctl", control, "--json"], question].concat());
    }
    let file = keys.path("server.key_secret");
    fs::write(&file, format!("{}!", secret_of(keys, "server"))).expect("a file");
    run(1, &["ctl", control, "reload"]);
    run(2, &["check", config.path()]);
    run(
        1,
        &[
            "sniff",
            broker.endpoint("keys", "frontend"),
            "--plain-username",
            "weather",
            "--plain-password-file",
            password.path(),
        ],
    );
    let said = said.concat();
    assert!(said.contains("server.key_secret"), "{said}");
    said
}

#[test]
fn secrets_are_in_no_log_and_no_answer() {
    let keys = Keys::new("secrets", &["server", "client", "stranger"]);
    let owners = ["server", "client", "stranger"];
    let mut secrets = owners.map(|owner| secret_of(&keys, owner)).to_vec();
    secrets.extend(["sunny", "rainy", "argon2id"].map(str::to_owned));
    let (users, password) = (plain::users(), plain::password("sunny"));
    let config = config(&keys, &users);
    let broker = Zmqd::start_expecting(5, &["-vvv", "run", config.path()]);
    let python = log_in(&broker, &keys);
    let mut said = ask(&broker, &keys, &config, &password);
    drop(python);
    broker.signal("TERM");
    let ended = broker.wait();
    said.extend([ended.stdout, ended.stderr]);
    assert!(said.contains("TRACE") || said.contains("DEBUG"), "{said}");
    for secret in secrets {
        assert!(!said.contains(&secret), "{secret} in\n{said}");
    }
}
