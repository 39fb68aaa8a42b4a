//! A Testkube, an Azure DevOps and a Kubernetes API server that behave like the real ones, the ugly parts included.
//!
//! Servers and certificates need the feature `server`, which is on by default; virtual time does not.
//!
//! All are state machines: a test describes a scenario, then passes requests together with the time, and gets the outcome
//! of each. They use no clock, no socket and no randomness, so the same scenario runs in virtual time and behind a real
//! listener.
//!
//! # In virtual time
//!
//! ```
//! use fakes::{Database, Request, Service, Status, Testkube, execution};
//!
//! let mut testkube = Testkube::new(Database::Postgres);
//! let id = testkube.add(
//!     execution("shop-e2e").tag("ado-run", "4711").at(1_000, Status::Running).at(61_000, Status::Passed),
//! );
//! let poll = Request::new("GET", "/v1/test-workflow-executions?tagSelector=ado-run%3D4711");
//! let reply = testkube.handle(30_000, &poll);
//! assert_eq!(reply.status(), Some(200));
//! assert_eq!(testkube.truth("ado-run", "4711", 61_000)[0].id, id);
//! ```
//!
//! # Behind a socket
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use fakes::azure::{Fault, Route};
//! use fakes::{AzureDevOps, CheckSpec, Server, Span};
//!
//! let mut azure = AzureDevOps::new("/fabrikam");
//! azure.start_check(0, CheckSpec {
//!     project: "69f48e94-bdb4-42d7-a560-0f2b54f91cc8".into(),
//!     hub: "checks".into(),
//!     plan: "67be341f-5310-552f-e0cd-7c580e77b98b".into(),
//!     job: "3a7e60dc-c5b0-5009-86eb-0f217c12e2ea".into(),
//!     timeline: "67be341f-5310-552f-e0cd-7c580e77b98b".into(),
//!     task: "61153303-347e-5f06-a6a1-ce2102bd68eb".into(),
//!     token: "secret".into(),
//!     build: Some(4711),
//! });
//! // The first decision takes effect, but its answer is lost.
//! azure.fault(Route::Events, Span::Next(1), Fault::ResetAfter);
//! let azure = Arc::new(Mutex::new(azure));
//! let server = Server::start(Arc::clone(&azure))?;
//! println!("PlanUrl: http://{}/fabrikam/", server.addr());
//! # anyhow::Ok(())
//! ```

pub mod azure;
mod delayed;
mod fault;
pub mod http;
pub mod kubernetes;
#[cfg(feature = "server")]
mod server;
pub mod testkube;
mod timestamp;
#[cfg(feature = "server")]
mod tls;

pub use azure::{AzureDevOps, Build, CheckSpec, Event, Stage};
pub use delayed::Delayed;
pub use fault::Span;
pub use http::{Recorded, Reply, Request, Response, Service};
pub use kubernetes::Kubernetes;
#[cfg(feature = "server")]
pub use server::Server;
pub use testkube::{Actor, Database, Execution, Status, Testkube, Truth, execution};
#[cfg(feature = "server")]
pub use tls::Identity;
