//! Percent-encoding (RFC 3986).

/// Percent-encodes `text` for a query or a path segment: all but RFC 3986's unreserved characters.
pub fn percent_encoded(text: &str) -> String {
    let digit = |n: u8| char::from(if n < 10 { b'0' + n } else { b'A' - 10 + n });
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match is_unreserved(byte) {
            true => out.push(char::from(byte)),
            false => out.extend(['%', digit(byte >> 4), digit(byte & 15)]),
        }
        out
    })
}

/// Length of [`percent_encoded`]'s result for `text`, in bytes.
pub fn percent_encoded_len(text: &str) -> usize {
    text.bytes().map(|byte| if is_unreserved(byte) { 1 } else { "%00".len() }).sum()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// `path` with each `%XX` replaced by its byte; any other `%` stays.
pub(crate) fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some((c, next)) = decoded(path, at, 1) {
        out.push(c);
        at = next;
    }
    out
}

/// The byte at `at` after decoding `path` `times` times, and where the next one begins. Inlined: most bytes stand for
/// themselves and need no call.
#[inline(always)]
pub(crate) fn decoded(path: &[u8], at: usize, times: u8) -> Option<(u8, usize)> {
    match path.get(at)? {
        b'%' if times > 0 => Some(unescaped(path, at, times - 1)),
        c => Some((*c, at + 1)),
    }
}

/// The same for a `%`, which is read together with the two characters after it as the previous decoding shows them.
fn unescaped(path: &[u8], at: usize, before: u8) -> (u8, usize) {
    let hex = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (first, after) = decoded(path, at, before).unwrap_or((b'%', at + 1));
    let byte = || {
        let (high, after) = decoded(path, after, before).filter(|_| first == b'%')?;
        let (low, after) = decoded(path, after, before)?;
        Some((hex(high)? << 4 | hex(low)?, after))
    };
    byte().unwrap_or((first, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_percent_encoded_is_as_long_as_was_said() {
        for (text, encoded) in [("", ""), ("a-Z_0.~", "a-Z_0.~"), ("k=v,w/é", "k%3Dv%2Cw%2F%C3%A9")] {
            assert_eq!(percent_encoded(text), encoded);
            assert_eq!(percent_encoded_len(text), encoded.len());
        }
    }
}
