//! What README and guide tell their readers to type.

use zmqd_tests::{Python, binary};

use super::tidy::root;

#[test]
fn every_command_of_readme_and_guide_runs() {
    let mut python = Python::new();
    python.set("root", &root().to_string_lossy());
    python.set("binary", &binary().to_string_lossy());
    python.run(
        r#"
        import os, subprocess, sys
        command = [sys.executable, os.path.join(root, "tests/py/commands.py"), binary, root]
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        count, word = done.stdout.split()
        assert word == "commands" and int(count) >= 30, done.stdout
        "#,
    );
}
