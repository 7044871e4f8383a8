//! The controls of the brokers on this machine: where a broker listens for questions unless it is
//! told, and how the commands find it.
//!
//! Only the user of a broker may connect to its control: the mode of the socket is 0600, and its
//! directory belongs to that user.

use broker::sort;
use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process;

use broker::config::Endpoint;
use nix::unistd::geteuid;
use zmtp::show;

/// The directory of a system service.
const SYSTEM_DIRECTORY: &str = "/run/zmqd";

/// A kind of process with a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Broker,
    Watch,
}

impl Kind {
    /// The extension of the names of sockets.
    fn extension(self) -> &'static str {
        match self {
            Self::Broker => "ctl",
            Self::Watch => "watch",
        }
    }

    /// Words for one process, several, and the command that lists them.
    pub(super) fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Broker => ("broker", "brokers", "zmqd status"),
            Self::Watch => ("watch", "watches", "zmqd watch status"),
        }
    }

    /// The name in a directory that belongs to one service.
    fn service_name(self) -> String {
        format!("zmqd.{}", self.extension())
    }
}

/// Brokers that a command looks at; a user has few.
const BROKERS_MAX: usize = 100;

/// The endpoint for the control of this process; makes its directory.
///
/// # Errors
/// No directory can be used; the sentence says why.
pub(super) fn prepare(kind: Kind) -> Result<Endpoint, String> {
    if let Some(directory) = runtime_directory() {
        return endpoint(&directory.join(kind.service_name()));
    }
    let directory = user_directory();
    make_private(&directory).map_err(|error| {
        format!(
            "{}: {error}",
            show(&directory.display().to_string()).whole()
        )
    })?;
    remove_stale(&directory, kind);
    endpoint(&directory.join(format!("{}.{}", process::id(), kind.extension())))
}

/// The controls that a command of this user may ask, the sockets of running processes or of ended
/// ones.
pub(super) fn find(kind: Kind) -> Vec<Endpoint> {
    let mut directories: Vec<PathBuf> = runtime_directory().into_iter().collect();
    if check_private(&user_directory()).is_ok() {
        directories.push(user_directory());
    }
    directories.push(SYSTEM_DIRECTORY.into());
    let mut found: Vec<PathBuf> = directories
        .iter()
        .flat_map(|path| sockets_in(path, kind))
        .collect();
    sort::by(&mut found, &mut Ord::cmp);
    found.dedup();
    let endpoints = found.iter().filter_map(|path| endpoint(path).ok());
    endpoints.take(BROKERS_MAX).collect()
}

/// The first directory that systemd has made for this service.
fn runtime_directory() -> Option<PathBuf> {
    let value = env::var("RUNTIME_DIRECTORY").ok()?;
    let first = value.split(':').next().filter(|path| path.starts_with('/'));
    first.map(PathBuf::from)
}

/// The directory of this user, by the same rule for brokers and commands.
fn user_directory() -> PathBuf {
    let uid = geteuid();
    let named = env::var("XDG_RUNTIME_DIR").ok().map(PathBuf::from);
    let usual = PathBuf::from(format!("/run/user/{uid}"));
    let is_own = |path: &PathBuf| {
        let found = fs::metadata(path);
        path.is_absolute() && found.is_ok_and(|found| found.is_dir() && found.uid() == uid.as_raw())
    };
    match named.into_iter().chain([usual]).find(is_own) {
        Some(parent) => parent.join("zmqd"),
        None => PathBuf::from(format!("/tmp/zmqd-{uid}")),
    }
}

/// Makes a directory that only this user can enter.
fn make_private(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => check_private(path),
    }
}

/// Another user could have made the directory first, or a link in its place.
fn check_private(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let is_private = found.is_dir() && found.uid() == geteuid().as_raw();
    if is_private && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::other(
        "it must be a directory of this user with the mode 0700: remove it",
    ))
}

/// Removes the sockets of processes that were killed.
fn remove_stale(directory: &Path, kind: Kind) {
    for path in sockets_in(directory, kind) {
        let name = path.file_stem().and_then(|name| name.to_str());
        let pid: Option<u32> = name.and_then(|name| name.parse().ok());
        let is_gone = |pid: u32| !Path::new("/proc").join(pid.to_string()).exists();
        if pid.is_some_and(is_gone)
            && let Err(error) = UnixStream::connect(&path)
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            // What stays does no harm.
            let _ = fs::remove_file(&path);
        }
    }
}

/// The sockets with the name of a control in a directory.
fn sockets_in(directory: &Path, kind: Kind) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| {
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        is_socket
            && entry
                .path()
                .extension()
                .is_some_and(|end| end == kind.extension())
    });
    sockets
        .map(|entry| entry.path())
        .take(BROKERS_MAX)
        .collect()
}

fn endpoint(path: &Path) -> Result<Endpoint, String> {
    let text = format!("ipc://{}", path.display());
    Endpoint::parse_connect(&text).map_err(|error| error.to_string())
}
