//! The programs that the tests need beside Rust, made on first use under the target directory: a
//! pinned pyzmq, a pinned npm package, and a C program.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The pyzmq of the tests, with the libzmq inside its wheel.
pub(crate) const PYZMQ_PIN: &str = "pyzmq==27.3.0";

/// The binding for Node, with the libzmq inside its package.
pub(crate) const NPM_PIN: &str = "zeromq@6.8.0";

/// The directory of this test binary's profile, such as `target/debug`.
pub(crate) fn profile_dir() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let deps = test.parent().expect("a test lies in the deps directory");
    deps.parent().unwrap_or(deps).to_owned()
}

/// The name of this test binary's target, such as `interop`: that of its file without the hash.
pub(crate) fn test_target() -> String {
    let test = env::current_exe().expect("a test knows its own path");
    let name = test.file_name().unwrap_or_default().to_string_lossy();
    let target = name.rsplit_once('-').map(|(target, _)| target);
    target.unwrap_or(&name).to_owned()
}

/// The directory above [`profile_dir`].
pub(crate) fn target_dir() -> PathBuf {
    let profile_dir = profile_dir();
    profile_dir.parent().unwrap_or(&profile_dir).to_owned()
}

/// A command that starts Python with the pinned pyzmq, made on first use. `wrapper` is a command
/// that executes the arguments behind it, or empty.
///
/// # Panics
///
/// With the output of Python or pip, if Python is missing or the package cannot be installed.
#[track_caller]
pub(crate) fn python(wrapper: &[&str]) -> Command {
    static DIRECTORY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = match DIRECTORY.get_or_init(prepare) {
        Ok(directory) => directory,
        Err(complaint) => panic!("{complaint}"),
    };
    let interpreter = directory.join("bin/python");
    let is_venv = interpreter.exists();
    let interpreter = if is_venv {
        interpreter
    } else {
        system_python().into()
    };
    let mut command = match wrapper {
        [] => Command::new(interpreter),
        [first, others @ ..] => {
            let mut command = Command::new(first);
            command.args(others).arg(interpreter);
            command
        }
    };
    if !is_venv {
        command.env("PYTHONPATH", directory.join("packages"));
    }
    command
}

/// Makes the environment unless it exists for this pin and this Python; one process at a time.
fn prepare() -> Result<PathBuf, String> {
    let directory = target_dir().join("pyzmq-environment");
    let lock = lock(&directory);
    let version = run(Command::new(system_python()).arg("--version")).map_err(|complaint| {
        format!("these tests need Python 3, as python3 or under the name in $PYTHON: {complaint}")
    })?;
    let wanted = format!("{PYZMQ_PIN} for {} {}", system_python(), version.trim());
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

/// Makes a venv, or a plain folder where the system's Python comes without ensurepip.
fn install(directory: &Path) -> Result<(), String> {
    let venv = run(Command::new(system_python())
        .args(["-m", "venv"])
        .arg(directory));
    let installed = match &venv {
        Ok(_) => run(Command::new(directory.join("bin/python"))
            .args(PIP_INSTALL)
            .arg(PYZMQ_PIN)),
        Err(_) => {
            // Part of a venv may exist; its interpreter must not be used.
            drop(fs::remove_dir_all(directory));
            let mut pip = Command::new(system_python());
            pip.args(PIP_INSTALL)
                .arg("--target")
                .arg(directory.join("packages"))
                .arg(PYZMQ_PIN);
            run(&mut pip)
        }
    };
    installed.map(drop).map_err(|complaint| {
        let venv = venv.err().unwrap_or_default();
        format!(
            "these tests need {PYZMQ_PIN} and cannot install it; check the network, and \
             install python3-venv or pip\n{venv}\n{complaint}"
        )
    })
}

/// A command that starts Node with the pinned package.
///
/// # Panics
///
/// With the output of npm, if Node is missing or the package cannot be installed.
#[track_caller]
pub(crate) fn node() -> Command {
    static DIRECTORY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = match DIRECTORY.get_or_init(prepare_node) {
        Ok(directory) => directory,
        Err(complaint) => panic!("{complaint}"),
    };
    let mut command = Command::new("node");
    command.env("NODE_PATH", directory.join("node_modules"));
    command
}

/// Installs the package unless it is installed. Its compiled parts come with it.
fn prepare_node() -> Result<PathBuf, String> {
    let directory = target_dir().join("npm-environment");
    let lock = lock(&directory);
    let marker = directory.join("complete");
    if fs::read_to_string(&marker).ok().as_deref() != Some(NPM_PIN) {
        // Without this package.json npm would use one of a folder above.
        fs::create_dir_all(&directory)
            .and_then(|()| fs::write(directory.join("package.json"), "{}"))
            .expect("the target directory can be written to");
        let mut npm = Command::new("npm");
        npm.arg("install").arg("--prefix").arg(&directory);
        run(npm.args(NPM_INSTALL).arg(NPM_PIN)).map_err(|complaint| {
            format!(
                "this test needs node, npm and {NPM_PIN}; install them, and check the \
                 network\n{complaint}"
            )
        })?;
        fs::write(&marker, NPM_PIN).expect("the environment can be written to");
    }
    drop(lock);
    Ok(directory)
}

/// A command that runs a C program, compiled and linked with the system's libzmq.
///
/// # Panics
///
/// With the output of the compiler, if it is missing or finds no libzmq.
#[track_caller]
pub(crate) fn compiled(source: &str) -> Command {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PROGRAM.get_or_init(|| compile(source)) {
        Ok(program) => Command::new(program),
        Err(complaint) => panic!("{complaint}"),
    }
}

/// Compiles once in each test process, since the library may have changed.
fn compile(source: &str) -> Result<PathBuf, String> {
    let program = target_dir().join("peer-in-c");
    let lock = lock(&program);
    let fresh = program.with_extension("new");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-o"]);
    run(compiler.arg(&fresh).arg(source).arg("-lzmq")).map_err(|complaint| {
        format!(
            "this test needs a C compiler and libzmq with its header; Debian calls them gcc and \
             libzmq3-dev:\n{complaint}"
        )
    })?;
    // A process that runs the former program keeps it.
    fs::rename(&fresh, &program).expect("the program can be renamed");
    drop(lock);
    Ok(program)
}

/// Held by the one process that makes an environment.
fn lock(directory: &Path) -> File {
    File::create(directory.with_extension("lock"))
        .and_then(|file| file.lock().map(|()| file))
        .expect("the target directory can be written to")
}

fn system_python() -> String {
    env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// The standard output of a command that succeeds, or all its output.
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

/// No scripts: the package contains what was compiled for Node.
const NPM_INSTALL: [&str; 5] = [
    "--no-save",
    "--no-package-lock",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
];
