//! Whether a process runs.

use std::fs;
use std::path::Path;

/// Whether the process runs whose number is in this file; one that has ended and was not waited for
/// does not.
pub(super) fn lives(pid_file: &Path) -> bool {
    let text = fs::read_to_string(pid_file).unwrap_or_default();
    let pid: Option<u32> = text
        .split_whitespace()
        .next()
        .and_then(|it| it.parse().ok());
    pid.is_some_and(is_running)
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program, in parentheses, may have anything in it.
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_a_process_that_runs() {
        let path = std::env::temp_dir().join(format!("zmqd-lives-{}.pid", std::process::id()));
        assert!(!lives(&path), "a file that does not exist names no process");
        for (text, expected) in [
            (format!("{}\n", std::process::id()), true),
            ("4194305".to_owned(), false),
            ("soon".to_owned(), false),
            (String::new(), false),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(lives(&path), expected, "{text}");
        }
        fs::remove_file(&path).unwrap();
    }
}
