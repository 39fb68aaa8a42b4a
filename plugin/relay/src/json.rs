//! JSON into memory, for what is written with each check.
//!
//! A check's record has some fifty fields of a few bytes. `serde_json` writes each in seven pieces, looks at every
//! byte, including the field's name, and reserves memory for each piece. [`writer`] does these things once for a field,
//! and leaves rare values to `serde_json`: fractions, and texts with escaped characters.

mod writer;

use serde::Serialize;
use writer::Writer;

/// Appends a value's JSON to `to`.
///
/// # Errors
/// The value has no JSON: it has a map whose keys are not texts. A part of it may have been appended.
pub(crate) fn add<T: Serialize>(value: &T, to: &mut Vec<u8>) -> serde_json::Result<()> {
    Writer::write(value, to, usize::MAX)
}

/// A value's JSON and a line feed; `None` if it takes more than `most` bytes: then writing stops early.
pub(crate) fn within<T: Serialize>(value: &T, most: usize) -> Option<String> {
    let mut text = Vec::new();
    Writer::write(value, &mut text, most).ok().filter(|()| text.len() <= most)?;
    text.push(b'\n');
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_appended_as_the_library_writes_it() {
        for text in ["", "a \"b\"\n\u{1f680}", &"x".repeat(100)] {
            let value = json!({"text": text, "list": [1, null, true, {"a": -0.5}]});
            let mut bytes = b"before ".to_vec();
            add(&value, &mut bytes).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), format!("before {value}"));
        }
    }

    #[test]
    fn a_value_that_is_too_long_is_not_written() {
        let value = json!({"text": "x".repeat(100)});
        let length = value.to_string().len();
        assert_eq!(within(&value, length).unwrap(), format!("{value}\n"));
        assert_eq!(within(&value, length - 1), None);
    }
}
