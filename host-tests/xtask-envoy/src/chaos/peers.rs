//! A Testkube and an Azure DevOps that answer late, and which process sent which event.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use bench::scale::late::{Fake, Late};
use fakes::{AzureDevOps, Database, Identity, Recorded, Reply, Request, Server, Service, Testkube};
use serde_json::Value;
use tempfile::TempDir;

/// An event with a decision, as Azure DevOps got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    /// When, in Unix milliseconds.
    pub(crate) at: i64,
    /// The number of the process that sent it.
    pub(crate) process: usize,
    /// The check's PlanId.
    pub(crate) plan: String,
    /// `succeeded` or `failed`.
    pub(crate) result: String,
    /// Whether it took effect.
    pub(crate) accepted: bool,
}

/// Both fakes.
pub(crate) struct Peers {
    testkube: Arc<Mutex<Late<Testkube>>>,
    azure: Arc<Mutex<AzureDevOps>>,
    sent: Arc<Mutex<Vec<Sent>>>,
    testkube_server: Server,
    identity: Identity,
    ca: PathBuf,
    _folder: TempDir,
}

impl Peers {
    /// Starts Testkube; Azure DevOps listens for each process by itself.
    pub(crate) fn start() -> Result<Peers> {
        let identity = Identity::for_names(&["dev.azure.com"])?;
        let folder = tempfile::tempdir()?;
        let ca = folder.path().join("azure-devops-ca.pem");
        std::fs::write(&ca, identity.ca_pem())?;
        let testkube = Arc::new(Mutex::new(Late::new(Testkube::new(Database::Postgres))));
        Ok(Peers {
            testkube_server: Server::start(testkube.clone())?,
            testkube,
            azure: Arc::new(Mutex::new(AzureDevOps::new("/fabrikam"))),
            sent: Arc::default(),
            identity,
            ca,
            _folder: folder,
        })
    }

    /// Where the Azure DevOps listens for one process, which is known by that.
    pub(crate) fn azure_for(&self, process: usize) -> Result<Server> {
        let tap = Tap { azure: self.azure.clone(), sent: self.sent.clone(), process };
        Server::start_tls(Arc::new(Mutex::new(Late::new(tap))), &self.identity)
    }

    /// Where Testkube listens.
    pub(crate) fn testkube_address(&self) -> std::net::SocketAddr {
        self.testkube_server.addr()
    }

    /// The authority of Azure DevOps's certificate.
    pub(crate) fn ca(&self) -> &Path {
        &self.ca
    }

    /// The Testkube, locked.
    pub(crate) fn testkube(&self) -> MutexGuard<'_, Late<Testkube>> {
        locked(&self.testkube)
    }

    /// The Azure DevOps, locked.
    pub(crate) fn azure(&self) -> MutexGuard<'_, AzureDevOps> {
        locked(&self.azure)
    }

    /// The events so far, locked, oldest first.
    pub(crate) fn sent(&self) -> MutexGuard<'_, Vec<Sent>> {
        locked(&self.sent)
    }
}

/// A lock that a panic elsewhere does not spoil.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One process's way to the Azure DevOps that all share.
struct Tap {
    azure: Arc<Mutex<AzureDevOps>>,
    sent: Arc<Mutex<Vec<Sent>>>,
    process: usize,
}

impl Service for Tap {
    fn handle(&mut self, now: i64, request: &Request) -> Reply {
        let mut azure = locked(&self.azure);
        let reply = azure.handle(now, request);
        if let Some((plan, result)) = decision(request) {
            let accepted = reply.status() == Some(204);
            locked(&self.sent).push(Sent { at: now, process: self.process, plan, result, accepted });
        }
        reply
    }
}

impl Fake for Tap {
    fn take(&mut self) -> Vec<Recorded> {
        locked(&self.azure).take_requests()
    }
}

/// PlanId and result of a request that brings a decision.
fn decision(request: &Request) -> Option<(String, String)> {
    let (_, rest) = request.path().split_once("/plans/")?;
    let plan = rest.strip_suffix("/events").filter(|_| request.method == "POST")?;
    let event: Value = serde_json::from_slice(&request.body).ok()?;
    (event["name"] == "TaskCompleted").then_some(())?;
    Some((plan.to_owned(), event["result"].as_str()?.to_owned()))
}
