//! GUIDs: Azure DevOps's ids. Parsed once, so that what stands in a call's path is ours and not the caller's.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;

/// A GUID, printed in lower case as `8-4-4-4-12`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Guid([u8; 16]);

/// Some order: that of two numbers which WebAssembly loads as they stand. The leader looks up thousands of these in a tick.
impl Ord for Guid {
    #[inline]
    fn cmp(&self, other: &Guid) -> Ordering {
        let ([a, b], [c, d]) = (self.halves(), other.halves());
        if a == c { b.cmp(&d) } else { a.cmp(&c) }
    }
}

impl PartialOrd for Guid {
    fn partial_cmp(&self, other: &Guid) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Guid {
    /// Reads `8-4-4-4-12` hexadecimal digits of either case. The nil GUID is refused: Azure DevOps sends it for
    /// "none", never for a thing.
    pub fn parse(text: &str) -> Option<Guid> {
        let b = text.as_bytes();
        if b.len() != 36 {
            return None;
        }
        let mut bytes = [0u8; 16];
        let mut nibbles = bytes.iter_mut();
        let mut high: Option<u8> = None;
        for (i, c) in b.iter().enumerate() {
            if matches!(i, 8 | 13 | 18 | 23) {
                if *c != b'-' {
                    return None;
                }
                continue;
            }
            let digit = match c {
                b'0'..=b'9' => c - b'0',
                b'a'..=b'f' => c - b'a' + 10,
                b'A'..=b'F' => c - b'A' + 10,
                _ => return None,
            };
            match high.take() {
                None => high = Some(digit),
                Some(h) => *nibbles.next()? = h << 4 | digit,
            }
        }
        Guid::from_bytes(bytes)
    }

    /// The inverse of [`Guid::bytes`]; not the nil GUID.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Guid> {
        (bytes != [0; 16]).then_some(Guid(bytes))
    }

    #[inline]
    fn halves(&self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
    }

    /// What it is printed as. By hand: a record is written at each change of a check, and holds a good many of these.
    fn digits(&self) -> [u8; 36] {
        let mut text = [b'-'; 36];
        let places = text.iter_mut().enumerate().filter(|(i, _)| !matches!(i, 8 | 13 | 18 | 23));
        let nibbles = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for ((_, place), nibble) in places.zip(nibbles) {
            *place = if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
        }
        text
    }

    /// The sixteen bytes in the order in which they are printed.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(&self.digits()))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(text(&self.digits()))
    }
}

fn text(digits: &[u8; 36]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

impl<'de> Deserialize<'de> for Guid {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Guid::parse(&text).ok_or_else(|| serde::de::Error::custom("not a GUID"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_printed_as_azure_devops_writes_it() {
        let guid = Guid::parse("69F48E94-bdb4-42D7-a560-0f2b54f91cc8").unwrap();
        assert_eq!(guid.to_string(), "69f48e94-bdb4-42d7-a560-0f2b54f91cc8");
    }

    #[test]
    fn what_is_not_quite_a_guid_is_refused() {
        for text in [
            "",
            "00000000-0000-0000-0000-000000000000",
            "69f48e94bdb442d7a5600f2b54f91cc8",
            "{69f48e94-bdb4-42d7-a560-0f2b54f91cc8}",
            "69f48e94-bdb4-42d7-a560-0f2b54f91cc",
            "69f48e94-bdb4-42d7-a560-0f2b54f91cc8 ",
            "69f48e94-bdb4-42d7-a560+0f2b54f91cc8",
            "69f48e94-bdb4-42d7-a560-0f2b54f91cg8",
            "$(system.planId)",
        ] {
            assert_eq!(Guid::parse(text), None, "{text}");
        }
    }
}
