//! `zmqd passwd`: the users of a PLAIN server, and the hashes of their passwords.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use broker::config::UserFile;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use zmtp::plain::{Password, PasswordHash};
use zmtp::show;

use crate::output::Failure;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PasswdArgs {
    /// The file, as plain_users names it; made if it does not exist
    pub(crate) file: String,
    /// The user
    pub(crate) name: String,
    /// Remove the user
    #[arg(long)]
    pub(crate) delete: bool,
}

const EXAMPLES: &str = "\
zmqd asks for the password on the terminal, without showing it, or reads the first line of stdin.
The file has a salted hash of each password (Argon2id). Only its owner can read it.

Examples:
  zmqd passwd users weather
  openssl rand -base64 24 | tee weather.password | zmqd passwd users weather
  zmqd passwd users weather --delete";

/// Permissions of the file.
const MODE: u32 = 0o600;

/// The longest line of stdin that can have a password, in bytes.
const LINE_SIZE_MAX: usize = 257;

/// Changes the file.
pub(super) fn run(args: &PasswdArgs) -> Result<(), Failure> {
    let mut file = UserFile::read(&args.file).map_err(|it| Failure::usage(it.to_string()))?;
    if args.delete {
        if !file.remove(&args.name) {
            let (name, path) = (show(&args.name), show(&args.file).whole());
            return Err(Failure::usage(format!("{path} has no user \"{name}\"")));
        }
        return replace(&args.file, &file.text());
    }
    if !UserFile::is_name(&args.name) {
        return Err(Failure::usage(format!(
            "\"{}\" is not a user name: write up to 255 bytes, without a colon or hidden \
             characters, and not # first",
            show(&args.name)
        )));
    }
    let password =
        ask().map_err(|error| Failure::Running(format!("cannot read the password: {error}")))?;
    if !UserFile::is_password(&password) {
        let rule = "a password has 1 to 255 bytes: give another on the terminal or on stdin";
        return Err(Failure::usage(rule.to_owned()));
    }
    let hash = PasswordHash::new(&password).map_err(|it| Failure::Running(it.to_string()))?;
    file.set(&args.name, &hash);
    replace(&args.file, &file.text())
}

/// Asks for a password, twice on a terminal.
fn ask() -> io::Result<Password> {
    if !io::stdin().is_terminal() {
        return read_line();
    }
    let (first, second) = (prompt("Password: ")?, prompt("Again: ")?);
    if first == second {
        return Ok(first);
    }
    Err(io::Error::other("the two passwords differ; try again"))
}

/// Asks on the terminal, which does not show the answer.
fn prompt(question: &str) -> io::Result<Password> {
    let mut stderr = io::stderr();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let shown = tcgetattr(io::stdin())?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &hidden)?;
    let password = read_line();
    tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &shown)?;
    writeln!(stderr)?;
    password
}

/// The first line of stdin, read byte by byte: the rest is for other readers.
fn read_line() -> io::Result<Password> {
    let mut line = Vec::new();
    for byte in io::stdin().lock().bytes().take(LINE_SIZE_MAX) {
        match byte? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    Ok(Password::new(&line))
}

/// Writes the file anew and puts it in place of the former one.
fn replace(path: &str, text: &str) -> Result<(), Failure> {
    let new = format!("{path}.new");
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(MODE).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            drop(fs::remove_file(&new));
        }
        let advice = match error.kind() {
            io::ErrorKind::AlreadyExists => "; wait for the other zmqd passwd, or remove the file",
            _ => "",
        };
        Failure::Running(format!(
            "cannot write {}: {error}{advice}",
            show(&new).whole()
        ))
    })
}
