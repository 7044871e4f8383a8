//! `zmqd export`: converts recordings for other programs.

mod flow;
mod pcapng;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use broker::record::Message;
use zmtp::show;

use self::flow::Flows;
use self::pcapng::Writer;
use crate::capture::{Filter, FilterArgs, Recordings};
use crate::output::{Failure, print};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// Recordings; several are merged by time
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The file to write; - is stdout
    #[arg(long, value_name = "FILE")]
    pcapng: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXAMPLES: &str = "\
Each peer becomes a TCP connection with the broker, 192.0.2.1. Ports are 5555 for the first proxy
or endpoint, 5556 for the second, and so on: tell Wireshark that they are ZMTP.

Examples:
  zmqd export today.zrec --pcapng today.pcapng
  zmqd export today.zrec --pcapng - --identity client-7 | tshark -d tcp.port==5555,zmtp -r -";

/// Writes every message as packets that could have carried it.
pub(super) fn run(args: &ExportArgs) -> Result<(), Failure> {
    let filter = Filter::new(&args.filter);
    let recordings = Recordings::open(&args.files)?;
    let name = args.pcapng.display();
    let refuse = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
        _ => Failure::Running(format!("cannot write to {name}: {error}")),
    };
    let out: Box<dyn Write> = match args.pcapng.to_str() {
        Some("-") => Box::new(io::stdout().lock()),
        _ => Box::new(create(&args.pcapng, args.overwrite).map_err(refuse)?),
    };
    let mut writer = Writer::begin(BufWriter::new(out)).map_err(refuse)?;
    let mut flows = Flows::default();
    let (mut messages, mut packets) = (0_u64, 0_u64);
    let integrity = recordings.read(|message| {
        if filter.accepts(message) {
            messages += 1;
            // One comment for each message, on its first packet.
            let mut comment = comment_of(message);
            let write = |packet: &[u8]| {
                packets += 1;
                writer.packet(message.time_ns, packet, &std::mem::take(&mut comment))
            };
            flows.message(message, write).map_err(refuse)?;
        }
        Ok(true)
    })?;
    writer.finish().map_err(refuse)?;
    if args.pcapng.to_str() != Some("-") {
        print(&format!(
            "{name}: {messages} messages in {packets} packets\n"
        ))?;
    }
    integrity.check()
}

/// The comment on a message: the user name of its sender, if known. Readers of the file show it as
/// it is, so hidden characters are escaped.
fn comment_of(message: &Message<'_>) -> String {
    let user = message.origin.user;
    user.map_or_else(String::new, |user| {
        format!("user {}", show(user.as_bytes()).whole())
    })
}

/// Creates a file. Replaces an existing file only with `overwrite`; writes to a pipe or device as
/// it is.
fn create(path: &Path, overwrite: bool) -> io::Result<File> {
    match File::create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created,
    }
    if path.is_file() && !overwrite {
        let message = "the file exists; name another file, or add --overwrite";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    File::create(path)
}
