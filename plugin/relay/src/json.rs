//! JSON into memory, for what is written with each check.
//!
//! A serializer writes in pieces of a few bytes. `Vec` copies each of them by `memory.copy`, and V8 leaves that instruction for
//! its runtime: for such a piece the way there takes longer than the copy. One byte after the other, a check takes the module
//! 16 µs instead of 20 (V8 11.3, its functions compiled well).

use serde::Serialize;
use std::io;

/// The longest piece that is copied byte by byte.
const SHORT: usize = 40;

/// Adds a value's JSON to `to`.
///
/// # Errors
/// The value has none: a map whose keys are no texts. Then a part of it may have been added.
pub(crate) fn add<T: Serialize>(value: &T, to: &mut Vec<u8>) -> serde_json::Result<()> {
    serde_json::to_writer(Pieces(to), value)
}

/// A value's JSON and a line's end; `None` where it takes more than `most` bytes, of which no more are written.
pub(crate) fn within<T: Serialize>(value: &T, most: usize) -> Option<String> {
    let mut text = Vec::new();
    serde_json::to_writer(Bounded { to: Pieces(&mut text), most }, value).ok()?;
    text.push(b'\n');
    String::from_utf8(text).ok()
}

struct Pieces<'a>(&'a mut Vec<u8>);

impl io::Write for Pieces<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > SHORT {
            self.0.extend_from_slice(piece);
        } else {
            for byte in piece {
                self.0.push(*byte);
            }
        }
        Ok(piece.len())
    }

    fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        self.write(piece).map(|_all| ())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same as far as there is room.
struct Bounded<'a> {
    to: Pieces<'a>,
    most: usize,
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self.to.0.len() + piece.len() > self.most {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => self.to.write(piece),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_is_the_same_json_behind_what_stood_there() {
        for text in ["", "a \"b\"\n\u{1f680}", &"x".repeat(SHORT), &"x".repeat(SHORT + 1)] {
            let value = json!({"text": text, "list": [1, null, true, {"a": -0.5}]});
            let mut bytes = b"before ".to_vec();
            add(&value, &mut bytes).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), format!("before {value}"));
        }
    }

    #[test]
    fn what_is_too_long_is_nothing() {
        let value = json!({"text": "x".repeat(100)});
        let length = value.to_string().len();
        assert_eq!(within(&value, length).unwrap(), format!("{value}\n"));
        assert_eq!(within(&value, length - 1), None);
    }
}
