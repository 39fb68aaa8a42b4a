//! Requests as one side saw them, in a form that is the same in every run of a story.

use crate::format::Seen;
use anyhow::{Result, ensure};
use fakes::Recorded;
use std::collections::{BTreeMap, BTreeSet};

/// How often each kind of request was seen, and with which names of headers.
#[derive(Debug, Default)]
pub(crate) struct Kinds(BTreeMap<String, (u64, BTreeSet<Vec<String>>)>);

impl Kinds {
    pub(crate) fn of(requests: &[Recorded]) -> Kinds {
        let mut kinds = Kinds::default();
        for recorded in requests {
            let mut names: Vec<String> =
                recorded.request.headers.iter().map(|(name, _)| name.clone()).collect();
            names.sort();
            let (times, headers) = kinds.0.entry(kind(recorded)).or_default();
            *times += 1;
            headers.insert(names);
        }
        kinds
    }

    pub(crate) fn times(&self, kind: &str) -> u64 {
        self.0.get(kind).map_or(0, |(times, _)| *times)
    }

    /// Compares them with what was expected.
    pub(crate) fn check(&self, side: &str, expected: &[Seen]) -> Result<()> {
        for seen in expected {
            let times = self.times(&seen.request);
            ensure!(seen.times.fits(times), "{side} saw {} {times} times: {self:#?}", seen.request);
            if let (Some(names), Some((_, headers))) = (&seen.headers, self.0.get(&seen.request)) {
                let other = headers.iter().find(|headers| *headers != names);
                ensure!(other.is_none(), "{side} saw {} with the headers {other:?}", seen.request);
            }
        }
        let other = self.0.keys().find(|kind| expected.iter().all(|seen| seen.request != **kind));
        ensure!(other.is_none(), "{side} also saw {}: {self:#?}", other.map_or("", String::as_str));
        Ok(())
    }
}

/// Method, path without ids, and the names in the query.
fn kind(recorded: &Recorded) -> String {
    let request = &recorded.request;
    let path: Vec<&str> = request.path().split('/').map(without_id).collect();
    let names: Vec<&str> = request
        .query()
        .split('&')
        .filter_map(|pair| pair.split('=').next())
        .filter(|n| !n.is_empty())
        .collect();
    let query = if names.is_empty() { String::new() } else { format!("?{}", names.join("&")) };
    format!("{} {}{query}", request.method, path.join("/"))
}

fn without_id(segment: &str) -> &str {
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let lengths: Vec<usize> = segment.split('-').map(str::len).collect();
    match segment {
        _ if lengths == [8, 4, 4, 4, 12] && segment.split('-').all(is_hex) => "{guid}",
        _ if segment.len() == 24 && is_hex(segment) => "{execution}",
        "" => "",
        _ if segment.bytes().all(|b| b.is_ascii_digit()) => "{n}",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fakes::Request;

    #[test]
    fn ids_and_values_are_left_out_and_everything_else_stays() {
        let kind = |method: &str, target: &str| {
            kind(&Recorded { at: 0, request: Request::new(method, target), status: None })
        };
        let plan =
            "/fabrikam/69f48e94-bdb4-42d7-a560-0f2b54f91cc8/_apis/plans/0000000a-0001-5000-8000-000000000001";
        assert_eq!(
            kind("POST", &format!("{plan}/logs/3?api-version=6.0")),
            "POST /fabrikam/{guid}/_apis/plans/{guid}/logs/{n}?api-version"
        );
        assert_eq!(
            kind("GET", "/v1/test-workflow-executions?tagSelector=a%3Db&page=0"),
            "GET /v1/test-workflow-executions?tagSelector&page"
        );
        assert_eq!(
            kind("GET", "/v1/test-workflow-executions/6973a0f0e1c4b0a7f3000001/artifacts/a%2Fb"),
            "GET /v1/test-workflow-executions/{execution}/artifacts/a%2Fb"
        );
    }
}
