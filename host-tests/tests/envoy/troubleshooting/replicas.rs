//! Several replicas: the mistakes in `envoy/kubernetes/replicas` that Envoy or the module notices.

use super::*;
use crate::replicas::{Cluster, REPLICAS_YAML};
use fakes::kubernetes::{Quota, Verb};

pub(super) const MISTAKES: &[Mistake] = &[
    ("The role, or its binding, is missing", |scene, line| {
        let cluster = Cluster::start()?;
        for verb in Verb::NEEDED {
            cluster.kubernetes().forbid(&Cluster::account(), verb);
        }
        logged_at_the_start(cluster.wire(setup(scene, &bootstrap(REPLICAS_YAML)?)?), line)
    }),
    ("The address in `networkpolicy.yaml` is not the API server's", |scene, line| {
        let cluster = Cluster::start()?;
        let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        let setup = setup(scene, &bootstrap(REPLICAS_YAML)?)?.kubernetes(nobody, cluster.folder());
        logged_at_the_start(setup, line)
    }),
    ("The token's volume is not mounted", |scene, line| {
        refused(setup(scene, &bootstrap(REPLICAS_YAML)?)?, line)
    }),
    ("`node` is missing", |scene, line| {
        let cluster = Cluster::start()?;
        let setup = cluster.wire(setup(scene, &bootstrap(REPLICAS_YAML)?)?);
        let without = |bootstrap: &mut Value| {
            bootstrap.as_object_mut().context("no object")?.remove("node");
            Ok(())
        };
        refused(setup.edit(without), line)
    }),
    ("The quota is full", |scene, line| {
        let cluster = Cluster::start()?;
        cluster.kubernetes().quota(Cluster::NAMESPACE, Quota::secrets("testrelay", 0));
        cluster.kubernetes().count(Cluster::NAMESPACE);
        let setup = cluster.wire(setup(scene, &bootstrap(REPLICAS_YAML)?)?);
        let line = line.replace("12000", "0");
        answered(scene, setup, |run| run.check("shop-e2e"), &line)
    }),
];

fn logged_at_the_start(setup: Setup, line: &str) -> Result<()> {
    let envoy = Envoy::start(&setup.concurrency(1))?;
    let seen = wait_until("the line", SOON, || holds(&envoy.log(), line));
    seen.with_context(|| envoy.log())?;
    envoy.stop()
}
