//! Frames that are JSON, and frames in JSON.

use std::fmt::Write as _;

use serde_json::Value;

/// The text without the blanks between its parts, if it is a JSON object or array. Order and
/// numbers stay as they are written.
pub(crate) fn compact(text: &str) -> Option<String> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str::<Value>(text).ok()?;
    let (mut is_string, mut is_escaped) = (false, false);
    let is_kept = |character: &char| {
        let is_kept = is_string || !character.is_ascii_whitespace();
        is_string ^= *character == '"' && !is_escaped;
        is_escaped = *character == '\\' && !is_escaped;
        is_kept
    };
    Some(text.chars().filter(is_kept).collect())
}

/// Appends a text as a JSON string. What a terminal would obey is escaped too.
pub(crate) fn append_string(out: &mut String, text: &str) {
    for character in Value::from(text).to_string().chars() {
        if character.is_control() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_arrays_are_recognised_and_compacted() {
        for (text, expected) in [
            ("{}", "{}"),
            (" [ ] \n", "[]"),
            (
                "{\n \"z b\" : [1.50, -0.5e+3, true ],\"\\u00e9\\n\":{ }, \"a\": null}",
                "{\"z b\":[1.50,-0.5e+3,true],\"\\u00e9\\n\":{},\"a\":null}",
            ),
            ("[\"\\\" , \\\\\" , \" \"]", "[\"\\\" , \\\\\",\" \"]"),
        ] {
            assert_eq!(compact(text).as_deref(), Some(expected));
        }
        for text in [
            "", "1", "\"text\"", "{", "{} {}", "{}x", "[1,]", "[\"\n\"]", "['a']",
        ] {
            assert_eq!(compact(text), None, "{text}");
        }
        assert_eq!(compact(&"[".repeat(1_000_000)), None, "depth is limited");
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = String::new();
        append_string(&mut out, "a\"\\\n\r\t\u{1b}\u{9b}\u{e9}");
        assert_eq!(out, "\"a\\\"\\\\\\n\\r\\t\\u001b\\u009b\u{e9}\"");
    }
}
