//! Three Envoys with the shipped configuration of several replicas, each killed and started as often as is wanted.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use fakes::Server;
use host_tests::manifests::{Embedded, Form};
use host_tests::scene::now_ms;
use host_tests::{Envoy, Request, Setup};
use kubernetes::{Account, ApiServer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use super::peers::{Peers, locked};
use super::script::REPLICAS;
use crate::demo::Programs;

const REPLICAS_YAML: &str = include_str!("../../../../envoy/kubernetes/replicas/envoy.yaml");

/// What lets a replica drain.
const DRAIN: &str = "bearer-of-a-pod-that-ends-83b1f6c2";

/// The namespace that the shipped configuration names.
pub(crate) const NAMESPACE: &str = "testrelay-checks";

/// Where the process of each place listens; `None`: there is none.
pub(crate) type Addresses = Arc<Mutex<[Option<SocketAddr>; REPLICAS]>>;

/// All processes that ran, and those that run.
pub(crate) struct Replicas<'a> {
    peers: &'a Peers,
    setup: Setup,
    places: [Option<Replica>; REPLICAS],
    addresses: Addresses,
    /// How many pods each place had before its last one.
    pods: [u32; REPLICAS],
    /// By their numbers.
    ended: Vec<Ended>,
    started: usize,
    _volume: TempDir,
}

struct Replica {
    // Envoy must end before the server that it talks to.
    envoy: Envoy,
    _azure: Server,
    process: usize,
    pod: String,
}

/// A process that was killed.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Its number.
    pub(crate) process: usize,
    /// Its pod.
    pub(crate) pod: String,
    /// When it was killed, in Unix milliseconds; `None`: it ran to the end.
    pub(crate) killed: Option<i64>,
    /// Its log.
    pub(crate) log: String,
}

impl<'a> Replicas<'a> {
    /// The first process in each place.
    pub(crate) fn start(programs: &Programs, server: &ApiServer, peers: &'a Peers) -> Result<Replicas<'a>> {
        let account = server.account(NAMESPACE)?;
        let volume = volume(server, &account)?;
        let mut replicas = Replicas {
            peers,
            setup: setup(programs, server, peers, volume.path())?,
            places: Default::default(),
            addresses: Arc::default(),
            pods: [0; REPLICAS],
            ended: Vec::new(),
            started: 0,
            _volume: volume,
        };
        (0..REPLICAS).try_for_each(|place| replicas.start_one(place, true))?;
        Ok(replicas)
    }

    /// Starts a process in an empty place.
    pub(crate) fn start_one(&mut self, place: usize, same_pod: bool) -> Result<()> {
        self.pods[place] += u32::from(!same_pod);
        let pod = format!("testrelay-{place}-{}", self.pods[place]);
        let process = self.started;
        let azure = self.peers.azure_for(process)?;
        let setup = self.setup.clone().azure_devops(azure.addr()).environment("POD_NAME", &pod);
        let envoy = Envoy::start(&setup).with_context(|| format!("the Envoy of {pod}"))?;
        self.started += 1;
        locked(&self.addresses)[place] = Some(envoy.address());
        self.places[place] = Some(Replica { envoy, _azure: azure, process, pod });
        Ok(())
    }

    /// Kills the process of a place. It is an error if it has ended by itself.
    pub(crate) fn kill(&mut self, place: usize) -> Result<()> {
        let Some(replica) = self.places[place].take() else { return Ok(()) };
        let Replica { envoy, process, pod, .. } = &replica;
        envoy.stat("server.live").with_context(|| format!("the Envoy of {pod} has ended by itself"))?;
        let id = Pid::from_raw(i32::try_from(envoy.pid())?).context("a process id")?;
        kill_process(id, Signal::KILL)?;
        let killed = Some(now_ms());
        locked(&self.addresses)[place] = None;
        self.ended.push(Ended { process: *process, pod: pod.clone(), killed, log: envoy.log() });
        Ok(())
    }

    /// Lets a replica give its checks to the others.
    pub(crate) fn drain(&self, place: usize) -> Result<()> {
        let Some(Replica { envoy, pod, .. }) = &self.places[place] else { return Ok(()) };
        let answer = Request::post("/testrelay/v1/drain").bearer(DRAIN).send(envoy.address())?;
        let text = answer.text();
        ensure!(
            (answer.status, text.trim()) == (202, "draining"),
            "{pod} answered {}: {text}",
            answer.status
        );
        Ok(())
    }

    /// No more checks are sent to a place.
    pub(crate) fn leave(&self, place: usize) {
        locked(&self.addresses)[place] = None;
    }

    /// Ends the process of a place by SIGTERM. It is an error if it crashes, or has ended by itself.
    pub(crate) fn end(&mut self, place: usize) -> Result<()> {
        self.leave(place);
        let Some(Replica { envoy, process, pod, _azure }) = self.places[place].take() else { return Ok(()) };
        self.ended.push(Ended { process, pod, killed: None, log: envoy.log() });
        envoy.stop()
    }

    /// The pod in a place.
    pub(crate) fn pod(&self, place: usize) -> Option<&str> {
        self.places[place].as_ref().map(|replica| replica.pod.as_str())
    }
    /// The Envoy in a place.
    pub(crate) fn envoy(&self, place: usize) -> Option<&Envoy> {
        self.places[place].as_ref().map(|replica| &replica.envoy)
    }

    /// Where the process of each place listens, now and later.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    /// How many checks were adopted so far.
    pub(crate) fn adopted(&self) -> u64 {
        self.logs().iter().map(|log| adopted(log, "")).sum()
    }

    /// Of these, how many had been given up.
    pub(crate) fn taken_from_drained(&self) -> u64 {
        self.logs().iter().map(|log| adopted(log, "a replica that ends")).sum()
    }

    fn logs(&self) -> Vec<String> {
        let running = self.places.iter().flatten().map(|replica| replica.envoy.log());
        running.chain(self.ended.iter().map(|ended| ended.log.clone())).collect()
    }

    /// Stops those that run, and gives all logs away.
    pub(crate) fn stop(mut self) -> Result<Vec<Ended>> {
        for Replica { envoy, process, pod, _azure } in self.places.into_iter().flatten() {
            self.ended.push(Ended { process, pod, killed: None, log: envoy.log() });
            envoy.stop()?;
        }
        Ok(self.ended)
    }
}

/// What the volume of a pod has that uses this account.
pub(crate) fn volume(server: &ApiServer, account: &Account) -> Result<TempDir> {
    let volume = tempfile::tempdir()?;
    std::fs::write(volume.path().join("ca.crt"), server.authority())?;
    std::fs::write(volume.path().join("token"), &account.token)?;
    Ok(volume)
}

/// The shipped configuration of several replicas, with a credential for a drain.
pub(crate) fn setup(programs: &Programs, server: &ApiServer, peers: &Peers, volume: &Path) -> Result<Setup> {
    let form = Form::Bootstrap(serde_saphyr::from_str(REPLICAS_YAML)?);
    let shipped = Embedded { place: "envoy/kubernetes/replicas/envoy.yaml".into(), form };
    Ok(shipped
        .setup(&programs.wasm)?
        .envoy(&programs.envoy)
        .concurrency(1)
        .environment("TESTRELAY_DRAIN", DRAIN)
        .edit_plugin(|plugin| {
            let drain =
                json!({"name": "pod", "kind": "bearer", "secret_env": "TESTRELAY_DRAIN", "allow": ["drain"]});
            plugin["credentials"].as_array_mut().into_iter().for_each(|all| all.push(drain.clone()));
        })
        .testkube(peers.testkube_address())
        .trusted_ca(peers.ca())
        .kubernetes(server.address(), volume))
}

/// How many checks a process has adopted from those whom its log names so.
fn adopted(log: &str, from: &str) -> u64 {
    let lines = log.lines().filter_map(|line| line.split_once("adopted ")?.1.split_once(" checks of "));
    let lines = lines.filter(|(_, owner)| owner.starts_with(from));
    lines.filter_map(|(checks, _)| checks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn adoptions_are_read_from_the_log() {
        let log = "[wasm] wasm log: adopted 41 checks of replica 7c9f: its Lease has not changed for 20 s, or is gone\n\
                   [wasm] another line\n[wasm] wasm log: adopted 2 checks of a replica that ends\n";
        assert_eq!((super::adopted(log, ""), super::adopted(log, "a replica that ends")), (43, 2));
    }
}
