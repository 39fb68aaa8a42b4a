//! A real Kubernetes API server for tests: kube-apiserver and etcd on loopback, with RBAC, and without controllers, nodes or pods.
//!
//! ```no_run
//! use kubernetes::ApiServer;
//! use fakes::Request;
//!
//! fn main() -> anyhow::Result<()> {
//!     let Some(programs) = kubernetes::programs() else { return Ok(()) };
//!     let server = ApiServer::start(&programs)?;
//!     let account = server.account("testrelay")?;
//!     let answer = account.ask(&Request::new("GET", "/api/v1/namespaces/testrelay/secrets"))?;
//!     assert_eq!(answer.status, 200);
//!     server.stop()
//! }
//! ```
//!
//! `cargo xtask test kubernetes` sets the variable that names the programs, after it has built them.

mod client;
mod server;
mod setting;

pub use client::Client;
pub use server::ApiServer;
pub use setting::Account;

use std::path::PathBuf;

/// The folder with kube-apiserver and etcd, `KUBEBUILDER_ASSETS`, the convention of envtest; `None`: there is none here.
pub fn programs() -> Option<PathBuf> {
    let folder = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty())?;
    std::path::absolute(folder).ok()
}
