//! A log file that rotates by size and age.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use watch::config::LogConfig;

/// The file that is written to. Closed files are called `PATH.1`, the latest, to `PATH.N`.
#[derive(Debug)]
pub(super) struct LogFile {
    config: LogConfig,
    file: File,
    /// Whether the last write failed, which is reported once.
    is_failing: bool,
    opened: Instant,
    size: u64,
}

impl LogFile {
    pub(super) fn open(config: &LogConfig, now: Instant) -> io::Result<Self> {
        let file = append_to(&config.path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            config: config.clone(),
            file,
            is_failing: false,
            opened: now,
            size,
        })
    }

    /// Writes a line; a failure is reported in the other log, once.
    pub(super) fn write(&mut self, line: &str, now: Instant) {
        let written = self.try_write(line, now);
        match (written, self.is_failing) {
            (Err(error), false) => {
                log::warn!(
                    "{}: {error}; its lines are lost",
                    self.config.path.display()
                );
                self.is_failing = true;
            }
            (Ok(()), true) => self.is_failing = false,
            _ => {}
        }
    }

    fn try_write(&mut self, line: &str, now: Instant) -> io::Result<()> {
        let size = line.len() as u64 + 1;
        let LogConfig {
            age_max, size_max, ..
        } = self.config;
        let is_full = size_max > 0 && self.size > 0 && self.size + size > size_max;
        let age = now.saturating_duration_since(self.opened);
        let is_old = age_max > Duration::ZERO && self.size > 0 && age >= age_max;
        if is_full || is_old {
            self.rotate(now)?;
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.size += size;
        Ok(())
    }

    fn rotate(&mut self, now: Instant) -> io::Result<()> {
        let LogConfig {
            files_max, path, ..
        } = &self.config;
        if *files_max == 0 {
            fs::remove_file(path)?;
        }
        for number in (0..*files_max).rev() {
            match fs::rename(numbered(path, number), numbered(path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = append_to(path)?;
        self.opened = now;
        self.size = 0;
        Ok(())
    }
}

/// The name of a closed file; 0 is the open one.
fn numbered(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            name.into()
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any time to count from")]
mod tests {
    use super::*;

    /// The sizes of the files, the open one first.
    fn sizes(path: &Path) -> Vec<u64> {
        let sizes = (0..9).map_while(|number| fs::metadata(numbered(path, number)).ok());
        sizes.map(|found| found.len()).collect()
    }

    fn config(name: &str, size_max: u64, age_max: Duration) -> LogConfig {
        let name = format!("zmqd-{name}-{}.log", std::process::id());
        LogConfig {
            age_max,
            files_max: 2,
            path: std::env::temp_dir().join(name),
            size_max,
        }
    }

    fn remove(path: &Path) {
        for number in 0..9 {
            let _ = fs::remove_file(numbered(path, number));
        }
    }

    #[test]
    fn files_rotate_by_size_and_the_oldest_goes() {
        let config = config("size", 10, Duration::ZERO);
        let now = Instant::now();
        let mut file = LogFile::open(&config, now).unwrap();
        for expected in [
            vec![5],
            vec![10],
            vec![5, 10],
            vec![10, 10],
            vec![5, 10, 10],
            vec![10, 10, 10],
            vec![5, 10, 10],
        ] {
            file.write("four", now);
            assert_eq!(sizes(&config.path), expected);
        }
        file.write("longer than the limit", now);
        assert_eq!(sizes(&config.path), [22, 5, 10]);
        let mut again = LogFile::open(&config, now).unwrap();
        again.write("four", now);
        assert_eq!(
            sizes(&config.path),
            [5, 22, 5],
            "a full file is not appended to"
        );
        remove(&config.path);
    }

    #[test]
    fn files_rotate_by_age() {
        let config = config("age", 0, Duration::from_secs(60));
        let now = Instant::now();
        let mut file = LogFile::open(&config, now).unwrap();
        for second in [0, 59, 60, 119, 120] {
            file.write("four", now + Duration::from_secs(second));
        }
        assert_eq!(sizes(&config.path), [5, 10, 10]);
        remove(&config.path);
    }
}
