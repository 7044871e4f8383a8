//! Files of sockets: owner, mode, removal, and that none is taken from a live process.

use super::*;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// A directory that is removed when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "zmqd-test-{}-{}",
            process::id(),
            MADE.fetch_add(1, Ordering::Relaxed)
        );
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("readable");
        let names = entries.map(|entry| entry.expect("readable").file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is there");
    }
}

fn listen_at(path: &str) -> io::Result<Bound> {
    listen(&IpcName::Path(path.to_owned()), &SocketOptions::DEFAULT)
}

/// Leaves a file without a listener, as a crash would.
fn leave_stale(path: &str) {
    drop(UnixListener::bind(path).expect("it is free"));
}

#[test]
fn the_file_is_removed_when_the_socket_closes() {
    let directory = Directory::new();
    let path = directory.path("socket");
    let bound = listen_at(&path).expect("it is free");
    assert_eq!(bound.name.to_string(), path);
    UnixStream::connect(&path).expect("it listens");
    drop(bound);
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn the_file_of_another_process_stays_when_the_socket_closes() {
    let directory = Directory::new();
    let path = directory.path("socket");
    let bound = listen_at(&path).expect("it is free");
    // As libzmq does.
    fs::remove_file(&path).expect("it is there");
    let other = UnixListener::bind(&path).expect("it is free");
    drop(bound);
    UnixStream::connect(&path).expect("the other still listens");
    drop(other);
}

#[test]
fn a_stale_socket_is_replaced() {
    let directory = Directory::new();
    let path = directory.path("socket");
    leave_stale(&path);
    let bound = listen_at(&path).expect("the path has no listener");
    UnixStream::connect(&path).expect("we listen");
    assert_eq!(directory.names(), ["socket"]);
    drop(bound);
}

#[test]
fn a_live_socket_is_never_taken() {
    let directory = Directory::new();
    let path = directory.path("socket");
    let first = listen_at(&path).expect("it is free");
    let error = listen_at(&path).expect_err("the name is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
    assert_eq!(directory.names(), ["socket"]);
    UnixStream::connect(&path).expect("the first still listens");
    drop(first);
}

#[test]
fn a_socket_with_a_full_backlog_is_alive() {
    let directory = Directory::new();
    let path = directory.path("socket");
    let options = SocketOptions {
        backlog: 1,
        ..SocketOptions::DEFAULT
    };
    let _first = listen(&IpcName::Path(path.clone()), &options).expect("it is free");
    let _waiting = [(); 2].map(|()| UnixStream::connect(&path).expect("there is room"));
    let error = listen_at(&path).expect_err("the name is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
}

#[test]
fn other_files_and_sockets_are_left_alone() {
    let directory = Directory::new();
    let (file, datagrams) = (directory.path("file"), directory.path("datagrams"));
    fs::write(&file, "precious").expect("writable");
    let _other = UnixDatagram::bind(&datagrams).expect("it is free");
    for path in [&file, &datagrams] {
        assert!(listen_at(path).is_err(), "{path}");
    }
    assert_eq!(fs::read_to_string(&file).expect("readable"), "precious");
    assert_eq!(directory.names().len(), 2);
}

#[test]
fn one_of_two_that_start_at_once_listens() {
    let directory = Directory::new();
    for round in 0..200 {
        let path = directory.path(&format!("socket{round}"));
        if round % 2 == 0 {
            leave_stale(&path);
        }
        let start = || {
            let path = path.clone();
            thread::spawn(move || listen_at(&path))
        };
        let both = [start(), start()].map(|thread| thread.join().expect("it does not panic"));
        let winners = both.iter().flatten().count();
        assert_eq!(winners, 1, "{both:?}");
        UnixStream::connect(&path).expect("it listens");
    }
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn a_claim_left_by_a_crash_does_not_block() {
    let directory = Directory::new();
    let path = directory.path("socket");
    fs::write(format!("{path}.lock"), "").expect("writable");
    let bound = listen_at(&path).expect("the lock is free");
    assert_eq!(directory.names(), ["socket"]);
    drop(bound);
    let claim = Claim::new(Path::new(&path)).expect("the path is free");
    let error = listen_at(&path).expect_err("another socket is about to bind it");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
    drop(claim);
    listen_at(&path).expect("the path is free again");
}

#[test]
fn mode_and_owner_are_those_of_the_options() {
    let directory = Directory::new();
    let path = directory.path("socket");
    let found = |path: &str| {
        let metadata = fs::symlink_metadata(path).expect("it is there");
        (
            metadata.permissions().mode() & 0o777,
            metadata.uid(),
            metadata.gid(),
        )
    };
    let ours = fs::metadata(&directory.0).expect("it is there");
    let may_give_away = ours.uid() == 0;
    for mode in ["600", "666", "000", "777"] {
        // Only root may change the owner of files; other users can only set themselves.
        let (uid, gid) = if may_give_away {
            (12_345, 54_321)
        } else {
            (ours.uid(), ours.gid())
        };
        let options = SocketOptions {
            ipc_mode: Some(mode.parse().expect(mode)),
            ipc_owner: Some(format!("{uid}:{gid}").parse().expect("legal")),
            ..SocketOptions::DEFAULT
        };
        let bound = listen(&IpcName::Path(path.clone()), &options).expect("it is free");
        let bits = u32::from_str_radix(mode, 8).expect("octal");
        assert_eq!(found(&path), (bits, uid, gid));
        drop(bound);
    }
    assert_eq!(directory.names(), [""; 0]);
}

/// In a file system without `/etc/passwd`, the advice was once to make the directory of the socket.
#[test]
fn errors_about_an_owner_name_the_cause() {
    let refusal = id_of("root", "/nonexistent/passwd", "user").expect_err("no such file");
    let expected = "cannot read /nonexistent/passwd: No such file or directory (os error 2); write \
                    the numeric id of user \"root\" as ipc_owner";
    assert_eq!(refusal.to_string(), expected);
    assert_eq!(
        refusal.kind(),
        io::ErrorKind::InvalidInput,
        "no further advice"
    );
    let owner = "root".parse().expect("legal");
    let refusal = not_given(&io::ErrorKind::PermissionDenied.into(), &owner).to_string();
    assert!(
        refusal.ends_with("; run zmqd as root, or leave out ipc_owner"),
        "{refusal}"
    );
}

#[test]
fn owners_are_looked_up_by_name() {
    assert_eq!(
        id_of("root", "/etc/passwd", "user").expect("everywhere"),
        Some(0)
    );
    assert_eq!(
        id_of("root", "/etc/group", "group").expect("everywhere"),
        Some(0)
    );
    assert_eq!(
        id_of("", "/etc/passwd", "user").expect("an empty name"),
        None
    );
    assert_eq!(
        id_of("77", "/etc/passwd", "user").expect("a number"),
        Some(77)
    );
    let directory = Directory::new();
    let options = SocketOptions {
        ipc_owner: Some("no-such-user".parse().expect("legal")),
        ..SocketOptions::DEFAULT
    };
    let path = directory.path("socket");
    let error = listen(&IpcName::Path(path), &options).expect_err("the user is unknown");
    assert!(
        error.to_string().contains("no user \"no-such-user\" in"),
        "{error}"
    );
    assert_eq!(directory.names(), [""; 0], "no file is left behind");
}

#[test]
fn only_the_user_can_reach_an_any_path() {
    let bound = listen(&IpcName::Any, &SocketOptions::DEFAULT).expect("there is room");
    let IpcName::Path(path) = &bound.name else {
        panic!("{:?}", bound.name)
    };
    let parent = Path::new(path).parent().expect("a directory").to_owned();
    UnixStream::connect(path).expect("it listens");
    let mode = fs::metadata(&parent)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(bound);
    assert!(!parent.exists(), "the directory is removed too");
}

#[test]
fn abstract_names_need_no_file_and_are_never_shared() {
    let name = IpcName::Abstract(format!("zmqd-test-{}", process::id()));
    let bound = listen(&name, &SocketOptions::DEFAULT).expect("it is free");
    assert!(bound.file.is_none());
    let error = listen(&name, &SocketOptions::DEFAULT).expect_err("the name is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    drop(bound);
    listen(&name, &SocketOptions::DEFAULT).expect("it is free again");
}

#[test]
fn the_longest_path_works() {
    let directory = Directory::new();
    let room = 107 - directory.path("").len();
    let path = directory.path(&"x".repeat(room));
    leave_stale(&path);
    let bound = listen_at(&path).expect("it fits");
    UnixStream::connect(&path).expect("it listens");
    drop(bound);
    assert_eq!(directory.names(), [""; 0]);
}
