//! Replicas with one API server: each has a store, a leader and streams of its own; they live, die and lose calls.

pub(super) use super::super::world::Run;
use super::super::world::{PROJECT, START};
use crate::backoff::Random;
use crate::check::{Counter, State};
use crate::config::Config;
use crate::lead::{Lead, Output};
use crate::store::ledger::Ledger;
use crate::store::ledger::memory::Memory;
use crate::surface::accept::Acceptance;
use crate::surface::exchange::Step;
use crate::surface::listing::{self, Form, Listing};
use crate::time::{Mono, Now, Wall};
use crate::wire::call::served::{outcome_of, request_of};
use crate::wire::call::{CallId, CallOutcome, Fault, Request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fakes::kubernetes::{Kubernetes, Resource};
use fakes::{AzureDevOps, Build, Database, Execution, Service, Status, Testkube, execution};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

const PREFIX: &str = "testrelay/1/testrelay/";

pub(super) struct Replicas {
    /// Milliseconds since the world began.
    pub(super) now: u64,
    pub(super) testkube: Testkube,
    pub(super) azure: AzureDevOps,
    pub(super) server: Kubernetes,
    pub(super) processes: Vec<Process>,
    /// Requests on their way to a server, and answers on their way back.
    on_the_way: BTreeMap<(u64, u64), Traveller>,
    random: Random,
    last: u64,
    outage: &'static str,
    /// Members of the configuration besides those of the peers.
    more: &'static str,
    /// The keys of the processes that start from now on, as members of `store.kubernetes`, each after a comma.
    pub(super) seal: &'static str,
    /// Headers of each check besides those that it needs.
    pub(super) headers: &'static [(&'static str, &'static str)],
}

const OPEN: &str = r#""insecure_no_auth": true, "checks": {"max_pending_per_project": 16384}"#;

/// Who waits for an answer.
#[derive(Clone, Copy)]
enum Caller {
    Lead(CallId),
    Stream(usize),
}

enum Traveller {
    There(usize, Caller, Request),
    Back(usize, Caller, CallOutcome),
}

pub(super) struct Process {
    pub(super) store: Memory,
    config: Rc<Config>,
    lead: Lead,
    /// How far its monotonic clock is ahead of the world's, in milliseconds.
    base: u64,
    /// How far its wall clock is ahead, in milliseconds.
    pub(super) skew: i64,
    pub(super) is_alive: bool,
    /// Whether it reaches the API server.
    pub(super) is_connected: bool,
    streams: Vec<Stream>,
    pub(super) counts: Vec<Counter>,
}

struct Stream {
    acceptance: Option<Acceptance>,
    pause: Option<Mono>,
    status: Option<u16>,
}

impl Replicas {
    pub(super) fn new(replicas: usize) -> Replicas {
        Replicas::seeded(replicas, 7, "refuse")
    }

    pub(super) fn seeded(replicas: usize, seed: u64, outage: &'static str) -> Replicas {
        Replicas::made(replicas, seed, outage, OPEN)
    }

    /// Replicas with these members in their configuration.
    pub(super) fn configured(replicas: usize, more: &'static str) -> Replicas {
        Replicas::made(replicas, 7, "refuse", more)
    }

    fn made(replicas: usize, seed: u64, outage: &'static str, more: &'static str) -> Replicas {
        let mut world = Replicas {
            now: 0,
            testkube: Testkube::new(Database::Postgres),
            azure: AzureDevOps::new("/fabrikam"),
            server: Kubernetes::new("testrelay", "token-of-the-pods"),
            processes: Vec::new(),
            on_the_way: BTreeMap::new(),
            random: Random::new(seed),
            last: 0,
            outage,
            more,
            seal: "",
            headers: &[],
        };
        for n in 0..replicas {
            world.start(&format!("pod-{n}"));
        }
        world.pass(20_000);
        world
    }

    /// Gives the processes that start from now on other members in their configuration.
    pub(super) fn configure(&mut self, more: &'static str) {
        self.more = more;
    }

    /// Starts a process in the pod of this name.
    pub(super) fn start(&mut self, pod: &str) -> usize {
        let n = self.processes.len();
        let (outage, more, seal) = (self.outage, self.more, self.seal);
        let text = format!(
            r#"{{"testkube": {{"cluster": "testkube"}}, "instance": "testrelay", {more},
                "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops"}}],
                "store": {{"kubernetes": {{"cluster": "kubernetes", "namespace": "testrelay", "on_outage": "{outage}",
                           "replica_env": "POD_NAME", "token_env": "TOKEN"{seal}}}}}}}"#
        );
        let variable = |name: &str| match name {
            "POD_NAME" => Some(pod.to_owned()),
            "S" => Some("a-secret-of-tests".into()),
            "KEY_A" => Some("YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=".into()),
            "KEY_B" => Some("YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=".into()),
            _ => Some("token-of-the-pods".into()),
        };
        let config = Rc::new(Config::parse(text.as_bytes(), &variable).unwrap());
        let base = 1_000 + self.random.draw() % 100_000_000;
        let ledger = Ledger::with_key(PREFIX, &[n as u8; 16]);
        let lead = Lead::new(config.clone(), ledger, self.random.draw(), Mono(self.now + base));
        self.processes.push(Process {
            store: Memory::default(),
            config,
            lead,
            base,
            skew: (n as i64 % 3 - 1) * 300_000,
            is_alive: true,
            is_connected: true,
            streams: Vec::new(),
            counts: Vec::new(),
        });
        n
    }

    /// Kills a process. What it had sent may still arrive.
    pub(super) fn kill(&mut self, n: usize) {
        self.processes[n].is_alive = false;
        let random = &mut self.random;
        self.on_the_way.retain(|_, traveller| match traveller {
            Traveller::There(of, ..) if *of == n => random.draw().is_multiple_of(2),
            Traveller::Back(of, ..) => *of != n,
            Traveller::There(..) => true,
        });
    }

    /// A process's leader gives way to another one, as after a change of the configuration: to one with the store in this
    /// namespace.
    pub(super) fn lead_anew(&mut self, n: usize, namespace: &str) {
        let now = self.clock(n);
        let (seed, outage, more) = (self.random.draw(), self.outage, self.more);
        let process = &mut self.processes[n];
        let text = format!(
            r#"{{"testkube": {{"cluster": "testkube"}}, "instance": "testrelay", {more},
                "azure_devops": [{{"url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops"}}],
                "store": {{"kubernetes": {{"cluster": "kubernetes", "namespace": "{namespace}", "on_outage": "{outage}",
                           "replica_env": "POD_NAME", "token_env": "TOKEN"}}}}}}"#
        );
        let config = Config::parse(text.as_bytes(), &|_| Some("token-of-the-pods".into())).unwrap();
        process.lead.end(now, &mut process.store);
        process.config = Rc::new(config);
        let ledger = Ledger::with_key(PREFIX, &[n as u8; 16]);
        process.lead = Lead::new(process.config.clone(), ledger, seed, now.mono);
    }

    pub(super) fn wall(&self) -> i64 {
        START + self.now as i64
    }

    fn clock(&self, n: usize) -> Now {
        let process = &self.processes[n];
        Now { mono: Mono(self.now + process.base), wall: Wall(self.wall() + process.skew) }
    }

    /// A run whose execution ends `after` milliseconds from now.
    pub(super) fn run(&mut self, n: u32, after: i64, status: Status) -> Run {
        let run = Run::new(n);
        self.azure.add_build(Build::new(PROJECT, run.build()).started_at(self.wall() - 60_000));
        self.azure.start_check(self.wall(), run.spec());
        let tagged = execution("e2e").tag("ado-run", &run.tag);
        let tagged: Execution =
            tagged.at(self.wall() - 1_000, Status::Running).at(self.wall() + after, status);
        self.testkube.add(tagged);
        run
    }

    /// Delivers a check to a process. Returns the number of the request.
    pub(super) fn deliver(&mut self, n: usize, run: &Run) -> usize {
        let headers = run.headers(self.headers);
        let (now, number) = (self.clock(n), self.random.draw());
        let process = &mut self.processes[n];
        let ledger = Ledger::with_key(PREFIX, &[n as u8; 16]);
        let acceptance = Acceptance::new(&process.config, &ledger, now, &headers, None, number);
        let mut acceptance = acceptance.unwrap_or_else(|refusal| panic!("{}", refusal.body));
        let step = acceptance.begin(now, &mut process.store);
        let stream = process.streams.len();
        process.streams.push(Stream { acceptance: Some(acceptance), pause: None, status: None });
        self.go_on(n, stream, step);
        stream
    }

    /// Delivers a check and lets time pass until it is answered.
    pub(super) fn accept(&mut self, n: usize, run: &Run) -> u16 {
        let stream = self.deliver(n, run);
        for _ in 0..4_000 {
            if let Some(status) = self.processes[n].streams[stream].status {
                return status;
            }
            self.pass(5);
        }
        panic!("no answer in 20 s");
    }

    /// The answer to a request, if there is one yet.
    pub(super) fn status(&self, n: usize, stream: usize) -> Option<u16> {
        self.processes[n].streams[stream].status
    }

    fn go_on(&mut self, n: usize, stream: usize, step: Step) {
        let (now, waits) = (self.clock(n), &mut self.processes[n].streams[stream]);
        match step {
            Step::Reply(reply, _) => (waits.status, waits.acceptance) = (Some(reply.status), None),
            Step::Pause(until) => {
                assert!(until >= now.mono);
                waits.pause = Some(until);
            }
            Step::Call(calls) => {
                for (_, request) in calls {
                    self.send(n, Caller::Stream(stream), request);
                }
            }
            Step::Wait | Step::Forward(_) => panic!("an acceptance has one call under way"),
        }
    }

    fn later(&mut self, delay: u64, traveller: Traveller) {
        self.last += 1;
        self.on_the_way.insert((self.now + delay, self.last), traveller);
    }

    fn send(&mut self, n: usize, waits: Caller, request: Request) {
        let delay = 3 + self.random.draw() % 20;
        self.later(delay, Traveller::There(n, waits, request));
    }

    /// Lets time pass, 5 ms at a time.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 5;
            while let Some(first) = self.on_the_way.first_entry()
                && first.key().0 <= self.now
            {
                let traveller = first.remove();
                self.arrive(traveller);
            }
            for n in 0..self.processes.len() {
                if self.processes[n].is_alive && (self.now + 130 * n as u64).is_multiple_of(1_000) {
                    self.tick(n);
                }
            }
        }
    }

    fn tick(&mut self, n: usize) {
        let now = self.clock(n);
        for stream in 0..self.processes[n].streams.len() {
            let process = &mut self.processes[n];
            let waits = &mut process.streams[stream];
            if waits.pause.is_some_and(|until| until <= now.mono)
                && let Some(acceptance) = &mut waits.acceptance
            {
                waits.pause = None;
                let step = acceptance.try_again(now, &mut process.store);
                self.go_on(n, stream, step);
            }
        }
        let process = &mut self.processes[n];
        let outputs = process.lead.tick(now, &mut process.store);
        self.perform(n, outputs);
    }

    fn arrive(&mut self, traveller: Traveller) {
        match traveller {
            Traveller::There(n, waits, request) => {
                let (wait, outcome) = self.serve(n, &request);
                let delay = wait + 3 + self.random.draw() % 20;
                if self.processes[n].is_alive {
                    self.later(delay, Traveller::Back(n, waits, outcome));
                }
            }
            Traveller::Back(n, waits, outcome) => {
                let now = self.clock(n);
                let process = &mut self.processes[n];
                match waits {
                    Caller::Lead(id) => {
                        let outputs = process.lead.answer(now, &mut process.store, id, &outcome);
                        self.perform(n, outputs);
                    }
                    Caller::Stream(stream) => {
                        let Some(acceptance) = &mut process.streams[stream].acceptance else { return };
                        let step = acceptance.answer(now, &mut process.store, &outcome);
                        self.go_on(n, stream, step);
                    }
                }
            }
        }
    }

    fn serve(&mut self, n: usize, request: &Request) -> (u64, CallOutcome) {
        let now = self.wall();
        let wire = request_of(request);
        let reply = match request.cluster.as_str() {
            "testkube" => self.testkube.handle(now, &wire),
            "azure-devops" => self.azure.handle(now, &wire),
            _ if self.processes[n].is_connected => self.server.handle(now, &wire),
            _ => return (crate::time::millis(request.timeout), CallOutcome::Failed(Fault::NoAnswer)),
        };
        outcome_of(request, reply)
    }

    fn perform(&mut self, n: usize, outputs: Vec<Output>) {
        let mut outputs = VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Count(counter) => self.processes[n].counts.push(counter),
                Output::Listen => {}
                Output::Call(id, request) => self.send(n, Caller::Lead(id), request),
            }
        }
    }

    /// Lets a process drain.
    pub(super) fn drain(&mut self, n: usize) {
        let process = &mut self.processes[n];
        let headers: [(Vec<u8>, Vec<u8>); 0] = [];
        let reply = crate::surface::drain::begin(&process.config, &mut process.store, PREFIX, &headers);
        assert_eq!(reply.status, 202);
    }

    /// Testkube's event about a run's execution arrives at a process.
    pub(super) fn hint(&mut self, n: usize, run: &Run) {
        let now = self.clock(n);
        let process = &mut self.processes[n];
        let tag = crate::store::hints::fingerprint(&run.tag);
        assert!(crate::store::hints::add(&mut process.store, PREFIX, now.mono, tag).unwrap());
        let outputs = process.lead.wake(now, &mut process.store);
        self.perform(n, outputs);
    }

    /// What a process answers to a request for its list, or for the check with this id.
    pub(super) fn list(&mut self, n: usize, id: Option<&str>) -> (u16, Value) {
        let mut now = self.clock(n);
        let process = &mut self.processes[n];
        let headers = [(b"authorization".to_vec(), b"Bearer a-secret-of-tests".to_vec())];
        let listing = Listing::new(&process.config, PREFIX, &mut process.store, &headers, (id, Form::Json));
        let mut listing = listing.unwrap_or_else(|refusal| panic!("{}", refusal.body));
        let (mut step, began) = (listing.begin(now, &mut process.store), now.mono);
        loop {
            match step {
                Step::Call(calls) => {
                    let [(_, request)] = &calls[..] else { panic!("one call at a time") };
                    let (wait, outcome) = self.serve(n, request);
                    now.mono = now.mono.plus(Duration::from_millis(wait));
                    assert!(now.mono.since(began) < listing::GIVEN_UP, "nobody waits any more");
                    step = listing.answer(now, &mut self.processes[n].store, &outcome);
                }
                Step::Reply(reply, None) => {
                    return (reply.status, serde_json::from_str(&reply.body).unwrap());
                }
                _ => panic!("a list waits for its calls only"),
            }
        }
    }

    /// What a process answers to a probe.
    pub(super) fn ready(&mut self, n: usize) -> String {
        let now = self.clock(n);
        crate::surface::health::ready(&mut self.processes[n].store, PREFIX, now).body
    }

    /// The Secrets of checks.
    pub(super) fn secrets(&mut self) -> Vec<Value> {
        self.server.objects(self.wall(), Resource::Secrets, "testrelay")
    }

    /// Somebody changes the Secret of the only check, by its decoded record.
    pub(super) fn edit(&mut self, change: impl FnOnce(&str) -> String) {
        let mut secret = self.secrets()[0].clone();
        let record = &mut secret["data"]["record"];
        let text = String::from_utf8(STANDARD.decode(record.as_str().unwrap()).unwrap()).unwrap();
        *record = STANDARD.encode(change(&text)).into();
        let name = secret["metadata"]["name"].as_str().unwrap();
        let put = fakes::Request::new("PUT", &format!("/api/v1/namespaces/testrelay/secrets/{name}"));
        let now = self.wall();
        self.server.act(now, &put.body(secret.to_string()));
    }

    /// What was asked of the API server about a run's Secret, a line each.
    pub(super) fn story(&self, run: &Run) -> String {
        let mut story = String::new();
        for asked in self.server.requests() {
            let (request, plan) = (&asked.request, run.spec().plan);
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let is_post = request.method == "POST"
                && body["metadata"]["name"].as_str().is_some_and(|n| n.contains(&plan));
            if !is_post && !request.target.contains(&plan) {
                continue;
            }
            let owner = &body["metadata"]["labels"]["testrelay.dev/owner"];
            let (at, status) = (asked.at - START, asked.status);
            let version = &body["metadata"]["resourceVersion"];
            story += &format!("\n{at} {} {status:?} {owner} {version}", request.method);
        }
        story
    }

    pub(super) fn leases(&mut self) -> usize {
        self.server.objects(self.wall(), Resource::Leases, "testrelay").len()
    }

    /// The results of a run's events: accepted ones, and the number of all.
    pub(super) fn events(&self, run: &Run) -> (Vec<String>, usize) {
        let events = self.azure.events(&run.spec().plan);
        let all = events.len();
        (events.into_iter().filter(|event| event.accepted).filter_map(|event| event.result).collect(), all)
    }

    /// Number of records of a process that are pending.
    pub(super) fn pending(&mut self, n: usize) -> usize {
        let mut buckets = Ledger::with_key(PREFIX, &[n as u8; 16]).buckets();
        let store = &mut self.processes[n].store;
        buckets.iter_mut().for_each(|bucket| _ = bucket.read(store));
        let records = buckets.iter().flat_map(|bucket| bucket.records());
        records.filter(|record| matches!(record.state, State::Pending(_))).count()
    }

    pub(super) fn counted(&self, n: usize, counter: Counter) -> usize {
        self.processes[n].counts.iter().filter(|counted| **counted == counter).count()
    }
}
