//! Envoy Gateway: the mistakes in `envoy/gateway`.

use super::*;

const EXTENSION_POLICY: &str = include_str!("../../../../envoy/gateway/policy.yaml");

pub(super) const MISTAKES: &[Mistake] = &[
    ("`env.hostKeys` lacks a secret", |scene, line| {
        refused(setup(scene, &without_variable(EXTENSION_POLICY, "TESTRELAY_BEARER")?)?, line)
    }),
    ("A route's rule has moved", |scene, line| {
        let cluster = json!("httproute/testrelay/testrelay/rule/2");
        logged(scene, plugin(scene, &only(EXTENSION_POLICY)?, "/testkube/cluster", cluster)?, line)
    }),
    ("A check comes in a body", |scene, line| {
        let envoy = Envoy::start(&setup(scene, &only(EXTENSION_POLICY)?)?.concurrency(1))?;
        told(&in_body(&next(scene))?, &envoy, line)
    }),
    ("A number is written where a text belongs", |scene, line| {
        refused(plugin(scene, &only(EXTENSION_POLICY)?, "/checks", json!({ "timeout": 12 }))?, line)
    }),
];
