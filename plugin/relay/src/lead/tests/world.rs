//! Contexts, a store, both fakes, a network with delays, and a manual clock.

mod listed;

use crate::backoff::Random;
use crate::check::Counter;
use crate::check::{self, State};
use crate::config::Config;
use crate::lead::{Lead, Output};
use crate::store::ledger::memory::Memory;
use crate::store::ledger::{Bucket, Cas, Change, Ledger};
use crate::surface::accept;
use crate::surface::hint;
use crate::time::{Mono, Now, Wall};
use crate::wire::call::served::{outcome_of, request_of};
use crate::wire::call::{CallId, CallOutcome, Fault, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fakes::{
    AzureDevOps, Build, CheckSpec, Database, Execution, Service, Stage, Status, Testkube, execution,
};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

pub(super) const PROJECT: &str = "69f48e94-bdb4-42d7-a560-0f2b54f91cc8";
pub(super) const START: i64 = 1_769_186_640_000;
/// The identity that Envoy adds to calls through the fallback cluster.
pub(super) const IDENTITY: &str = "identity-of-envoy";
const PREFIX: &str = "testrelay/1/t/";

pub(super) struct World {
    pub(super) now: Now,
    pub(super) testkube: Testkube,
    pub(super) azure: AzureDevOps,
    store: Memory,
    contexts: Vec<Context>,
    random: Random,
    counts: Vec<Counter>,
    /// The context that hints wake.
    listener: Option<usize>,
    /// The credentials and the rest of the configuration.
    more: &'static str,
    has_fallback: bool,
    /// Calls through the fallback cluster: method and path.
    pub(super) by_fallback: Vec<String>,
}

struct Context {
    lead: Lead,
    /// Answers under way: time, call, outcome.
    arriving: BTreeMap<(u64, u64), (CallId, CallOutcome)>,
}

/// A run of a pipeline.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) n: u32,
    pub(super) tag: String,
    pub(super) token: String,
}

/// The result and the log that Azure DevOps got for a run.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) result: String,
    /// Milliseconds since the world began.
    pub(super) after: i64,
    pub(super) log: String,
}

impl Run {
    pub(super) fn new(n: u32) -> Run {
        Run { n, tag: format!("shop-{}", 4_000 + n), token: format!("token-{n}") }
    }

    pub(super) fn spec(&self) -> CheckSpec {
        let guid = |kind: u32| format!("{:08x}-{kind:04x}-5000-8000-000000000001", self.n);
        CheckSpec {
            project: PROJECT.into(),
            hub: "checks".into(),
            plan: guid(1),
            job: guid(2),
            timeline: guid(1),
            task: guid(3),
            token: self.token.clone(),
            build: Some(self.build()),
        }
    }

    pub(super) fn build(&self) -> u64 {
        4_000 + u64::from(self.n)
    }

    /// The headers of its check's delivery, with more or other ones.
    pub(super) fn headers(&self, more: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (spec, build) = (self.spec(), self.build().to_string());
        let mut fields = BTreeMap::from([
            ("planurl", "https://dev.azure.com/fabrikam/"),
            ("projectid", PROJECT),
            ("hubname", "checks"),
            ("planid", &spec.plan),
            ("jobid", &spec.job),
            ("timelineid", &spec.timeline),
            ("taskinstanceid", &spec.task),
            ("authtoken", &self.token),
            ("buildid", &build),
            ("testrelay-tag", &self.tag),
            ("authorization", "Bearer a-secret-of-tests"),
        ]);
        fields.extend(more.iter().copied());
        let bytes = |text: &str| text.as_bytes().to_vec();
        fields.iter().map(|(name, value)| (bytes(name), bytes(value))).collect()
    }
}

impl World {
    pub(super) fn new() -> World {
        World::seeded(1)
    }

    fn seeded(seed: u64) -> World {
        let mut world = World {
            now: Now { mono: Mono(1_000_000), wall: Wall(START) },
            testkube: Testkube::new(Database::Postgres),
            azure: AzureDevOps::new("/fabrikam"),
            store: Memory::default(),
            contexts: Vec::new(),
            random: Random::new(seed),
            counts: Vec::new(),
            listener: None,
            more: r#""insecure_no_auth": true"#,
            has_fallback: false,
            by_fallback: Vec::new(),
        };
        world.contexts(1);
        world
    }

    /// A world with another configuration.
    pub(super) fn configured(more: &'static str) -> World {
        let mut world = World { more, ..World::new() };
        world.contexts.clear();
        world.contexts(1);
        world
    }

    /// A world with the maximum limit of pending checks per project.
    pub(super) fn roomy() -> World {
        World::configured(r#""insecure_no_auth": true, "checks": {"max_pending_per_project": 16384}"#)
    }

    /// A world with a fallback identity, and a credential for checks.
    pub(super) fn with_fallback() -> World {
        const CREDENTIAL: &str =
            r#""credentials": [{"name": "a", "kind": "bearer", "secret_env": "S", "allow": ["checks"]}]"#;
        let mut world = World { more: CREDENTIAL, has_fallback: true, ..World::new() };
        world.azure.know_identity(IDENTITY);
        world.contexts.clear();
        world.contexts(1);
        world
    }

    /// Creates `n` contexts of the present configuration.
    pub(super) fn contexts(&mut self, n: usize) {
        while self.contexts.len() < n {
            let context = self.context();
            self.contexts.push(context);
        }
    }

    fn config(&self) -> Rc<Config> {
        let more = self.more;
        let fallback =
            if self.has_fallback { r#", "fallback_cluster": "azure-devops-fallback""# } else { "" };
        let text = format!(
            r#"{{"testkube": {{"cluster": "testkube"}}, {more}, "instance": "g0",
                "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops"{fallback}}}]}}"#
        );
        Rc::new(Config::parse(text.as_bytes(), &|_| Some("a-secret-of-tests".into())).unwrap())
    }

    fn context(&mut self) -> Context {
        let lead = Lead::new(self.config(), ledger(), self.random.draw(), self.now.mono);
        Context { lead, arriving: BTreeMap::new() }
    }

    pub(super) fn wall(&self) -> i64 {
        self.now.wall.0
    }

    /// The wall time at `after` milliseconds since the world began.
    pub(super) fn at(&self, after: i64) -> i64 {
        START + after
    }

    pub(super) fn run(&mut self, n: u32) -> Run {
        let run = Run::new(n);
        self.azure.add_build(Build::new(PROJECT, run.build()).started_at(START - 10 * 60_000));
        self.azure.start_check(self.wall(), run.spec());
        run
    }

    /// A run whose only execution has passed.
    pub(super) fn passing(&mut self, n: u32) -> Run {
        let run = self.run(n);
        self.testkube.add(self.tagged(&run, "a").at(START, Status::Passed));
        run
    }

    pub(super) fn stage(&mut self, run: &Run, attempt: u32, after: i64) {
        let stage = |attempt, after| Stage {
            name: "Test".into(),
            identifier: "test".into(),
            attempt,
            start_time: Some(START + after),
        };
        let mut build = Build::new(PROJECT, run.build()).started_at(START - 40 * 60_000);
        for earlier in 1..attempt {
            build = build.stage(stage(earlier, -30 * 60_000));
        }
        self.azure.add_build(build.stage(stage(attempt, after)));
    }

    pub(super) fn tagged(&self, run: &Run, workflow: &str) -> Execution {
        execution(workflow).tag("ado-run", &run.tag)
    }

    /// A token that states its own end.
    pub(super) fn jwt(&self, after: i64) -> String {
        let claims = format!(r#"{{"exp":{}}}"#, (self.wall() + after) / 1_000);
        format!("eyJhbGciOiJub25lIn0.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    /// Delivers a check. Returns the answer's status.
    pub(super) fn check(&mut self, run: &Run, more: &[(&str, &str)]) -> u16 {
        let headers = run.headers(more);
        accept::accept(&self.config(), &ledger(), &mut self.store, self.now, &headers, None).0.status
    }

    /// Sends Testkube's webhook about an execution of this run. The wake-up may be lost.
    pub(super) fn hint(&mut self, run: &Run, wakes: bool) {
        let body = format!(r#"{{"testWorkflowExecution": {{"tags": {{"ado-run": "{}"}}}}}}"#, run.tag);
        let config = self.config();
        let (reply, taken) =
            hint::take::<Vec<u8>>(&config, PREFIX, &mut self.store, self.now, &[], body.as_bytes());
        assert_eq!(reply.status, 202);
        if let (true, true, Some(i)) = (taken, wakes, self.listener) {
            let outputs = self.contexts[i].lead.wake(self.now, &mut self.store);
            self.perform(i, outputs);
        }
    }

    /// Number of calls for results of tests that are under way.
    pub(super) fn results_under_way(&self) -> usize {
        self.contexts.iter().map(|context| context.lead.results_under_way()).sum()
    }

    /// Lets these checks, which the leader does not know, wait for room for results.
    pub(super) fn queue_for_results(&mut self, runs: impl IntoIterator<Item = Run>) {
        let lead = &mut self.contexts[0].lead;
        for run in runs {
            let project = crate::guid::Guid::parse(PROJECT).unwrap();
            let lane = ("https://dev.azure.com/fabrikam".to_string(), project);
            lead.calls.enqueue(check::Room::Results, lane, key_of(&run));
        }
    }

    /// Number of requests for the executions of a tag.
    pub(super) fn lists(&self) -> usize {
        self.testkube.requests().iter().filter(|r| r.request.target.contains("tagSelector=")).count()
    }

    /// From now on shared data refuses every change of a check, or none.
    pub(super) fn refuse_changes(&mut self, refuses: bool) {
        self.store.rival = refuses.then_some(|keys, write| {
            for (_, entry) in keys.iter_mut().filter(|(key, _)| key.contains("/checks/")) {
                entry.cas = Cas(0x8000_0000 | write);
            }
        });
    }

    /// Lets time pass: ticks each second, answers when they arrive.
    pub(super) fn pass(&mut self, ms: i64) {
        let end = self.now.mono.plus(Duration::from_millis(u64::try_from(ms).unwrap()));
        while self.now.mono < end {
            let step = Duration::from_millis(1_000 - self.now.mono.0 % 1_000).min(end.since(self.now.mono));
            self.step(step);
        }
    }

    /// Goes forward by less than a tick, delivering answers on the way, then ticks if a whole second was reached.
    fn step(&mut self, step: Duration) {
        let until = self.now.mono.plus(step);
        while let Some((i, key)) = self.next_arrival(until) {
            self.advance_to(Mono(key.0));
            let Some((id, outcome)) = self.contexts[i].arriving.remove(&key) else { continue };
            let outputs = self.contexts[i].lead.answer(self.now, &mut self.store, id, &outcome);
            self.perform(i, outputs);
        }
        self.advance_to(until);
        if until.0.is_multiple_of(1_000) {
            for i in 0..self.contexts.len() {
                let outputs = self.contexts[i].lead.tick(self.now, &mut self.store);
                self.perform(i, outputs);
            }
        }
    }

    fn next_arrival(&self, until: Mono) -> Option<(usize, (u64, u64))> {
        let firsts = self.contexts.iter().map(|context| context.arriving.keys().next().copied()).enumerate();
        let due = firsts.filter_map(|(i, key)| Some((i, key?))).filter(|(_, key)| key.0 <= until.0);
        due.min_by_key(|(_, key)| *key)
    }

    fn advance_to(&mut self, mono: Mono) {
        let ms = i64::try_from(mono.0 - self.now.mono.0).unwrap();
        self.now = Now { mono, wall: Wall(self.now.wall.0 + ms) };
    }

    fn perform(&mut self, i: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Count(counter) => self.counts.push(counter),
                Output::Listen => self.listener = Some(i),
                Output::Call(id, request) => {
                    // What else happens does not depend on whether there is one.
                    let chance =
                        |random: &mut Random| if is_preflight(&request) { id.0 } else { random.draw() };
                    let delay = 5 + chance(&mut self.random) % 80;
                    let (wait, outcome) = self.send(&request);
                    let at = self.now.mono.0 + delay + wait;
                    self.contexts[i].arriving.insert((at, chance(&mut self.random)), (id, outcome));
                }
            }
        }
    }

    /// A request takes effect at once; its answer comes later.
    fn send(&mut self, request: &Request) -> (u64, CallOutcome) {
        let wire = request_of(request);
        let now = self.wall();
        let reply = match request.cluster.as_str() {
            "testkube" => self.testkube.handle(now, &wire),
            "azure-devops" => self.azure.handle(now, &wire),
            "azure-devops-fallback" => {
                assert!(!request.headers.iter().any(|(name, _)| *name == "authorization"), "a token too");
                if !is_preflight(request) {
                    self.by_fallback.push(format!("{} {}", request.method, request.path));
                }
                self.azure.handle(now, &wire.header("authorization", &format!("Bearer {IDENTITY}")))
            }
            other => return (0, CallOutcome::Failed(Fault::UnknownCluster(other.into()))),
        };
        outcome_of(request, reply)
    }

    /// The leader vanishes without giving up the lease; a new context takes its place.
    pub(super) fn crash_leader(&mut self) {
        if let Some(i) = (0..self.contexts.len()).find(|i| self.contexts[*i].lead.leading) {
            self.contexts[i] = self.context();
        }
    }

    pub(super) fn answered(&self, run: &Run) -> Answered {
        let plan = run.spec().plan;
        let event = self.azure.events(&plan).into_iter().find(|event| event.accepted);
        let event = event.unwrap_or_else(|| panic!("run {} was never answered", run.n));
        Answered {
            result: event.result.unwrap_or_default(),
            after: event.at - START,
            log: self.azure.log_lines(&plan).to_vec().join("\n"),
        }
    }

    pub(super) fn events_sent(&self) -> usize {
        self.azure.requests().iter().filter(|r| r.request.path().ends_with("/events")).count()
    }

    /// Changes the record as if a credential in observe mode had sent the check.
    pub(super) fn observe(&mut self, run: &Run) {
        for bucket in &mut self.buckets() {
            let keys: Vec<_> = bucket.records().map(|record| record.key).collect();
            for key in keys {
                let observed = bucket.update(&mut self.store, &key, |found| match found.cloned() {
                    Some(check::Record { key, state: State::Pending(mut pending) }) => {
                        pending.observe = pending.tokens.current().reveal() == run.token;
                        let state = State::Pending(pending);
                        Change::Put(Box::new(check::Record { key, state }), ())
                    }
                    _ => Change::Keep(()),
                });
                observed.unwrap();
            }
        }
    }

    /// Moves a check to where an older module of the same process keeps it.
    pub(super) fn as_an_older_module_kept_it(&mut self, run: &Run) {
        let key = key_of(run);
        let name = |home: &str, number| format!("{PREFIX}{home}/{number:03}");
        let own = name("checks", ledger().bucket_of(&key));
        let value = self.store.keys.remove(&own).unwrap().value;
        self.store.put(&name("pending", u16::try_from(key.hash() % 256).unwrap()), &value);
    }

    pub(super) fn counted(&self, counter: Counter) -> usize {
        self.counts.iter().filter(|counted| **counted == counter).count()
    }

    pub(super) fn delivered(&self, outcome: check::Outcome) -> usize {
        self.counts.iter().filter(|counter| **counter == Counter::Delivered(outcome)).count()
    }

    pub(super) fn records(&mut self) -> usize {
        self.buckets().iter().map(|bucket| bucket.records().count()).sum()
    }

    /// The last preflight, as `GET /v1/preflight` shows it.
    pub(super) fn preflight(&mut self) -> serde_json::Value {
        let value = &self.store.keys[&format!("{PREFIX}preflight")].value;
        serde_json::from_slice(&value[16..]).unwrap()
    }

    pub(super) fn nothing_pending(&mut self) -> bool {
        let buckets = self.buckets();
        buckets.iter().flat_map(Bucket::records).all(|record| matches!(record.state, State::Done(_)))
    }

    /// Number of counted places: of all credentials together, and of all projects.
    pub(super) fn places(&mut self) -> [u32; 2] {
        crate::store::places::counted(&mut self.store, &ledger()).map(|counts| counts.into_values().sum())
    }

    /// Changes all records as an older module does that knows no places and changes no counter.
    pub(super) fn forget_places(&mut self) {
        for bucket in &mut self.buckets() {
            let keys: Vec<_> = bucket.records().map(|record| record.key).collect();
            for key in keys {
                let forgotten = bucket.update(&mut self.store, &key, |found| match found.cloned() {
                    Some(check::Record { key, state: State::Pending(mut pending) }) => {
                        pending.place = check::Placed::Unnoted;
                        let state = State::Pending(pending);
                        Change::Put(Box::new(check::Record { key, state }), ())
                    }
                    _ => Change::Keep(()),
                });
                forgotten.unwrap();
            }
        }
    }

    /// Makes these keys look as if they had never been written.
    pub(super) fn forget_keys(&mut self, of: &str) {
        self.store.keys.retain(|key, _| !key.contains(of));
    }

    fn buckets(&mut self) -> Vec<Bucket> {
        let mut buckets = ledger().buckets();
        for bucket in &mut buckets {
            bucket.read(&mut self.store).unwrap();
        }
        buckets
    }
}

fn ledger() -> Ledger {
    Ledger::with_key(PREFIX, &[5; 16])
}

/// Whether a list request asks for this value of the tag.
pub(super) fn names(target: &str, value: &str) -> bool {
    target.contains(&format!("%3D{value}%2C")) || target.contains(&format!("%3D{value}&"))
}

/// Whether it is a preflight's, which is about no check.
fn is_preflight(request: &Request) -> bool {
    request.headers.iter().any(|(name, value)| *name == "user-agent" && value.ends_with(" (preflight)"))
}

fn key_of(run: &Run) -> check::CheckKey {
    let guid = |text: &str| crate::guid::Guid::parse(text).unwrap();
    let spec = run.spec();
    check::CheckKey { plan: guid(&spec.plan), job: guid(&spec.job), task: guid(&spec.task) }
}
