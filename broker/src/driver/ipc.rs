//! Sockets of `ipc://`: their files are never taken from a process that listens, and are removed
//! when the broker ends.

use crate::config::endpoint::IpcName;
use crate::config::{IpcOwner, SocketOptions};
use crate::driver::tune::tune_buffers;
use crate::peer::PeerAddress;
use nix::libc::O_NOFOLLOW;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::hash::BuildHasher as _;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _, lchown,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::{env, process};

/// A listening socket, and its file if it has one.
#[derive(Debug)]
pub struct Bound {
    /// Its file.
    pub file: Option<SocketFile>,
    /// The socket, which does not wait.
    pub listener: UnixListener,
    /// Its name: for [`IpcName::Any`], the path that was chosen.
    pub name: IpcName,
}

/// The file of a listening socket; removed when dropped, if it is still the same file.
#[derive(Debug)]
pub struct SocketFile {
    /// The directory that was made only for it.
    directory: Option<PathBuf>,
    identity: Identity,
    path: PathBuf,
}

/// Device and inode, which distinguish files of the same name.
type Identity = (u64, u64);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Failures cannot be helped; a file that stays is replaced at the next start.
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Binds and listens. Replaces the file of a socket without a listener, and no other file.
///
/// # Errors
/// A process listens there, a file of another kind has the name, or the system refuses.
pub fn listen(name: &IpcName, options: &SocketOptions) -> io::Result<Bound> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    tune_buffers(&socket, options)?;
    let (path, directory) = match name {
        IpcName::Abstract(_) => {
            socket.bind(&address(name)?)?;
            socket.listen(options.backlog.try_into().unwrap_or(i32::MAX))?;
            let name = name.clone();
            return Ok(Bound {
                file: None,
                listener: socket.into(),
                name,
            });
        }
        IpcName::Any => {
            let directory = make_directory()?;
            (directory.join("socket"), Some(directory))
        }
        IpcName::Path(path) => (PathBuf::from(path), None),
    };
    let bound = bind_file(&socket, &path, options).map(|identity| SocketFile {
        directory: directory.clone(),
        identity,
        path: path.clone(),
    });
    if let (Err(_), Some(directory)) = (&bound, &directory) {
        // Its file was removed before.
        let _ = fs::remove_dir(directory);
    }
    Ok(Bound {
        file: Some(bound?),
        listener: socket.into(),
        name: IpcName::Path(path.to_string_lossy().into_owned()),
    })
}

/// Makes the file of a socket, replacing a stale one if necessary, and listens.
fn bind_file(socket: &Socket, path: &Path, options: &SocketOptions) -> io::Result<Identity> {
    let address = SockAddr::unix(path)?;
    // Between binding and listening, a socket looks stale.
    let _claim = Claim::new(path)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(error);
        }
        remove_stale(path)?;
        socket.bind(&address)?;
    }
    // Peers can connect only once the socket listens, which it does after mode and owner of the
    // file are set.
    let ready = set_owner(path, options.ipc_owner.as_ref())
        .and_then(|()| match options.ipc_mode {
            Some(mode) => fs::set_permissions(path, Permissions::from_mode(mode.bits())),
            None => Ok(()),
        })
        .and_then(|()| socket.listen(options.backlog.try_into().unwrap_or(i32::MAX)))
        .and_then(|()| identity(path));
    if ready.is_err() {
        let _ = fs::remove_file(path);
    }
    ready
}

/// The right to bind a path: one broker at a time has it, so that none takes another's socket for
/// stale before it listens.
struct Claim {
    /// Locked while it is open; the lock ends with the process.
    _file: File,
    path: PathBuf,
}

impl Claim {
    fn new(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(O_NOFOLLOW)
                .open(&path)?;
            file.try_lock().map_err(|error| match error {
                TryLockError::Error(error) => error,
                TryLockError::WouldBlock => in_use(),
            })?;
            // The previous owner has removed it, perhaps between these two steps.
            let metadata = file.metadata()?;
            if identity(&path).is_ok_and(|found| found == (metadata.dev(), metadata.ino())) {
                return Ok(Self { _file: file, path });
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A file that stays does no harm: it is not locked.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the file of a socket without a listener.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => {
            let message = "a file of this name exists and is not a socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        // Its process has just removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    if is_alive(path)? {
        return Err(in_use());
    }
    fs::remove_file(path)
}

/// Whether a process listens on the socket with this path.
fn is_alive(path: &Path) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(false),
            // Its backlog is full.
            io::ErrorKind::WouldBlock => Ok(true),
            // A datagram socket, or that of another user: do not remove it.
            _ => Err(error),
        },
    }
}

/// The address of a name, which must not be `*`.
pub(super) fn address(name: &IpcName) -> io::Result<SockAddr> {
    match name {
        // The leading zero makes it abstract.
        IpcName::Abstract(name) => SockAddr::unix(format!("\0{name}")),
        IpcName::Any => Err(io::ErrorKind::AddrNotAvailable.into()),
        IpcName::Path(path) => SockAddr::unix(path),
    }
}

/// The process at the other end.
pub(super) fn peer(socket: &impl AsFd) -> PeerAddress {
    // This cannot fail for a connected socket.
    let (pid, uid) = getsockopt(&socket.as_fd(), PeerCredentials)
        .map_or((0, u32::MAX), |peer| (peer.pid(), peer.uid()));
    PeerAddress::Ipc { pid, uid }
}

/// Makes a directory that only this user can access, where libzmq would, but never the current one.
fn make_directory() -> io::Result<PathBuf> {
    let named = ["TMPDIR", "TEMPDIR", "TMP"].iter().filter_map(env::var_os);
    let parent = named
        .map(PathBuf::from)
        .find(|path| path.is_dir())
        .unwrap_or_else(|| PathBuf::from("/tmp"));
    loop {
        let random = RandomState::new().hash_one(process::id());
        let path = parent.join(format!("zmqd-{random:016x}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path),
        }
    }
}

fn set_owner(path: &Path, owner: Option<&IpcOwner>) -> io::Result<()> {
    let Some(owner) = owner else {
        return Ok(());
    };
    let uid = id_of(&owner.user, "/etc/passwd", "user")?;
    let gid = id_of(&owner.group, "/etc/group", "group")?;
    lchown(path, uid, gid).map_err(|error| not_given(&error, owner))
}

fn not_given(error: &io::Error, owner: &IpcOwner) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "; run zmqd as root, or leave out ipc_owner",
        _ => "",
    };
    illegal(format!(
        "cannot give the file to {owner} (ipc_owner): {error}{remedy}"
    ))
}

/// The number of a user or group, which may be given as a number. In both files the name is the
/// first field and the number the third. Other user databases would need the C library.
fn id_of(name: &str, file: &str, what: &str) -> io::Result<Option<u32>> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let text = fs::read_to_string(file).map_err(|error| {
        let remedy = format!("write the numeric id of {what} {name:?} as ipc_owner");
        illegal(format!("cannot read {file}: {error}; {remedy}"))
    })?;
    let mut lines = text.lines().map(|line| line.split(':'));
    let number = lines.find_map(|mut fields| {
        let is_it = fields.next() == Some(name);
        is_it.then(|| fields.nth(1)?.parse().ok())?
    });
    let missing = || {
        let remedy = "create it, or write its numeric id as ipc_owner";
        illegal(format!("no {what} {name:?} in {file}: {remedy}"))
    };
    number.map(Some).ok_or_else(missing)
}

/// An option that cannot be applied here. The message has the remedy.
fn illegal(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")
}

#[cfg(test)]
#[path = "ipc_tests.rs"]
mod tests;
