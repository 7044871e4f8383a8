//! The Python environment of the tests: one pinned pyzmq under the target directory.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The pyzmq that judges, and with it the libzmq inside its wheel.
const PIN: &str = "pyzmq==27.3.0";

/// The directory of this test binary's profile, such as `target/debug`.
pub(crate) fn profile_dir() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let deps = test.parent().expect("a test lies in the deps directory");
    deps.parent().unwrap_or(deps).to_owned()
}

/// The directory above [`profile_dir`].
pub(crate) fn target_dir() -> PathBuf {
    let profile_dir = profile_dir();
    profile_dir.parent().unwrap_or(&profile_dir).to_owned()
}

/// A command that starts Python with the pinned pyzmq, made on first use.
///
/// # Panics
///
/// With the output of Python or pip, if there is no Python or the package cannot be had.
#[track_caller]
pub(crate) fn python() -> Command {
    static DIRECTORY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = match DIRECTORY.get_or_init(prepare) {
        Ok(directory) => directory,
        Err(complaint) => panic!("{complaint}"),
    };
    let interpreter = directory.join("bin/python");
    if interpreter.exists() {
        return Command::new(interpreter);
    }
    let mut command = Command::new(system_python());
    command.env("PYTHONPATH", directory.join("packages"));
    command
}

/// Makes the environment unless it is there for this pin and this Python; one process at a time.
fn prepare() -> Result<PathBuf, String> {
    let directory = target_dir().join("pyzmq-environment");
    let lock = File::create(target_dir().join("pyzmq-environment.lock"))
        .and_then(|file| file.lock().map(|()| file))
        .expect("the target directory can be written to");
    let version = run(Command::new(system_python()).arg("--version")).map_err(|complaint| {
        format!("these tests need Python 3, as python3 or under the name in $PYTHON: {complaint}")
    })?;
    let wanted = format!("{PIN} for {} {}", system_python(), version.trim());
    let marker = directory.join("complete");
    if fs::read_to_string(&marker).ok().as_deref() != Some(wanted.as_str()) {
        if directory.exists() {
            fs::remove_dir_all(&directory).expect("an outdated environment can be removed");
        }
        install(&directory)?;
        fs::write(&marker, wanted).expect("the environment can be written to");
    }
    drop(lock);
    Ok(directory)
}

/// A venv with pip in it, or, where the system's Python comes without ensurepip, a plain folder.
fn install(directory: &Path) -> Result<(), String> {
    let venv = run(Command::new(system_python())
        .args(["-m", "venv"])
        .arg(directory));
    let installed = match &venv {
        Ok(_) => run(Command::new(directory.join("bin/python"))
            .args(PIP_INSTALL)
            .arg(PIN)),
        Err(_) => {
            // Half a venv may be there; its interpreter must not be taken for a whole one.
            drop(fs::remove_dir_all(directory));
            let mut pip = Command::new(system_python());
            pip.args(PIP_INSTALL)
                .arg("--target")
                .arg(directory.join("packages"))
                .arg(PIN);
            run(&mut pip)
        }
    };
    installed.map(drop).map_err(|complaint| {
        let venv = venv.err().unwrap_or_default();
        format!(
            "these tests need {PIN} and cannot install it; is there a network, and python3-venv \
             or pip?\n{venv}\n{complaint}"
        )
    })
}

fn system_python() -> String {
    env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// The output of a command that succeeds, or all it said.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    Err(format!(
        "{command:?}: {stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

const PIP_INSTALL: [&str; 6] = [
    "-m",
    "pip",
    "--disable-pip-version-check",
    "--quiet",
    "install",
    "--only-binary=:all:",
];
