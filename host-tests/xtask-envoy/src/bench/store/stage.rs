//! An API server, the fakes, and Envoys that stand alone in a namespace.

use std::cell::Cell;
use std::path::Path;

use anyhow::{Context, Result};
use bench::scale::crowd;
use fakes::{Server, Status};
use host_tests::Envoy;
use host_tests::scene::{Pipeline, now_ms};
use kubernetes::{Account, ApiServer};
use serde_json::json;
use tempfile::TempDir;

use crate::chaos::deliveries::TOKEN;
use crate::chaos::peers::Peers;
use crate::chaos::replicas::{Replicas, setup, volume};
use crate::demo::Programs;

/// The processes that stand alone have numbers that no replica has.
const ALONE: usize = 1_000;

/// More checks than any row has at once.
const ROOM: u32 = 10_000;

/// All that the rows share.
pub(super) struct Stage<'a> {
    programs: &'a Programs,
    pub(super) server: ApiServer,
    pub(super) peers: Peers,
    checks: Cell<usize>,
    alone: Cell<usize>,
}

/// An Envoy alone in its namespace.
pub(super) struct Alone {
    // Envoy must end before the server that it talks to.
    pub(super) envoy: Envoy,
    /// Of its namespace.
    pub(super) account: Account,
    _azure: Server,
    _volume: TempDir,
}

impl<'a> Stage<'a> {
    pub(super) fn open(programs: &'a Programs, api_server: &Path) -> Result<Stage<'a>> {
        Ok(Stage {
            programs,
            server: ApiServer::start(api_server)?,
            peers: Peers::start()?,
            checks: Cell::default(),
            alone: Cell::default(),
        })
    }

    pub(super) fn close(self) -> Result<()> {
        self.server.stop()
    }

    /// Three replicas.
    pub(super) fn replicas(&self) -> Result<Replicas<'_>> {
        Replicas::start(self.programs, &self.server, &self.peers)
    }

    /// Starts an Envoy in a namespace of its own, with the store or without.
    pub(super) fn alone(&self, has_store: bool) -> Result<Alone> {
        let n = self.alone.replace(self.alone.get() + 1);
        let account = self.server.account(&format!("bench-{n}"))?;
        let volume = volume(&self.server, &account)?;
        let azure = self.peers.azure_for(ALONE + n)?;
        let store = match has_store {
            true => json!({ "kubernetes": { "namespace": account.namespace } }),
            false => json!(null),
        };
        let setup = setup(self.programs, &self.server, &self.peers, volume.path())?
            .azure_devops(azure.addr())
            .environment("POD_NAME", &format!("alone-{n}"))
            .room_for(ROOM)
            .plugin(json!({ "store": store }));
        let envoy = Envoy::start(&setup).context("an Envoy alone")?;
        Ok(Alone { envoy, account, _azure: azure, _volume: volume })
    }

    /// A run of the pipeline that no other row has. `ends`: when its execution, which runs already, passes; `None`: there is none.
    pub(super) fn pipeline(&self, ends: Option<i64>) -> Result<Pipeline> {
        let run = crowd::pipeline(self.checks.replace(self.checks.get() + 1), TOKEN)?;
        let now = now_ms();
        // The run began before its tests.
        self.peers.azure().start_check(now - 1_000, run.spec.clone());
        if let Some(ends) = ends {
            let execution = crowd::running(&run.tag, now).at(ends, Status::Passed);
            self.peers.testkube().fake.add(execution);
        }
        Ok(run)
    }

    /// When the decisions of these plans were taken, in Unix milliseconds; `None` while one of them is missing.
    pub(super) fn decided(&self, plans: &[String]) -> Option<Vec<i64>> {
        let sent = self.peers.sent();
        let at = |plan: &String| sent.iter().find(|sent| sent.plan == *plan && sent.accepted);
        plans.iter().map(|plan| Some(at(plan)?.at)).collect()
    }
}

impl Alone {
    /// Calls to the API server so far.
    pub(super) fn calls(&self) -> Result<u64> {
        calls(&self.envoy)
    }
}

/// An Envoy's calls to the API server so far.
pub(super) fn calls(envoy: &Envoy) -> Result<u64> {
    envoy.stat("cluster.kubernetes.upstream_rq_total")
}
