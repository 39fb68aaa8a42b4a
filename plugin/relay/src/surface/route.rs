//! Routing by method and path.

use crate::config::{Config, Passthrough};
use crate::wire::percent::decoded;

/// The meaning of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `POST <base>/v1/checks`.
    Check,
    /// `GET <base>/v1/checks`, or of one check's id: pending and recently decided checks.
    Checks(Option<&'a str>),
    /// `GET <base>/`, or `<base>/checks/{id}`: the same for people.
    Page(Option<&'a str>),
    /// `POST <base>/v1/checks/evaluate`: the synchronous check.
    Evaluate,
    /// `POST <base>/v1/events`: a hint from Testkube's webhook.
    Event,
    /// `POST <base>/v1/drain`: this replica is about to end.
    Drain,
    /// `GET <base>/v1/preflight`: whether all that this process needs is there.
    Preflight,
    /// `GET <base>/healthz`: this VM runs.
    Health,
    /// `GET <base>/readyz`: there is a leader.
    Ready,
    /// One of Testkube's own artifact, archive or log paths: streamed through for callers that may.
    Artifact,
    /// `<base>/v1/artifacts/{tag}…`: the same by tag; holds the part after `artifacts/`, including the query.
    Tagged(&'a [u8]),
    /// Another program's path: goes on untouched.
    PassThrough,
    /// A known path with a method that it does not allow; holds the allowed ones.
    WrongMethod(&'static str),
    /// A path that leaves its folder in some encoding.
    Traversal,
    /// A path that would be Testrelay's without an encoded blank, such as `%20`: a blank in the URL of a service
    /// connection, where nobody sees it.
    Blank(&'static str),
    /// An unknown path.
    Unknown,
}

/// Routes the request `method path`. `path` is the request target with its query, as bytes off the wire.
pub fn route<'a>(config: &Config, method: &[u8], path: &'a [u8]) -> Route<'a> {
    let target = path;
    // Few paths have a query, and `contains` compares a whole word at a time.
    let path = if path.contains(&b'?') { split_once(path, b'?').0 } else { path };
    let reads = matches!(method, b"GET" | b"HEAD");
    if let Some(rest) = under(path, config.base_path.as_bytes()) {
        let target = target.get(config.base_path.len()..).unwrap_or_default();
        if let Some(rest) = tagged(target) {
            return if reads { Route::Tagged(rest) } else { Route::WrongMethod("GET, HEAD") };
        }
        let parts: Vec<&[u8]> = rest.split(|c| *c == b'/').filter(|part| !part.is_empty()).collect();
        return match (parts.as_slice(), method, reads) {
            ([b"v1", b"checks"], b"POST", _) => Route::Check,
            ([b"v1", b"checks"], _, true) => Route::Checks(None),
            ([b"v1", b"checks"], ..) => Route::WrongMethod("GET, HEAD, POST"),
            ([b"v1", b"checks", b"evaluate"], b"POST", _) => Route::Evaluate,
            ([b"v1", b"checks", b"evaluate"], ..) => Route::WrongMethod("POST"),
            ([b"v1", b"checks", id], ..) => match check_id(id) {
                None => Route::Unknown,
                Some(id) if reads => Route::Checks(Some(id)),
                Some(_) => Route::WrongMethod("GET, HEAD"),
            },
            ([], _, true) => Route::Page(None),
            ([], ..) => Route::WrongMethod("GET, HEAD"),
            ([b"checks", id], ..) => match check_id(id) {
                None => Route::Unknown,
                Some(id) if reads => Route::Page(Some(id)),
                Some(_) => Route::WrongMethod("GET, HEAD"),
            },
            ([b"v1", b"events"], b"POST", _) => Route::Event,
            ([b"v1", b"drain"], b"POST", _) => Route::Drain,
            ([b"v1", b"events" | b"drain"], ..) => Route::WrongMethod("POST"),
            ([b"v1", b"preflight"], _, true) => Route::Preflight,
            ([b"healthz"], _, true) => Route::Health,
            ([b"readyz"], _, true) => Route::Ready,
            ([b"healthz" | b"readyz"] | [b"v1", b"preflight"], ..) => Route::WrongMethod("GET, HEAD"),
            _ => blank(path).map_or(Route::Unknown, Route::Blank),
        };
    }
    if config.passthrough == Passthrough::All {
        return meant_for_base(config, path).map_or(Route::PassThrough, Route::Blank);
    }
    match (below_execution(config.testkube.api_prefix.as_bytes(), path), reads) {
        (None, _) => meant_for_base(config, path).map_or(Route::Unknown, Route::Blank),
        (Some(_), false) => Route::WrongMethod("GET, HEAD"),
        (Some(rest), true) if climbs(rest, true) => Route::Traversal,
        (Some(_), true) => Route::Artifact,
    }
}

/// The part after `<prefix>/test-workflow-executions/{id}/` if it is `artifacts`, `artifacts/…`, `artifact-archive` or
/// `logs` and the id is Testkube's 24 hexadecimal digits. Testkube's API is open, and a pipeline may see only this part
/// of it.
fn below_execution<'a>(prefix: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let rest = under(path, prefix)?.strip_prefix(b"/test-workflow-executions/")?;
    let (id, rest) = rest.split_first_chunk::<24>()?;
    let what = rest.strip_prefix(b"/")?;
    let is_seen =
        matches!(what, b"artifacts" | b"artifact-archive" | b"logs") || what.starts_with(b"artifacts/");
    (is_seen && id.iter().all(u8::is_ascii_hexdigit)).then_some(what)
}

/// The part after `/v1/artifacts/`, if there is one. Its slashes may be part of a file's name.
fn tagged(target: &[u8]) -> Option<&[u8]> {
    let rest = target.strip_prefix(b"/")?;
    let rest = rest.strip_prefix(b"/").unwrap_or(rest).strip_prefix(b"v1/artifacts/")?;
    Some(rest).filter(|rest| !matches!(rest.first(), None | Some(b'/' | b'?')))
}

/// The encodings of blanks, including invisible ones: tab, line ends, no-break space, zero-width space, byte order
/// mark.
const BLANKS: [&str; 7] = ["%20", "%09", "%0A", "%0D", "%C2%A0", "%E2%80%8B", "%EF%BB%BF"];

/// The first of [`BLANKS`] in a path that would be below the base path without them.
fn meant_for_base(config: &Config, path: &[u8]) -> Option<&'static str> {
    blank(path).filter(|_| under(&without_blanks(path), config.base_path.as_bytes()).is_some())
}

/// The first of [`BLANKS`] in `path`.
fn blank(path: &[u8]) -> Option<&'static str> {
    // Few paths have any, and `contains` compares a whole word at a time.
    if !path.contains(&b'%') {
        return None;
    }
    (0..path.len()).filter(|at| path.get(*at) == Some(&b'%')).find_map(|at| blank_at(path, at))
}

fn blank_at(path: &[u8], at: usize) -> Option<&'static str> {
    let is_there = |blank: &&&str| {
        let piece = path.get(at..at + blank.len());
        piece.is_some_and(|piece| piece.eq_ignore_ascii_case(blank.as_bytes()))
    };
    BLANKS.iter().find(is_there).copied()
}

fn without_blanks(path: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(path.len()), 0);
    while let Some(c) = path.get(at) {
        match blank_at(path, at) {
            Some(blank) => at += blank.len(),
            None => {
                out.push(*c);
                at += 1;
            }
        }
    }
    out
}

/// A check's id: 16 hexadecimal digits.
fn check_id(id: &[u8]) -> Option<&str> {
    let is_id = id.len() == 16 && id.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    std::str::from_utf8(id).ok().filter(|_| is_id)
}

/// How often a path is decoded before it is judged. Testkube decodes a name twice.
const DECODINGS: u8 = 3;

/// Whether some form of `path`, decoded up to [`DECODINGS`] times, has a `.` or `..` segment, also between backslashes
/// or with parameters (`..;x`: some proxies and servers drop the part after `;`), or a control character. `backslash`:
/// whether a backslash counts as one of these.
///
/// It is enough to look at the last form: what leaves the folder has no `%` and no hexadecimal digit, so decoding does
/// not change it.
pub(crate) fn climbs(path: &[u8], backslash: bool) -> bool {
    // Number of dots in the present segment; `OTHER` if it has anything else, or more than two.
    const OTHER: u8 = 3;
    let (mut at, mut dots) = (0, 0);
    while let Some((c, next)) = decoded(path, at, DECODINGS) {
        match c {
            b'/' | b'\\' => {
                if matches!(dots, 1 | 2) || (backslash && c == b'\\') {
                    return true;
                }
                dots = 0;
            }
            b';' if matches!(dots, 1 | 2) => return true,
            b'.' if dots < OTHER => dots += 1,
            0..0x20 | 0x7f => return true,
            _ => dots = OTHER,
        }
        at = next;
    }
    matches!(dots, 1 | 2)
}

/// The part of `path` after `base`, if `path` is `base` or lies below it.
fn under<'a>(path: &'a [u8], base: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn split_once(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    let i = text.iter().position(|c| *c == at).unwrap_or(text.len());
    (text.get(..i).unwrap_or_default(), text.get(i + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::percent::percent_decoded;

    fn config(passthrough: &str) -> Config {
        let text = format!(
            r#"{{"testkube":{{"cluster":"t"}},"azure_devops":[{{"url":"https://dev.azure.com/o","cluster":"a"}}],
               "insecure_no_auth":true,"passthrough":"{passthrough}"}}"#
        );
        Config::parse(text.as_bytes(), &|_| None).unwrap()
    }

    fn get(path: &str) -> Route<'_> {
        route(&config("artifacts"), b"GET", path.as_bytes())
    }

    fn post(path: &str) -> Route<'_> {
        route(&config("artifacts"), b"POST", path.as_bytes())
    }

    const EXECUTION: &str = "/v1/test-workflow-executions/6973a5d2e1c4b0a7f3d9e202";

    #[test]
    fn a_connection_url_with_a_last_slash_still_finds_the_check() {
        for path in [
            "/testrelay/v1/checks",
            "/testrelay//v1/checks",
            "/testrelay/v1/checks/",
            "/testrelay/v1/checks?x=1",
        ] {
            assert_eq!(post(path), Route::Check, "{path}");
        }
        assert_eq!(get("/testrelay/v1/checks"), Route::Checks(None));
        let id = "0123456789abcdef";
        assert_eq!(get(&format!("/testrelay/v1/checks/{id}")), Route::Checks(Some(id)));
        assert_eq!(get("/testrelay/v1/checks/0123"), Route::Unknown);
        let delete = route(&config("artifacts"), b"DELETE", b"/testrelay/v1/checks");
        assert_eq!(delete, Route::WrongMethod("GET, HEAD, POST"));
        assert_eq!(post("/testrelay/v1/checks/evaluate"), Route::Evaluate);
        assert_eq!(get("/testrelay/v1/checks/evaluate"), Route::WrongMethod("POST"));
        assert_eq!(post("/testrelay/v1/events"), Route::Event);
        assert_eq!(get("/testrelay/v1/events"), Route::WrongMethod("POST"));
        assert_eq!(get("/testrelay-x/v1/checks"), Route::Unknown);
        for path in ["/testrelay", "/testrelay/", "/testrelay//?state=done"] {
            assert_eq!(get(path), Route::Page(None), "{path}");
        }
        assert_eq!(get(&format!("/testrelay/checks/{id}")), Route::Page(Some(id)));
        assert_eq!(get("/testrelay/checks/0123"), Route::Unknown);
        assert_eq!(post("/testrelay/"), Route::WrongMethod("GET, HEAD"));
        assert_eq!(get("/testrelay/healthz"), Route::Health);
        assert_eq!(get("/testrelay/readyz"), Route::Ready);
        assert_eq!(get("/testrelay/v1/preflight"), Route::Preflight);
        assert_eq!(post("/testrelay/v1/preflight"), Route::WrongMethod("GET, HEAD"));
    }

    #[test]
    fn testkubes_artifact_paths_go_through_and_nothing_else_of_it_does() {
        for rest in [
            "/artifacts",
            "/artifacts/results%252Fjunit.xml",
            "/artifacts/a..b",
            "/artifact-archive?mask=.*%5C.xml",
            "/logs",
        ] {
            assert_eq!(get(&format!("{EXECUTION}{rest}")), Route::Artifact, "{rest}");
        }
        for path in [
            EXECUTION.to_string(),
            format!("{EXECUTION}/abort"),
            format!("{EXECUTION}/logs/x"),
            "/v1/test-workflow-executions".into(),
            "/v1/test-workflow-executions/shop-e2e-17/logs".into(),
            "/v1/secrets".into(),
            "/".into(),
            String::new(),
        ] {
            assert_eq!(get(&path), Route::Unknown, "{path}");
        }
        assert_eq!(post(&format!("{EXECUTION}/logs")), Route::WrongMethod("GET, HEAD"));
    }

    #[test]
    fn a_name_that_climbs_is_seen_in_every_encoding() {
        for name in [
            "../x",
            "..%2Fx",
            "%2e%2e%2fx",
            "a%252F..%252Fx",
            "%25252e%25252e%25252fx",
            "..%5cx",
            "a%5Cb",
            "x%00",
            ".",
            "a/./b",
            "..;",
            "..;/x",
            "..;%2fx",
            "a/.;v=1/b",
            "..%3bx",
            "%2e%2E%253B%252fx",
            "a%5c..;b",
        ] {
            assert_eq!(get(&format!("{EXECUTION}/artifacts/{name}")), Route::Traversal, "{name}");
        }
    }

    #[test]
    fn a_name_of_more_than_two_dots_climbs_nowhere() {
        for name in [
            "...",
            "a/.../b",
            ".hidden",
            "..b",
            "a.",
            "%2E%2E%2E",
            "100%",
            "%zz",
            "%2",
            "%25252525",
            "a;..",
            ";..",
            "..a;b",
            "a;b/...;c",
            ";",
        ] {
            assert_eq!(get(&format!("{EXECUTION}/artifacts/{name}")), Route::Artifact, "{name}");
        }
        assert!(
            !climbs(b"", true) && climbs(b"..", true) && climbs(b"a\\b", true) && !climbs(b"a\\b", false)
        );
        assert!(
            climbs(b"a\\..", false)
                && climbs(b"a%5C..%5Cb", false)
                && climbs(b"x/%25252E%25252E%25252Fx", false)
        );
    }

    #[test]
    fn a_path_climbs_if_any_of_its_readings_does() {
        let is_climber = |path: &[u8], backslash: bool| {
            let mut segments = path.split(|c| matches!(c, b'/' | b'\\'));
            path.contains(&b'\t')
                || (backslash && path.contains(&b'\\'))
                || segments.any(|segment| matches!(segment.split(|c| *c == b';').next(), Some(b"." | b"..")))
        };
        let mut paths = vec![Vec::new()];
        for _ in 0..6 {
            let longer = paths.iter().flat_map(|path: &Vec<u8>| {
                [&b"%"[..], b"25", b"2e", b"2F", b"5c", b"3b", b"09", b".", b"/", b";", b"x"]
                    .map(|more| [path, more].concat())
            });
            paths = longer.collect();
            for path in &paths {
                let mut readings = vec![path.clone()];
                for n in 0..3 {
                    readings.push(percent_decoded(&readings[n]));
                }
                for backslash in [false, true] {
                    let expected = readings.iter().any(|reading| is_climber(reading, backslash));
                    assert_eq!(climbs(path, backslash), expected, "{}", String::from_utf8_lossy(path));
                }
            }
        }
    }

    #[test]
    fn a_blank_in_the_connections_url_is_named() {
        for (path, blank) in [
            ("/testrelay%20/v1/checks", "%20"),
            ("/testrelay/v1/checks%20", "%20"),
            ("/testrelay/%20v1/checks", "%20"),
            ("/%20testrelay/v1/checks", "%20"),
            ("/testrelay%c2%a0/v1/checks?x=%20", "%C2%A0"),
            ("/testrelay%E2%80%8B%20/v1/checks", "%E2%80%8B"),
        ] {
            assert_eq!(post(path), Route::Blank(blank), "{path}");
            assert_eq!(route(&config("all"), b"POST", path.as_bytes()), Route::Blank(blank), "{path}");
        }
        for path in ["/other%20/v1/checks", "/testrelay/v1/nothing", "/test%2relay/v1/checks"] {
            assert_eq!(post(path), Route::Unknown, "{path}");
        }
        assert_eq!(get("/testrelay/v1/artifacts/shop-1/a%20b"), Route::Tagged(b"shop-1/a%20b"));
        let other = b"/v1/test%20s";
        assert_eq!(route(&config("all"), b"GET", other), Route::PassThrough);
    }

    #[test]
    fn a_sidecar_lets_everything_else_through() {
        let all = config("all");
        let climber = format!("{EXECUTION}/artifacts/..%2Fx");
        for (path, expected) in [
            ("/v1/secrets", Route::PassThrough),
            (&climber, Route::PassThrough),
            ("/testrelay/nothing", Route::Unknown),
        ] {
            assert_eq!(route(&all, b"DELETE", path.as_bytes()), expected, "{path}");
        }
    }
}
