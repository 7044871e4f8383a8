//! Errors in a configuration text, and their places.

use crate::sort;
use std::fmt;
use std::ops::Range;

use zmtp::show;

use crate::limits::CONFIG_SIZE_MAX;

/// One error in a configuration text. Displayed as one line: file, line, key, remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The name of the file, as it was given.
    pub file: String,
    /// The key, dotted from the top; empty if the error concerns the whole text.
    pub key: String,
    /// The line, counted from one; zero if the error concerns the whole text.
    pub line: usize,
    /// The error and its remedy.
    pub sentence: String,
}

/// All errors in a configuration text, in the order of the text; displayed one per line. Never
/// empty, and at most [`ConfigErrors::COUNT_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    /// Whether further errors were dropped.
    is_cut: bool,
}

impl ConfigErrors {
    /// The number of errors kept for one text.
    pub const COUNT_MAX: usize = 100;

    /// The error for a file of more than [`CONFIG_SIZE_MAX`] bytes, which need not be read.
    #[must_use]
    pub fn too_large(file: &str) -> Self {
        Self {
            errors: vec![ConfigError {
                file: file.to_owned(),
                key: String::new(),
                line: 0,
                sentence: format!(
                    "more than {CONFIG_SIZE_MAX} bytes: divide this file among several brokers"
                ),
            }],
            is_cut: false,
        }
    }

    /// Assigns lines of `text`, which is the content of `file`, to `fails`.
    pub(super) fn new(fails: Fails, text: &str, file: &str) -> Self {
        let Fails { mut list, is_cut } = fails;
        sort::by_key(&mut list, |fail| fail.at.as_ref().map(|at| at.start));
        // One pass through the text for all lines.
        let (mut line, mut counted) = (1, 0);
        let errors = list.into_iter().map(|fail| {
            let line = fail.at.map_or(0, |at| {
                let start = at.start.clamp(counted, text.len());
                let passed = text.as_bytes().get(counted..start).unwrap_or_default();
                line += passed.iter().filter(|byte| **byte == b'\n').count();
                counted = start;
                line
            });
            ConfigError {
                file: file.to_owned(),
                key: fail.key,
                line,
                sentence: fail.sentence,
            }
        });
        Self {
            errors: errors.collect(),
            is_cut,
        }
    }

    /// Every error, in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.file).up_to(FILE_LEN_MAX).fmt(f)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.sentence)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            error.fmt(f)?;
        }
        if let (true, Some(ConfigError { file, .. })) = (self.is_cut, self.errors.first()) {
            let file = show(file).up_to(FILE_LEN_MAX);
            write!(
                f,
                "\n{file}: more errors follow the first {}",
                Self::COUNT_MAX
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
impl std::error::Error for ConfigErrors {}

/// The place of a value: its key, dotted from the top, and its bytes in the text.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) at: Range<usize>,
    pub(super) key: String,
}

/// An error before its line is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fail {
    pub(super) at: Option<Range<usize>>,
    pub(super) key: String,
    pub(super) sentence: String,
}

/// The first [`ConfigErrors::COUNT_MAX`] errors, in the order in which they were found.
#[derive(Default)]
pub(super) struct Fails {
    list: Vec<Fail>,
    is_cut: bool,
}

impl Node {
    /// The node of `key` in this table, if the text does not have it.
    pub(super) fn join(&self, key: &str) -> Self {
        let path = if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        };
        Self {
            at: self.at.clone(),
            key: path,
        }
    }

    pub(super) fn fail(&self, sentence: impl ToString) -> Fail {
        Fail {
            at: Some(self.at.clone()),
            key: self.key.clone(),
            sentence: sentence.to_string(),
        }
    }
}

impl Fails {
    pub(super) fn push(&mut self, fail: Fail) {
        if self.list.len() < ConfigErrors::COUNT_MAX {
            self.list.push(fail);
        } else {
            self.is_cut = true;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether further errors would be dropped.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }
}

/// Characters of a file name that an error shows.
const FILE_LEN_MAX: usize = 1024;
