//! Percent-decoding, with the differences that decide whether a name survives.

/// Like Go's `url.QueryUnescape`: `+` is a space, and one malformed escape makes everything fail.
pub(crate) fn query_unescape(text: &[u8]) -> Option<Vec<u8>> {
    decode(text, true, true)
}

/// As fasthttp decodes a query: `+` is a space, a malformed escape stays as it is.
pub(crate) fn query_decode(text: &str) -> String {
    lossy(decode(text.as_bytes(), true, false))
}

/// One path segment as ASP.NET decodes it: `+` is itself, a malformed escape stays as it is.
pub(crate) fn segment_decode(text: &str) -> String {
    lossy(decode(text.as_bytes(), false, false))
}

/// The decoded name and value of each parameter of a raw query.
pub(crate) fn parameters(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|item| !item.is_empty())
        .map(|item| {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            (query_decode(name), query_decode(value))
        })
        .collect()
}

fn lossy(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

fn decode(text: &[u8], plus_is_space: bool, strict: bool) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                decoded.push(hex(*high)? << 4 | hex(*low)?);
                rest = after;
            }
            (b'%', _) if strict => return None,
            (b'+', _) if plus_is_space => decoded.push(b' '),
            (byte, _) => decoded.push(*byte),
        }
    }
    Some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_escape_fails_in_go_and_stays_in_fasthttp() {
        assert_eq!(query_unescape(b"100%"), None);
        assert_eq!(query_unescape(b"a+b%2Fc").as_deref(), Some(&b"a b/c"[..]));
        assert_eq!(query_decode("100%+%zz%41"), "100% %zzA");
        assert_eq!(segment_decode("a+b%20c"), "a+b c");
    }

    #[test]
    fn parameters_are_decoded_after_they_are_split() {
        let found = parameters("tagSelector=a%3D1%26&page=2&flag&&");
        let expected = [("tagSelector", "a=1&"), ("page", "2"), ("flag", "")];
        assert_eq!(found, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
}
