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

#[test]
fn secrets_are_in_no_log_and_no_answer() {
    let keys = Keys::new("secrets", &["server", "client", "stranger"]);
    let (users, password) = (plain::users(), plain::password("sunny"));
    let config = Scratch::new(
        "toml",
        &format!(
            "[[proxy]]\nname = \"keys\"\nkind = \"streamer\"\n\
             frontend = {{ bind = \"{ANY}\", curve_secret = \"{0}\", curve_clients = \"{1}\" }}\n\
             backend.bind = \"{ANY}\"\ncontrol.bind = \"{ANY}\"\n\
             [[proxy]]\nname = \"passwords\"\nkind = \"streamer\"\n\
             frontend = {{ bind = \"{ANY}\", plain_users = \"{2}\" }}\nbackend.bind = \"{ANY}\"\n",
            keys.path("server.key_secret"),
            keys.path("client.key"),
            users.path(),
        ),
    );
    let broker = Zmqd::start_expecting(5, &["-vvv", "run", config.path()]);
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
    python.run(
        r#"
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
        "#,
    );
    let mut raw = Raw::connect(broker.endpoint("passwords", "frontend"));
    // The fields are cut: the password stands where no password is expected.
    let hello = frame(COMMAND, b"\x05HELLO\xffrainy-day");
    raw.send(&[&greeting("PLAIN")[..], &hello].concat())
        .expect("a new connection takes it");
    assert!(raw.read_until_closed().len() <= 64);
    let _ = broker.wait_log("malformed");
    let control = broker.endpoint("keys", "control").to_owned();
    let mut said = Vec::new();
    for question in [
        &["peers", "--all"][..],
        &["statistics"],
        &["closed"],
        &["reload"],
    ] {
        let answer = Zmqd::finish(&[&["ctl", &control, "--json"], question].concat());
        assert_eq!(answer.code, Some(0), "{}", answer.stderr);
        said.push(answer.stdout);
    }
    // A file that is no key any more is quoted by its name.
    let secret = secret_of(&keys, "server");
    let file = keys.path("server.key_secret");
    fs::write(&file, format!("{secret}!")).expect("a file");
    let answer = Zmqd::finish(&["ctl", &control, "reload"]);
    assert!(
        answer.stderr.contains("server.key_secret"),
        "{}",
        answer.stderr
    );
    said.push(answer.stderr);
    let checked = Zmqd::finish(&["check", config.path()]);
    assert_eq!(checked.code, Some(2), "{}", checked.stdout);
    said.extend([checked.stdout, checked.stderr]);
    let refused = Zmqd::finish(&[
        "sniff",
        broker.endpoint("keys", "frontend"),
        "--plain-username",
        "weather",
        "--plain-password-file",
        password.path(),
    ]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    said.push(refused.stderr);
    broker.signal("TERM");
    let ended = broker.wait();
    said.extend([ended.stdout, ended.stderr]);
    let said = said.concat();
    assert!(said.contains("TRACE") || said.contains("DEBUG"), "{said}");
    let secrets = [
        secret,
        secret_of(&keys, "client"),
        secret_of(&keys, "stranger"),
        "sunny".to_owned(),
        "rainy".to_owned(),
        "argon2id".to_owned(),
    ];
    for secret in secrets {
        assert!(!said.contains(&secret), "{secret} in\n{said}");
    }
}
