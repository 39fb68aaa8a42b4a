//! The request headers that do not go on to Testkube.

use crate::surface::accept::Headers;

/// Whether a header is the caller's credential, the check's token or a browser's cookie.
fn is_credential(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"authtoken" | b"proxy-authorization" | b"cookie")
}

/// Maximum size of the headers that go on, in bytes. Testkube's server refuses a request head of more than 4096 bytes
/// (431). Besides these, the path of a file with a long name takes some 1,300 bytes, and a control plane's token and
/// Envoy's own headers need room.
const MAX_HEAD: usize = 1_536;

/// The headers that still go on, if they are short, when the rest is too much.
const USEFUL: [&[u8]; 6] =
    [b"accept", b"accept-encoding", b"range", b"traceparent", b"user-agent", b"x-request-id"];
const SHORT: usize = 256;

/// The headers that HTTP itself needs, and Envoy: for a request without `x-forwarded-proto` Envoy looks for no route
/// and answers 404 (`VirtualHostImpl::getRouteFromEntries`).
const NEEDED: [&[u8]; 4] = [b"host", b"content-length", b"transfer-encoding", b"x-forwarded-proto"];

/// The names of the headers to remove: always credentials, and if the head would be too long, all that Testkube has no
/// use for.
pub fn to_take_off<B: AsRef<[u8]>>(headers: &Headers<B>) -> impl Iterator<Item = &str> {
    let pairs = || headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    let length = |(name, value): (&[u8], &[u8])| name.len() + value.len() + ": \r\n".len();
    let others = || pairs().filter(|(name, _)| !name.starts_with(b":") && !is_credential(name));
    // Most heads are short with all of their headers.
    let is_long =
        pairs().map(length).sum::<usize>() > MAX_HEAD && others().map(length).sum::<usize>() > MAX_HEAD;
    let goes = move |name: &[u8], value: &[u8]| match name {
        [b':', ..] => true,
        _ if is_credential(name) => false,
        _ if !is_long => true,
        _ => NEEDED.contains(&name) || (USEFUL.contains(&name) && value.len() <= SHORT),
    };
    let taken = pairs().filter(move |(name, value)| !goes(name, value));
    taken.filter_map(|(name, _)| std::str::from_utf8(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(headers: &[(&str, &str)]) -> Vec<String> {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        to_take_off(&headers).map(str::to_owned).collect()
    }

    #[test]
    fn credentials_never_go_on_and_a_short_head_goes_on_otherwise() {
        let headers =
            [(":path", "/x"), ("authorization", "Bearer x"), ("cookie", "a=b"), ("x-other", "stays")];
        assert_eq!(taken(&headers), ["authorization", "cookie"]);
    }

    #[test]
    fn of_a_head_that_testkube_would_refuse_only_what_is_needed_goes_on() {
        let (long, path) = ("x".repeat(1_600), "/".repeat(1_300));
        let headers = [
            (":path", path.as_str()),
            ("x-forwarded-client-cert", &long),
            ("user-agent", &long),
            ("accept", "*/*"),
            ("x-request-id", "1"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(taken(&headers), ["x-forwarded-client-cert", "user-agent"]);
        let headers = [(":path", path.as_str()), ("x-a", &long[..1_000]), ("authorization", &long)];
        assert_eq!(taken(&headers), ["authorization"]);
    }
}
