//! Frames that are JSON, and frames in JSON.

use std::fmt::Write as _;

use serde_json::Value;
use zmtp::is_hidden;

/// The text without blanks between its parts, if it is a JSON object or array. Order and numbers do
/// not change.
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

/// Appends a text as a JSON string, without hidden characters.
pub(crate) fn append_string(out: &mut String, text: &str) {
    append_visibly(out, &Value::from(text).to_string());
}

/// Appends JSON, with the hidden characters in its strings escaped. They can occur only there.
pub(crate) fn append_visibly(out: &mut String, json: &str) {
    for character in json.chars() {
        // Between its parts JSON may have tabs and line ends, in strings it may not.
        if is_hidden(character) && !character.is_ascii_whitespace() {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
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
    fn hidden_characters_are_escaped_in_any_json() {
        let hidden: String = ('\0'..=char::MAX).filter(|one| is_hidden(*one)).collect();
        let value = serde_json::json!({ "text": hidden, hidden.clone(): [hidden] });
        let mut out = String::new();
        append_visibly(&mut out, &value.to_string());
        assert!(!out.contains(is_hidden));
        assert_eq!(serde_json::from_str::<Value>(&out).ok(), Some(value));
        out.clear();
        append_visibly(&mut out, "{\n\t\"\u{202e}\u{e0041}\": 1 }");
        assert_eq!(out, "{\n\t\"\\u202e\\udb40\\udc41\": 1 }");
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = String::new();
        append_string(&mut out, "a\"\\\n\r\t\u{1b}\u{9b}\u{e9}");
        assert_eq!(out, "\"a\\\"\\\\\\n\\r\\t\\u001b\\u009b\u{e9}\"");
    }
}
