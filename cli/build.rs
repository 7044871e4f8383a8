//! Makes the release smaller, by options of the linker.
//!
//! Linkers differ in the options they know, and C libraries in the formats they load. Each option
//! is tried with a small program first; one that fails is left out.

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn main() {
    const SCRIPT: &str = "without_unwind_tables.ld";
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SCRIPT}");
    // Other profiles unwind, and link in a hurry.
    if variable("PROFILE") != "release" {
        return;
    }
    let script = Path::new(&variable("CARGO_MANIFEST_DIR")).join(SCRIPT);
    let probe = Probe::new();
    for option in [
        // Functions with the same instructions become one.
        "--icf=all",
        // A table of relocations takes a bit for each instead of 24 bytes.
        "-zpack-relative-relocs",
        &format!("-T{}", script.display()),
    ] {
        // The linker may be called by a C compiler, or by itself.
        let ways = [format!("-Wl,{option}"), option.to_owned()];
        if let Some(way) = ways.iter().find(|way| probe.works(way)) {
            println!("cargo::rustc-link-arg-bins={way}");
        }
    }
}

/// A variable that Cargo sets for build scripts.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// A program that is linked as the binary is, to try options.
struct Probe {
    /// The compiler, with all arguments but the option.
    command: Vec<OsString>,
    program: PathBuf,
    /// Whether this machine can run what is linked.
    runs: bool,
}

impl Probe {
    fn new() -> Self {
        let program = Path::new(&variable("OUT_DIR")).join("probe");
        let target = variable("TARGET");
        let fixed = ["--crate-name=probe", "-Cpanic=abort", "-o"];
        let mut command: Vec<OsString> = vec![variable("RUSTC").into()];
        command.extend(fixed.map(OsString::from));
        command.push(program.clone().into());
        command.push(format!("--target={target}").into());
        if let Ok(linker) = env::var("RUSTC_LINKER") {
            command.push(format!("-Clinker={linker}").into());
        }
        let flags = variable("CARGO_ENCODED_RUSTFLAGS");
        let flags = flags.split('\x1f').filter(|flag| !flag.is_empty());
        command.extend(flags.map(OsString::from));
        Self {
            command,
            program,
            runs: target == variable("HOST"),
        }
    }

    /// Whether the program links with an option, and runs.
    fn works(&self, option: &str) -> bool {
        self.links(option).unwrap_or_default() && (!self.runs || self.succeeds())
    }

    fn links(&self, option: &str) -> std::io::Result<bool> {
        let mut compiler = Command::new(&self.command[0])
            .args(&self.command[1..])
            .arg(format!("-Clink-arg={option}"))
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let source = b"fn main() { println!(\"{:?}\", std::env::args()); }";
        compiler
            .stdin
            .take()
            .map_or(Ok(()), |mut it| it.write_all(source))?;
        Ok(compiler.wait()?.success())
    }

    fn succeeds(&self) -> bool {
        let mut program = Command::new(&self.program);
        let run = program.stdout(Stdio::null()).stderr(Stdio::null());
        run.status().is_ok_and(|status| status.success())
    }
}
