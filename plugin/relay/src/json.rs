//! JSON, read and written.
//!
//! A check's record has some fifty fields of a few bytes. `serde_json` writes each in seven pieces, looks at every
//! byte, including the field's name, and reserves memory for each piece. [`writer`] does these things once for a field,
//! and leaves rare values to `serde_json`: fractions, and texts with escaped characters.

mod members;
mod reader;
mod writer;

pub(crate) use members::{Members, list, members_of};
use reader::Objects;
use serde::{Deserialize, Serialize};
use writer::Writer;

/// Reads a value, as [`reader`] says.
///
/// # Errors
/// The JSON is broken, or that of another value.
pub(crate) fn read<'de, T: Deserialize<'de>>(json: &'de [u8]) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = T::deserialize(Objects(&mut deserializer))?;
    deserializer.end()?;
    Ok(value)
}

/// Appends a value's JSON to `to`.
///
/// # Errors
/// The value has no JSON: it has a map whose keys are not texts. A part of it may have been appended.
pub(crate) fn add<T: Serialize>(value: &T, to: &mut Vec<u8>) -> serde_json::Result<()> {
    Writer::write(value, to, usize::MAX)
}

/// The JSON of a value that has one; else the text is empty.
pub(crate) fn text<T: Serialize>(value: &T) -> String {
    let mut text = Vec::new();
    let written = add(value, &mut text).ok();
    written.and_then(|()| String::from_utf8(text).ok()).unwrap_or_default()
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

    #[test]
    fn a_struct_is_read_from_an_object_only_wherever_it_is() {
        #[derive(Debug, PartialEq, Deserialize)]
        enum Kind {
            Empty,
            Of(Part),
            Two(Part, u8),
            Named { part: Part },
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Part {
            n: u8,
        }
        let cases = [
            ("[\"Empty\", {\"Of\": PART}, {\"Two\": [PART, 2]}, {\"Named\": {\"part\": PART}}]", 4),
            ("[{\"Of\": PART}]", 1),
            ("[{\"Two\": [PART, 2]}]", 1),
            ("[{\"Named\": {\"part\": PART}}]", 1),
        ];
        for (text, count) in cases {
            let with = |part: &str| text.replace("PART", part).into_bytes();
            assert_eq!(read::<Vec<Kind>>(&with(r#"{"n": 1}"#)).unwrap().len(), count, "{text}");
            assert!(serde_json::from_slice::<Vec<Kind>>(&with("[1]")).is_ok(), "{text}");
            assert!(read::<Vec<Kind>>(&with("[1]")).is_err(), "{text}");
        }
        type Others = (Option<Part>, Option<Part>, std::collections::BTreeMap<String, Part>);
        let others = |part: &str| format!(r#"[null, {part}, {{"a": {part}}}]"#).into_bytes();
        let (none, some, map) = read::<Others>(&others(r#"{"n": 1}"#)).unwrap();
        assert_eq!((none, some, map.get("a")), (None, Some(Part { n: 1 }), Some(&Part { n: 1 })));
        assert!(read::<Others>(&others("[1]")).is_err());
        assert!(read::<Part>(b"{\"n\": 1} x").is_err());
    }
}
