//! One context that leads, with calls that the target answers. Every call is looked at before.

use crate::setting::{API_TOKEN, CREDENTIAL, NOW, SECRETS, TOKEN, ledger};
use crate::store::Memory;
use crate::texts::assert_no_secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use testrelay::config::Config;
use testrelay::time::{Now, Wall};
use testrelay::wire::call::{CallId, CallOutcome, Request};
use testrelay::{Lead, Output};

/// A leading context and its store.
pub(crate) struct Leader {
    pub(crate) store: Memory,
    pub(crate) now: Now,
    config: Rc<Config>,
    lead: Lead,
    calls: VecDeque<(CallId, Request)>,
    answered: u64,
    has_own_tokens: bool,
}

/// Milliseconds between two answers.
const LATENCY: u64 = 5;

impl Leader {
    /// The only context of an instance. The checks in `store` have tokens that hold [`TOKEN`].
    pub(crate) fn new(config: Config, store: Memory) -> Leader {
        let config = Rc::new(config);
        let lead = Lead::new(config.clone(), ledger(), 1, NOW.mono);
        Leader { store, now: NOW, config, lead, calls: VecDeque::new(), answered: 0, has_own_tokens: true }
    }

    /// The same over a store that somebody else may have written: calls may show what stands there.
    pub(crate) fn over_foreign(config: Config, store: Memory) -> Leader {
        Leader { has_own_tokens: false, ..Leader::new(config, store) }
    }

    /// A tick, this long after the last.
    pub(crate) fn tick(&mut self, after: Duration) {
        self.pass(after);
        let outputs = self.lead.tick(self.now, &mut self.store);
        self.take(outputs);
    }

    fn pass(&mut self, span: Duration) {
        let ms = i64::try_from(span.as_millis()).expect("a short time");
        self.now = Now { mono: self.now.mono.plus(span), wall: Wall(self.now.wall.0 + ms) };
    }

    /// A call that was started and is not answered: now the oldest, now the newest.
    pub(crate) fn next_call(&mut self) -> Option<(CallId, Request)> {
        if self.answered.is_multiple_of(2) { self.calls.pop_front() } else { self.calls.pop_back() }
    }

    /// A call's outcome, a little later.
    pub(crate) fn answer(&mut self, id: CallId, outcome: &CallOutcome) {
        self.pass(Duration::from_millis(LATENCY + self.answered * 7 % 20));
        self.answered += 1;
        let outputs = self.lead.answer(self.now, &mut self.store, id, outcome);
        self.take(outputs);
    }

    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::Call(id, request) = output {
                if is_preflight(&request) {
                    // It belongs to no check, and nobody answers it.
                    for (_, value) in &request.headers {
                        assert!(!value.contains(TOKEN), "a preflight has a check's token");
                    }
                    continue;
                }
                if self.has_own_tokens {
                    assert_goes_where_it_may(&self.config, &request);
                }
                self.calls.push_back((id, request));
            }
        }
    }
}

/// Whether a call goes to Testkube.
pub(crate) fn is_to_testkube(request: &Request) -> bool {
    request.cluster == "testkube"
}

/// Whether the leader looks whether all is there.
fn is_preflight(request: &Request) -> bool {
    let agent = request.headers.iter().find(|(name, _)| *name == "user-agent");
    agent.is_some_and(|(_, value)| value.ends_with(" (preflight)"))
}

/// What a TaskCompleted says; `None` for any other call.
pub(crate) fn event_result(request: &Request) -> Option<String> {
    if !request.path.contains("/events?") {
        return None;
    }
    let event: serde_json::Value = serde_json::from_slice(&request.body).expect("an event is JSON");
    Some(event["result"].as_str().expect("an event has a result").into())
}

/// Panics if a call goes elsewhere than the configuration says, or shows a secret that it must not carry.
fn assert_goes_where_it_may(config: &Config, request: &Request) {
    let url = format!("{}{}", request.authority, request.path);
    assert!(url.bytes().all(|c| c.is_ascii_graphic()), "not a request target: {url}");
    assert_no_secret("a request target", &url, &SECRETS);
    assert_no_secret("a request body", &String::from_utf8_lossy(&request.body), &SECRETS);
    assert!(!request.timeout.is_zero(), "Envoy takes 0 for no timeout at all");
    let authorization: Vec<&str> = request
        .headers
        .iter()
        .filter(|(name, _)| *name == "authorization")
        .map(|(_, v)| v.as_str())
        .collect();
    let [authorization] = authorization[..] else { panic!("a call has one authorization") };
    for (name, value) in &request.headers {
        assert!(!value.contains(['\r', '\n', '\0']), "the header {name} ends another one");
        if *name != "authorization" {
            assert_no_secret("a header", value, &SECRETS);
        }
    }
    if is_to_testkube(request) {
        assert_eq!(authorization, format!("Bearer {API_TOKEN}"));
        assert_eq!(request.authority, config.testkube.authority);
        assert!(request.path.starts_with("/v1/test-workflow-executions"), "{}", request.path);
        assert_eq!(request.method, "GET");
        return;
    }
    let is_its = |entry: &&testrelay::wire::azure::Entry| {
        entry.cluster == request.cluster
            && entry.authority() == request.authority
            && entry.scheme_name() == request.scheme
            && request.path.starts_with(&format!("{}/", entry.prefix()))
    };
    assert!(config.azure_devops.iter().any(|entry| is_its(&entry)), "not a configured place: {url}");
    let plain = authorization.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
    let plain = plain.map_or(authorization.into(), |bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(plain.contains(TOKEN), "a call to Azure DevOps has the check's token");
    assert_no_secret("a call to Azure DevOps", &plain, &[API_TOKEN, CREDENTIAL]);
}
