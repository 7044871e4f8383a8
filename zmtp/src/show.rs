//! Foreign text in logs, errors and tables: on one line, shortened, and without invisible
//! characters.

use std::fmt;

/// Characters of a text that are shown by default.
const SHOWN_LEN_MAX: usize = 80;

/// Makes a text from a peer, a file or a command line safe to display.
///
/// It shows at most 80 characters, and the number of bytes left out. It escapes characters that
/// [`is_hidden`] covers: `\n`, `\x1b`, `\u{202e}`. A backslash stays as it is.
///
/// ```
/// assert_eq!(zmtp::show("a\x1b[2J").to_string(), "a\\x1b[2J");
/// let long = "x".repeat(81);
/// assert!(zmtp::show(&long).to_string().ends_with("x…(+1 byte)"));
/// ```
#[must_use]
pub fn show<T: AsRef<[u8]> + ?Sized>(text: &T) -> Shown<'_> {
    Shown {
        bytes: text.as_ref(),
        len_max: SHOWN_LEN_MAX,
    }
}

/// Displays foreign text; see [`show`].
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    bytes: &'a [u8],
    len_max: usize,
}

impl Shown<'_> {
    /// Shows at most this many characters.
    #[must_use]
    pub fn up_to(self, len_max: usize) -> Self {
        Self { len_max, ..self }
    }

    /// Shows the whole text.
    #[must_use]
    pub fn whole(self) -> Self {
        self.up_to(usize::MAX)
    }
}

/// Bytes that are not UTF-8 are shown as `\xff`.
impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let (mut room, mut shown_size) = (self.len_max, 0);
        'text: for chunk in self.bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                if room == 0 {
                    break 'text;
                }
                match Escape::of(character) {
                    None => f.write_char(character)?,
                    Some(escape) => escape.fmt(f)?,
                }
                room -= 1;
                shown_size += character.len_utf8();
            }
            for byte in chunk.invalid() {
                if room == 0 {
                    break 'text;
                }
                write!(f, "\\x{byte:02x}")?;
                room -= 1;
                shown_size += 1;
            }
        }
        match self.bytes.len() - shown_size {
            0 => Ok(()),
            1 => f.write_str("…(+1 byte)"),
            more => write!(f, "…(+{more} bytes)"),
        }
    }
}

/// A hidden character, escaped.
struct Escape(char);

impl Escape {
    fn of(character: char) -> Option<Self> {
        is_hidden(character).then_some(Self(character))
    }
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            '\t' => f.write_str("\\t"),
            '\n' => f.write_str("\\n"),
            '\r' => f.write_str("\\r"),
            control if control.is_ascii() => write!(f, "\\x{:02x}", u32::from(control)),
            other => write!(f, "\\u{{{:x}}}", u32::from(other)),
        }
    }
}

/// Whether a character does not simply show a mark on a screen: control characters, characters that
/// change the direction of a line or have no width, and blanks other than the space.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    if character.is_control() || character.is_whitespace() {
        return true;
    }
    let code = u32::from(character);
    let after = HIDDEN.partition_point(|(first, _)| *first <= code);
    let range = after.checked_sub(1).and_then(|index| HIDDEN.get(index));
    range.is_some_and(|(_, last)| code <= *last)
}

/// The characters that Unicode classes as format characters (`Cf`) or as ignorable by default, and
/// the blank Braille pattern; sorted.
const HIDDEN: &[(u32, u32)] = &[
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x600, 0x605),
    (0x61c, 0x61c),
    (0x6dd, 0x6dd),
    (0x70f, 0x70f),
    (0x890, 0x891),
    (0x8e2, 0x8e2),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x202a, 0x202e),
    (0x2060, 0x206f),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x1343f),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe0fff),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn every_char() -> impl Iterator<Item = char> {
        ('\0'..=char::MAX).filter(|character| is_hidden(*character))
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(HIDDEN.iter().all(|(first, last)| first <= last));
        assert!(HIDDEN.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    /// Classes by other means than the table: the properties that Rust knows, and ranges from the
    /// names of the characters.
    #[test]
    fn whole_classes_of_characters_are_written_out() {
        let direction = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\
                         \u{2066}\u{2067}\u{2068}\u{2069}";
        let no_width = "\u{ad}\u{34f}\u{180e}\u{200b}\u{200c}\u{200d}\u{2060}\u{2061}\u{2064}\
                        \u{feff}\u{fff9}\u{fffb}\u{fe0f}\u{e0001}\u{e0041}\u{e01ef}";
        let blank = "\u{85}\u{a0}\u{115f}\u{1160}\u{2000}\u{2028}\u{2029}\u{2800}\u{3000}\u{3164}\
                     \u{ffa0}";
        let controls = ('\0'..='\u{9f}').filter(|character| character.is_control());
        let spaces = ('!'..=char::MAX).filter(|character| character.is_whitespace());
        let named = [direction, no_width, blank].concat();
        for character in controls.chain(spaces).chain(named.chars()) {
            let shown = show(&character.to_string()).to_string();
            assert!(
                shown.starts_with('\\') && shown.is_ascii(),
                "{character:?}: {shown}"
            );
        }
    }

    #[test]
    fn marks_are_shown_as_they_are() {
        let fillers = ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}'];
        let marks = ('\0'..=char::MAX)
            .filter(|mark| mark.is_ascii_graphic() || mark.is_alphanumeric())
            .filter(|mark| !fillers.contains(mark));
        for mark in marks.chain([' ', '\u{301}', '€', '🙂', '\u{fffd}']) {
            assert_eq!(show(&mark.to_string()).to_string(), mark.to_string());
        }
    }

    #[test]
    fn nothing_hidden_is_left_in_what_is_shown() {
        let all: String = every_char().collect();
        let shown = show(&all).whole().to_string();
        assert!(!shown.chars().any(is_hidden));
        assert_eq!(show(b"a\xff\xc3b\x80").to_string(), "a\\xff\\xc3b\\x80");
    }

    #[test]
    fn a_long_text_is_cut_and_its_rest_counted() {
        for (text, expected) in [
            ("x".repeat(80), "x".repeat(80)),
            ("x".repeat(81), format!("{}…(+1 byte)", "x".repeat(80))),
            (
                "é".repeat(1000),
                format!("{}…(+1840 bytes)", "é".repeat(80)),
            ),
        ] {
            assert_eq!(show(&text).to_string(), expected);
        }
        let long = vec![0xff; 1 << 20];
        assert_eq!(show(&long).up_to(1).to_string(), "\\xff…(+1048575 bytes)");
        assert_eq!(show("ab").up_to(0).to_string(), "…(+2 bytes)");
    }
}
