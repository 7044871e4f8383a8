//! `zmqd keygen`: CURVE keys in the files of pyzmq.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use broker::config::read_secret_key;
use zmtp::curve::{Entropy, SecretKey};
use zmtp::show;

use crate::output::{Failure, print};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct KeygenArgs {
    /// The path of both files, without .key and .key_secret
    #[arg(required_unless_present = "public")]
    pub(crate) name: Option<String>,
    /// Print the public key of the secret key in a file, and write nothing
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub(crate) public: Option<String>,
}

const EXAMPLES: &str = "\
zmqd writes NAME.key with the public key and NAME.key_secret with both, as pyzmq's zmq.auth does,
and prints the public key. It never overwrites a file; only its owner can read the secret one.

Examples:
  zmqd keygen server
  zmqd keygen clients/weather
  zmqd keygen --public server.key_secret";

/// Permissions of the two files.
const PUBLIC_MODE: u32 = 0o644;
const SECRET_MODE: u32 = 0o600;

/// Writes the files, or reads one, and prints the public key.
pub(super) fn run(args: &KeygenArgs) -> Result<(), Failure> {
    if let Some(path) = &args.public {
        let key = read_secret_key(path).map_err(|error| Failure::usage(error.to_string()))?;
        return print(&format!("{}\n", key.public_key()));
    }
    let name = args.name.as_deref().unwrap_or_default();
    let secret = SecretKey::generate(Entropy::SYSTEM)
        .map_err(|error| Failure::Running(error.to_string()))?;
    let public = secret.public_key();
    let (public_file, secret_file) = (format!("{name}.key"), format!("{name}.key_secret"));
    // The public file names no key without the secret one.
    let certificate = format!(
        "#   Keep this file from all other users and machines.\n\
         metadata\n\
         curve\n    public-key = \"{public}\"\n    secret-key = \"{}\"\n",
        secret.to_text().as_str()
    );
    create(&secret_file, SECRET_MODE, &certificate)?;
    let certificate = format!(
        "#   A public key: give it to the peers.\nmetadata\ncurve\n    public-key = \"{public}\"\n"
    );
    if let Err(failure) = create(&public_file, PUBLIC_MODE, &certificate) {
        drop(fs::remove_file(&secret_file));
        return Err(failure);
    }
    print(&format!("{public}\n"))
}

/// Writes a new file.
fn create(path: &str, mode: u32, text: &str) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| {
        let shown = show(path).whole();
        let advice = match error.kind() {
            io::ErrorKind::AlreadyExists => "; choose another name, or remove the file",
            io::ErrorKind::NotFound if Path::new(path).parent().is_some() => {
                "; make its directory first"
            }
            _ => "",
        };
        Failure::Running(format!("cannot write {shown}: {error}{advice}"))
    })
}
