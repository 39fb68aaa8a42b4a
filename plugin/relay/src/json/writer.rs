//! The serializer.

use serde::ser::{self, Error as _, Serialize};
use serde_json::{Error, Result};

/// Maximum length of a piece that is copied byte by byte: the library's copy takes longer for a short one.
const SHORT: usize = 16;

/// Number of bytes prepared at once.
const AHEAD: usize = 256;

/// Number of digits of the largest number.
const MAX_DIGITS: usize = 20;

/// Appends values to `to`, as `serde_json` writes them. Stops before a member or an item once more than `most` bytes
/// are there.
pub(super) struct Writer<'a> {
    to: &'a mut Vec<u8>,
    /// Number of written bytes in `to`. The bytes after them are prepared, so that adding a piece takes a few
    /// instructions.
    written: usize,
    most: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn write<T: Serialize>(value: &T, to: &'a mut Vec<u8>, most: usize) -> Result<()> {
        let mut writer = Writer { written: to.len(), to, most };
        let result = value.serialize(&mut writer);
        writer.cut();
        result
    }

    /// Removes the prepared bytes.
    fn cut(&mut self) {
        self.to.truncate(self.written);
    }

    /// The next bytes to write.
    #[inline]
    fn room(&mut self, length: usize) -> &mut [u8] {
        let start = self.written;
        self.written += length;
        if self.to.len() < self.written {
            self.prepare();
        }
        self.to.get_mut(start..self.written).unwrap_or_default()
    }

    #[cold]
    fn prepare(&mut self) {
        while self.to.len() < self.written {
            self.to.extend_from_slice(&[0; AHEAD]);
        }
    }

    fn add(&mut self, piece: &[u8]) {
        copy(piece, self.room(piece.len()));
    }

    fn sign(&mut self, sign: u8) {
        if let [to] = self.room(1) {
            *to = sign;
        }
    }

    /// Adds a text without escaped characters.
    fn add_plain(&mut self, text: &str) {
        if let [open, inside @ .., close] = self.room(text.len() + 2) {
            copy(text.as_bytes(), inside);
            (*open, *close) = (b'"', b'"');
        }
    }

    /// Goes on to a member or an item: writes a comma before all but the first.
    fn next(&mut self) -> Result<()> {
        if self.written > self.most {
            return Err(Error::custom("too long"));
        }
        match self.written.checked_sub(1).and_then(|last| self.to.get(last)) {
            None | Some(b'{' | b'[') => {}
            Some(_) => self.sign(b','),
        }
        Ok(())
    }

    /// Writes the name of a member. Names of fields in the code need no escaping.
    fn name(&mut self, name: &'static str) -> Result<()> {
        self.next()?;
        if let [open, inside @ .., close, colon] = self.room(name.len() + 3) {
            copy(name.as_bytes(), inside);
            (*open, *close, *colon) = (b'"', b'"', b':');
        }
        Ok(())
    }

    fn member<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
        self.name(name)?;
        value.serialize(self)
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.next()?;
        value.serialize(self)
    }

    fn close(&mut self, brackets: &[u8]) -> Result<()> {
        self.add(brackets);
        Ok(())
    }

    /// Writes a variant that holds a value, whose JSON begins with `bracket`.
    fn variant(&mut self, variant: &'static str, bracket: u8) -> Result<&mut Self> {
        self.sign(b'{');
        self.name(variant)?;
        self.sign(bracket);
        Ok(self)
    }

    /// Writes a value with `serde_json`.
    fn library<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.cut();
        let result = serde_json::to_writer(&mut *self.to, value);
        self.written = self.to.len();
        result
    }
}

/// Copies a piece to a slice of the same length.
fn copy(from: &[u8], to: &mut [u8]) {
    if from.len() > SHORT && from.len() == to.len() {
        return to.copy_from_slice(from);
    }
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Whether a text holds characters that JSON escapes: `"`, `\` and those before the blank.
fn is_escaped(text: &str) -> bool {
    const EACH: u64 = u64::MAX / 0xff;
    // A borrow may mark the byte above a marked one, but never one alone.
    let below = |word: u64, least: u64| word.wrapping_sub(EACH * least) & !word;
    let is_marked = |word: u64| {
        let is = |sign: u8| below(word ^ (EACH * u64::from(sign)), 1);
        (below(word, 0x20) | is(b'"') | is(b'\\')) & (EACH * 0x80) != 0
    };
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    words.iter().any(|word| is_marked(u64::from_le_bytes(*word)))
        || rest.iter().any(|byte| matches!(byte, ..0x20 | b'"' | b'\\'))
}

impl ser::Serializer for &mut Writer<'_> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn serialize_bool(self, value: bool) -> Result<()> {
        self.add(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<()> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<()> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<()> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<()> {
        if value < 0 {
            self.sign(b'-');
        }
        self.serialize_u64(value.unsigned_abs())
    }

    fn serialize_u8(self, value: u8) -> Result<()> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<()> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<()> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<()> {
        let mut digits = [b'0'; MAX_DIGITS];
        let (mut left, mut unused) = (value, MAX_DIGITS);
        for digit in digits.iter_mut().rev() {
            *digit += (left % 10) as u8;
            (left, unused) = (left / 10, unused - 1);
            if left == 0 {
                break;
            }
        }
        self.add(digits.get(unused..).unwrap_or_default());
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<()> {
        self.library(&value)
    }

    fn serialize_f64(self, value: f64) -> Result<()> {
        self.library(&value)
    }

    fn serialize_char(self, value: char) -> Result<()> {
        self.library(&value)
    }

    fn serialize_str(self, value: &str) -> Result<()> {
        if is_escaped(value) {
            return self.library(value);
        }
        self.add_plain(value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<()> {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<()> {
        self.add(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
        self.add_plain(variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        self.sign(b'{');
        self.member(variant, value)?;
        self.close(b"}")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self> {
        self.sign(b'[');
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self> {
        self.variant(variant, b'[')
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self> {
        self.sign(b'{');
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self> {
        self.serialize_map(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self> {
        self.variant(variant, b'{')
    }
}

impl ser::SerializeMap for &mut Writer<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.next()?;
        let start = self.written;
        key.serialize(&mut **self)?;
        match self.to.get(start) {
            Some(b'"') => Ok(()),
            _ => Err(Error::custom("a key that is not a text")),
        }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.sign(b':');
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<()> {
        self.close(b"}")
    }
}

/// Implements the traits of sequences: the method that adds an item, and the closing bracket.
macro_rules! items {
    ($($sequence:ident, $add:ident, $close:literal;)*) => {$(
        impl ser::$sequence for &mut Writer<'_> {
            type Ok = ();
            type Error = Error;

            fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.item(value)
            }

            fn end(self) -> Result<()> {
                self.close($close)
            }
        }
    )*};
}

items! {
    SerializeSeq, serialize_element, b"]";
    SerializeTuple, serialize_element, b"]";
    SerializeTupleStruct, serialize_field, b"]";
    SerializeTupleVariant, serialize_field, b"]}";
}

/// Implements the traits of values with fields, and the closing bracket.
macro_rules! members {
    ($($kind:ident, $close:literal;)*) => {$(
        impl ser::$kind for &mut Writer<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
                self.member(name, value)
            }

            fn end(self) -> Result<()> {
                self.close($close)
            }
        }
    )*};
}

members! {
    SerializeStruct, b"}";
    SerializeStructVariant, b"}}";
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    struct Pair(i8, u64);

    #[derive(Serialize)]
    struct One(Option<char>);

    #[derive(Serialize)]
    struct Nothing;

    #[derive(Serialize)]
    enum Kind {
        Unit,
        One(u8),
        Two(i64, i64),
        Named { first: Vec<u16>, second: () },
    }

    #[derive(Serialize)]
    struct Everything<'a> {
        kinds: Vec<Kind>,
        map: BTreeMap<&'a str, Kind>,
        pairs: (Pair, One, One, Nothing),
        numbers: Vec<u64>,
        fractions: [f64; 3],
        single: f32,
        texts: Vec<String>,
        #[serde(rename = "with blank")]
        is_so: bool,
        value: serde_json::Value,
    }

    fn written<T: Serialize>(value: &T) -> Result<String> {
        let mut bytes = Vec::new();
        Writer::write(value, &mut bytes, usize::MAX)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn every_kind_of_value_is_written_as_by_the_library() {
        let kinds = || {
            let named = |first| Kind::Named { first, second: () };
            vec![Kind::Unit, Kind::One(255), Kind::Two(i64::MIN, i64::MAX), named(vec![]), named(vec![1, 0])]
        };
        let everything = Everything {
            kinds: kinds(),
            map: ["", "a\"b", "{"].into_iter().zip(kinds()).collect(),
            pairs: (Pair(-128, u64::MAX), One(Some('\n')), One(None), Nothing),
            numbers: (0..20).map(|n| 10_u64.pow(n)).chain([0, 9, 99, 101]).collect(),
            fractions: [0.1, -1e300, f64::NAN],
            single: 0.1,
            texts: (0..=50).map(|n| "x".repeat(n)).collect(),
            is_so: true,
            value: json!({"a": [], "b": {}, "c": [{"d": -1.5}, null, "["], "e": i64::MIN}),
        };
        assert_eq!(written(&everything).unwrap(), serde_json::to_string(&everything).unwrap());
        assert_eq!(written(&"x").unwrap(), "\"x\"");
    }

    #[test]
    fn a_sign_is_escaped_wherever_it_stands() {
        for sign in ('\0'..='\u{1ff}').chain(['\u{2028}', '\u{1f680}']) {
            for place in 0..10 {
                let text = format!("{}{sign}{}", "!".repeat(place), "]".repeat(9 - place));
                assert_eq!(written(&text).unwrap(), serde_json::to_string(&text).unwrap());
                assert_eq!(is_escaped(&text), matches!(sign, '\0'..' ' | '"' | '\\'), "{text:?}");
            }
        }
    }

    #[test]
    fn a_map_has_texts_as_keys() {
        assert!(written(&BTreeMap::from([(1, 2)])).is_err());
        assert!(written(&BTreeMap::from([((), 2)])).is_err());
    }
}
