use super::*;
use crate::Attach;
use crate::{SocketOption, SocketOptions};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use zmtp::Credentials;
use zmtp::plain::{Password, PasswordHash, PlainClient};

/// The test keys of libzmq's manual.
const PUBLIC: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
const SECRET: &str = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";
const OTHER: &str = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";

/// A directory of its own for each test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("zmqd-keys-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        Self(directory)
    }

    /// Writes a file and returns its name.
    fn write(&self, name: &str, mode: u32, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its owner");
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the directory");
    }
}

fn public(text: &str) -> PublicKey {
    text.parse().expect("a public key")
}

#[test]
fn a_secret_key_is_read_from_a_certificate_or_alone() {
    let files = Files::new("secret");
    let texts = [
        format!(
            "#   comment = x\ncurve\n    public-key = \"{PUBLIC}\"\n    secret-key = \"{SECRET}\"\n"
        ),
        format!("curve\n    secret-key = '{SECRET}'\n"),
        format!("{SECRET}\n"),
    ];
    for text in texts {
        let path = files.write("server.key_secret", 0o600, &text);
        let key = read_secret_key(&path).expect("a key");
        assert_eq!(key.public_key(), public(PUBLIC), "{text}");
    }
}

/// Z85 has the characters of paths, so that a path of 40 characters can be taken for a key.
#[test]
fn the_name_of_a_file_is_no_key() {
    let files = Files::new("name");
    let directory = files.0.to_string_lossy().len() + 1;
    let name = "x".repeat(40_usize.saturating_sub(directory).max(1));
    let path = files.write(
        &name,
        0o644,
        &format!("curve\n  public-key = \"{PUBLIC}\"\n"),
    );
    assert_eq!(public_key(&path), Ok(public(PUBLIC)), "{path}");
    assert_eq!(public_key(OTHER), Ok(public(OTHER)));
    fs::remove_file(&path).expect("the file");
    if path.len() == 40 {
        assert_ne!(public_key(&path), Ok(public(PUBLIC)), "it would be a key");
    }
}

#[test]
fn unusable_secret_files_are_refused_with_the_remedy() {
    let files = Files::new("refused");
    let certificate = |public, secret| {
        format!("curve\n  public-key = \"{public}\"\n  secret-key = \"{secret}\"\n")
    };
    let table = [
        (
            0o640,
            SECRET.to_owned(),
            "other users may read it: chmod 600",
        ),
        (
            0o604,
            SECRET.to_owned(),
            "other users may read it: chmod 600",
        ),
        (
            0o600,
            certificate(OTHER, SECRET),
            "does not belong to the secret key",
        ),
        (
            0o600,
            format!("public-key = \"{PUBLIC}\""),
            "has no line secret-key",
        ),
        (0o600, SECRET[..39].to_owned(), "39"),
        (0o600, "x".repeat(2 << 20), "larger than 1 MiB"),
    ];
    for (mode, text, expected) in table {
        let path = files.write("secret", mode, &text);
        let error = read_secret_key(&path).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains(&path), "{error}");
    }
    let missing = read_secret_key("/nonexistent").expect_err("no file");
    assert!(
        missing
            .to_string()
            .starts_with("cannot read /nonexistent: ")
    );
}

#[test]
fn clients_come_from_a_directory_or_a_list() {
    let files = Files::new("clients");
    files.write(
        "weather.key",
        0o644,
        &format!("curve\n    public-key = \"{PUBLIC}\"\n"),
    );
    files.write("weather.key_secret", 0o600, "not read");
    files.write(".hidden", 0o600, "not read");
    let directory = files.0.to_string_lossy().into_owned();
    let user = |admission: &Admission, key| match admission.decide(&Credentials::Curve(key), None) {
        Some(zmtp::Authorization::Granted { user }) => user,
        _ => None,
    };
    let of_directory = curve_clients(&directory).expect("certificates");
    assert_eq!(
        user(&of_directory, public(PUBLIC)).as_deref(),
        Some("weather")
    );
    assert_eq!(user(&of_directory, public(OTHER)), None);
    let list = format!("# clients\n\n{PUBLIC} weather\n{OTHER}\tmaps\n");
    let list = files.write("list", 0o644, &list);
    let of_list = curve_clients(&list).expect("a list");
    assert_eq!(user(&of_list, public(OTHER)).as_deref(), Some("maps"));
    let any = curve_clients(ANY).expect("a word");
    assert_eq!(user(&any, public(OTHER)).as_deref(), Some(OTHER));
}

#[test]
fn the_networks_of_a_client_come_from_its_line_or_certificate() {
    let files = Files::new("networks");
    let list = format!("{PUBLIC} weather role=sensor from=10.0.0.0/8,fd00::/8\n{OTHER} maps\n");
    let list = files.write("list", 0o644, &list);
    // As `zmq.auth.create_certificates` writes metadata, and as `zcert_save` does.
    let unquoted = format!(
        "metadata\n    role = sensor\n    from = 10.0.0.0/8, fd00::/8\ncurve\n    \
         public-key = \"{PUBLIC}\"\n"
    );
    let quoted = unquoted.replace("10.0.0.0/8, fd00::/8", "\"10.0.0.0/8,fd00::/8\"");
    let unquoted = files.write("unquoted.key", 0o644, &unquoted);
    let quoted = files.write("quoted.key", 0o644, &quoted);
    for path in [list, unquoted, quoted] {
        let Ok(Admission::Keys(keys)) = curve_clients(&path) else {
            panic!("{path} has keys");
        };
        let client = keys.client(&public(PUBLIC)).expect("it is listed").clone();
        let networks: Vec<String> = client.from.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "fd00::/8"], "{path}");
        assert_eq!(client.role.as_deref(), Some("sensor"), "{path}");
        let role = Admission::Keys(keys).role_of(&client.user).cloned();
        assert_eq!(role.as_deref(), Some("sensor"), "{path}");
    }
    let other = "curve\n    from = \"x\"\n    public-key = \"{PUBLIC}\"\n";
    let other = files.write("other.key", 0o644, &other.replace("{PUBLIC}", PUBLIC));
    assert!(curve_clients(&other).is_ok(), "only metadata counts");
}

#[test]
fn a_wrong_list_of_clients_is_refused_with_its_line() {
    let files = Files::new("list");
    for (text, expected) in [
        (format!("{PUBLIC} a\n{PUBLIC} b\n"), "has the names a and b"),
        (format!("{PUBLIC} a\n{OTHER}\n"), "list:2: write KEY NAME"),
        (
            format!("{PUBLIC} a roll=x\n"),
            "list:1: \"roll=x\" behind the client",
        ),
        (
            format!("{PUBLIC} a role=x role=y\n"),
            "list:1: \"role=y\" behind the client",
        ),
        (
            format!("{PUBLIC} a role=x\n{OTHER} a\n"),
            "the keys of a have different roles",
        ),
        (
            format!("{PUBLIC} a\n{OTHER} from=::1\n"),
            "list:2: write KEY NAME",
        ),
        (
            format!("{PUBLIC} a from=10.0.0.0/8,x\n"),
            "list:1: from=\"x\" is not a network",
        ),
        (
            format!("{PUBLIC} a from=\n"),
            "list:1: from=\"\" is not a network",
        ),
        (
            format!("{PUBLIC} a from=::1 from=::2\n"),
            "list:1: \"from=::2\" behind the client",
        ),
        ("short a\n".to_owned(), "list:1: "),
    ] {
        let path = files.write("list", 0o644, &text);
        let error = curve_clients(&path).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_socket_gets_the_mechanism_that_its_options_name() {
    let files = Files::new("socket");
    let secret = files.write("secret", 0o600, SECRET);
    let mut socket = SocketConfig::default();
    socket.attach(
        Attach::Bind,
        "tcp://127.0.0.1:0".parse().expect("an endpoint"),
    );
    socket.load_keys().expect("nothing to read");
    assert!(!socket.lacks_keys());
    assert_eq!(socket.mechanism, MechanismConfig::Null);
    socket.options.curve_secret.clone_from(&secret);
    assert!(
        socket.lacks_keys(),
        "a contradiction must not start in the clear"
    );
    socket.options.curve_clients = ANY.to_owned();
    socket.load_keys().expect("a server");
    assert_eq!(socket.public_key(), Some(public(PUBLIC)));
    assert!(socket.mechanism.is_server());
    socket.options.curve_clients.clear();
    socket.options.curve_server = OTHER.to_owned();
    socket.load_keys().expect("a client");
    assert!(!socket.mechanism.is_server());
    assert_eq!(socket.mechanism.name(), "CURVE");
}

/// A configuration whose frontend has these options, with its files read.
fn loaded(set: impl FnOnce(&mut SocketConfig)) -> Result<SocketConfig, Vec<Problem>> {
    let mut config = Config::embedded_default();
    set(&mut config.proxies[0].frontend);
    config.load_keys()?;
    Ok(config.proxies[0].frontend.clone())
}

#[test]
fn users_are_read_from_their_file() {
    let files = Files::new("users");
    let path = files.write("users", 0o600, "# all users\n\n");
    let mut file = UserFile::read(&path).expect("legal");
    let hash = |text: &str| PasswordHash::new(&Password::new(text.as_bytes())).expect("a salt");
    for (name, password) in [("weather", "rain"), ("maps", "flat"), ("weather", "sunny")] {
        file.set(name, &hash(password));
    }
    file.set("gone", &hash("away"));
    assert!(file.remove("gone") && !file.remove("gone"));
    assert_eq!(file.text().lines().count(), 4, "{}", file.text());
    assert!(file.text().starts_with("# all users\n\nweather:$argon2id$"));
    let path = files.write("users", 0o600, &file.text());
    let server = loaded(|side| side.options.plain_users = path).expect("legal");
    assert_eq!(server.mechanism, MechanismConfig::PlainServer);
    let Admission::Users(users) = server.admission else {
        panic!("users come in");
    };
    let verify = |user: &str, text: &str| {
        let user = users.verify(user.as_bytes(), &Password::new(text.as_bytes()));
        user.map(|client| client.user.to_string())
    };
    assert_eq!(verify("weather", "sunny").as_deref(), Some("weather"));
    assert_eq!(verify("maps", "flat").as_deref(), Some("maps"));
    assert_eq!(
        [verify("weather", "rain"), verify("gone", "away")],
        [None, None]
    );
    let none = UserFile::read(&format!("{}/none", files.0.display())).expect("no users");
    assert_eq!(none.text(), "");
}

#[test]
fn a_new_password_keeps_the_role_and_the_networks() {
    let files = Files::new("roles");
    let hash = |text: &str| PasswordHash::new(&Password::new(text.as_bytes())).expect("a salt");
    let line = format!(
        "two words:{}\trole=sensor  from=10.0.0.0/8\n",
        hash("rain").as_str()
    );
    let path = files.write("users", 0o600, &line);
    let mut file = UserFile::read(&path).expect("legal");
    file.set("two words", &hash("sunny"));
    assert!(
        file.text().ends_with(" role=sensor from=10.0.0.0/8\n"),
        "{}",
        file.text()
    );
    let path = files.write("users", 0o600, &file.text());
    let admission = loaded(|side| side.options.plain_users = path)
        .expect("legal")
        .admission;
    let role = admission.role_of("two words");
    assert_eq!(role.map(|role| &**role), Some("sensor"));
    let Admission::Users(users) = admission else {
        panic!("users come in");
    };
    let client = users
        .verify(b"two words", &Password::new(b"sunny"))
        .expect("it is right");
    assert_eq!(client.from.len(), 1);
    assert_eq!(users.verify(b"two words", &Password::new(b"rain")), None);
}

/// A role that is not configured would permit everything.
#[test]
fn an_unknown_role_of_a_user_is_refused() {
    let files = Files::new("unknown");
    let hash = PasswordHash::of_unknown_user();
    let path = files.write(
        "users",
        0o600,
        &format!("weather:{} role=x\n", hash.as_str()),
    );
    let mut config = Config::embedded_default();
    config.proxies[0].frontend.options.plain_users = path;
    config.load_keys().expect("legal");
    let problems = config.problems();
    let is_named = problems.iter().any(|it| it.to_string().contains("weather"));
    assert!(is_named, "{problems:?}");
}

#[test]
fn unusable_files_for_plain_are_refused_with_the_remedy() {
    let files = Files::new("plain");
    let hash = PasswordHash::of_unknown_user();
    let line = format!("weather:{}\n", hash.as_str());
    for (mode, text, expected) in [
        (0o644, line.clone(), "other users may read it: chmod 600"),
        (
            0o600,
            format!("{line}{line}"),
            ":2: the user weather is listed before",
        ),
        (
            0o600,
            "weather sunny\n".to_owned(),
            ":1: write NAME:HASH, as zmqd passwd",
        ),
        (0o600, "weather:sunny\n".to_owned(), ":1: write NAME:HASH"),
        (0o600, line.replace("weather", ""), ":1: write NAME:HASH"),
        (0o600, line.replace("t=2", "t=9"), ":1: write NAME:HASH"),
        (
            0o600,
            line.replace('\n', " roll=x\n"),
            ":1: \"roll=x\" behind the client",
        ),
        (
            0o600,
            line.replace('\n', " role=x role=y\n"),
            ":1: \"role=y\" behind the client",
        ),
        (
            0o600,
            line.replace('\n', " from=x\n"),
            ":1: from=\"x\" is not a network",
        ),
    ] {
        let path = files.write("users", mode, &text);
        let problems = loaded(|side| side.options.plain_users = path.clone());
        let sentence = problems.expect_err(expected)[0].to_string();
        assert!(
            sentence.contains(expected) && sentence.contains(&path),
            "{sentence}"
        );
    }
    for (mode, text, expected) in [
        (0o640, "secret", "other users may read it: chmod 600"),
        (0o600, "", "a password of 1 to 255 bytes"),
        (0o600, "one\ntwo\n", "a password of 1 to 255 bytes"),
        (0o600, &"x".repeat(256), "a password of 1 to 255 bytes"),
    ] {
        let path = files.write("password", mode, text);
        let client = loaded(|side| {
            side.options.plain_username = "weather".to_owned();
            side.options.plain_password_file = path.clone();
        });
        let sentence = client.expect_err(expected)[0].to_string();
        assert!(
            sentence.contains(expected) && sentence.contains(&path),
            "{sentence}"
        );
    }
    for text in ["secret", "secret\n", "secret\r\n"] {
        let path = files.write("password", 0o600, text);
        let client = loaded(|side| {
            side.options.plain_username = "weather".to_owned();
            side.options.plain_password_file = path;
        });
        let expected = PlainClient::new(b"weather", Password::new(b"secret")).expect("short");
        let expected = MechanismConfig::PlainClient(Arc::new(expected));
        assert_eq!(client.expect("legal").mechanism, expected, "{text:?}");
    }
}

#[test]
fn names_of_users_fit_a_line() {
    for (name, is_name) in [
        ("weather", true),
        ("two words", true),
        ("ü", true),
        (&"x".repeat(255), true),
        (&"x".repeat(256), false),
        ("", false),
        (" weather", false),
        ("a:b", false),
        ("#weather", false),
        ("a\nb", false),
        ("a\u{202e}b", false),
    ] {
        assert_eq!(UserFile::is_name(name), is_name, "{name:?}");
    }
}

/// Neither half of PLAIN is left out, and none is beside CURVE.
#[test]
fn options_for_plain_agree() {
    let options = |set: &[(&str, &str)]| {
        let mut options = SocketOptions::default();
        for (name, text) in set {
            let option = SocketOption::find(name).expect(name);
            let value = option.parse(text).expect(text);
            option.set(&mut options, value).expect(text);
        }
        options.contradictions().first().map(ToString::to_string)
    };
    let (users, name) = (("plain_users", "file"), ("plain_username", "weather"));
    let password = ("plain_password_file", "file");
    assert_eq!(options(&[users]), None);
    assert_eq!(options(&[name, password]), None);
    for (set, expected) in [
        (
            &[users, name, password][..],
            "plain_users makes this side a PLAIN server",
        ),
        (
            &[users, password],
            "plain_users makes this side a PLAIN server",
        ),
        (
            &[name],
            "plain_username is set and plain_password_file is not",
        ),
        (
            &[password],
            "plain_password_file is set and plain_username is not",
        ),
        (
            &[users, ("curve_secret", "x"), ("curve_clients", "any")],
            "one mechanism",
        ),
        (
            &[users, ("accept_zmtp2", "true")],
            "accept_zmtp2 has no effect with plain_users",
        ),
        (
            &[name, password, ("accept_zmtp2", "true")],
            "no effect with plain_username",
        ),
    ] {
        let found = options(set).expect(expected);
        assert!(found.contains(expected), "{found}");
    }
    // Nothing has read the file: the broker must not start in the clear.
    let mut config = Config::embedded_default();
    config.proxies[0].backend.options.plain_users = "file".to_owned();
    assert_eq!(
        config.check().map_err(|it| it.fault),
        Err(Fault::KeysNotLoaded)
    );
}

#[test]
fn a_token_for_http_is_one_line_that_no_other_user_reads() {
    let files = Files::new("http-token");
    let load = |mode, text| {
        let mut config = Config::default();
        config.http.token_file = files.write("token", mode, text);
        let loaded = config
            .load_keys()
            .map_err(|problems| problems[0].to_string());
        loaded.map(|()| config.http.token)
    };
    let token = load(0o600, "0123456789abcdef\n").expect("legal");
    assert_eq!(token, HttpToken::new("0123456789abcdef"));
    for (mode, text, error) in [
        (
            0o644,
            "0123456789abcdef\n",
            "has secrets, and other users may read it: chmod 600",
        ),
        (
            0o600,
            "0123456789abcde\n",
            "a token of 16 to 256 visible ASCII characters",
        ),
        (
            0o600,
            "0123456789 abcdef\n",
            "a token of 16 to 256 visible ASCII characters",
        ),
        (0o600, "", "a token of 16 to 256 visible ASCII characters"),
    ] {
        let found = load(mode, text).expect_err(error);
        assert!(found.contains(error), "{found}");
    }
    let mut config = Config::default();
    config.http.token_file = "a file that nothing has read".to_owned();
    let faults = config.problems().into_iter().map(|problem| problem.fault);
    assert!(
        faults
            .into_iter()
            .any(|fault| fault == Fault::KeysNotLoaded)
    );
}
