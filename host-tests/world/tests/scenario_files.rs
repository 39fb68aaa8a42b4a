//! The stories of `host-tests/scenarios`, told to the simulated Envoy. A real one hears the same.

use anyhow::{Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fakes::{AzureDevOps, Build, Request, Testkube};
use scenarios::format::{By, Cluster, Credential, Outage};
use scenarios::{Host, Outgoing, Run, Scenario, merge};
use serde_json::Value;
use std::collections::BTreeMap;
use world::*;

const COUNTERS: [&str; 21] = [
    "testrelay_checks_accepted",
    "testrelay_checks_rejected",
    "testrelay_checks_repeated",
    "testrelay_checks_refused",
    "testrelay_delivered_succeeded",
    "testrelay_delivered_failed",
    "testrelay_delivered_inconclusive",
    "testrelay_delivered_rejected",
    "testrelay_undelivered",
    "testrelay_testkube_faults",
    "testrelay_azure_faults",
    "testrelay_leader_falls",
    "testrelay_logs_lost",
    "testrelay_open_gates",
    "testrelay_observed",
    "testrelay_hints",
    "testrelay_evaluated_pending",
    "testrelay_evaluated_succeeded",
    "testrelay_evaluated_failed",
    "testrelay_aborted",
    "testrelay_reruns",
];

#[test]
fn every_story_comes_out_in_the_simulated_envoy_as_it_is_written() -> Result<()> {
    let mut wrong = Vec::new();
    for (name, scenario) in scenarios::all()? {
        // Chance decides how long calls take and which thread is first.
        for seed in 0..5 {
            if let Err(error) =
                Simulated::start(&scenario, seed).and_then(|host| scenarios::tell(&scenario, host))
            {
                wrong.push(format!("{name} (seed {seed}): {}\n{error:#}", scenario.shows));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{} stories came out otherwise:\n\n{}", wrong.len(), wrong.join("\n\n"));
    Ok(())
}

struct Simulated {
    world: World,
    plugin: Value,
    runs: BTreeMap<u32, Pipeline>,
    kept: BTreeMap<String, u64>,
}

impl Simulated {
    fn start(scenario: &Scenario, seed: u64) -> Result<Box<dyn Host>> {
        let envoy = &scenario.envoy;
        let mut plugin: Value = serde_json::from_str(&configuration(0))?;
        merge(&mut plugin, &envoy.plugin);
        let setup = Setup {
            drain: envoy.drain_time * MILLISECOND,
            stream_idle_timeout: envoy.stream_idle_timeout * MILLISECOND,
            buffer_limit: envoy.buffer_limit,
            allow_on_headers_stop_iteration: envoy.allow_on_headers_stop_iteration,
            configuration: plugin.to_string(),
            ..Setup::new(seed)
        };
        let mut world = setup.start()?;
        if envoy.test_hooks {
            world.poison("\"name\":\"trap-the-reader");
        }
        if let Some(cluster) = envoy.refuses {
            world.network(name_of(cluster), failing(Way::Refused));
        }
        Ok(Box::new(Simulated { world, plugin, runs: BTreeMap::new(), kept: BTreeMap::new() }))
    }
}

impl Host for Simulated {
    fn run(&mut self, number: u32) -> Result<Run> {
        let pipeline = self.world.pipeline(number);
        let began = self.world.wall() - 60_000;
        self.world.azure(|azure| azure.add_build(Build::new(PROJECT, pipeline.build).started_at(began)));
        let run = Run { spec: pipeline.spec(), tag: pipeline.tag.clone() };
        self.runs.insert(number, pipeline);
        Ok(run)
    }

    fn another_token(&mut self, number: u32) -> Result<Run> {
        let Some(pipeline) = self.runs.get_mut(&number) else { bail!("no run {number}") };
        self.world.another_delivery(pipeline);
        Ok(Run { spec: pipeline.spec(), tag: pipeline.tag.clone() })
    }

    fn authorization(&self, of: Credential) -> Option<String> {
        let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("testrelay:{password}")));
        match of {
            Credential::None => None,
            Credential::Checks => Some(basic(&format!("password-{MARK}-91c4"))),
            Credential::Artifacts => Some(format!("Bearer bearer-{MARK}-5b0e")),
            Credential::Wrong => Some(basic("another")),
        }
    }

    fn send(&mut self, outgoing: Outgoing) -> Result<u64> {
        if let Some(pipeline) = outgoing.delivers.and_then(|run| self.runs.get(&run)) {
            self.world.note_delivery(pipeline);
        }
        let mut request = Request::new(&outgoing.method, &outgoing.target);
        // The real host finds its requests in the access log by this.
        request = request.header("x-story", "0");
        for (name, value) in &outgoing.headers {
            request = request.header(name, value);
        }
        if !outgoing.body.is_empty() {
            let length: usize = outgoing.body.iter().map(|(_, piece)| piece.len()).sum();
            request = request.header("content-length", &length.to_string());
        }
        let chunks = outgoing.body.into_iter().map(|(after, piece)| (after * MILLISECOND, piece)).collect();
        let earlier = outgoing.connection.as_ref().and_then(|name| self.kept.get(name)).copied();
        let number = match earlier {
            Some(earlier) => self.world.send_after(earlier, request),
            None => Some(self.world.send_in_pieces(LISTENER, request, chunks)),
        };
        let Some(number) = number else { bail!("the kept connection is gone") };
        self.kept.extend(outgoing.connection.map(|name| (name, number)));
        Ok(number)
    }

    fn answer(&mut self, request: u64) -> Result<Option<scenarios::Answer>> {
        let Some(answer) = self.world.answer(request) else { return Ok(None) };
        let by = match answer.by {
            world::By::Module => By::Module,
            world::By::Envoy => By::Envoy,
            world::By::Upstream => By::Testkube,
            world::By::Nobody => bail!("the client had gone"),
        };
        Ok(Some(scenarios::Answer { status: answer.status, by, headers: answer.headers, body: answer.body }))
    }

    fn pass(&mut self, milliseconds: u64) {
        self.world.pass(milliseconds * MILLISECOND);
    }

    fn wall(&self) -> i64 {
        self.world.wall()
    }

    fn testkube(&self, then: &mut dyn FnMut(&mut Testkube)) {
        self.world.testkube(then);
    }

    fn azure_devops(&self, then: &mut dyn FnMut(&mut AzureDevOps)) {
        self.world.azure(then);
    }

    fn outage(&mut self, cluster: Cluster, way: Option<Outage>) {
        let rule = match way {
            None => Rule::default(),
            Some(Outage::Closed) => failing(Way::NoConnection),
            Some(Outage::Silent) => failing(Way::LostRequest),
        };
        self.world.network(name_of(cluster), rule);
    }

    fn reload(&mut self, patch: &Value) -> Result<bool> {
        let mut plugin = self.plugin.clone();
        merge(&mut plugin, patch);
        let taken = self.world.reload(&plugin.to_string())?;
        // By then real Envoys have applied the change on each thread.
        self.world.pass(100 * MILLISECOND);
        Ok(taken)
    }

    fn trap(&mut self) -> Result<scenarios::Answer> {
        self.world.trap(1, TrapAt::NextCallback);
        let number = self.world.send(Request::new("GET", "/test-hooks/trap"));
        self.world.wait(number);
        self.answer(number)?.ok_or_else(|| anyhow::anyhow!("no answer"))
    }

    fn log(&self) -> String {
        self.world.log().join("\n")
    }

    fn counters(&mut self) -> Result<BTreeMap<String, u64>> {
        let of = |name: &&str| Ok((name.to_string(), u64::try_from(self.world.metric(name))?));
        COUNTERS.iter().map(of).collect()
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let violations = self.world.violations();
        ensure!(violations.is_empty(), "{violations:?}");
        Ok(())
    }
}

fn name_of(cluster: Cluster) -> &'static str {
    match cluster {
        Cluster::Testkube => "testkube",
        Cluster::AzureDevops => "azure-devops",
    }
}

fn failing(way: Way) -> Rule {
    Rule { fails: 1, ways: vec![way], ..Rule::default() }
}
