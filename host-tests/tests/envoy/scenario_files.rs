//! The stories of `host-tests/scenarios`, told to real Envoys, several at a time. The simulated one hears the same.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fakes::{AzureDevOps, Build, Testkube};
use host_tests::scene::{PROJECT, Scene, USER, now_ms};
use host_tests::wire::{Broken, Wire};
use host_tests::{BEARER, Connection, Envoy, PASSWORD, Reload, Request, Response, Setup, config, wait_for};
use scenarios::format::{By, Cluster, Credential, Outage};
use scenarios::{Answer, Host, Outgoing, Run, Scenario, merge};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many Envoys hear a story at the same time: they mostly wait.
const AT_A_TIME: usize = 6;

const SOON: Duration = Duration::from_secs(60);

/// What Envoy notes of an answer that a filter has made (`details` in the access log).
const BY_A_FILTER: [&str; 2] = ["-", ""];
const VIA_UPSTREAM: &str = "via_upstream";

#[test]
fn every_story_comes_out_in_a_real_envoy_as_it_is_written() -> Result<()> {
    let stories = scenarios::all()?;
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((name, story)) = stories.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let told = Real::start(story).and_then(|host| scenarios::tell(story, host));
                    println!("{name}: {:?}", began.elapsed());
                    if let Err(error) = told {
                        let text = format!("{name}: {}\n{error:#}", story.shows);
                        wrong.lock().expect("no story panics").push(text);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner()?;
    assert!(wrong.is_empty(), "{} stories came out otherwise:\n\n{}", wrong.len(), wrong.join("\n\n"));
    Ok(())
}

struct Real {
    scene: Scene,
    to_testkube: Wire,
    to_azure_devops: Wire,
    envoy: Envoy,
    plugin: Value,
    has_test_hooks: bool,
    runs: BTreeMap<u32, Run>,
    /// The answers to what was sent.
    sent: Vec<Receiver<Result<Response>>>,
    kept: BTreeMap<String, Arc<Mutex<Connection>>>,
}

impl Real {
    fn start(story: &Scenario) -> Result<Box<dyn Host>> {
        let told = story.envoy.clone();
        let scene = Scene::new()?;
        let to_testkube = Wire::to(scene.testkube_address())?;
        let to_azure_devops = Wire::to(scene.azure_address())?;
        let setup = if told.test_hooks { Setup::with_test_hooks()? } else { Setup::new()? };
        let setup = scene
            .wire(setup)
            .testkube(to_testkube.address())
            .azure_devops(to_azure_devops.address())
            .concurrency(1)
            .plugin(told.plugin.clone())
            .drain_time(Duration::from_millis(told.drain_time))
            .dynamic_listener();
        let setup =
            if told.allow_on_headers_stop_iteration { setup } else { setup.without_headers_stop_iteration() };
        let setup = setup.edit(move |bootstrap| {
            if let Some(cluster) = told.refuses {
                let name = if cluster == Cluster::Testkube { "testkube" } else { "azure-devops" };
                config::cluster(bootstrap, name)?["circuit_breakers"]["thresholds"] =
                    json!([{ "max_connections": 0, "max_pending_requests": 0, "max_requests": 0 }]);
            }
            let listener = config::listener(bootstrap)?;
            listener["per_connection_buffer_limit_bytes"] = json!(told.buffer_limit);
            let manager = config::connection_manager(listener)?;
            manager["stream_idle_timeout"] = json!(format!("{}s", told.stream_idle_timeout as f64 / 1e3));
            let log = config::at(manager, "/access_log/0/typed_config/log_format/json_format")?;
            log["story"] = json!("%REQ(X-STORY)%");
            Ok(())
        });
        let mut envoy = Envoy::start(&setup)?;
        let plugin = envoy.plugin()?;
        Ok(Box::new(Real {
            scene,
            to_testkube,
            to_azure_devops,
            envoy,
            plugin,
            has_test_hooks: story.envoy.test_hooks,
            runs: BTreeMap::new(),
            sent: Vec::new(),
            kept: BTreeMap::new(),
        }))
    }

    /// Who made an answer, by the access log.
    fn by(&self, request: u64) -> Result<By> {
        let is_of = |line: &Value| line["story"] == json!(request.to_string());
        let line = wait_for("a line of the access log", SOON, || {
            let log = self.envoy.access_log();
            log.lines().filter_map(|line| serde_json::from_str(line).ok()).find(is_of)
        })?;
        Ok(match line["details"].as_str().unwrap_or_default() {
            VIA_UPSTREAM => By::Testkube,
            details if BY_A_FILTER.contains(&details) => By::Module,
            _ => By::Envoy,
        })
    }
}

impl Host for Real {
    fn run(&mut self, number: u32) -> Result<Run> {
        let run = self.scene.pipeline(number);
        let build = Build::new(PROJECT, run.spec.build.context("a build")?).started_at(now_ms() - 60_000);
        self.scene.azure().add_build(build);
        let run = Run { spec: run.spec, tag: run.tag };
        self.runs.insert(number, run.clone());
        Ok(run)
    }

    fn another_token(&mut self, number: u32) -> Result<Run> {
        let run = self.runs.get_mut(&number).with_context(|| format!("no run {number}"))?;
        run.spec.token.push('x');
        self.scene.azure().start_check(now_ms(), run.spec.clone());
        Ok(run.clone())
    }

    fn authorization(&self, of: Credential) -> Option<String> {
        let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("{USER}:{password}")));
        match of {
            Credential::None => None,
            Credential::Checks => Some(basic(PASSWORD)),
            Credential::Artifacts => Some(format!("Bearer {BEARER}")),
            Credential::Wrong => Some(basic("another")),
        }
    }

    fn send(&mut self, outgoing: Outgoing) -> Result<u64> {
        let number = self.sent.len() as u64;
        let address = self.envoy.address();
        let connection = match &outgoing.connection {
            None => open(address)?,
            Some(name) => match self.kept.get(name) {
                Some(connection) => connection.clone(),
                None => {
                    let connection = open(address)?;
                    self.kept.insert(name.clone(), connection.clone());
                    connection
                }
            },
        };
        let (sender, answer) = channel();
        std::thread::spawn(move || {
            let answer = match connection.lock() {
                Ok(mut connection) => exchange(&mut connection, number, &outgoing),
                Err(_) => Err(anyhow::anyhow!("the request before on this connection has panicked")),
            };
            // Nobody waits for it any more where the story has ended.
            let _ = sender.send(answer);
        });
        self.sent.push(answer);
        Ok(number)
    }

    fn answer(&mut self, request: u64) -> Result<Option<Answer>> {
        let answer = self.sent.get(usize::try_from(request)?).context("no such request")?;
        let response = match answer.try_recv() {
            Ok(response) => response?,
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Disconnected) => bail!("it was answered before"),
        };
        let by = self.by(request)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let headers = response.headers.into_iter().map(|(name, value)| (name.to_lowercase(), text(value)));
        Ok(Some(Answer { status: response.status, by, headers: headers.collect(), body: response.body }))
    }

    fn pass(&mut self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }

    fn wall(&self) -> i64 {
        now_ms()
    }

    fn testkube(&self, then: &mut dyn FnMut(&mut Testkube)) {
        then(&mut self.scene.testkube());
    }

    fn azure_devops(&self, then: &mut dyn FnMut(&mut AzureDevOps)) {
        then(&mut self.scene.azure());
    }

    fn outage(&mut self, cluster: Cluster, way: Option<Outage>) {
        let wire = match cluster {
            Cluster::Testkube => &self.to_testkube,
            Cluster::AzureDevops => &self.to_azure_devops,
        };
        wire.set(way.map(|way| match way {
            Outage::Closed => Broken::Closed,
            Outage::Silent => Broken::Silent,
        }));
    }

    fn reload(&mut self, patch: &Value) -> Result<bool> {
        let mut plugin = self.plugin.clone();
        merge(&mut plugin, patch);
        Ok(self.envoy.reload(&plugin)? == Reload::Accepted)
    }

    fn trap(&mut self) -> Result<Answer> {
        let request = Outgoing {
            method: "GET".into(),
            target: "/test-hooks/trap".into(),
            headers: Vec::new(),
            body: Vec::new(),
            connection: None,
            delivers: None,
        };
        let number = self.send(request)?;
        let mut answer = None;
        wait_for("the answer to a trap", SOON, || {
            answer = self.answer(number).transpose();
            answer.is_some().then_some(())
        })?;
        answer.context("no answer")?
    }

    fn log(&self) -> String {
        self.envoy.log()
    }

    fn counters(&mut self) -> Result<BTreeMap<String, u64>> {
        let stats = self.envoy.stats()?;
        let own = stats.into_iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("wasmcustom.").filter(|name| name.starts_with("testrelay_"))?;
            // Stories name verdicts, and no reason codes.
            (!name.starts_with("testrelay_decided_")).then(|| (name.to_owned(), value))
        });
        Ok(own.collect())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let log = self.envoy.log();
        for secret in [PASSWORD, BEARER, "azure-token-"] {
            ensure!(self.has_test_hooks || !log.contains(secret), "{secret} is in the log");
        }
        self.envoy.stop()
    }
}

fn open(envoy: SocketAddr) -> Result<Arc<Mutex<Connection>>> {
    Ok(Arc::new(Mutex::new(Connection::open(envoy)?.timeout(SOON)?)))
}

/// Sends a request, its body in its pieces, and reads the answer. It may come before the whole body was sent.
fn exchange(connection: &mut Connection, number: u64, outgoing: &Outgoing) -> Result<Response> {
    let mut request = Request::new(&outgoing.method, &outgoing.target).header("x-story", number.to_string());
    for (name, value) in &outgoing.headers {
        request = request.header(name, value);
    }
    let pieces: Vec<&[u8]> = outgoing.body.iter().map(|(_, piece)| piece.as_slice()).collect();
    if outgoing.method == "POST" {
        request = request.body(pieces.concat());
    }
    connection.write(&request.head())?;
    for (pause, piece) in &outgoing.body {
        let answered = *pause > 0 && connection.is_answered_within(Duration::from_millis(*pause))?;
        // An error is a connection that was answered and closed meanwhile.
        if answered || connection.write(piece).is_err() {
            break;
        }
    }
    let (head, mut body) = connection.receive(&outgoing.method)?;
    Ok(Response { status: head.status, headers: head.headers, body: body.read_all()? })
}
