//! `zmqd export`: recordings as files for other programs.

mod flow;
mod pcapng;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use self::flow::Flows;
use self::pcapng::Writer;
use super::Failure;
use crate::capture::{Filter, FilterArgs, Recordings};

/// Turn recordings into files for Wireshark
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Recordings, several by their times
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The file to write; - is stdout
    #[arg(long, value_name = "FILE")]
    pcapng: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Writes every message as the packets it might have been.
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
        _ => Box::new(File::create(&args.pcapng).map_err(refuse)?),
    };
    let mut writer = Writer::begin(BufWriter::new(out)).map_err(refuse)?;
    let mut flows = Flows::default();
    let told = recordings.read(|message| {
        if filter.accepts(message) {
            flows
                .message(message, |packet| writer.packet(message.time_ns, packet))
                .map_err(refuse)?;
        }
        Ok(true)
    })?;
    writer.finish().map_err(refuse)?;
    told.check()
}
