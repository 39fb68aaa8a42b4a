//! Requests as lines for a shell.

use std::net::SocketAddr;

use host_tests::Request;

/// The command that sends this request. `options` are written as they are, before everything else.
///
/// Headers that curl makes itself are left out.
pub(super) fn line(address: SocketAddr, request: &Request, options: &str) -> String {
    let head = String::from_utf8_lossy(&request.head()).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let mut command = format!("curl {options}");
    if method != "GET" {
        command += &format!(" -X {method} -d ''");
    }
    for header in lines.filter(|line| !line.is_empty()) {
        let name = header.split(':').next().unwrap_or_default();
        if !["host", "content-length"].contains(&name.to_ascii_lowercase().as_str()) {
            command += &format!(" \\\n  -H {}", quoted(header));
        }
    }
    let url = quoted(&format!("http://{address}{target}"));
    if command.contains('\n') { format!("{command} \\\n  {url}") } else { format!("{command} {url}") }
}

/// A word that a shell leaves alone.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_a_command() {
        let address = "127.0.0.1:80".parse().unwrap();
        assert_eq!(line(address, &Request::get("/a?b=c"), "-i"), "curl -i 'http://127.0.0.1:80/a?b=c'");
        let post = Request::post("/x").header("PlanUrl", "it's");
        assert_eq!(
            line(address, &post, "-i"),
            "curl -i -X POST -d '' \\\n  -H 'PlanUrl: it'\\''s' \\\n  'http://127.0.0.1:80/x'"
        );
    }
}
