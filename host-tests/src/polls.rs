//! One poller's schedule, as Testkube and Envoy's log show it: who asked when for what.

use fakes::{Recorded, Request, Testkube};
use std::collections::BTreeMap;

/// The shortest time between two looks at one tag: 2 s less the jitter of up to a quarter, less the millisecond in which
/// the module's clock and the fake's may differ.
pub const CLOSEST_MS: i64 = 1_499;

/// When each tag was looked up: the list requests that name it, further pages not counted.
#[derive(Clone, Debug, Default)]
pub struct Polls {
    by_tag: BTreeMap<String, Vec<i64>>,
    requests: usize,
}

impl Polls {
    /// Those that a Testkube has got so far.
    pub fn of(testkube: &Testkube) -> Polls {
        Polls::among(testkube.requests())
    }

    /// Those among these requests of a Testkube, oldest first.
    pub fn among(requests: &[Recorded]) -> Polls {
        let mut polls = Polls::default();
        for recorded in requests {
            let tags = first_page_of(&recorded.request);
            polls.requests += usize::from(!tags.is_empty());
            for tag in tags {
                polls.by_tag.entry(tag).or_default().push(recorded.at);
            }
        }
        polls
    }

    /// The number of look-ups of all tags.
    pub fn looks(&self) -> usize {
        self.by_tag.values().map(Vec::len).sum()
    }

    /// The number of readings that began.
    pub fn requests(&self) -> usize {
        self.requests
    }

    /// When a tag was looked up, in Unix milliseconds.
    pub fn of_tag(&self, tag: &str) -> &[i64] {
        self.by_tag.get(tag).map_or(&[], Vec::as_slice)
    }

    /// The times between two looks at a tag, in milliseconds.
    pub fn spacing(&self, tag: &str) -> Vec<i64> {
        self.of_tag(tag).windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// How many looks at a tag came sooner after the previous one than one poller's schedule allows.
    pub fn too_close(&self, tag: &str) -> usize {
        self.spacing(tag).into_iter().filter(|ms| *ms < CLOSEST_MS).count()
    }
}

/// How often a thread took the lead, by Envoy's log: the first time and each change.
pub fn leads_taken(log: &str) -> usize {
    log.lines().filter(|line| line.ends_with(": leads")).count()
}

/// The tags that a list request for a first page names.
fn first_page_of(request: &Request) -> Vec<String> {
    if !request.path().ends_with("/test-workflow-executions") {
        return Vec::new();
    }
    let parameter = |name: &str| {
        let pairs = request.query().split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(other, _)| *other == name).map(|(_, value)| percent_decoded(value)).next()
    };
    if parameter("page").is_some_and(|page| page != "0") {
        return Vec::new();
    }
    let selector = parameter("tagSelector").unwrap_or_default();
    selector.split(',').filter_map(|item| Some(item.split_once('=')?.1.to_owned())).collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fakes::{Database, Service};

    #[test]
    fn first_pages_are_counted_for_each_tag_that_they_name() {
        let mut testkube = Testkube::new(Database::Postgres);
        let list = |tags: &str, page: u32| {
            let path = "/v1/test-workflow-executions";
            Request::new("GET", &format!("{path}?tagSelector={tags}&pageSize=100&page={page}"))
        };
        testkube.handle(1_000, &list("ado-run%3Da%2Cado-run%3Db", 0));
        testkube.handle(1_100, &list("ado-run%3Da%2Cado-run%3Db", 1));
        testkube.handle(2_000, &list("ado-run%3Da", 0));
        testkube.handle(2_100, &Request::new("GET", "/v1/test-workflow-executions/x?tagSelector=k%3Da"));
        let polls = Polls::of(&testkube);
        assert_eq!((polls.of_tag("a"), polls.of_tag("b")), (&[1_000, 2_000][..], &[1_000][..]));
        assert_eq!((polls.requests(), polls.spacing("a"), polls.too_close("a")), (2, vec![1_000], 1));
    }

    #[test]
    fn only_the_taking_of_the_lead_is_counted() {
        let log = "[info] wasm log testrelay: leads\n[info] wasm log testrelay: another context leads now\n";
        assert_eq!(leads_taken(log), 1);
    }
}
