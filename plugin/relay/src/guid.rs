//! GUIDs: Azure DevOps's ids. They are parsed and printed again, so that no text of a caller gets into a call's path.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;

/// A GUID, printed in lower case as `8-4-4-4-12`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Guid([u8; 16]);

/// Length as text.
const TEXT: usize = 36;
/// Where the two digits of each byte begin in the text.
static PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
/// Where four digits without a dash between them begin.
static FOURS: [usize; 8] = [0, 4, 9, 14, 19, 24, 28, 32];
static DASHES: [usize; 4] = [8, 13, 18, 23];

/// Any total order: that of two numbers as WebAssembly loads them. The leader compares thousands of these in a tick.
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
    /// Reads `8-4-4-4-12` hexadecimal digits of either case. Refuses the nil GUID, which Azure DevOps sends for "none",
    /// never for a thing.
    pub fn parse(text: &str) -> Option<Guid> {
        let text: &[u8; TEXT] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 16];
        for (byte, at) in bytes.iter_mut().zip(&PLACES) {
            let [high, low] = text.get(*at..)?.first_chunk()?;
            let (high, low) = (digit(*high)?, digit(*low)?);
            *byte = high << 4 | low;
        }
        let is_parted = DASHES.iter().all(|at| text.get(*at) == Some(&b'-'));
        Guid::from_bytes(bytes).filter(|_| is_parted)
    }

    /// The inverse of [`Guid::bytes`]. Refuses the nil GUID.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Guid> {
        (bytes != [0; 16]).then_some(Guid(bytes))
    }

    #[inline]
    fn halves(&self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
    }

    /// The printed form. Written by hand, because each change of a check writes a record with many of these.
    fn digits(&self) -> [u8; TEXT] {
        let mut text = [b'-'; TEXT];
        for (pair, at) in self.0.as_chunks().0.iter().zip(&FOURS) {
            if let Some(place) = text.get_mut(*at..).and_then(<[u8]>::first_chunk_mut) {
                *place = four_digits(*pair);
            }
        }
        text
    }

    /// The sixteen bytes in printing order.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

#[inline]
fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' | b'A'..=b'F' => Some((letter | 0x20) - b'a' + 10),
        _ => None,
    }
}

/// The digits of two bytes, all four at once.
#[inline]
fn four_digits(pair: [u8; 2]) -> [u8; 4] {
    const EACH: u32 = 0x0101_0101;
    let apart = u32::from_le_bytes([pair[0], 0, pair[1], 0]);
    let digits = (apart >> 4 | apart << 8) & (EACH * 0x0f);
    // Adding 6 carries ten and above into the fifth bit.
    let letters = ((digits + EACH * 6) >> 4) & EACH;
    (digits + EACH * u32::from(b'0') + letters * u32::from(b'a' - b'0' - 10)).to_le_bytes()
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

fn text(digits: &[u8; TEXT]) -> &str {
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
