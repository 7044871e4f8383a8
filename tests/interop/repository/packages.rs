//! What the packages bring beside the binary.

use zmqd_tests::{Python, binary};

use super::tidy::root;

/// The Python package has tests of its own, which also compare it with pyzmq.
#[test]
fn the_python_package_passes_its_tests() {
    let package = root().join("cli/packages/python");
    let mut python = Python::new();
    python.set("package", &package.to_string_lossy());
    python.set("binary", &binary().to_string_lossy());
    python.run(
        r#"
        import os, subprocess, sys
        environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", ZMQD_BIN=binary)
        environment["PYTHONPATH"] = os.pathsep.join([package, *sys.path])
        command = [sys.executable, "-W", "error", "-m", "unittest", "tests/test_zmqd.py"]
        tests = subprocess.run(command, cwd=package, env=environment, stderr=subprocess.PIPE)
        assert tests.returncode == 0, tests.stderr.decode()
        assert b"Ran 12 tests" in tests.stderr, tests.stderr.decode()
        "#,
    );
}
